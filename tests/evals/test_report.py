"""The report loses no line: grouped lines with their reasons, curves over every axis, timing maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from evals.benchmarks.protocol import ALL, Film, Line
from evals.benchmarks.timing import BINS, timing_facts
from evals.benchmarks.world_films import LENGTHS, World
from evals.metrics.score import NotMeasured, Score, summarise
from evals.report import page_of, timing, write_report
from evals.world.controls import film


def kept(results: Path, method: str, lines: Sequence[Line]) -> None:
    """A finished run without rows."""
    folder = results / "bench" / method
    folder.mkdir(parents=True)
    manifest = {"benchmark": "bench", "method": method, "source": "array", "seed": 0, "units": 2, "settings": {},
                "digest": "d", "versions": {}}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "table.json").write_text(json.dumps([asdict(line) for line in lines]))


def line(metric: str, group: str, *values: float | str) -> Line:
    outcomes = [NotMeasured(reason=one) if isinstance(one, str) else Score(value=one) for one in values]
    return Line(group=group, summary=summarise(metric, outcomes))


@pytest.mark.slow
def test_lines_of_groups_stand_in_both_forms_of_the_report_with_their_reasons(tmp_path: Path) -> None:
    lines = [
        line("ECR", ALL, 0.25, 0.75),
        line("ECR", "seen", 0.25, 0.75),
        line("ECR", "unseen durations", "nothing was kept back"),
        line("completion of a verb", "jump", 0.125, 0.125),
        line("look kept", "gap 1", 0.875),
        line("look kept", "gap 2", 0.625),
    ]
    kept(tmp_path / "results", "plain", lines)
    kept(tmp_path / "results", "steered", lines[:2])
    written = write_report(tmp_path / "results", tmp_path / "report")
    html, text = written.html.read_text(), written.markdown.read_text()
    assert "<td>completion of a verb</td><td>jump</td><td>0.125" in html
    assert "<td>unseen durations</td><td>not measured<br><small>1 not measured: nothing was kept back" in html
    assert "| completion of a verb | jump | 0.125" in text
    assert "| look kept | gap 2 | 0.625 (n=1 of 1) | – |" in text
    assert "| ECR | unseen durations | not measured (1 not measured: nothing was kept back) | – |" in text


@pytest.mark.slow
def test_a_gap_is_a_curve_and_what_no_method_measured_is_no_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        line("ECR", ALL, 0.5),
        line("ECR", "seen", 0.5),
        line("ECR", "unseen durations", "nothing was kept back"),
        line("completion of a verb", "jump", 0.125),
        line("look kept", "gap 1", 0.875),
    ]
    kept(tmp_path / "results", "plain", lines)
    barred: dict[str, Sequence[str]] = {}

    def bars(title: str, groups: Sequence[str], series: object) -> bytes:
        barred[title] = groups
        return b"png"

    monkeypatch.setattr("evals.report.plots.bars", bars)
    (part,) = page_of(tmp_path / "results").parts
    assert barred == {"ECR": [ALL, "seen"], "completion of a verb": ["jump"]}
    captions = {picture.caption for picture in part.pictures}
    assert "look kept over gap" in captions
    assert "completion of a verb, by class" in captions


def test_a_timing_map_has_lines_for_films_of_every_length() -> None:
    first = timing_facts([(0.0, 1.0), (1.25, 2.0)], 4.0, (1, 2))
    assert first["asked"] == ["1 of 1", "1 of 2", "2 of 2"]
    assert first["timing"] == [None, [1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0.5, 1, 0, 0, 0, 0]]
    missed = timing_facts([(None, None), (1.5, 2.0)], 4.0, (1, 2))
    seen = timing([{"facts": first}, {"facts": {}}, {"facts": missed}])
    assert seen is not None
    assert seen.names == ("1 of 2", "2 of 2")  # no film of one event was asked for
    np.testing.assert_allclose(seen.cells, [[0.5, 0.5, 0, 0, 0, 0, 0, 0], [0, 0, 0.25, 1, 0, 0, 0, 0]])
    with pytest.raises(ValueError, match="expected one of 1, 2 events, got 3"):
        timing_facts([(0, 1)] * 3, 4.0, (1, 2))


@pytest.mark.slow
def test_the_puppet_world_keeps_when_events_were_seen() -> None:
    world = World({"both": 2}, NotMeasured(reason="no model"))
    name, (case, _) = next((n, pair) for n, pair in world.cases.items() if len(pair[0].script.events) == 2)
    unit = next(one for one in world.units() if one.name == name)
    facts = world.judge(unit, [Film(frames=film(case.script), fps=8)]).facts
    seen = timing([{"facts": facts}])
    assert seen is not None
    assert (seen.names, seen.cells.shape, len(facts["timing"])) == (("1 of 2", "2 of 2"), (2, BINS), sum(LENGTHS))
    assert seen.cells[0].argmax() < seen.cells[1].argmax()
