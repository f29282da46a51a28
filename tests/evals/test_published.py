"""The rows that are kept with the docs make the table that the docs print."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from evals.benchmarks.extension_arms import CUT
from evals.benchmarks.steering_arms import NONE
from evals.comparison import EXTENSION, STEERING, TRUTH, Cell, Comparison, compare, signed
from evals.metrics.bootstrap import Interval
from evals.metrics.score import Outcome, difference, summarise
from evals.results import Method, read_results

DOCS = Path(__file__).parents[2] / "docs"


def numbers(cell: str) -> tuple[list[float], bool]:
    """Every number of a cell, and whether it has a star."""
    told = re.findall(r"[+−-]?\d*\.\d+", re.sub(r", n=.*", "", cell))
    return [float(one.replace("−", "-")) for one in told], "*" in cell


def printed(section: str) -> tuple[list[str], dict[str, list[str]]]:
    """The measures of a section's table, and its cells by method."""
    page = (DOCS / "evaluation.md").read_text(encoding="utf-8").split(f"{section}\n")[1].split("\n#")[0]
    head, *rows = re.findall(r"^\| `?([\w+-]+|truth through the autoencoder)`? \| (.*) \|$", page, re.MULTILINE)
    cells = {TRUTH if name.startswith("truth") else name: line.split(" | ") for name, line in rows}
    return head[1].split(" | ")[:-1], cells


def assert_printed(section: str, tables: Sequence[Comparison], baseline: str, arms: int) -> None:
    """The section prints the tables' rows in their order, every number of every measure that it names."""
    ours: dict[str, dict[str, Cell]] = {name: {} for name, _ in tables[0].rows}
    for table in tables:
        for name, cells in table.rows:
            ours[name] |= {head.rstrip(" ↑↓"): cell for head, cell in zip(table.head, cells, strict=True)}
    measures, told = printed(section)
    assert list(told) == list(ours)
    assert len(ours) == arms
    assert len(measures) >= 4
    for name, cells in ours.items():
        for measure, text in zip(measures, told[name], strict=False):
            cell = cells[measure.removesuffix(" of done events")]
            want, star = numbers(f"{cell.value} {cell.beside}")
            got, starred = numbers(text)
            assert got == pytest.approx(want, abs=1e-9), (name, measure)
            assert star == starred, (name, measure)
            assert len(got) in ((1, 3) if name == baseline else (4,)), (name, measure)


def unpacked(name: str, out: Path) -> dict[str, list[Method]]:
    """The results that an archive of the docs holds."""
    with tarfile.open(DOCS / "rows" / f"{name}.tar.xz") as rows:
        rows.extractall(out, filter="data")
    return read_results(out)


@pytest.mark.parametrize(("section", "events", "arms"), [("Two events, 4 s", 2, 14), ("Three events, 8 s", 3, 5)])
def test_the_rows_of_steering_make_its_tables(section: str, events: int, arms: int, tmp_path: Path) -> None:
    methods = [
        replace(method, rows=tuple(row for row in method.rows if f"-{events}-" in row["unit"]))
        for method in unpacked("steering", tmp_path)["steering"]
    ]
    filmed = [method for method in methods if method.rows]
    assert all(len(method.rows) == 96 for method in filmed)
    every, *_, detail = compare(filmed, STEERING)
    assert_printed(f"##### {section}", (every, detail), NONE, arms)


def test_the_rows_of_shots_that_go_on_make_their_table(tmp_path: Path) -> None:
    methods = unpacked("extension", tmp_path)["extension"]
    assert all(len(method.rows) == 30 for method in methods)
    assert_printed("#### What came out of going on", compare(methods, EXTENSION)[:1], CUT, 4)


def test_the_rows_of_motion_make_its_trade_off(tmp_path: Path) -> None:
    methods = {method.name: method for method in unpacked("motion", tmp_path)["motion"]}
    assert all(len(method.rows) == 48 for method in methods.values())
    page = (DOCS / "methods" / "motion-queries.md").read_text(encoding="utf-8").split("### What came out\n")[1]
    head, _, *lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    assert len(lines) == len(methods) == 9
    plain = methods["plain"]
    for share, *cells in lines:
        method = {"0": plain, "the asked clip, rendered": methods["rendered"]}.get(share) or methods[f"share {share}"]
        for measure, text in zip(head[1:], cells, strict=True):
            apart = difference(method.outcomes(measure), plain.outcomes(measure))
            assert isinstance(apart, Interval)
            beside = "" if method is plain or "leakage" in measure else signed(apart)
            told = f"{summarise(measure, list(method.outcomes(measure).values())).mean:.3f} {beside}"
            assert numbers(text) == (pytest.approx(numbers(told)[0], abs=1e-9), "*" in told), (share, measure)


def test_the_rows_of_both_splits_make_what_is_told_of_them_together(tmp_path: Path) -> None:
    found = unpacked("steering", tmp_path)
    assert [method.name for method in found["steering-tune"]] == [NONE, "ts-attn"]

    def outcomes(name: str, measure: str) -> dict[str, Outcome]:
        return {
            f"{benchmark} {unit}": outcome
            for benchmark, methods in found.items()
            for method in methods
            for unit, outcome in method.outcomes(measure).items()
            if method.name == name and "-2-" in unit
        }

    page = (DOCS / "evaluation.md").read_text(encoding="utf-8").split("over 128 captions ")[1]
    told = numbers(page.split(" s (rows")[0].replace(",\n", ","))[0]
    expected: list[float] = []
    for measure in ("completion", "in time", "tIoU", "onset error (s)"):
        apart = difference(outcomes("ts-attn", measure), outcomes(NONE, measure))
        assert isinstance(apart, Interval)
        assert measure not in ("completion", "in time") or apart.count == 128
        expected += numbers(signed(apart))[0]
    assert told == pytest.approx(expected, abs=1e-9)
