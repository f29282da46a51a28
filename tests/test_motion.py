"""Motion from a clip or another shot, from the command line and from Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import fabula
from generators.models.tiny import tiny_pipeline
from generators.video import write_film, write_take

Cli = Callable[..., Any]
STORY = "A red fox jumps high up in the meadow. A blue cat dances on the beach. The fox spins around."


@pytest.fixture
def horse(desk: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 32, 32, 3), dtype=np.uint8)
    write_film(desk / "horse.mp4", [pixels], 8)
    return desk / "horse.mp4"


def clips(film: Path) -> dict[str, list[str]]:
    """By shot, the clips whose motion its takes have."""
    found: dict[str, list[str]] = {}
    for take in json.loads((film / "manifest.json").read_text())["takes"]:
        found.setdefault(take["shot"], []).extend(c["clip"] for c in take["controls"] if c["name"] == "MotionFrom")
    return found


@pytest.mark.slow
def test_a_clip_moves_every_shot_or_the_one_it_is_named_for(cli: Cli, desk: Path, horse: Path) -> None:
    done = cli(
        "run", STORY, "--motion-from", "3=shot 1", "--motion-from", horse, "--motion-share", 0.4, "--out", "film"
    )
    assert done.code == 0, done.err
    moved = clips(desk / "film")
    takes = {t["shot"]: t["sha256"] for t in json.loads((desk / "film" / "manifest.json").read_text())["takes"]}
    assert moved["1"] == moved["2"]
    assert moved["3"] == [takes["1"]]
    only = cli("run", STORY, "--motion-from", f"2={horse}", "--out", "other")
    assert only.code == 0, only.err
    assert (clips(desk / "other")["1"], clips(desk / "other")["2"]) == ([], moved["2"])


@pytest.mark.slow
def test_the_same_clip_again_is_the_same_run_and_another_one_is_not(cli: Cli, desk: Path, horse: Path) -> None:
    def run(clip: Path) -> int:
        number: int = cli("run", STORY, "--motion-from", clip, "--json").data["run"]
        return number

    first = run(horse)
    copied = desk / "copy.mp4"
    copied.write_bytes(horse.read_bytes())
    assert run(copied) == first
    write_take(desk / "other.mkv", np.zeros((40, 16, 16, 3), np.uint8), 8)
    assert run(desk / "other.mkv") != first
    assert cli("run", STORY, "--json").data["run"] not in (first, first + 1)


@pytest.mark.slow
def test_another_runs_shot_lends_its_motion(desk: Path) -> None:
    with fabula.Studio() as studio:
        film = studio.run(STORY, seed=3)
        moved = studio.run(
            "A red fox jumps high up in the meadow.", motion_from=(f"run {film.run} shot 2",), out=desk / "m"
        )
        lent = next(r.take.sha256 for r in studio.archive.takes(film.run) if r.label == "2")
        with pytest.raises(fabula.UsageError, match="expected a finished take"):
            studio.run(STORY, motion_from=(f"run {film.run} shot 9",))
    assert moved.complete
    assert clips(desk / "m") == {"1": [lent]}


@pytest.mark.slow
def test_a_person_writes_it_into_the_storyboard(cli: Cli, desk: Path, horse: Path) -> None:
    waiting = cli("run", STORY, "--approve", "--out", "film", "--motion-from", "2=shot 1", "--json")
    assert waiting.code == 5, waiting.err
    path = desk / "film" / "storyboard.yaml"
    board = yaml.safe_load(path.read_text())
    assert [shot.get("motion_from") for shot in board["shots"]] == [None, "shot 1", None]
    board["shots"][2]["motion_from"] = "../horse.mp4"
    del board["shots"][1]["motion_from"]
    path.write_text(yaml.safe_dump(board))
    assert cli("resume", waiting.data["run"]).code == 0
    moved = clips(desk / "film")
    assert (moved["1"], moved["2"], len(moved["3"])) == ([], [], 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--motion-from", "gone.mp4"), "No video file"),
        (("--motion-from", "9=shot 1"), "there is no shot 9"),
        (("--motion-from", "1=shot 2", "--motion-from", "2=shot 1"), "waits for itself"),
        (("--motion-from", "run 99 shot 1"), "No run 99"),
        (("--motion-share", "0.4"), "no motion to share"),
        (("--motion-from", "a.mp4", "--motion-from", "b.mp4"), "one source"),
        (("--motion-from", "short.mkv"), "lasts 0.25 s"),
        (("--motion-from", "camera spin"), "zoom in, zoom out"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_filmed(
    cli: Cli, desk: Path, words: tuple[str, ...], message: str
) -> None:
    write_take(desk / "short.mkv", np.zeros((2, 16, 16, 3), np.uint8), 8)
    done = cli("run", STORY, *words, "--out", "film")
    assert done.code not in (0, 5)
    assert message in " ".join(done.err.split())
    with fabula.Studio() as studio:
        assert not [take for line in studio.runs() for take in studio.archive.takes(line.run)]


LOCAL = """\
[critic]
kind = "scripted"
[backend]
kind = "local"
device = "cpu"
width = 32
height = 32
fps = 8
frame_counts = [9]
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["world", "t2v-2.2"])
def test_a_model_films_with_the_motion_of_a_clip(cli: Cli, desk: Path, horse: Path, kind: Any) -> None:
    tiny_pipeline(kind, scheduler="euler").save_pretrained(str(desk / "tiny"), safe_serialization=True)
    (desk / "local.toml").write_text(LOCAL)
    words = (
        "run",
        "A red fox jumps high up in the meadow.",
        "--profile",
        desk / "local.toml",
        "--model",
        desk / "tiny",
    )
    plain = cli(*words, "--steps", 4, "--out", "plain")
    moved = cli(*words, "--steps", 4, "--out", "moved", "--motion-from", horse)
    panned = cli(*words, "--steps", 4, "--out", "panned", "--motion-from", "camera pan left")
    assert (plain.code, moved.code, panned.code) == (0, 0, 0), (plain.err, moved.err, panned.err)
    names = ("plain", "moved", "panned")
    takes = [json.loads((desk / name / "manifest.json").read_text())["takes"][0]["sha256"] for name in names]
    assert len(set(takes)) == 3
    assert len(clips(desk / "moved")["1"]) == 1


@pytest.mark.slow
def test_the_bundled_profile_films_with_the_motion_of_a_clip(cli: Cli, desk: Path, horse: Path) -> None:
    tiny_pipeline("world", scheduler="euler").save_pretrained(str(desk / "tiny"), safe_serialization=True)
    words = ("run", "A red fox jumps high up in the meadow.", "--profile", "bundled", "--model", desk / "tiny")
    moved = cli(*words, "--steps", 4, "--budget-takes", 1, "--out", "moved", "--motion-from", horse)
    assert moved.code in (0, 3), moved.err
    assert len(clips(desk / "moved")["1"]) == 1
