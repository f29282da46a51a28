"""`python main.py run … --model CHECKPOINT`: a story filmed with a Wan checkpoint of every kind, and what goes wrong.

The checkpoints are random and tiny, made on the spot; brains are rules, the critic sees everything. Commands run in
this process, from the words of the command line on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image

from generators.digests import weights_digest
from generators.models.tiny import TinyKind, tiny_pipeline, tiny_wan
from generators.models.tiny_skyreels import tiny_skyreels
from generators.video import read_take

Cli = Callable[..., Any]
Make = Callable[[str], Path]
STORY = "A red fox jumps high up in the meadow. A blue cat dances on the beach."
FAST = "t2v-2.1"
PROFILE = """\
description = "A Wan checkpoint on this computer, tiny and quick."
[critic]
kind = "scripted"
[backend]
kind = "local"
device = "cpu"
width = 32
height = 32
fps = 8
frame_counts = [9]
steps = 2
guidance = 2.0
[budget]
takes_per_shot = 1
"""


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A checkpoint of a kind, made once for all tests."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def made(kind: str) -> Path:
        there = folder / kind
        if there.exists():
            return there
        if kind.startswith("skyreels-"):
            return tiny_skyreels(kind.removeprefix("skyreels-"), there)  # type: ignore[arg-type]
        return tiny_wan(kind, there)  # type: ignore[arg-type]

    return made


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the profile and a picture of another size than the film's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(PROFILE)
    monkeypatch.setenv("FABULA_PROFILE", str(tmp_path / "tiny.toml"))
    pixels = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "still.png")
    return tmp_path


def takes() -> list[Path]:
    """The files of every take, by shot."""
    return sorted(Path(os.environ["FABULA_HOME"]).rglob("*.mkv"))


KINDS = [pytest.param(kind, marks=() if kind == FAST else pytest.mark.slow) for kind in get_args(TinyKind)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_story_is_filmed_with_any_wan_checkpoint(cli: Cli, studio: Path, make: Make, kind: str) -> None:
    model, digest = make(kind), weights_digest(make(kind))
    words = ["run", STORY, "--model", model, "--out", "film", "--json"]
    words += ["--first-frame", "still.png"] if kind.startswith("i2v") else []
    filmed = cli(*words)
    assert filmed.code == 0, filmed
    data = filmed.data
    assert [take["weights"] for shot in data["shots"] for take in shot["takes"]] == [digest] * 2
    manifest = json.loads((studio / "film" / "manifest.json").read_text())
    assert {take["weights"] for take in manifest["takes"]} == {digest} == {manifest["run"]["options"]["weights"]}
    assert {take["model"] for take in manifest["takes"]} == {str(model)}
    clips = [read_take(path)[0] for path in takes()]
    assert [clip.shape for clip in clips] == [(9, 32, 32, 3)] * 2
    assert not np.array_equal(*clips)
    if kind.startswith("i2v"):
        still = np.asarray(Image.open("still.png"))
        assert all(np.array_equal(clip[0], still) for clip in clips)
    stamps = [path.stat().st_mtime_ns for path in takes()]
    again = cli(*words)
    assert {**again.data, "spent": None} == {**data, "spent": None}
    assert [path.stat().st_mtime_ns for path in takes()] == stamps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "way", "kept"),
    [
        ("skyreels-df", "by diffusion forcing (its last 5 frames, at a time of their own)", 5),
        ("skyreels-t2v", "by noised latents held in the place of its last 5 frames", 5),
        ("skyreels-i2v", "from its last frame, as the model's picture", 1),
    ],
)
def test_a_story_is_filmed_with_a_skyreels_checkpoint(
    cli: Cli, studio: Path, make: Make, kind: str, way: str, kept: int
) -> None:
    words = ["--model", make(kind), *(["--first-frame", "still.png"] if kind.endswith("i2v") else [])]
    assert cli("plan", STORY, *words, "--out", "board.yaml").code == 0
    board = yaml.safe_load((studio / "board.yaml").read_text())
    board["shots"][1]["transition"] = "continues"
    (studio / "board.yaml").write_text(yaml.safe_dump(board))
    filmed = cli("run", "--from-plan", "board.yaml", *words, "--json")
    assert filmed.code == 0, filmed
    assert filmed.data["shots"][1]["takes"][0]["staged"] == f"continues shot 1 (take 1) {way}"
    first, second = (read_take(path)[0] for path in takes())
    assert np.array_equal(second[:kept], first[-kept:])
    assert not np.array_equal(second[kept:], first[kept:])


@pytest.mark.slow
def test_size_and_steps_of_the_command_line_reach_the_model(cli: Cli, studio: Path, make: Make) -> None:
    filmed = cli("run", "A red fox jumps.", "--model", make(FAST), "--size", "48x16", "--steps", 1, "--json")
    assert filmed.code == 0, filmed
    assert read_take(takes()[0])[0].shape == (9, 16, 48, 3)
    manifest = json.loads(Path(filmed.data["folder"], "manifest.json").read_text())
    asked = manifest["takes"][0]["request"]
    assert (asked["width"], asked["height"], asked["steps"], asked["guidance"]) == (48, 16, 1, 2.0)


def test_a_size_that_the_checkpoint_cannot_film_is_refused_before_anything_is_planned(
    cli: Cli, studio: Path, make: Make
) -> None:
    refused = cli("run", STORY, "--model", make(FAST), "--size", "50x32")
    assert refused.code == 2
    assert "size: expected multiples of 16, such as 48x32, got 50x32" in refused.err
    assert takes() == []


@pytest.mark.slow
def test_a_picture_checkpoint_without_a_picture_is_refused_before_there_is_a_run(
    cli: Cli, studio: Path, make: Make
) -> None:
    for words in (["run", STORY], ["run", STORY, "--dry-run"], ["plan", STORY]):
        refused = cli(*words, "--model", make("i2v-2.1"))
        assert refused.code == 2
        assert "i2v-2.1 films every shot from a picture" in refused.err
        assert "--first-frame PICTURE" in refused.err
    assert cli("runs", "--json").data["runs"] == []


@pytest.mark.slow
def test_a_shot_that_continues_starts_from_the_shot_before_and_not_from_the_picture(
    cli: Cli, studio: Path, make: Make
) -> None:
    words = ["--model", make("i2v-2.2"), "--first-frame", "still.png"]
    assert cli("plan", STORY, *words, "--out", "board.yaml").code == 0
    board = yaml.safe_load((studio / "board.yaml").read_text())
    board["shots"][1]["transition"] = "continues"
    (studio / "board.yaml").write_text(yaml.safe_dump(board))
    assert cli("run", "--from-plan", "board.yaml", *words).code == 0
    first, second = (read_take(path)[0] for path in takes())
    assert np.array_equal(first[0], np.asarray(Image.open("still.png")))
    assert np.array_equal(second[0], first[-1])


@pytest.mark.slow
def test_the_picture_may_be_moved_away_and_the_run_still_be_taken_up(cli: Cli, studio: Path, make: Make) -> None:
    words = ["--model", make("i2v-2.1"), "--first-frame", "still.png"]
    assert cli("run", STORY, *words, "--approve").code == 5
    (studio / "still.png").unlink()
    assert cli("resume", 1).code == 0
    assert len(takes()) == 2


WRONG = {
    "gone": "gone does not exist; expected a folder in diffusers' format",
    "file.safetensors": "file.safetensors is a file; expected a folder",
    "raw": "no diffusers pipeline, for it holds no model_index.json",
    "other": "is a StableDiffusionPipeline; expected one of WanPipeline, WanImageToVideoPipeline",
    "torn": "model_index.json of .*torn cannot be read",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_model_that_cannot_be_one_is_refused_by_name_and_nothing_is_begun(cli: Cli, studio: Path, name: str) -> None:
    (studio / "file.safetensors").write_bytes(b"")
    for folder, index in {"raw": None, "other": '{"_class_name": "StableDiffusionPipeline"}', "torn": "{"}.items():
        (studio / folder).mkdir()
        if index is not None:
            (studio / folder / "model_index.json").write_text(index)
    refused = cli("run", STORY, "--model", studio / name)
    assert refused.code == 2
    assert "Traceback" not in refused.err
    assert re.search(WRONG[name], refused.err), refused.err
    assert cli("runs", "--json").data["runs"] == []


def test_a_model_that_is_neither_here_nor_on_the_hub_leaves_a_run_to_be_taken_up(cli: Cli, studio: Path) -> None:
    refused = cli("run", STORY, "--model", "nobody/no-such-model")
    assert refused.code == 1
    assert "nobody/no-such-model is no folder here and could not be fetched" in refused.err
    assert "main.py resume 1" in refused.err
    assert "Traceback" not in refused.err


def test_a_device_that_is_not_there_is_named_and_the_run_can_be_resumed(cli: Cli, studio: Path, make: Make) -> None:
    (studio / "tiny.toml").write_text(PROFILE.replace('"cpu"', '"cuda:99"'))
    refused = cli("run", STORY, "--model", make(FAST))
    assert refused.code == 1
    assert "device: 'cuda:99' cannot be used on this machine" in refused.err
    assert "main.py resume 1" in refused.err


@pytest.mark.slow
def test_damaged_weights_are_named_and_whole_ones_in_their_place_are_filmed_with(
    cli: Cli, studio: Path, make: Make
) -> None:
    shutil.copytree(make(FAST), studio / "model")
    (weights,) = (studio / "model" / "transformer").glob("*.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    refused = cli("run", STORY, "--model", "model")
    assert refused.code == 1
    assert weights.name in refused.err
    assert "Traceback" not in refused.err
    weights.write_bytes(whole)
    assert cli("resume", 1).code == 0


@pytest.mark.slow
def test_other_weights_under_the_same_name_never_go_on_with_a_run_but_begin_their_own(
    cli: Cli, studio: Path, make: Make
) -> None:
    shutil.copytree(make(FAST), studio / "model")
    words = ["run", "A red fox jumps.", "--model", "model", "--json"]
    first = cli(*words).data
    shutil.rmtree(studio / "model")
    tiny_wan("t2v-2.1", studio / "model", seed=1)
    refused = cli("retry", 1, "--shot", 1)
    assert refused.code == 1
    assert "other weights than this run was filmed with" in refused.err
    assert len(takes()) == 1
    anew = cli(*words).data
    assert (first["run"], anew["run"]) == (1, 2)
    assert first["shots"][0]["takes"][0]["weights"] != anew["shots"][0]["takes"][0]["weights"]
    shutil.rmtree(studio / "model")
    shutil.copytree(make(FAST), studio / "model")
    assert cli(*words).data["run"] == 1
    assert cli("retry", 1, "--shot", 1).code == 0


@pytest.mark.slow
def test_an_adapter_films_its_own_run_and_is_missed_by_name(cli: Cli, studio: Path, make: Make) -> None:
    pipe: Any = tiny_pipeline(FAST)
    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_v"], init_lora_weights=False))
    pipe.save_lora_weights(studio / "learnt", transformer_lora_layers=get_peft_model_state_dict(pipe.transformer))
    words = ["run", "A red fox jumps.", "--model", make(FAST), "--json"]
    plain, styled = cli(*words).data, cli(*words, "--lora", "learnt@0.5").data
    assert (plain["run"], styled["run"]) == (1, 2)
    assert plain["shots"][0]["takes"][0]["weights"] != styled["shots"][0]["takes"][0]["weights"]
    assert not np.array_equal(*(read_take(path)[0] for path in takes()))
    os.rename("learnt", "moved")
    refused = cli("retry", 2, "--shot", 1)
    assert refused.code == 1
    assert "learnt" in refused.err
    assert "does not exist" in refused.err
    again = cli(*words, "--lora", "nowhere.safetensors")
    assert again.code == 2
    assert "lora: nowhere.safetensors does not exist" in again.data["error"]
