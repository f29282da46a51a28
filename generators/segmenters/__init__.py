"""Who finds a subject in frames: one file a segmenter, all behind one call. Importing this package is light.

clipseg   CLIPSeg, from a folder or a hub id: any words, any pictures

The puppet world has its own detectors (`evals/world/segmenter.py`); whoever composes hands them in. Without any, Video
Storyboarding reads the subject off the attention to its words, and says so.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Segmenter(Protocol):
    """Finds a subject in frames."""

    @property
    def name(self) -> str:
        """What tells it apart from others, weights included: a part of the request's digest."""
        ...

    def __call__(self, frames: NDArray[np.uint8], subject: str) -> NDArray[np.bool_]:
        """Where the subject is, (frames, height, width), in frames (frames, height, width, 3) RGB."""
        ...
