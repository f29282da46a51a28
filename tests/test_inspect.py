"""`python main.py inspect attention …` and `fabula.inspect_attention`: numbers, one figure, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fabula
from evals.attention import Watched, attention_figure
from generators.clip import Clip, Event
from generators.controls.config import TSAttn
from generators.controls.looking import Attention
from generators.models.tiny import tiny_wan
from generators.timeline import Interval

Cli = Callable[..., Any]
PROMPT = "A red fox jumps over the box, then the fox walks home."
FIRST, SECOND = "jumps over the box@0-0.75", "walks home@0.75-1.6"
PROFILE = """\
description = "A tiny model."
[critic]
kind = "none"
[backend]
kind = "local"
device = "cpu"
width = 32
height = 32
fps = 8
frame_counts = [13]
steps = 2
guidance = 2.0
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan("t2v-2.1", tmp_path_factory.mktemp("tiny") / "model", scheduler="euler")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(PROFILE)
    return path


@pytest.mark.slow
def test_a_control_that_times_events_shows_in_numbers_and_in_a_figure(
    cli: Cli, checkpoint: Path, profile: Path, tmp_path: Path
) -> None:
    words = ("inspect", "attention", PROMPT, "--event", FIRST, "--event", SECOND, "--profile", profile)
    out = tmp_path / "figures" / "attention.png"
    told = cli(*words, "--model", checkpoint, "--at-steps", "0", "--layers", "1-2", "--out", out, "--json")
    assert told.code == 0, told.err
    plain, steered = told.data["films"]
    assert (plain["name"], steered["name"]) == ("without", "with TSAttn")
    assert all(after > before for before, after in zip(plain["inside"], steered["inside"], strict=True))
    assert (told.data["steps"], told.data["layers"]) == ([0], [1, 2])
    assert len(plain["curves"][0]) == len(told.data["times"]) == 4
    with Image.open(out) as figure:
        assert figure.size[0] > 1000


@pytest.mark.slow
def test_the_table_names_events_and_the_figure(cli: Cli, checkpoint: Path, profile: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    told = cli(
        "inspect", "attention", PROMPT, "--event", FIRST, "--control", "none", "--profile", profile, "--model",
        checkpoint, "--steps", 1, "--out", out,
    )  # fmt: skip
    assert told.code == 0, told.err
    assert "jumps over the box" in told.out
    assert "46.2 %" in told.out  # 0.75 of 1.625 s
    assert f"Figure: {out}" in told.out


@pytest.mark.slow
def test_from_python_with_settings_of_ones_own_and_no_figure(checkpoint: Path, profile: Path) -> None:
    events = [Event(subject="fox", phrase="jumps over the box", start=0, end=0.75)]
    found = fabula.inspect_attention(
        PROMPT, events, control=TSAttn(preset="paper"), profile=str(profile), model=str(checkpoint), steps=1, out=None
    )
    assert found.figure is None
    assert [film.name for film in found.films] == ["without", "with TSAttn"]
    assert found.events == tuple(events)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--event", "jump over a box@0-1"), "did you mean 'jumps over the box'"),
        (("--event", "walks home@0-1@wolf"), "subject 'wolf' does not stand in the prompt"),
        (("--event", "walks home@1-9"), "expected an end within the clip's 8.12 s, got 9 s"),
        (("--event", "walks home@3-2"), "expected 0 <= start < end, got 3.0 and 2.0"),
        (("--event", "walks home"), "expected phrase@start-end in seconds"),
        (("--event", "walks home@0-1", "--layers", "one"), "--layers: expected numbers and ranges such as 0-3,9"),
        (("--event", "walks home@0-1", "--size", "97x64"), "expected multiples of"),
        (("--event", "walks home@0-1", "--profile", "instant"), "expected a backend with a model to look into"),
    ],
)
def test_what_cannot_be_inspected_is_a_usage_error(cli: Cli, words: tuple[str, ...], said: str) -> None:
    told = cli("inspect", "attention", PROMPT, *words)
    assert told.code == 2
    assert said in " ".join(told.err.split())


def test_a_layer_that_the_model_has_not_is_named(cli: Cli, checkpoint: Path, profile: Path, tmp_path: Path) -> None:
    asked = ("--event", FIRST, "--profile", profile, "--model", checkpoint, "--layers", "9")
    told = cli("inspect", "attention", PROMPT, *asked, "--out", tmp_path / "a.png")
    assert told.code == 2
    assert "Looking.layers: expected some of 0 to 2, got 9" in told.err
    assert not (tmp_path / "a.png").exists()


@pytest.mark.slow
def test_figures_of_the_same_numbers_are_the_same_bytes() -> None:
    first = watched("without", 0)
    pair = [first, watched("with a $control_", 1)]
    assert attention_figure("A $fox$", pair) == attention_figure("A $fox$", pair)
    alone = Image.open(io.BytesIO(attention_figure("A fox", [first])))
    both = Image.open(io.BytesIO(attention_figure("A fox", pair)))
    assert both.size[1] > alone.size[1]
    assert both.size[0] == alone.size[0]


def test_a_map_is_drawn_where_it_is_hot() -> None:
    """The event's one hot token, at the left of the last frames, is the only bright place of its maps."""
    cold = watched("without", 0)
    maps = np.zeros_like(cold.attention.maps)
    maps[0, -1, :, 0] = 1.0
    hot = replace(cold, attention=replace(cold.attention, maps=maps))
    drawn = np.asarray(Image.open(io.BytesIO(attention_figure("A fox", [hot]))).convert("RGB")).astype(int)
    strip = drawn[-60:-30]  # the last row of pictures
    bright = (strip.min(axis=2) > 150) & (strip.max(axis=2) - strip.min(axis=2) > 20)
    columns = np.flatnonzero(bright.any(axis=0))
    assert columns.size
    assert columns.min() > drawn.shape[1] / 2


def watched(name: str, seed: int) -> Watched:
    random = np.random.default_rng(seed)
    clip = Clip(
        frames=random.integers(0, 256, (9, 16, 24, 3), dtype=np.uint8),
        fps=8,
        seed=seed,
        model="tiny",
        composition=(),
        seconds_spent=0.0,
    )
    attention = Attention(
        events=(Event(subject="fox", phrase="jumps", start=0.0, end=0.5),),
        intervals=(Interval(0, 0.125), Interval(0.125, 0.625), Interval(0.625, 1.125)),
        curves={(0, 0): random.random((1, 3), np.float32)},
        maps=random.random((1, 3, 2, 3), np.float32),
    )
    return Watched(name=name, clip=clip, attention=attention)
