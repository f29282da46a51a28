"""`eval extension` from the command line and from Python: the same arms, kept rows, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fabula
from evals.benchmarks.extension_arms import CUT, SCENES
from evals.benchmarks.shot_measures import HOLD
from evals.comparison import TRUTH

Cli = Callable[..., Any]
INSTANT = """\
[backend]
kind = "instant"
width = 96
height = 64
frame_counts = [33, 65]
"""


@pytest.mark.slow
def test_a_whole_model_that_was_trained_films_in_sequence(tmp_path: Path) -> None:
    from generators.models.tiny import tiny_wan

    folder = tiny_wan("world", tmp_path / "model", scheduler="euler")
    found = fabula.evaluate_extension(
        [SCENES], chains=1, sizes=(2,), scenes=folder, model=str(folder), steps=1, out=tmp_path / "results"
    )
    by_name = {result.manifest.method: result for result in found.results}
    assert list(by_name) == [CUT, SCENES, TRUTH]
    assert "weights" in by_name[SCENES].manifest.source
    counts = {line.summary.metric: line.summary.count for line in by_name[SCENES].lines if line.group == "all"}
    assert counts[HOLD] == counts["completion"] == 1


@pytest.mark.slow
def test_the_command_goes_on_and_the_sdk_has_the_same(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "world.toml").write_text(INSTANT)
    words = ("eval", "extension", "--profile", tmp_path / "world.toml", "--chains", "1", "--sizes", "2",
             "--arms", "last-frame", "--out", tmp_path / "results")  # fmt: skip
    first, again = cli(*words), cli(*words)
    assert (first.code, again.code) == (0, 0), first.err
    assert "1/1  last-frame  chain-2-0000" in first.out
    assert "kept from before" in again.out
    found = fabula.evaluate_extension(
        ["last-frame"], chains=1, sizes=(2,), profile=str(tmp_path / "world.toml"), out=tmp_path / "results"
    )
    assert [result.manifest.method for result in found.results] == [CUT, "last-frame"]
    assert found.tables[0].rows[0][0] == CUT


@pytest.mark.slow
def test_what_cannot_be_chained_is_a_usage_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "world.toml").write_text(INSTANT)
    world = ("--profile", tmp_path / "world.toml")
    for words, why in (
        ((*world, "--arms", "magic"), "expected some of cut"),
        ((*world, "--sizes", "9"), "expected some of 2, 3, 4, 5, 6 shots, got 9"),
        ((*world, "--split", "train"), "expected test or tune"),
        ((*world, "--scenes", tmp_path / "nothing"), "does not exist"),
        (("--profile", "instant"), "expected a model of the puppet world"),
    ):
        done = cli("eval", "extension", *words, "--out", tmp_path / "results")
        assert (done.code, why in " ".join(done.err.split())) == (2, True), done.err
