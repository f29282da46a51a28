"""Points followed through a clip, and motion fidelity between two sets of tracks, in the published forms and ours.

`Tracks.points` is (n, F, 2) in pixels (x, y), `visible` (n, F). Released numbers used CoTracker; without weights the
tracks are pyramidal Lucas-Kanade's, checked forwards and backwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from evals.metrics.classical import ONE_FRAME
from evals.metrics.flow import grey
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from generators.clip import Frames

Points = NDArray[np.float32]
SLOWEST = 0.25
"""Mean pixels a frame below which a track stands still and correlates with nothing."""
FLOOR = 1e-3


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Where points went."""

    points: Points = field(repr=False)
    visible: NDArray[np.bool_] = field(repr=False)

    def __post_init__(self) -> None:
        if self.points.ndim != 3 or self.points.shape[2] != 2 or self.points.shape[:2] != self.visible.shape:
            raise ValueError(f"Tracks: expected (n, F, 2) and (n, F), got {self.points.shape}, {self.visible.shape}")

    @classmethod
    def exact(cls, points: Points) -> Tracks:
        """Tracks that are known and always seen."""
        return cls(points=points, visible=np.ones(points.shape[:2], bool))


def lk_tracks(frames: Frames, side: int = 16, most_apart: float = 1.0) -> Tracks:
    """A grid of `side` x `side` points of the first frame, followed by pyramidal Lucas-Kanade.

    A point is lost from the frame on in which following it back misses by `most_apart` pixels or more.
    """
    pictures = grey(frames)
    height, width = pictures[0].shape
    x, y = np.meshgrid(np.linspace(0, width - 1, side + 2)[1:-1], np.linspace(0, height - 1, side + 2)[1:-1])
    now = np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32)
    seen = np.ones(len(now), bool)
    points, visible = [now], [seen]
    for first, second in zip(pictures[:-1], pictures[1:], strict=True):
        now, held = _step(first, second, now, most_apart)
        seen = seen & held
        points.append(now)
        visible.append(seen)
    return Tracks(points=np.stack(points, axis=1), visible=np.stack(visible, axis=1))


def _step(first: np.ndarray, second: np.ndarray, now: Points, most_apart: float) -> tuple[Points, NDArray[np.bool_]]:
    asked = now[:, None]
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, asked, asked.copy())
    back, again, _ = cv2.calcOpticalFlowPyrLK(second, first, there, there.copy())
    apart = np.linalg.norm(back[:, 0] - now, axis=-1)
    held = (found[:, 0] == 1) & (again[:, 0] == 1) & (apart < most_apart)
    return np.asarray(there[:, 0], np.float32), held


@dataclass(frozen=True, kw_only=True)
class TracksKept:
    """Share of a grid of points that Lucas-Kanade follows, there and back, from the first frame to the last.

    What melts, flickers or leaves the picture loses its points. In the details: the share of kept points that move,
    and how many pixels a frame kept points move.
    """

    side: int = 16
    higher_is_better: bool | None = None

    @property
    def name(self) -> str:
        """Names the grid."""
        return f"tracks kept (Lucas-Kanade, {self.side}x{self.side})"

    def measure(self, frames: Frames, fps: float, case: Case) -> Outcome:
        """0..1."""
        if len(frames) < 2:
            return ONE_FRAME
        tracks = lk_tracks(frames, self.side)
        kept = tracks.points[tracks.visible[:, -1]]
        if not len(kept):
            return Score(value=0.0)
        pace = float(np.linalg.norm(np.diff(kept, axis=1), axis=-1).mean())
        return Score(value=len(kept) / len(tracks.points), details={"moving": float(_moves(kept).mean()), "px": pace})


def resampled(tracks: Tracks, frames: int) -> Tracks:
    """The tracks at `frames` times, nearest index: both clips of a comparison need equally many."""
    picked = np.rint(np.linspace(0, tracks.points.shape[1] - 1, frames)).astype(int)
    return Tracks(points=tracks.points[:, picked], visible=tracks.visible[:, picked])


def correlations(source: Points, output: Points, floor: float = 0.0) -> NDArray[np.float64]:
    """`1 / (F - 1) sum_k <v_k, w_k> / (|v_k| |w_k|)` of frame displacements, for all pairs (n, m).

    With no `floor` for the norms a track that stands still gives NaN, as in the paper.
    """
    if source.shape[1] != output.shape[1] or source.shape[1] < 2:
        raise ValueError(f"correlations: expected equally many frames, at least 2; got {source.shape}, {output.shape}")
    with np.errstate(invalid="ignore", divide="ignore"):
        v, w = (_directions(one, floor) for one in (source, output))
    found: NDArray[np.float64] = np.einsum("ikc,jkc->ij", v, w) / (source.shape[1] - 1)
    return found


def _directions(points: Points, floor: float) -> NDArray[np.float64]:
    moved = np.diff(points.astype(np.float64), axis=1)
    norm = np.linalg.norm(moved, axis=-1, keepdims=True)
    shown: NDArray[np.float64] = moved / (np.maximum(norm, floor) if floor else norm)
    return shown


def fidelity_paper(source: Points, output: Points) -> float:
    """Motion fidelity as printed (DMT; MbQ section 3): the sum of both directed means, so at most 2. May be NaN."""
    corr = correlations(source, output)
    return float(corr.max(axis=0).mean() + corr.max(axis=1).mean())


def fidelity_released(source: Points, output: Points) -> float:
    """Motion fidelity as DMT's code has it: output to source only, equal grid places lowered by 1. May be NaN.

    Raises ValueError when the two have not equally many tracks.
    """
    corr = correlations(source, output)
    if corr.shape[0] != corr.shape[1]:
        raise ValueError(f"fidelity_released: expected equally many tracks, got {corr.shape[0]} and {corr.shape[1]}")
    return float((corr - np.eye(len(corr))).max(axis=0).mean())


def fidelity(source: Tracks, output: Tracks) -> Outcome:
    """Ours: half of both directed means, in -1..1. Tracks seen in under half of the frames are dropped, a track that
    stands still correlates 0 with everything. The published forms are in the details where they are numbers."""
    if source.points.shape[1] != output.points.shape[1]:
        output = resampled(output, source.points.shape[1])
    kept = [one.points[one.visible.mean(axis=1) >= 0.5] for one in (source, output)]
    if not (len(kept[0]) and len(kept[1])):
        return NotMeasured(reason="no track was seen in half of the frames")
    corr = correlations(kept[0], kept[1], FLOOR)
    corr = corr * np.outer(_moves(kept[0]), _moves(kept[1]))
    value = (corr.max(axis=0).mean() + corr.max(axis=1).mean()) / 2
    forms = {"as printed": fidelity_paper(source.points, output.points)}
    if len(source.points) == len(output.points):
        forms["as released"] = fidelity_released(source.points, output.points)
    return Score(value=float(value), details={name: form for name, form in forms.items() if np.isfinite(form)})


def moving(tracks: Tracks) -> Tracks:
    """Those that do not stand still."""
    kept = _moves(tracks.points) > 0
    return Tracks(points=tracks.points[kept], visible=tracks.visible[kept])


def _moves(points: Points) -> NDArray[np.float64]:
    speed = np.linalg.norm(np.diff(points, axis=1), axis=-1).mean(axis=1)
    return np.asarray(speed >= SLOWEST, np.float64)
