"""`eval calibrate`: a vision model behind an endpoint and the world's own critic, measured and written down."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.calibration import read_calibration
from agents.critic import ModelCritic
from agents.scripted import ScriptedModel
from evals.calibration_released import released_agreement
from generators.video import write_take
from tests.loopback import Answer, ChatServer, says

Cli = Callable[..., Any]
PROFILE = """
[brains]
kind = "offline"
base_url = "{url}"
[brains.models]
critic = "looker"
[critic]
kind = "endpoint"
votes = 1
most_frames = 4
[backend]
kind = "instant"
"""


def yes(asked: dict[str, Any]) -> Answer:
    """Describes anything, and says that every event is done."""
    text = json.dumps(asked["messages"])
    if "was meant to show" not in text:
        return says(json.dumps({"description": "something moves"}))
    count = int(text.split("Its ")[1].split(" ")[0])
    events = [
        {"event": n, "evidence": "it moves", "start": n - 1.0, "end": float(n), "confidence": 0.9, "done": True}
        for n in range(1, count + 1)
    ]
    return says(json.dumps({"events": events, "identity": 1.0, "quality": 1.0}))


@pytest.mark.slow
def test_a_vision_model_that_sees_everything_everywhere_is_found_out(cli: Cli, tmp_path: Path) -> None:
    server = ChatServer(yes)
    with server.running() as url:
        (tmp_path / "eye.toml").write_text(PROFILE.format(url=url))
        words = ("eval", "calibrate", "--profile", tmp_path / "eye.toml", "--clips", "1")
        done = cli(*words, "--into", tmp_path / "known", "--out", tmp_path / "results")
        again = cli(*words, "--into", tmp_path / "known", "--out", tmp_path / "results", "--json")
    assert done.code == again.code == 0, done.err
    assert len(server.asked) == 2 * 10  # the second run reads its rows
    found = read_calibration(tmp_path / "known" / "looker.json")
    assert not found.trusted
    assert found.at(0.0).false_acceptance.value == 1.0
    assert found.at(0.0).recall.value == 1.0
    assert "is not known to pass at most 5% of broken promises" in " ".join(done.out.split())
    assert json.loads(again.out)["calibration"]["critic"] == "looker"
    assert found.digest == ModelCritic(ScriptedModel([]), options_of(found.how)).digest()


def options_of(how: dict[str, str | int]) -> Any:
    from agents.critic import CriticOptions

    return CriticOptions(votes=int(how["votes"]), most_frames=int(how["frames"]))


@pytest.mark.slow
def test_the_worlds_critic_is_calibrated_without_any_model(cli: Cli, tmp_path: Path) -> None:
    done = cli("eval", "calibrate", "--clips", "1", "--into", tmp_path / "known", "--out", tmp_path / "results")
    assert done.code == 0, done.err
    found = read_calibration(tmp_path / "known" / "world-critic.json")
    assert found.at(found.threshold).recall.value == 1.0
    assert not found.trusted, "one clip leaves none to hold out"
    assert "not measured, no file was named" in " ".join(done.out.split())


def test_a_profile_without_a_critic_has_nothing_to_calibrate(cli: Cli, tmp_path: Path) -> None:
    done = cli("eval", "calibrate", "--profile", "instant", "--into", tmp_path)
    assert done.code == 2
    assert "no critic to calibrate" in done.err


def test_flags_that_cannot_be_read_are_a_usage_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "flags.json").write_text("{}")
    done = cli("eval", "calibrate", "--verdicts", tmp_path / "flags.json", "--into", tmp_path)
    assert done.code == 2
    assert "flags.json" in done.err


@pytest.mark.slow
def test_a_critic_is_held_against_released_flags_where_their_clips_are_at_hand(cli: Cli, tmp_path: Path) -> None:
    entries = {f"{n}.mp4": {"prompt": "x y", "event_list": ["x happens", "y happens"], "class": []} for n in "abc"}
    (tmp_path / "all_prompts.json").write_text(json.dumps(entries))
    flags = {"m/gpt4o": [[[1, 0], [1, 1]], [[1, 1], [1, 1]], [[], []]]}
    (tmp_path / "flags.json").write_text(json.dumps({"verdicts": flags}))
    videos = tmp_path / "videos"
    videos.mkdir()
    write_take(videos / "a.mp4", np.full((9, 32, 48, 3), 90, np.uint8), 8)
    with ChatServer(yes).running() as url:
        (tmp_path / "eye.toml").write_text(PROFILE.format(url=url))
        asked = ("eval", "calibrate", "--profile", tmp_path / "eye.toml", "--clips", "1", "--into", tmp_path / "known")
        words = (*asked, "--out", tmp_path / "results", "--verdicts", tmp_path / "flags.json")
        done = cli(*words, "--videos", videos, "--judged", "m/gpt4o")
        alone, stranger = cli(*words, "--videos", videos), cli(*words, "--videos", videos, "--judged", "n/gpt4o")
    assert done.code == 0, done.err
    own = read_calibration(tmp_path / "known" / "looker.json").released[0]
    assert (own.judge, own.against, own.agreement.value, own.agreement.count) == ("looker", "m/gpt4o", 0.5, 2)
    assert own.false_acceptance.value == 1.0
    assert (alone.code, stranger.code) == (2, 2)
    assert "one of m/gpt4o" in stranger.err


def test_released_flags_are_held_against_each_other_by_hand(tmp_path: Path) -> None:
    entries = {"a.mp4": {"prompt": "x", "event_list": ["one", "two"], "class": []}}
    (tmp_path / "all_prompts.json").write_text(json.dumps(entries))
    flags = {"m/gpt4o": [[[1, 0], [1, 1], [1, 0]]], "m/llava": [[[1, 1], [1, 0]]]}
    (tmp_path / "flags.json").write_text(json.dumps({"verdicts": flags}))
    rows = released_agreement(tmp_path / "flags.json", tmp_path / "all_prompts.json")
    whole = {(row.judge, row.against, row.share): row for row in rows}
    assert whole["llava", "gpt4o", 0.5].agreement.value == 0.5  # event two: half of the votes, and not so
    assert whole["llava", "gpt4o", 1.0].agreement.value == 1.0
    assert whole["gpt4o", "llava", 0.3333].false_acceptance.value == 1.0
    own = whole["gpt4o", "its own other runs", 1.0]
    assert own.agreement.value == pytest.approx(5 / 6, abs=1e-4)
    assert own.agreement.count == 6


def test_the_authors_flags_say_how_far_their_judges_agree() -> None:
    folder = Path(os.environ.get("FABULA_EVAL_DATA", Path(__file__).parents[2] / "shared" / "data")) / "storyeval"
    if not (folder / "reference_verdicts.json").is_file():
        pytest.skip("the released verdicts are not here; FABULA_EVAL_DATA names their folder")
    rows = released_agreement(folder / "reference_verdicts.json", folder / "all_prompts.json")
    unanimous = {(row.judge, row.against): row for row in rows if row.share == 1.0}
    there, back = unanimous["llava", "gpt4o"], unanimous["gpt4o", "llava"]
    assert there.agreement == back.agreement  # agreement has no direction
    assert (there.precision.value, there.recall.value) == (back.recall.value, back.precision.value)
    assert 0.85 < (there.agreement.value or 0) < 0.9
