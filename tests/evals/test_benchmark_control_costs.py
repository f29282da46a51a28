"""The controls bench at small widths: every row is there, and the counted limits hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from evals.benchmarks import control_costs
from evals.benchmarks.control_costs import METHODS, Width
from evals.benchmarks.cost_rows import ControlRow, band_rows, interval_of_median, tempo_rows, trajectory_rows, unet_rows
from evals.benchmarks.tempo_costs import WAN_1_3B
from generators.costs import processor_seconds

SMALL = Width(model="small", heads=2, head_width=64, grid=(5, 64, 64))


def by_measure(rows: list[ControlRow]) -> dict[str, ControlRow]:
    return {row.measure: row for row in rows}


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_time_is_that_of_one_thread_however_many_there_are() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        counted: list[int] = []
        assert processor_seconds(lambda: counted.append(torch.get_num_threads())) >= 0
        assert counted == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_a_synopsis_costs_its_words_and_no_padding() -> None:
    rows = control_costs.synopsis_rows(steps=2)
    assert [row.method for row in rows] == ["VSTAR synopsis, embeddings mixed", "VSTAR synopsis, outputs mixed"]
    for row in rows:
        assert 0.9 < row.ratio < 1.3


def test_an_interval_of_a_median_holds_it() -> None:
    assert interval_of_median([1.0, 1.0, 1.0]) == (1.0, 1.0)
    low, high = interval_of_median([0.8, 0.9, 1.0, 1.1, 9.0])
    assert 0.8 <= low <= 1.0 <= high <= 9.0


@pytest.mark.slow
def test_every_bar_stands_beside_its_ratio_and_is_kept() -> None:
    """At a small size of the same code; `bench controls` counts at the full one."""
    small = replace(WAN_1_3B, model="four blocks", blocks=4, latents=(21, 16, 20))
    rows = [*band_rows(small, pairs=1), *tempo_rows(small, prefixes=(2,))]
    counted = {(row.method, row.measure): row for row in rows if row.measure != "time" and row.limit is not None}
    assert {method for method, _ in counted} == {
        "VSTAR constant", "VSTAR sampled", "VSTAR rowmax", "VSTAR rowmax, chunked",
        "TempoControl ours", "TempoControl ours, activations kept", "TempoControl ours, first 2 blocks",
    }  # fmt: skip
    bars = {key: row.limit for key, row in counted.items()}
    assert bars["VSTAR sampled", "flops"] == bars["VSTAR sampled", "layer_flops"] == 1.3
    assert bars["TempoControl ours", "flops_of_released"] == 0.75
    assert bars["TempoControl ours, first 2 blocks", "flops_of_released"] == 0.45
    operations = [row for row in counted.values() if "flops" in row.measure]  # small maps are no measure of memory
    assert len(operations) == 7
    assert all(row.ratio <= row.limit for row in operations if row.limit is not None)


def test_the_way_over_a_prefix_stands_beside_the_way_over_all_blocks() -> None:
    rows = list(trajectory_rows())
    assert [row.measure for row in rows] == [f"objective_{n}_of_all_blocks" for n in range(1, len(rows) + 1)]
    assert rows[0].ratio == pytest.approx(1.0, rel=1e-6)
    assert all(0.5 < row.ratio < 2 for row in rows)


@pytest.mark.slow
def test_regularising_whole_unets_keeps_its_bar_at_full_size() -> None:
    rows = list(unet_rows())
    assert [row.model for row in rows] == ["ModelScope", "AnimateDiff"]
    assert all(1 <= row.ratio <= row.limit for row in rows if row.limit is not None)
