"""Frames that were given: copied back into the clip, and the jump where new frames meet them.

A causal VAE decodes what follows a changed latent differently, so kept frames are copied as pixels. Knows nothing of
models: only uint8 RGB arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from generators.clip import Frames, Given
from generators.errors import RequestRejected

HOLDS = 1.5
"""A seam whose jump is at most this many times the clip's median frame difference holds."""
SHOWS = 3.0
"""A seam whose jump is above this many times the clip's median frame difference shows."""
STILL = 0.25
"""Grey levels: the least median difference a jump is measured against, so that a still clip has a finite one."""


def check_given(given: Sequence[Given], frames: int, height: int, width: int) -> None:
    """Raise RequestRejected for given frames of another size or type, outside the clip, or that overlap."""
    end = 0
    for block in sorted(given, key=lambda g: g.first):
        expected = (len(block.frames), height, width, 3)
        if block.frames.shape != expected or block.frames.dtype != np.uint8 or not len(block.frames):
            raise RequestRejected(
                f"Given frames at {block.first}: expected uint8 (n >= 1, {height}, {width}, 3), "
                f"got {block.frames.dtype} {block.frames.shape}"
            )
        if block.first < end or block.last > frames:
            raise RequestRejected(
                f"Given frames {block.first}..{block.last} overlap others or leave the {frames} frames"
            )
        end = block.last


def keep(frames: Frames, given: Iterable[Given]) -> Frames:
    """A copy of the clip with the given frames in their places, pixel for pixel."""
    kept = frames.copy()
    for block in given:
        kept[block.first : block.last] = block.frames
    return kept


def seam_jump(frames: Frames, given: Iterable[Given]) -> float | None:
    """Largest mean frame difference where given and new frames meet, over the clip's median; None without a seam."""
    known = np.zeros(len(frames), dtype=bool)
    for block in given:
        known[block.first : block.last] = True
    seams = np.flatnonzero(known[1:] != known[:-1])
    if not len(seams):
        return None
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    return float(change[seams].max() / max(float(np.median(change)), STILL))


def seam_verdict(jump: float) -> str:
    """What the report says of a seam."""
    held = "holds" if jump <= HOLDS else "does not hold"
    return f"seam {held}: {jump:.2f} of at most {HOLDS:g} times the median frame difference"


def seam_notes(jump: float | None) -> tuple[str, ...]:
    """What a person should know about the seam; empty when it does not show."""
    if jump is None or jump <= SHOWS:
        return ()
    return (f"the seam with the given frames shows: it jumps {jump:.1f} times the median frame difference",)
