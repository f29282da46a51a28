"""Sets and shots that go on, filmed by real models end to end: a random Wan checkpoint, and the bundled one, tiny."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from generators.models.tiny import tiny_wan
from generators.video import read_take

Cli = Callable[..., Any]
STORY = "A red fox jumps high up in the meadow. The fox spins around. The fox lies down."
PROFILE = """\
[critic]
kind = "scripted"
[backend]
kind = "{kind}"
device = "cpu"
{canvas}
frame_counts = [9]
steps = 6
guidance = 2.0
[budget]
takes_per_shot = 1
"""


def takes() -> list[np.ndarray[Any, Any]]:
    """The frames of every take, by shot."""
    return [read_take(path)[0] for path in sorted(Path(os.environ["FABULA_HOME"]).rglob("*.mkv"))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "bundled"])
def test_a_set_and_a_shot_that_goes_on_are_filmed_and_told_of(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    canvas = "width = 32\nheight = 32\nfps = 8" if kind == "local" else ""  # detectors know the world's own size only
    (tmp_path / "tiny.toml").write_text(PROFILE.format(kind=kind, canvas=canvas))
    monkeypatch.setenv("FABULA_PROFILE", str(tmp_path / "tiny.toml"))
    model = ["--model", tiny_wan("world", tmp_path / "wan", scheduler="euler")] if kind == "local" else []
    assert cli("plan", STORY, *model, "--out", "board.yaml", "--sets").code == 0
    text = (tmp_path / "board.yaml").read_text()
    assert "# filmed as one set with shots 2, 3: share " in text
    board = yaml.safe_load(text)
    board["shots"][1]["transition"] = "continues"
    (tmp_path / "board.yaml").write_text(yaml.safe_dump(board))
    filmed = cli("run", "--from-plan", "board.yaml", *model, "--sets", "--out", "film", "--json")
    assert filmed.code == 0, filmed
    first, second, third = (shot["takes"][0] for shot in filmed.data["shots"])
    way = "given latent frames" if kind == "bundled" else "noised latents"
    assert first["staged"].startswith("filmed as one set with shot 3: share ")
    assert third["staged"].startswith("filmed as one set with shot 1: share ")
    assert way in second["staged"]
    assert second["seam_jump"] is not None
    clips = takes()
    assert len({clip.shape for clip in clips}) == 1
    assert len(clips[0]) == 9
    assert np.array_equal(clips[1][:5], clips[0][-5:])
    page = next((tmp_path / "film").glob("*.html")).read_text()
    assert ("which is coarse" in page) == (kind == "local")
    alone = cli("run", "--from-plan", "board.yaml", *model, "--alone", "--out", "other", "--json")
    assert alone.data["run"] != filmed.data["run"]
    assert not np.array_equal(takes()[3], clips[0])


@pytest.mark.slow
def test_a_set_in_one_sequence_is_filmed_told_of_and_made_again_with_its_bits(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(PROFILE.format(kind="local", canvas="width = 32\nheight = 32\nfps = 8"))
    monkeypatch.setenv("FABULA_PROFILE", str(tmp_path / "tiny.toml"))
    words = ["run", STORY, "--model", tiny_wan("world", tmp_path / "wan", scheduler="euler"), "--json"]
    filmed = cli(*words, "--scenes")
    assert filmed.code == 0, filmed
    told = [shot["takes"][0]["staged"] for shot in filmed.data["shots"]]
    assert [line.split(":")[0] for line in told] == [
        "filmed in one sequence with shots 2, 3",
        "filmed in one sequence with shots 1, 3",
        "filmed in one sequence with shots 1, 2",
    ]
    files = sorted(Path(os.environ["FABULA_HOME"]).rglob("*.mkv"))
    before = takes()
    for lost in (2, 0):  # one behind the anchors, and an anchor
        files[lost].unlink()
        assert cli(*words, "--scenes").data["run"] == 1
        assert all(np.array_equal(*pair) for pair in zip(takes(), before, strict=True))
    by_attention = cli(*words, "--sets")
    assert by_attention.data["run"] == 2
    refused = cli(*words, "--scenes", "--alone")
    assert refused.code == 2
    assert "scenes: expected sets too" in refused.data["error"]
