"""The controls bench at small widths: every row is there, and the counted limits hold."""

from __future__ import annotations

import pytest
import torch

from evals.benchmarks import control_costs
from evals.benchmarks.control_costs import METHODS, ControlRow, Width, interval_of_median

SMALL = Width(model="small", heads=2, head_width=64, grid=(5, 64, 64))


def by_measure(rows: list[ControlRow]) -> dict[str, ControlRow]:
    return {row.measure: row for row in rows}


def test_separable_attention_costs_no_more_operations_and_a_tenth_of_a_map() -> None:
    rows = by_measure(control_costs.attention_rows("TSAttn", METHODS["TSAttn"], SMALL, pairs=2))
    assert rows["flops"].ratio <= 1.0
    assert rows["extra_maps"].ratio <= 0.1
    assert rows["idle_flops"].ratio == rows["idle_bytes"].ratio == 1.0
    timed = rows["time"]
    assert timed.low is not None
    assert timed.high is not None
    assert timed.low <= timed.ratio <= timed.high
    assert timed.pairs == 2


def test_a_whole_clip_costs_at_most_a_hundredth_more_operations() -> None:
    (row,) = control_costs.clip_rows("TSAttn", METHODS["TSAttn"], steps=5)
    assert 0.9 < row.ratio <= 1.01


@pytest.mark.slow
def test_every_method_has_its_rows_in_either_type() -> None:
    seen: list[ControlRow] = []
    rows = control_costs.measure(widths=(SMALL,), pairs=1, dtype=torch.bfloat16, on_row=seen.append)
    assert rows == seen
    assert {row.method for row in rows} == set(METHODS)


@pytest.mark.slow
def test_a_steered_attention_takes_at_most_half_again_as_long() -> None:
    width = Width(model="Wan-1.3B", heads=12, head_width=128, grid=(3, 10, 20))
    assert by_measure(control_costs.attention_rows("TSAttn", METHODS["TSAttn"], width, pairs=5))["time"].ratio <= 1.5


def test_an_interval_of_a_median_holds_it() -> None:
    assert interval_of_median([1.0, 1.0, 1.0]) == (1.0, 1.0)
    low, high = interval_of_median([0.8, 0.9, 1.0, 1.1, 9.0])
    assert 0.8 <= low <= 1.0 <= high <= 9.0
