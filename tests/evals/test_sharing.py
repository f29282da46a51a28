"""Processes that run one call share its units; rows are whole whoever else writes, and claims outlive no process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier

import pytest

from evals.benchmarks.protocol import Film
from evals.benchmarks.quality import Quality, QualitySettings
from evals.metrics.embedders import Weights
from evals.metrics.score import Case, NotMeasured
from evals.results import read_method, read_results
from evals.rows import ROWS, add_row, read_rows
from evals.suite import finish, run
from tests.evals.test_suite import Strips, videos


@pytest.fixture
def quality(tmp_path: Path) -> Quality:
    path = tmp_path / "prompts.txt"
    path.write_text("a fox\na cat | sits\na $owl\n")
    return Quality.with_weights(QualitySettings(prompts=path), Weights())


@dataclass
class InStep(Strips):
    """Footage that films its first clip when another process is at one too."""

    gate: Barrier = field(default_factory=lambda: Barrier(2))

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        if not self.filmed:
            self.gate.wait(timeout=30)
        return super().film(case, seed)


def test_two_that_run_the_same_call_share_its_units_and_both_end_with_the_whole_table(
    quality: Quality, tmp_path: Path
) -> None:
    whole = finish(run(quality, Strips(), tmp_path / "whole"))
    gate = Barrier(2)
    both = [InStep(gate=gate), InStep(gate=gate)]
    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(lambda one: finish(run(quality, one, tmp_path / "shared")), both))
    assert sorted(both[0].filmed + both[1].filmed) == ["0000", "0001", "0002"]
    assert min(len(one.filmed) for one in both) == 1
    assert results[0].lines == results[1].lines == whole.lines
    assert not (results[0].folder / "claims").exists()


@pytest.mark.parametrize("owner", ["gone", "", "elsewhere:1/1/1/aa"])
def test_a_claim_that_nobody_here_holds_keeps_no_unit_from_being_made(
    quality: Quality, tmp_path: Path, owner: str
) -> None:
    if owner == "gone":
        gone = subprocess.run(
            [sys.executable, "-c", "from storage.lease import new_owner; print(new_owner())"],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
        )  # fmt: skip
        owner = gone.stdout.strip()
    claims = tmp_path / "out" / "quality" / "noise" / "claims"
    claims.mkdir(parents=True)
    claim = claims / hashlib.sha256(b"0001").hexdigest()[:16]
    claim.write_text(owner)
    os.utime(claim, (1, 1))
    noise = Strips()
    finish(run(quality, noise, tmp_path / "out"))
    assert noise.filmed == (["0000", "0002", "0001"] if owner.startswith("elsewhere") else ["0000", "0001", "0002"])
    assert not claims.exists()


def test_reading_rows_takes_nothing_from_a_line_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / ROWS
    add_row(path, {"unit": "a"})
    with path.open("a") as file:
        file.write('{"unit": "b", "fac')
    assert [row["unit"] for row in read_rows(path)] == ["a"]
    with path.open("a") as file:
        file.write('ts": {}}\n')
    assert [row["unit"] for row in read_rows(path)] == ["a", "b"]
    with path.open("a") as file:
        file.write('{"unit": "c')  # and this one is killed here
    add_row(path, {"unit": "d"})
    assert [row["unit"] for row in read_rows(path)] == ["a", "b", "d"]


def test_a_unit_that_cannot_be_filmed_is_tried_every_time_and_told_once(quality: Quality, tmp_path: Path) -> None:
    footage = videos(tmp_path / "some", "0000")
    for _ in range(3):
        result = finish(run(quality, footage, tmp_path / "out"))
    assert len(read_rows(result.folder / ROWS)) == 3


@pytest.mark.parametrize("broken", ["{}", "[]", "no json", '{"method": "a"}'])
def test_a_folder_that_is_no_result_is_named(quality: Quality, tmp_path: Path, broken: str) -> None:
    result = finish(run(quality, Strips(), tmp_path / "out"))
    add_row(result.folder / ROWS, dict.fromkeys(("digest", "method", "source", "seed", "ceiling")))
    assert len(read_method(result.folder).rows) == 3
    (result.folder / "manifest.json").write_text(broken)
    with pytest.raises(ValueError, match=r"noise is no result of the suite .* run its benchmark again"):
        read_results(tmp_path / "out")
