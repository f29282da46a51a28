"""The benches that need no trained model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from evals.benchmarks import graph, sampler


@pytest.mark.slow
def test_the_graph_bench_films_every_size_and_says_what_it_cost(tmp_path: Path) -> None:
    rows = graph.measure(tmp_path, shots=(1, 3), repeats=2)
    assert [(row.shots, row.repeat) for row in rows] == [(1, 0), (3, 0), (1, 1), (3, 1)]
    assert all(row.seconds > 0 and row.bytes > 10_000 for row in rows)
    assert len(list((tmp_path / "3-1").rglob("*.mkv"))) == 3


@pytest.mark.slow
def test_ten_times_the_shots_are_at_most_twelve_times_the_database_work_and_bytes(
    tmp_path: Path, database_work: Counter[str]
) -> None:
    few, many = graph.measure(tmp_path, shots=(20, 200), repeats=1)
    assert 0 < database_work["200-0"] <= 12 * database_work["20-0"]
    assert many.bytes <= 12 * few.bytes


@pytest.mark.slow
def test_the_sampler_bench_compares_every_kind_with_stock() -> None:
    rows = sampler.measure()
    assert [row.model for row in rows] == list(sampler.KINDS)
    assert all(0.97 <= row.flops <= 1.03 and row.peak_bytes <= 1.03 for row in rows)
