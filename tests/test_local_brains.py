"""Planner, critic and verifier in this process: real checkpoints from folders, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_chat import tiny_language_model, tiny_vision_language_model

Cli = Callable[..., Any]
STORY = "A red fox jumps up in the meadow."
EVENT = {"actor": "fox", "verb": "jump", "side": "none", "prop": "none", "other": "none"}
SHOT = {"sentence": STORY, "place": "meadow", "time": "day", "events": [EVENT]}
PLAN = {"title": "A jump", "cast": [{"name": "fox", "kind": "fox", "hue": "red"}], "shots": [SHOT], "notes": []}
PROFILE = """
[brains]
kind = "{brains}"
max_tokens = 64
[brains.models]
default = "{model}"
[critic]
kind = "{critic}"
votes = 1
[backend]
kind = "instant"
[budget]
takes_per_shot = 1
"""


def profile(folder: Path, model: Path | str, *, brains: str = "local", critic: str = "scripted") -> Path:
    path = folder / "here.toml"
    path.write_text(PROFILE.format(brains=brains, model=model, critic=critic))
    return path


@pytest.mark.slow
def test_a_checkpoint_from_a_folder_plans_a_story_once(cli: Cli, tmp_path: Path) -> None:
    model = tiny_language_model(tmp_path / "planner", json.dumps(PLAN))
    words = ("run", STORY, "--profile", profile(tmp_path, model), "--json")
    first, second = cli(*words), cli(*words)
    assert first.code == second.code == 0, first.err
    assert "red fox" in first.data["shots"][0]["prompt"]
    assert first.data["spent"]["calls"] == second.data["spent"]["calls"] == 1
    told = cli("run", STORY, "--profile", profile(tmp_path, model), "--dry-run")
    assert "planner: " in told.out


@pytest.mark.slow
def test_a_critic_that_cannot_see_is_named_before_anything_is_filmed(cli: Cli, tmp_path: Path) -> None:
    model = tiny_language_model(tmp_path / "blind", "yes")
    done = cli("run", STORY, "--profile", profile(tmp_path, model, brains="offline", critic="local"))
    assert done.code == 1
    assert "blind is a language model and sees no pictures: name a vision-language model for the critic" in done.err
    assert "run the story anew: a run keeps the profile it was begun with" in done.err
    assert cli("show", "1", "--json").data["shots"] == []


@pytest.mark.slow
def test_a_folder_without_a_model_is_named(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", STORY, "--profile", profile(tmp_path, tmp_path / "nothing"))
    assert done.code == 1
    assert "nothing: expected a folder or hub id of a chat model in safetensors" in done.err


@pytest.mark.slow
def test_storyevals_verifier_is_an_open_model_from_a_folder(cli: Cli, tmp_path: Path) -> None:
    model = tiny_vision_language_model(tmp_path / "seer", "The fox jumps, then nothing. [EVENT_FLAGS] 1, 0")
    prompts = tmp_path / "prompts.json"
    asked = {"prompt": "A fox jumps and swims.", "event_list": ["a fox jumps", "a fox swims"], "class": ["Animal"]}
    prompts.write_text(json.dumps({"jump.mp4": asked}))
    words = ("--profile", profile(tmp_path, model, brains="offline", critic="local"), "--rules", "llava")
    done = cli("eval", "storyeval", prompts, *words, "--out", tmp_path / "results", "--json")
    assert done.code == 0, done.err
    found = {line["summary"]["metric"]: line["summary"]["mean"] for line in done.data["lines"]}
    assert found["StoryEval unanimous (voted)"] == 0.5
    rows = [json.loads(line) for line in next((tmp_path / "results").rglob("rows.jsonl")).read_text().splitlines()]
    assert rows[0]["facts"]["runs"] == [[1, 0]] * 2
