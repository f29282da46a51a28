"""The world bench tells a perfect model from one that films something else, and goes on where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from evals.benchmarks.world import WorldRow, bench_world
from evals.rows import ROWS, read_rows
from evals.world.detectors import Frames
from evals.world.settings import READINGS
from evals.world.splits import Case
from evals.world.splits import cases as split_cases
from generators.world.renderer import render


def truth(cases: Sequence[Case], seeds: Sequence[int]) -> list[Frames]:
    return [render([case.script])[0].permute(0, 2, 3, 1).numpy() for case in cases]


def strangers(cases: Sequence[Case], seeds: Sequence[int]) -> list[Frames]:
    """The truth of cases three further on."""
    listed = split_cases("both", 1, max(seeds) + 4)
    return truth([listed[seed + 3] for seed in seeds], seeds)


def same(frames: Frames) -> Frames:
    return frames


def found(rows: Sequence[WorldRow], name: str, events: int = 1) -> WorldRow:
    return next(row for row in rows if row.score == name and row.events == events)


@pytest.mark.slow
def test_truth_scores_everything_and_its_floor_nothing(tmp_path: Path) -> None:
    rows = bench_world(truth, same, tmp_path, model="truth", cases=2)
    for events in (1, 2):
        for name in ("completion", "colour", "kind", "place", "time"):
            line = found(rows, name, events)
            assert (line.value, line.ceiling) == (1.0, 1.0), line
        assert found(rows, "completion", events).floor == 0.0
    assert found(rows, "order", 2).value == 1.0
    assert found(rows, "completion").count == 2
    assert found(rows, "completion of walk").value == 1.0
    assert all(found(rows, f"{who} accepts another verb").value == 0.0 for who in ("critic", "score"))


@pytest.mark.slow
def test_clips_of_other_cases_score_at_the_floor_under_a_full_ceiling(tmp_path: Path) -> None:
    line = found(bench_world(strangers, same, tmp_path, model="strangers", cases=3, events=(1,)), "completion")
    assert (line.value, line.ceiling) == (0.0, 1.0)


@pytest.mark.slow
def test_a_bench_that_was_stopped_halfway_films_only_the_rest(tmp_path: Path) -> None:
    filmed: list[str] = []

    def watched(cases: Sequence[Case], seeds: Sequence[int]) -> list[Frames]:
        if len(filmed) == 1:
            raise KeyboardInterrupt
        filmed.extend(case.name for case in cases)
        return truth(cases, seeds)

    with pytest.raises(KeyboardInterrupt):
        bench_world(watched, same, tmp_path, model="a", cases=2, events=(1,), batch=1)
    with (tmp_path / ROWS).open("a") as file:
        file.write('{"model": "a", "case": "both-1-0')  # what a kill in the middle of a line leaves
    first = list(filmed)
    filmed.clear()
    rows = bench_world(watched, same, tmp_path, model="a", cases=2, events=(1,), batch=1)
    assert (first, filmed) == (["both-1-0000"], ["both-1-0001"])
    assert rows == bench_world(truth, same, tmp_path / "whole", model="a", cases=2, events=(1,))
    assert len(read_rows(tmp_path / ROWS)) == 2


@pytest.mark.slow
def test_rows_of_another_model_are_not_taken(tmp_path: Path) -> None:
    bench_world(truth, same, tmp_path, model="a", cases=1, events=(1,))
    line = found(bench_world(strangers, same, tmp_path, model="b", cases=1, events=(1,)), "completion")
    assert line.value == 0.0


@pytest.mark.slow
def test_rows_of_other_readings_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench_world(truth, same, tmp_path, model="a", cases=1, events=(1,))
    monkeypatch.setattr("evals.world.settings.READINGS", READINGS + 1)
    line = found(bench_world(strangers, same, tmp_path, model="a", cases=1, events=(1,)), "completion")
    assert line.value == 0.0
