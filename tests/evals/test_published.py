"""The rows that are kept with the docs make the table that the docs print."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import pytest

from evals.benchmarks.steering_arms import NONE
from evals.comparison import STEERING, TRUTH, compare
from evals.results import read_results

DOCS = Path(__file__).parents[2] / "docs"
PRINTED = ("completion", "order", "in time", "onset error (s)", "tIoU")


def numbers(cell: str) -> tuple[list[float], bool]:
    """Every number of a cell, and whether it has a star."""
    told = re.findall(r"[+−-]?\d*\.\d+", re.sub(r", n=.*", "", cell))
    return [float(one.replace("−", "-")) for one in told], "*" in cell


def test_the_rows_of_steering_make_its_table(tmp_path: Path) -> None:
    with tarfile.open(DOCS / "rows" / "steering.tar.xz") as rows:
        rows.extractall(tmp_path, filter="data")
    methods = read_results(tmp_path)["steering"]
    assert all(len(method.rows) == 96 for method in methods)
    every, *_, detail = compare(methods, STEERING)
    measured = [STEERING.columns.index(name) for name in PRINTED[:-1]]
    ours = {name: [cells[at] for at in measured] for name, cells in every.rows}
    for name, cells in detail.rows:
        ours[name].append(cells[STEERING.detail.index("tIoU") - 2])  # no caption here has a third or fourth event
    page = (DOCS / "evaluation.md").read_text(encoding="utf-8").split("#### What came out")[1].split("\n### ")[0]
    rows_of = re.findall(r"^\| `?([\w+-]+|truth through the autoencoder)`? \| (.*) \|$", page, re.MULTILINE)
    printed = {TRUTH if name.startswith("truth") else name: line.split(" | ") for name, line in rows_of}
    del printed["arm"]
    assert list(printed) == list(ours)
    for name, cells in ours.items():
        for metric, cell, text in zip(PRINTED, cells, printed[name], strict=False):
            want, star = numbers(f"{cell.value} {cell.beside}")
            got, starred = numbers(text)
            assert got == pytest.approx(want, abs=1e-9), (name, metric)
            assert (star, len(got)) == (starred, 3 if name == NONE else 4), (name, metric)
