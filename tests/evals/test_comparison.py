"""Tables and pictures side by side: of what was measured alike alone, floors without a better end, no model loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from evals.benchmarks.extension_arms import CUT
from evals.benchmarks.protocol import ALL, as_json
from evals.benchmarks.shot_measures import FLOOR, HOLD, PACE
from evals.comparison import CAST, EXTENSION, LAYOUTS, PAIRS, STEERING, Layout, comparable, compare, signed
from evals.metrics.bootstrap import interval
from evals.metrics.score import Score, summarise
from evals.report import page_of
from evals.results import read_results
from evals.rows import ROWS, add_row
from evals.slices import SLICE, column_over_time

ROOT = Path(__file__).parents[2]


def finish(results: Path, method: str, digest: str, value: float, benchmark: str = "extension") -> None:
    """A finished method of two units, with a curve and slices."""
    layout = LAYOUTS[benchmark]
    folder = results / benchmark / method
    manifest = {"benchmark": benchmark, "method": method, "source": "array", "seed": 0, "units": 2, "settings": {},
                "digest": digest, "versions": {}}  # fmt: skip
    metrics = dict.fromkeys((*layout.columns, *layout.detail))
    for number in range(2):
        unit = f"unit-{number}"
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        film = np.full((12, 8, 8, 3), round(200 * value), np.uint8)
        (folder / "pictures" / f"{unit}.png").write_bytes(column_over_time(film, 4))
        outcomes = {metric: as_json(Score(value=value + number / 100)) for metric in metrics}
        facts = {"classes": ["2 shots"], "seams": [6]}
        add_row(folder / ROWS, {
            **{key: manifest[key] for key in ("digest", "method", "source", "seed")}, "unit": unit, "prompt": "a fox",
            "outcomes": outcomes, "facts": facts, "headline": "completion", "strip": None, "length": 1.5,
            "pictures": {SLICE: f"pictures/{unit}.png"}, "seconds": [1.0],
        })  # fmt: skip
    both = [Score(value=value), Score(value=value + 0.01)]
    lines = [(ALL, metric) for metric in metrics] + [("shot 1", "completion"), ("shot 2", "completion")]
    table = [{"group": group, "summary": asdict(summarise(metric, both))} for group, metric in lines]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "table.json").write_text(json.dumps(table))


def pictures(results: Path) -> dict[str, bytes]:
    (part,) = page_of(results).parts
    return {picture.file: picture.png for picture in part.pictures}


@pytest.mark.slow
def test_no_picture_of_several_methods_shows_one_that_was_measured_under_other_settings(tmp_path: Path) -> None:
    finish(tmp_path, CUT, "same", 0.2)
    finish(tmp_path, "last-frame", "same", 0.6)
    before = pictures(tmp_path)
    assert {f"pictures/extension-{kind}.png" for kind in ("trade-off-0", "slice-unit-0", "forest-0", "cost",
                                                          "shot-completion")} <= set(before)  # fmt: skip
    finish(tmp_path, "given-5", "other", 0.9)
    assert pictures(tmp_path) == before
    methods = read_results(tmp_path)["extension"]
    assert [method.name for method in comparable(methods, EXTENSION)] == [CUT, "last-frame"]
    finish(tmp_path, "held", "same", 0.9)
    after = pictures(tmp_path)
    assert all(after[file] != png for file, png in before.items())


def test_without_the_baseline_nothing_is_compared_and_all_are_shown(tmp_path: Path) -> None:
    finish(tmp_path, "last-frame", "same", 0.6)
    methods = read_results(tmp_path)["extension"]
    assert not comparable(methods, EXTENSION)
    assert not compare(methods, EXTENSION)
    assert "pictures/extension-trade-off-0.png" in pictures(tmp_path)


@pytest.mark.parametrize(
    ("benchmark", "layout", "floor"),
    [("cast", CAST, FLOOR), ("extension", EXTENSION, FLOOR), ("steering", STEERING, "completion of another caption")],
)
def test_a_floor_has_no_better_end(tmp_path: Path, benchmark: str, layout: Layout, floor: str) -> None:
    finish(tmp_path, layout.baseline, "same", 0.2, benchmark)
    tables = compare(read_results(tmp_path)[benchmark], layout)
    assert tables[-1].head[-2] == floor
    assert tables[0].head[layout.columns.index("completion")] == "completion ↑"


def test_every_measure_that_a_layout_names_has_a_column(tmp_path: Path) -> None:
    for layout in set(LAYOUTS.values()):
        named = {*layout.columns, *layout.detail}
        assert {*layout.less, *layout.neither, *layout.forest} <= named
        assert {metric for pair in layout.trade_offs for metric in pair} <= named
    assert {HOLD, PACE} <= set(EXTENSION.columns)


def test_a_report_loads_nothing_that_films_or_measures() -> None:
    told = "import sys, evals.report; print(*{'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_star_needs_as_many_pairs_as_could_prove_anything() -> None:
    assert signed(interval([1.0] * (PAIRS - 1))) == "+1.000 [+1.000, +1.000]"
    assert signed(interval([1.0] * PAIRS)) == "+1.000* [+1.000, +1.000]"
    assert signed(interval([1.0, -1.0] * PAIRS)).startswith("+0.000 [")
