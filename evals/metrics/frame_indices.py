"""Which frames of a clip a protocol looks at, as indices; every published sampler under its own name.

Pure arithmetic. Times are frames, counts are at least 1.
"""

from __future__ import annotations

import numpy as np


def linspace_end(length: int, count: int) -> list[int]:
    """`count` indices from first to last, cut to whole numbers; they repeat when there are more than frames."""
    _check(length, count)
    return [int(at) for at in np.linspace(0, length - 1, count)]


def mid_segments(length: int, count: int) -> list[int]:
    """The middle of each of `count` equal segments (ViCLIP); the last index again where the clip is short."""
    _check(length, count)
    edges = [int(at) for at in np.linspace(0, length, count + 1)]
    middles = [(start + end - 1) // 2 for start, end in zip(edges[:-1], edges[1:], strict=True)]
    if length < count:
        return [*range(length), *[length - 1] * (count - length)]
    return middles


def every_k(length: int, step: int) -> list[int]:
    """Every `step`-th index from 0."""
    _check(length, step)
    return list(range(0, length, step))


def target_fps(length: int, fps: float, wanted: float) -> list[int]:
    """Indices that show the clip at about `wanted` frames a second: stride `max(1, round(fps / wanted))`."""
    return every_k(length, max(1, round(fps / wanted)))


def sec_grid(length: int, fps: float) -> list[int]:
    """One index a second."""
    return every_k(length, max(1, round(fps)))


def _check(length: int, count: int) -> None:
    if length < 1 or count < 1:
        raise ValueError(f"sampler: expected at least 1 frame and a count of at least 1, got {length} and {count}")
