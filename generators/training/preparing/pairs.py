"""Which neighbouring shots belong together: those that look alike to an encoder of pictures.

The encoder comes from outside; what stands here are a few frames of each shot, a cosine, and a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from generators.clip import Frames
from generators.training.preparing.footage import ClipRow, read_window

SEEN = 4
"""Frames of a shot that the encoder sees, spread evenly, away from its cuts."""


class Embedder(Protocol):
    """Turns frames into vectors."""

    @property
    def name(self) -> str:
        """Id and digest of the weights."""
        ...

    def embed(self, frames: Frames) -> NDArray[np.floating]:
        """Frames (n, H, W, 3) uint8 RGB to (n, d), not normalised."""
        ...


def compared(rows: Sequence[ClipRow], embedder: Embedder) -> list[ClipRow]:
    """Shots of one video with the similarity of each to the one before it: the cosine of their mean directions."""
    means = [_direction(embedder.embed(_seen(row))) for row in rows]
    similar = [None, *(float(before @ after) for before, after in pairwise(means))]
    return [replace(row, similarity=value) for row, value in zip(rows, similar, strict=True)]


def grouped(rows: Sequence[ClipRow], least: float | None, name: str) -> list[ClipRow]:
    """Shots of one video as runs: a new one begins where a shot is less similar than `least` to the one before."""
    run, found = 0, []
    for row in rows:
        if least is not None and row.similarity is not None and row.similarity < least:
            run += 1
        found.append(replace(row, group=f"{name}/{run}"))
    return found


def _seen(row: ClipRow) -> Frames:
    stride = max(row.count // (SEEN + 1), 1)
    count = min(SEEN, max((row.count - 1) // stride, 1))
    return read_window(row.path, row.first + min(stride, row.count - 1), count, stride)


def _direction(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    mean = units.mean(axis=0)
    whole: NDArray[np.floating] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return whole
