"""ViStoryBench's counts and character scores, and masks from heat maps: maths on boxes' embeddings and heat maps.

Knows no detector and no encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from evals.metrics.consistency import Vectors, unit

CLEAR = 0.2
"""Share of the variance that two classes must explain before a heat map is cut in two."""
SMALLEST, LARGEST = 0.005, 0.9
"""Shares of the picture between which a subject's mask is believed."""


def occm(detected: Sequence[int], expected: Sequence[int]) -> float:
    """Onstage character count matching: mean over shots of `100 exp(-|D - E| / (eps + E))`; a missing shot has D = 0.

    Raises ValueError for unequal or empty lists.
    """
    if len(detected) != len(expected) or not expected:
        raise ValueError(f"occm: expected one count a shot in both, got {len(detected)} and {len(expected)}")
    d, e = np.asarray(detected, np.float64), np.asarray(expected, np.float64)
    return float((100 * np.exp(-np.abs(d - e) / (1e-6 + e))).mean())


def matched(boxes: Vectors, references: Mapping[str, Vectors]) -> dict[str, int]:
    """Which box shows which expected character: the assignment of highest total cosine (Hungarian).

    `boxes` is (b, d), a character's references (r, d); with fewer boxes than characters some stay without.
    """
    names = list(references)
    if not names or not len(boxes):
        return {}
    b = unit(boxes)
    likeness = np.stack([(b @ unit(references[name]).T).mean(-1) for name in names])
    rows, columns = linear_sum_assignment(-likeness)
    return {names[row]: int(column) for row, column in zip(rows, columns, strict=True)}


@dataclass(frozen=True, kw_only=True)
class CharacterScores:
    """Of one character's matched crops. `own` is None for fewer than two crops (the released code says 1)."""

    cross: float
    own: float | None


def character_scores(crops: Vectors, references: Vectors) -> CharacterScores | None:
    """CIDS: mean cosine to all references, and among the crops themselves; None without a crop."""
    if not len(crops):
        return None
    c = unit(crops)
    own = [float(c[i] @ c[j]) for i, j in combinations(range(len(c)), 2)]
    return CharacterScores(cross=float((c @ unit(references).T).mean()), own=float(np.mean(own)) if own else None)


def copy_paste(crops: Vectors, reference: Vectors, mirrored: Vectors, temperature: float = 0.01) -> float:
    """Mean softmax weight of the used reference against its mirror image: 0.5 is neutral, 1 is copied."""
    c = unit(crops)
    apart = (c @ unit(mirrored) - c @ unit(reference)) / temperature
    return float((1 / (1 + np.exp(np.clip(apart, -700, 700)))).mean())


def otsu(heat: NDArray[np.uint8]) -> tuple[int, float]:
    """The threshold that splits a picture best, and the share of the variance that the two classes explain.

    Pixels above the threshold are the upper class. A picture of one level gives a share of 0.
    """
    counts = np.bincount(heat.ravel(), minlength=256).astype(np.float64)
    share = counts / counts.sum()
    below, level = share.cumsum(), np.arange(256)
    mean, partial = float((share * level).sum()), (share * level).cumsum()
    variance = float((share * (level - mean) ** 2).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num((mean * below - partial) ** 2 / (below * (1 - below)), posinf=0.0, neginf=0.0)
    best = int(np.argmax(between))
    return best, float(between[best] / variance) if variance > 0 else 0.0


def subject_mask(heat: NDArray[np.floating]) -> NDArray[np.bool_] | None:
    """A heat map of 0..1 cut in two by Otsu; None where it is not clearly of two levels or the area is unlikely."""
    levels = np.rint(np.clip(heat, 0, 1) * 255).astype(np.uint8)
    threshold, clear = otsu(levels)
    mask: NDArray[np.bool_] = levels > threshold
    return mask if clear >= CLEAR and SMALLEST <= mask.mean() <= LARGEST else None
