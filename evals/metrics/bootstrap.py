"""Intervals of a mean by resampling, plain and paired. Knows numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its interval; `low` and `high` bound it with the asked confidence."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] n={self.count}"


def interval(values: Sequence[float], confidence: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap of the mean over 10,000 resamples. Raises ValueError for no values."""
    if not len(values):
        raise ValueError("interval: expected at least one value, got none")
    sample = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = np.concatenate([_resampled(rng, sample, 500) for _ in range(RESAMPLES // 500)])
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(mean=float(sample.mean()), low=float(low), high=float(high), count=len(sample))


def paired(ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95, seed: int = 0) -> Interval:
    """Interval of the mean difference `ours - theirs` over the same items. Raises ValueError for unequal lengths."""
    if len(ours) != len(theirs):
        raise ValueError(f"paired: expected equally many values, got {len(ours)} and {len(theirs)}")
    return interval(np.subtract(ours, theirs).tolist(), confidence, seed)


def _resampled(rng: np.random.Generator, sample: np.ndarray, times: int) -> np.ndarray:
    picked: np.ndarray = sample[rng.integers(len(sample), size=(times, len(sample)))].mean(1)
    return picked
