"""Motion smoothness: how well frames between can be foretold from their neighbours (VBench's rule).

VBench foretells with the network AMT-S. Without weights a frame is foretold by warping both neighbours half way along
the flow between them; the name says which flow, because the numbers do not compare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from evals.metrics.flow import FLOWS, SMALLEST, FlowOf, dis
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from generators.clip import Frames

Between = Callable[[Frames, Frames], Frames]
"""Two frames (H, W, 3) to the one half way between them."""


def smoothness(frames: Frames, between: Between) -> float:
    """VBench: `(255 - mean |real - foretold|) / 255` over odd frames foretold from the even ones beside them.

    Compares (number of even frames - 1) frames. Raises ValueError for fewer than 3 frames.
    """
    if len(frames) < 3:
        raise ValueError(f"smoothness: expected at least 3 frames, got {len(frames)}")
    even, odd = frames[::2], frames[1::2]
    apart = [
        float(cv2.absdiff(real, between(before, after)).mean())
        for before, real, after in zip(even[:-1], odd, even[1:], strict=False)
    ]
    return (255.0 - float(np.mean(apart))) / 255.0


def mean_frame(before: Frames, after: Frames) -> Frames:
    """The average of both: no motion is foretold."""
    return np.rint((before.astype(np.float32) + after) / 2).astype(np.uint8)


def warped(before: Frames, after: Frames, flow: FlowOf = dis) -> Frames:
    """Both frames warped half way along the flow between them, averaged."""
    a, b = cv2.cvtColor(before, cv2.COLOR_RGB2GRAY), cv2.cvtColor(after, cv2.COLOR_RGB2GRAY)
    first, second = np.asarray(a, np.uint8), np.asarray(b, np.uint8)
    halves = [_back(before, flow(second, first) / 2), _back(after, flow(first, second) / 2)]
    return np.asarray(np.rint(np.mean(halves, axis=0)), np.uint8)


def _back(frame: Frames, offset: np.ndarray) -> np.ndarray:
    """The frame read at every pixel plus its offset; edges are repeated."""
    height, width = frame.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    read = cv2.remap(frame, x + offset[..., 0], y + offset[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(read, np.float32)


@dataclass(frozen=True, kw_only=True)
class MotionSmoothness:
    """`smoothness` with warping along a flow in place of AMT-S."""

    flow: str = "dis"
    higher_is_better: bool = True

    @property
    def name(self) -> str:
        """Names the flow."""
        return f"motion smoothness ({self.flow} warp)"

    def measure(self, frames: Frames, fps: float, case: Case) -> Outcome:
        """1 when every frame between was foretold."""
        if len(frames) < 3:
            return NotMeasured(reason="the clip has fewer than 3 frames")
        if min(frames.shape[1:3]) < SMALLEST:
            return NotMeasured(reason=f"frames are smaller than {SMALLEST} pixels")
        return Score(value=smoothness(frames, partial(warped, flow=FLOWS[self.flow])))
