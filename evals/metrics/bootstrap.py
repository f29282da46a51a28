"""Intervals: of a mean by resampling, plain and paired; of a share by Wilson. Knows numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

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


def wilson(flags: Sequence[bool], confidence: float = 0.95) -> Interval:
    """Wilson's interval of a share: `(p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)`.

    Unlike a bootstrap it stays open where all flags are alike. Raises ValueError for no flags.
    """
    if not len(flags):
        raise ValueError("wilson: expected at least one flag, got none")
    n, p = len(flags), sum(flags) / len(flags)
    z = float(ndtri(0.5 + confidence / 2))
    middle, reach = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = ((middle + sign * reach) / (1 + z * z / n) for sign in (-1, 1))
    return Interval(mean=p, low=min(max(low, 0.0), p), high=max(min(high, 1.0), p), count=n)


def _resampled(rng: np.random.Generator, sample: np.ndarray, times: int) -> np.ndarray:
    picked: np.ndarray = sample[rng.integers(len(sample), size=(times, len(sample)))].mean(1)
    return picked
