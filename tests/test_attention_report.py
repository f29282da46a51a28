"""`run --attention`: the report shows where the model looked, once for each take in the film, and never draws twice."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fabula import Studio, UsageError
from generators.models.tiny import tiny_wan

Cli = Callable[..., Any]
PROFILE = """\
description = "A tiny model, judged by nobody."
[critic]
kind = "none"
[backend]
kind = "local"
device = "cpu"
width = 32
height = 32
fps = 8
frame_counts = [13, 25]
steps = 2
guidance = 2.0
"""
STORY = "A red fox jumps high up in the meadow, then the fox dances."


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan("t2v-2.1", tmp_path_factory.mktemp("tiny") / "model", scheduler="euler")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(PROFILE)
    return path


def shown(report: Path) -> list[bytes]:
    """The attention figures inlined in a report."""
    found = re.findall(r'class="figure"[^>]*src="data:image/png;base64,([^"]+)"', report.read_text())
    return [base64.b64decode(data) for data in found]


@pytest.mark.slow
def test_the_report_shows_where_the_model_looked_and_a_second_run_draws_nothing(
    cli: Cli, checkpoint: Path, profile: Path, tmp_path: Path
) -> None:
    words = ("run", STORY, "--profile", profile, "--model", checkpoint, "--out", tmp_path / "film", "--json")
    told = cli(*words, "--attention")
    assert told.code == 3, told.err  # filmed, and nobody judged
    figures = sorted((tmp_path / "film").glob("attention-*.png"))
    assert [path.name for path in figures] == ["attention-1-take-1.png"]
    assert shown(Path(told.data["report"])) == [figures[0].read_bytes()]
    with Image.open(figures[0]) as figure:
        assert figure.size[0] > 1000
    before = figures[0].stat().st_mtime_ns
    assert cli(*words).code == 3  # asked for once, it stays
    assert figures[0].stat().st_mtime_ns == before
    assert len(shown(Path(told.data["report"]))) == 1


@pytest.mark.slow
def test_a_finished_film_gets_its_figures_later_and_keeps_its_bytes(
    checkpoint: Path, profile: Path, tmp_path: Path
) -> None:
    with Studio(str(profile), model=str(checkpoint)) as studio:
        film = studio.run(STORY, out=tmp_path / "film")
        assert film.film is not None
        assert film.report is not None
        assert shown(film.report) == []
        before = film.film.read_bytes()
        studio.resume(film.run, attention=True)
        assert len(shown(film.report)) == 1
        assert film.film.read_bytes() == before
        (tmp_path / "film" / "attention-1-take-1.png").write_bytes(b"altered")
        studio.resume(film.run)
    assert len(shown(film.report)) == 1
    assert (tmp_path / "film" / "attention-1-take-1.png").read_bytes() == shown(film.report)[0]


def test_a_backend_without_a_model_is_refused_before_anything_is_filmed(desk: Path) -> None:
    with Studio() as studio:
        with pytest.raises(UsageError, match="expected a backend with a model to look into"):
            studio.run(STORY, attention=True)
        assert studio.runs() == []
