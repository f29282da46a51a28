"""TempoControl's temporal accuracies, from what a detector saw in sampled frames.

A *mask* holds one entry a latent frame, 1 where the thing is to be seen. Knows no detector: `seen` are its answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks

ENTRIES = 21
"""Latent frames of 81 frames; as many frames are sampled."""
ALIASES = {
    "ball": "sports ball",
    "bat": "baseball bat",
    "glove": "baseball glove",
    "hair dryer": "hair drier",
    "kitten": "cat",
    "mug": "cup",
    "phone": "cell phone",
    "puppy": "dog",
    "remote control": "remote",
    "stallion": "horse",
    "television": "tv",
}
"""Words of the two-object list that COCO calls otherwise; used only by the variant that says so."""


@dataclass(frozen=True, kw_only=True)
class Presence:
    """Share of entries that are right, over all and over those that ask for presence and absence.

    A share is None where no entry asks for it.
    """

    accuracy: float
    present: float | None
    absent: float | None


def one_object(mask: Sequence[int], seen: Sequence[bool]) -> Presence:
    """An entry is right when the object is seen exactly where the mask asks for it."""
    asked, found = _checked(mask, seen)
    return _presence(asked, asked == found)


def two_objects(mask: Sequence[int], constant: Sequence[bool], timed: Sequence[bool]) -> Presence:
    """Right when the constant object is seen in every entry and the timed one exactly where the mask asks for it."""
    asked, found = _checked(mask, timed)
    _, always = _checked(mask, constant)
    return _presence(asked, always & (asked == found))


def read_mask(text: str) -> tuple[int, ...]:
    """A mask as the lists have it: 0 and 1 with spaces between. Raises ValueError for anything else."""
    entries = text.split()
    if not entries or set(entries) - {"0", "1"}:
        raise ValueError(f"mask: expected 0 and 1 with spaces between, got {text!r}")
    return tuple(int(entry) for entry in entries)


def onset_hits(envelope: Sequence[float], energy: Sequence[float]) -> tuple[float | None, float | None]:
    """Pearson of what was asked for (a mask, or the loudness of a sound) and motion energy, an entry a latent frame;
    and the share of the peaks asked for with a peak of energy at most one entry away.

    A peak is a stretch of equal entries that both neighbours lie below, the ends having none outside, and that is above
    the mean. None where either never changes. Raises ValueError for unequal lengths.
    """
    m, e = np.asarray(envelope, np.float64), np.asarray(energy, np.float64)
    if len(m) != len(e):
        raise ValueError(f"onset_hits: expected equally many entries, got {len(m)} and {len(e)}")
    if m.std() == 0 or e.std() == 0:
        return None, None
    found = _peaks(e)
    hits = [any(first - 1 <= b and a <= last + 1 for a, b in found) for first, last in _peaks(m)]
    return float(np.corrcoef(m, e)[0, 1]), float(np.mean(hits))


def _peaks(values: np.ndarray) -> list[tuple[int, int]]:
    """First and last entry of every peak."""
    walled = np.pad(values, 1, constant_values=-np.inf)
    _, told = find_peaks(walled, height=float(values.mean()), plateau_size=1)
    return [(int(a) - 1, int(b) - 1) for a, b in zip(told["left_edges"], told["right_edges"], strict=True)]


def _presence(asked: np.ndarray, right: np.ndarray) -> Presence:
    return Presence(
        accuracy=float(right.mean()),
        present=float(right[asked].mean()) if asked.any() else None,
        absent=float(right[~asked].mean()) if not asked.all() else None,
    )


def _checked(mask: Sequence[int], seen: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    if len(mask) != len(seen) or not len(mask):
        raise ValueError(f"presence: expected one answer an entry, got {len(seen)} for {len(mask)}")
    return np.asarray(mask, bool), np.asarray(seen, bool)
