"""The rows that are kept with the docs make the table that the docs print."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from evals.benchmarks.steering_arms import ARMS, NONE
from evals.comparison import STEERING, TRUTH, compare
from evals.metrics.score import summarise
from evals.results import read_results

DOCS = Path(__file__).parents[2] / "docs"


def shown(value: float | None) -> str:
    return f"{value:.3f}".removeprefix("0")


def test_the_rows_of_steering_make_its_table(tmp_path: Path) -> None:
    with tarfile.open(DOCS / "rows" / "steering.tar.xz") as rows:
        rows.extractall(tmp_path, filter="data")
    methods = {method.name: method for method in read_results(tmp_path)["steering"]}
    assert set(methods) <= {TRUTH, *ARMS}
    page = (DOCS / "evaluation.md").read_text(encoding="utf-8").split("#### What came out")[1].split("\n### ")[0]
    table = dict(re.findall(r"^\| `?([\w+-]+|truth through the autoencoder)`? \| (.*)$", page, re.MULTILINE))
    apart = dict(compare(list(methods.values()), STEERING)[0].rows)
    for name, method in methods.items():
        cells = table[name.removeprefix("control: ")].split(" | ")
        for metric, cell in zip(("completion", "order", "in time"), cells, strict=False):
            outcomes = list(method.outcomes(metric).values())
            assert len(outcomes) == 96
            assert cell.split()[0] == shown(summarise(metric, outcomes).mean), (name, metric)
            starred = "*" in apart[name][STEERING.columns.index(metric)].beside
            assert starred == ("*" in cell) or name == NONE, (name, metric)
