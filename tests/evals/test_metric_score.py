"""What could not be measured is counted and named; samplers pick the published frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.metrics.frame_indices import every_k, linspace_end, mid_segments, sec_grid, target_fps
from evals.metrics.score import NotMeasured, Outcome, Score, difference, standard_error, summarise, together


def test_items_without_a_number_are_counted_with_their_reasons_and_change_no_mean() -> None:
    outcomes: list[Outcome] = [Score(value=0.25), NotMeasured(reason="no video"), Score(value=0.75)]
    found = summarise("x", [*outcomes, NotMeasured(reason="no video")])
    assert (found.mean, found.total, found.count, found.unmeasured) == (0.5, 4, 2, {"no video": 2})
    assert found.error == pytest.approx(0.25)
    assert found.low is not None
    assert 0.25 <= found.low <= 0.5


def test_nothing_measured_is_no_number_at_all() -> None:
    found = summarise("x", [NotMeasured(reason="missing weights a")])
    assert (found.mean, found.error, found.low, found.high) == (None, None, None, None)
    assert str(found) == "not measured (missing weights a)"


def test_a_score_is_never_nan() -> None:
    with pytest.raises(ValueError, match="finite"):
        Score(value=math.nan)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_the_error_is_that_of_the_mean(values: list[float]) -> None:
    slow = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    assert standard_error(values) == pytest.approx(slow, abs=1e-9)


def test_the_same_values_give_the_same_interval() -> None:
    outcomes = [Score(value=v) for v in np.random.default_rng(0).random(30)]
    assert summarise("x", outcomes) == summarise("x", outcomes)
    assert summarise("x", outcomes).low != summarise("x", outcomes, seed=1).low


def test_methods_are_compared_over_the_items_that_both_measured() -> None:
    ours: dict[str, Outcome] = {"a": Score(value=1.0), "b": Score(value=0.5), "c": NotMeasured(reason="x")}
    theirs: dict[str, Outcome] = {"a": Score(value=0.0), "b": NotMeasured(reason="y"), "c": Score(value=1.0)}
    found = difference(ours | {"d": Score(value=0.5)}, theirs | {"d": Score(value=0.0)})
    assert not isinstance(found, NotMeasured)
    assert (found.mean, found.count) == (0.75, 2)
    assert difference(ours, theirs) == NotMeasured(reason="one item alone")
    assert difference({}, theirs) == NotMeasured(reason="no item was measured for both methods")


def test_one_item_has_no_bounds_and_no_more_have_items_that_are_all_alike() -> None:
    one = summarise("x", [Score(value=0.3)])
    assert (one.mean, one.error, one.low, one.high, one.count) == (0.3, None, None, None, 1)
    for value in (0.0, 0.25, 1.0):
        alike = summarise("x", [Score(value=value)] * 3)
        assert (alike.mean, alike.error, alike.low, alike.high, alike.count) == (value, 0.0, None, None, 3)


def test_what_belongs_to_all_items_says_how_many_were_not_among_them() -> None:
    found = together("FVD", Score(value=2.0), 5, error=0.1, absent={"no video": 2})
    assert (found.mean, found.error, found.count, found.total, found.unmeasured) == (2.0, 0.1, 5, 7, {"no video": 2})
    few = together("FVD", NotMeasured(reason="few"), 1, absent={"no video": 2})
    assert (few.mean, few.count, few.total, few.unmeasured) == (None, 0, 3, {"few": 1, "no video": 2})


@given(st.integers(1, 200), st.integers(1, 40))
def test_samplers_stay_inside_the_clip_and_in_order(length: int, count: int) -> None:
    for picked in (linspace_end(length, count), mid_segments(length, count)):
        assert len(picked) == count
        assert picked == sorted(picked)
        assert 0 <= picked[0] <= picked[-1] < length


def test_samplers_pick_the_published_frames() -> None:
    assert linspace_end(10, 4) == [0, 3, 6, 9]
    assert linspace_end(3, 5) == [0, 0, 1, 1, 2]
    assert mid_segments(16, 8) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert mid_segments(3, 5) == [0, 1, 2, 2, 2]
    assert every_k(7, 3) == [0, 3, 6]
    assert target_fps(10, 20, 8) == [0, 2, 4, 6, 8]  # round(2.5) is 2
    assert sec_grid(20, 8) == [0, 8, 16]
    with pytest.raises(ValueError, match="at least 1"):
        linspace_end(0, 1)
