"""Metrics that need no weights and no optical flow: flicker, change of light and colour a second, cuts.

Frames are uint8 RGB (T, H, W, 3). Formulas are VBench's, MSVBench's and PySceneDetect's as published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from evals.metrics.frame_indices import sec_grid
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from generators.clip import Frames

CUT_THRESHOLD = 27.0
"""PySceneDetect's ContentDetector; VBench-Long cuts at 35."""
ONE_FRAME = NotMeasured(reason="the clip has one frame")


def flicker(frames: Frames) -> float:
    """VBench temporal flickering: `(255 - mean over pairs of the mean absolute difference) / 255`; 1 stands still.

    Motion lowers it too: the published protocol measures static clips only. Raises ValueError for one frame.
    """
    if len(frames) < 2:
        raise ValueError(f"flicker: expected at least 2 frames, got {len(frames)}")
    steps = [float(cv2.absdiff(a, b).mean()) for a, b in zip(frames[:-1], frames[1:], strict=True)]
    return (255.0 - float(np.mean(steps))) / 255.0


@dataclass(frozen=True, kw_only=True)
class Flicker:
    """`flicker` as a metric."""

    name: str = "temporal flickering (any clip)"
    higher_is_better: bool = True

    def measure(self, frames: Frames, fps: float, case: Case) -> Outcome:
        """1 for a still clip."""
        return ONE_FRAME if len(frames) < 2 else Score(value=flicker(frames))


@dataclass(frozen=True, kw_only=True)
class LightChange:
    """MSVBench: how much brightness, contrast and saturation change from second to second, in shares of full scale."""

    name: str = "light change a second"
    higher_is_better: bool = False

    def measure(self, frames: Frames, fps: float, case: Case) -> Outcome:
        """The sum of the three changes; each alone in the details."""
        picked = frames[sec_grid(len(frames), fps)]
        if len(picked) < 2:
            return NotMeasured(reason="the clip is shorter than two seconds")
        looks = np.stack([_light(frame) for frame in picked])
        changes = np.abs(np.diff(looks, axis=0)).mean(0)
        brightness, contrast, saturation = map(float, changes)
        details = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        return Score(value=float(changes.sum()), details=details)


def _light(frame: Frames) -> np.ndarray:
    hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV).astype(np.float64) / 255.0
    return np.array([hsv[..., 2].mean(), hsv[..., 2].std(), hsv[..., 1].mean()])


def content_deltas(frames: Frames) -> np.ndarray:
    """Per pair: the mean over hue, saturation and value of their mean absolute change, 0..255 (T - 1)."""
    hsv = [cv2.cvtColor(frame, cv2.COLOR_RGB2HSV).astype(np.int32) for frame in frames]
    return np.array([np.abs(b - a).mean() for a, b in zip(hsv[:-1], hsv[1:], strict=True)])


def cuts(frames: Frames, threshold: float = CUT_THRESHOLD, shortest: int = 1) -> tuple[int, ...]:
    """Indices of first frames after a cut; of cuts closer than `shortest` frames only the first counts.

    Works on decoded frames, without the minimum of 15 frames that PySceneDetect starts with.
    """
    found: list[int] = []
    last = 0
    for index, delta in enumerate(content_deltas(frames), 1):
        if delta >= threshold and index - last >= shortest:
            found.append(index)
            last = index
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Boundaries:
    """How found cuts meet promised ones."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean; 1 when nothing was promised and nothing found."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def boundary_match(found: Sequence[int], promised: Sequence[int], tolerance: int = 1) -> Boundaries:
    """Cuts matched one to one within `tolerance` frames, in order of time."""
    left, right, hits = sorted(found), sorted(promised), 0
    i = j = 0
    while i < len(left) and j < len(right):
        if abs(left[i] - right[j]) <= tolerance:
            hits, i, j = hits + 1, i + 1, j + 1
        elif left[i] < right[j]:
            i += 1
        else:
            j += 1
    return Boundaries(
        precision=hits / len(left) if left else float(not right),
        recall=hits / len(right) if right else float(not left),
    )


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Hard cuts inside a clip that was to be one shot."""

    threshold: float = CUT_THRESHOLD
    name: str = "cuts inside a shot"
    higher_is_better: bool = False

    def measure(self, frames: Frames, fps: float, case: Case) -> Outcome:
        """How many."""
        return ONE_FRAME if len(frames) < 2 else Score(value=float(len(cuts(frames, self.threshold))))
