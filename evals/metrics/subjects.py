"""A subject cut out of its frame: heat maps of where words are shown, and crops on grey (MbQ's set consistency).

MbQ names CLIPSeg and Otsu and leaves the rest open; what is chosen here stands at each constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from evals.metrics.embedders import Weights
from evals.metrics.entities import subject_mask
from evals.metrics.score import NotMeasured
from generators.clip import Frames

GREY = 128
"""What stands in the place of the background."""
WIDER = 0.1
"""How much longer a crop's side is than the longer side of its subject."""
SIDE = 224
"""Pixels a side of every crop."""


@runtime_checkable
class HeatMaps(Protocol):
    """Says how likely each place of a frame shows what words name."""

    @property
    def name(self) -> str:
        """Id and digest of the weights."""
        ...

    def heat(self, frames: Frames, subject: str) -> NDArray[np.floating]:
        """Frames (n, H, W, 3) uint8 RGB to (n, H, W) in 0..1."""
        ...


def open_heat(weights: Weights) -> HeatMaps | NotMeasured:
    """CLIPSeg of the id `clipseg`, or why there is none."""
    place = weights.place("clipseg")
    if isinstance(place, NotMeasured):
        return place
    from generators.segmenters.clipseg import CLIPSegSegmenter

    return CLIPSegSegmenter(place)


def subject_crops(maps: HeatMaps, frames: Frames, subject: str) -> Frames:
    """The subject of every frame that shows it clearly (n, 224, 224, 3), at most as many as frames, perhaps none."""
    masks: Sequence[NDArray[np.bool_] | None] = [subject_mask(heat) for heat in maps.heat(frames, subject)]
    found = [cut_out(frame, mask) for frame, mask in zip(frames, masks, strict=True) if mask is not None]
    return np.stack(found) if found else np.zeros((0, SIDE, SIDE, 3), np.uint8)


def cut_out(frame: Frames, mask: NDArray[np.bool_]) -> Frames:
    """The masked part on grey, in the middle of a square a tenth longer than it is, at 224 x 224 bilinear.

    The square may leave the frame; there it is grey too. Raises ValueError for an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise ValueError("cut_out: expected a mask that is somewhere on")
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = int(np.ceil((1 + WIDER) * max(bottom - top, right - left)))
    square = np.full((side, side, 3), GREY, np.uint8)
    y, x = (side - (bottom - top)) // 2, (side - (right - left)) // 2
    subject = np.where(mask[..., None], frame, GREY)[top:bottom, left:right]
    square[y : y + bottom - top, x : x + right - left] = subject
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.uint8)
