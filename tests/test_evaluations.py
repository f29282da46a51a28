"""The evaluation suite from the command line and from Python: a table, kept rows, a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fabula

Cli = Callable[..., Any]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("the red fox jumps\nthe blue cat spins\n")
    return path


def test_a_benchmark_is_run_once_and_then_read_from_its_rows(cli: Cli, prompts: Path, tmp_path: Path) -> None:
    words = ("eval", "quality", prompts, "--profile", "instant", "--seconds", "1", "--out", tmp_path / "results")
    first, again = cli(*words), cli(*words)
    assert (first.code, again.code) == (0, 0), first.err
    assert "1/2  0000" in first.out
    assert "1/2  0000  kept from before" in again.out
    assert "missing weights" in first.out


def test_the_table_is_one_json_object(cli: Cli, prompts: Path, tmp_path: Path) -> None:
    done = cli("eval", "quality", prompts, "--profile", "instant", "--seconds", "1", "--out", tmp_path, "--json")
    lines = {line["summary"]["metric"]: line["summary"] for line in json.loads(done.out)["lines"]}
    assert 0 < lines["dynamic degree (dis)"]["mean"] <= 1
    assert lines["text alignment (clip_vitb32)"]["mean"] is None


def test_motion_is_read_from_the_flow_that_was_asked_for(cli: Cli, prompts: Path, tmp_path: Path) -> None:
    words = ("eval", "quality", prompts, "--profile", "instant", "--seconds", "1", "--limit", "1", "--out", tmp_path)
    done = cli(*words, "--flow", "farneback", "--json")
    names = {line["summary"]["metric"] for line in json.loads(done.out)["lines"]}
    assert names >= {"dynamic degree (farneback)", "temporal flickering (static clips by farneback)"}
    assert names >= {"cuts inside a shot", "tracks kept (Lucas-Kanade, 16x16)", "VBench total"}
    assert not any("(dis)" in name for name in names)
    assert cli(*words, "--flow", "raft").code == 2


def test_an_option_of_another_benchmark_is_refused(cli: Cli, prompts: Path) -> None:
    done = cli("eval", "movement", prompts, "--flow", "dis")
    assert done.code == 2
    assert "only quality can take it, not movement" in " ".join(done.err.split())


def test_the_report_puts_results_on_one_page(prompts: Path, tmp_path: Path) -> None:
    fabula.evaluate("quality", prompts, profile="instant", seconds=1.0, limit=1, out=tmp_path / "results")
    written = fabula.evaluation_report(tmp_path / "results")
    assert "dynamic degree" in written.html.read_text()
    assert "dynamic degree" in written.markdown.read_text()


def test_prompts_that_are_not_there_are_a_usage_error(cli: Cli, tmp_path: Path) -> None:
    done = cli("eval", "storyeval", tmp_path / "none.json", "--profile", "instant")
    assert done.code == 2
    assert "none.json" in done.err


def test_a_report_over_nothing_says_what_it_expected(cli: Cli, tmp_path: Path) -> None:
    done = cli("eval", "report", tmp_path)
    assert done.code == 2
    assert "run a benchmark first" in " ".join(done.err.split())


def test_weights_for_a_benchmark_that_reads_none_are_refused(cli: Cli, prompts: Path, tmp_path: Path) -> None:
    done = cli("eval", "storyeval", prompts, "--weights", tmp_path)
    assert done.code == 2
    assert "reads no encoders" in done.err
