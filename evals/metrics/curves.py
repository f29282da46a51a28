"""How fast a film moves away from its own frames: similarity over intervals of time (VSTAR's plots, made numbers).

Maths on frame embeddings of any encoder; a table names the encoder. A *similarity* matrix is (T, T) in -1..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.metrics.consistency import Vectors, unit

INTERVALS = (1, 2, 4, 8, 16, 32)
BINS = 50
SIDE = 32

Matrix = NDArray[np.float64]


def similarity(embeddings: Vectors, centred: bool = True) -> Matrix:
    """Cosines of all pairs of frames (T, T); DreamSim takes each vector's own mean away first."""
    rows = np.asarray(embeddings, np.float64)
    f = unit(rows - rows.mean(-1, keepdims=True) if centred else rows)
    found: Matrix = f @ f.T
    return found


def at_interval(matrix: Matrix, interval: int) -> NDArray[np.float64]:
    """Similarities of frames so many frames apart."""
    return np.diagonal(matrix, interval)


@dataclass(frozen=True, kw_only=True)
class IntervalCurve:
    """Mean similarity by interval, its fall per doubling of the interval, and near minus far similarity.

    `band` is None for clips too short to have far frames.
    """

    intervals: tuple[int, ...]
    means: tuple[float, ...]
    slope: float | None
    band: float | None


def interval_curve(matrices: Sequence[Matrix]) -> IntervalCurve:
    """Pooled over clips of one length. Raises ValueError for no clip, unequal lengths or one frame."""
    if not matrices or len({m.shape for m in matrices}) != 1 or len(matrices[0]) < 2:
        raise ValueError("interval_curve: expected similarity matrices of one length of at least 2 frames")
    stack = np.stack(matrices)
    length = stack.shape[1]
    used = tuple(d for d in INTERVALS if d < length)
    means = tuple(float(np.mean([at_interval(m, d) for m in stack])) for d in used)
    slope = (means[0] - means[-1]) / np.log2(used[-1]) if used[-1] > 1 else None
    apart = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
    far = apart >= length / 2
    band = float(stack[:, apart <= 2].mean() - stack[:, far].mean()) if length > 4 else None
    return IntervalCurve(intervals=used, means=means, slope=None if slope is None else float(slope), band=band)


def overlap(real: Sequence[Matrix], made: Sequence[Matrix], interval: int) -> float:
    """Shared area of both histograms of similarity at an interval, 50 bins on 0..1; 1 when they are the same."""
    return shared_area(interval_counts(real, interval), interval_counts(made, interval))


def interval_counts(matrices: Sequence[Matrix], interval: int) -> NDArray[np.int64]:
    """How many pairs of frames an interval apart fall into each of 50 bins of similarity on 0..1 (50,)."""
    pooled = np.concatenate([at_interval(m, interval) for m in matrices])
    counts: NDArray[np.int64] = np.histogram(np.clip(pooled, 0, 1), bins=BINS, range=(0, 1))[0].astype(np.int64)
    return counts


def shared_area(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Area that two histograms share, each scaled to 1."""
    return float(np.minimum(first / first.sum(), second / second.sum()).sum())


def mean_matrix(matrices: Sequence[Matrix]) -> Matrix:
    """The mean matrix at 32 x 32, bilinear, so that lengths compare."""
    found: Matrix = np.mean([_resized(matrix) for matrix in matrices], axis=0)
    return found


def matrix_distance(real: Sequence[Matrix], made: Sequence[Matrix]) -> float:
    """Root mean square between both mean matrices."""
    return float(np.sqrt(np.mean((mean_matrix(real) - mean_matrix(made)) ** 2)))


def jointly_normalised(methods: Sequence[Sequence[Matrix]]) -> list[list[Matrix]]:
    """Every matrix between the least and the greatest value of *all* methods, for plots that compare."""
    low = min(float(m.min()) for group in methods for m in group)
    high = max(float(m.max()) for group in methods for m in group)
    span = (high - low) or 1.0
    return [[(m - low) / span for m in group] for group in methods]


def _resized(matrix: Matrix) -> Matrix:
    at = np.linspace(0, len(matrix) - 1, SIDE)
    low = np.clip(np.floor(at).astype(int), 0, max(len(matrix) - 2, 0))
    high, share = np.minimum(low + 1, len(matrix) - 1), at - low
    rows = matrix[low] * (1 - share)[:, None] + matrix[high] * share[:, None]
    found: Matrix = rows[:, low] * (1 - share) + rows[:, high] * share
    return found
