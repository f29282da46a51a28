"""Windows over noise levels, in which controls act, and the levels of DDPM's steps, in which papers tell them."""

from __future__ import annotations

import math
from functools import cache

Window = tuple[float, float]
"""Noise levels, low and high, in 0..1."""


@cache
def ddpm_sigma(t: int) -> float:
    """The noise level of rectified flow with the signal-to-noise ratio of step t of Stable Diffusion's DDPM.

    `sigma / (1 - sigma) = sqrt((1 - ab_t) / ab_t)` on its 1000 scaled linear betas; t counts from 0, so that t = 601 is
    0.696. Raises ValueError for a t that is not among them.
    """
    if not 0 <= t < 1000:
        raise ValueError(f"t: expected a step in 0..999, got {t}")
    first, last = 0.00085**0.5, 0.012**0.5
    kept = math.prod(1 - (first + (last - first) * i / 999) ** 2 for i in range(t + 1))
    ratio = math.sqrt((1 - kept) / kept)
    return ratio / (1 + ratio)


def ddpm_window(low: int, high: int = 999) -> Window:
    """The noise levels of DDPM steps `low` to `high`, as published windows are written; 999 stands for pure noise."""
    return ddpm_sigma(low), 1.0 if high == 999 else ddpm_sigma(high)


CAMERA_WINDOW = ddpm_window(800)
"""Noise levels in which queries give a camera's move, the paper's choice by hand; other motion goes on below them."""


def check_window(owner: str, window: Window) -> None:
    """Raise ValueError, naming `owner`, unless low is below high and both lie in 0..1."""
    low, high = window
    if not 0 <= low < high <= 1:
        raise ValueError(f"{owner}: expected noise levels 0 <= low < high <= 1, got {window}")
