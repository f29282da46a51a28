"""Distances between two sets of videos: Fréchet (FVD) and kernel (KVD), from features of any encoder, (n, d) floats.

A number from few videos is biased; every result says how many there were and warns where they are too few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.metrics.consistency import Vectors

ENOUGH = 5
"""Videos per feature below which a Fréchet distance is badly biased."""
STEADY = 50
"""Videos below which a kernel distance scatters as much as it tells."""


@dataclass(frozen=True, kw_only=True)
class Distance:
    """A distance and what it rests on. `warning` is empty when the samples are large enough.

    `error` is its standard error, None where nobody can tell.
    """

    name: str
    value: float
    real: int
    made: int
    features: int
    warning: str = ""
    error: float | None = None

    def __str__(self) -> str:
        warned = f"; {self.warning}" if self.warning else ""
        return f"{self.name} {self.value:.4g} (real {self.real}, made {self.made}, {self.features} features{warned})"


def frechet(real: Vectors, made: Vectors) -> Distance:
    """`|mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))` with unbiased covariances.

    The trace of the root is the sum of the roots of the eigenvalues of `S1^(1/2) S2 S1^(1/2)`. Raises ValueError for
    fewer than 2 videos or unequal features.
    """
    a, b = _checked("frechet", real, made)
    apart = a.mean(0) - b.mean(0)
    root = _root(np.atleast_2d(np.cov(a, rowvar=False)))
    second = np.atleast_2d(np.cov(b, rowvar=False))
    crossed = np.linalg.eigvalsh(root @ second @ root)
    trace = np.trace(root @ root) + np.trace(second) - 2 * np.sqrt(np.clip(crossed, 0, None)).sum()
    return Distance(
        name="FVD", value=float(apart @ apart + trace), real=len(a), made=len(b), features=a.shape[1],
        warning=_few(min(len(a), len(b)), a.shape[1]),
    )  # fmt: skip


def kernel(real: Vectors, made: Vectors) -> Distance:
    """Unbiased squared maximum mean discrepancy under `(x.y / d + 1)^3`: right on average at any size, so may be < 0.

    Its error is the jackknife's, over the videos of both sides; two on a side leave none. Raises ValueError for fewer
    than 2 videos or unequal features.
    """
    a, b = _checked("kernel", real, made)
    n, m = len(a), len(b)
    across = _cubic(a, b)
    within = [k - np.diag(np.diag(k)) for k in (_cubic(a, a), _cubic(b, b))]
    sums = [k.sum() / (len(k) * (len(k) - 1)) for k in within]
    value = sums[0] + sums[1] - 2 * across.mean()
    error = None
    if min(n, m) > 2:
        left_out = (
            _without(within[0], across) + sums[1],
            _without(within[1], across.T) + sums[0],
        )
        error = float(np.sqrt(sum((len(one) - 1) * one.var() for one in left_out)))
    return Distance(
        name="KVD", value=float(value), real=n, made=m, features=a.shape[1], warning=_scatters(min(n, m)), error=error
    )


def reduced(real: Vectors, made: Vectors, features: int = 64) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sets on the first principal axes of the real one: the way out when videos are few."""
    a, b = _checked("reduced", real, made)
    centre = a.mean(0)
    _, _, axes = np.linalg.svd(a - centre, full_matrices=False)
    kept = axes[:features].T
    return (a - centre) @ kept, (b - centre) @ kept


def _checked(name: str, real: Vectors, made: Vectors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(real, np.float64), np.asarray(made, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"{name}: expected two sets (n >= 2, d) of equal d, got {a.shape} and {b.shape}")
    return a, b


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    found: NDArray[np.float64] = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return found


def _cubic(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (a @ b.T / a.shape[1] + 1) ** 3
    return found


def _without(within: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distance, but for the other side's own term, with each video of this side left out in turn, (n,)."""
    n, m = across.shape
    own = (within.sum() - 2 * within.sum(1)) / ((n - 1) * (n - 2))
    found: NDArray[np.float64] = own - 2 * (across.sum() - across.sum(1)) / ((n - 1) * m)
    return found


def _scatters(videos: int) -> str:
    if videos >= STEADY:
        return ""
    return f"{videos} videos are few: it scatters around the truth, also below 0"


def _few(videos: int, features: int) -> str:
    if videos >= ENOUGH * features:
        return ""
    return f"{videos} videos are fewer than {ENOUGH} x {features} features: biased upwards, read KVD instead"
