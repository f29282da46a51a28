"""Intervals by resampling: exact quantiles where they are known, coverage, and what pairing is good for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from evals.metrics.bootstrap import interval, paired


@pytest.mark.parametrize(("ones", "count"), [(30, 100), (7, 20), (45, 50)])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_resampled_flags_have_binomial_quantiles(ones: int, count: int, confidence: float) -> None:
    """The sum of resampled flags is binomial; 10,000 of them miss its quantiles where two steps are as likely."""
    found = interval([1.0] * ones + [0.0] * (count - ones), confidence)
    tail = (1 - confidence) / 2
    bounds = np.array([[tail - 0.004, tail + 0.004], [1 - tail - 0.004, 1 - tail + 0.004]])
    least, greatest = binom.ppf(bounds, count, ones / count).T / count
    assert (found.mean, found.count) == (ones / count, count)
    assert least[0] <= found.low <= greatest[0]
    assert least[1] <= found.high <= greatest[1]


def test_quantiles_are_exact_where_no_two_steps_are_as_likely() -> None:
    found = interval([1.0] * 30 + [0.0] * 70)
    assert (found.low, found.high) == tuple(binom.ppf([0.025, 0.975], 100, 0.3) / 100) == (0.21, 0.39)


def test_equal_values_leave_no_doubt_and_none_have_no_interval() -> None:
    found = interval([0.25] * 9)
    assert (found.low, found.mean, found.high) == (0.25, 0.25, 0.25)
    with pytest.raises(ValueError, match="at least one value"):
        interval([])


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(7).normal(2.0, 3.0, (200, 40))
    found = [interval(draw.tolist(), 0.9) for draw in draws]
    covered = np.mean([one.low <= 2.0 <= one.high for one in found])
    assert binom.ppf(0.001, 200, 0.88) / 200 <= covered <= binom.ppf(0.999, 200, 0.9) / 200  # a little short at n = 40


def test_pairing_takes_out_what_both_have_in_common() -> None:
    rng = np.random.default_rng(3)
    items = rng.normal(0, 1, 60)
    ours, theirs = items + 0.1 + rng.normal(0, 0.05, 60), items + rng.normal(0, 0.05, 60)
    found = paired(ours.tolist(), theirs.tolist())
    apart = [interval(values.tolist()) for values in (ours, theirs)]
    unpaired = math.hypot(*(one.high - one.low for one in apart))
    assert found.mean == pytest.approx(ours.mean() - theirs.mean())
    assert 0 < found.low < 0.1 < found.high
    assert found.high - found.low < unpaired / 5


def test_pairs_that_have_nothing_in_common_gain_nothing() -> None:
    rng = np.random.default_rng(4)
    ours, theirs = rng.normal(0, 1, (2, 400))
    found = paired(ours.tolist(), theirs.tolist())
    apart = [interval(values.tolist()) for values in (ours, theirs)]
    unpaired = math.hypot(*(one.high - one.low for one in apart))
    assert found.high - found.low == pytest.approx(unpaired, rel=0.15)


def test_the_difference_has_a_sign_and_needs_pairs() -> None:
    assert paired([1.0, 2.0], [0.0, 0.0]).mean == 1.5
    assert paired([0.0, 0.0], [1.0, 2.0]).mean == -1.5
    with pytest.raises(ValueError, match="2 and 1"):
        paired([1.0, 2.0], [1.0])
