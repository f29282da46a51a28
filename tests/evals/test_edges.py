"""What comes from outside, weights and lists, is checked where it comes in: nothing is run, every error names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.errors import UsageError
from evals.benchmarks.episodes import read_episodes
from evals.benchmarks.shot_sets import read_sets
from evals.benchmarks.storyeval import read_prompts, replayed
from evals.benchmarks.tempocontrol import read_cases
from evals.metrics.detection import open_detector
from evals.metrics.embedders import UnusableWeights, Weights, load_model
from evals.metrics.grounding import open_grounder
from evals.metrics.video_embedders import DreamSim, open_dreamsim, open_video
from workshop.evaluations import evaluate

EVIL = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nclass Config: pass\n"


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """Weights whose configuration asks for code that lies beside them."""
    folder = tmp_path / "dino_vitb16"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}))
    (folder / "evil.py").write_text(EVIL)
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_code_that_lies_beside_weights_is_never_run(evil: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *told: "y")
    with pytest.raises(UnusableWeights, match="dino_vitb16: .* code of its own to be run, which is never done here"):
        load_model("dino_vitb16", str(evil))
    assert not list(evil.rglob("ran"))


OPENERS: dict[str, Callable[[Weights], object]] = {
    "clip_vitb32": lambda weights: weights.open_text("clip_vitb32"),
    "coco_detector": open_detector,
    "grounding_dino": open_grounder,
    "videomae_ssv2": lambda weights: open_video(weights, "videomae_ssv2"),
}


@pytest.mark.parametrize("known", OPENERS)
def test_no_encoder_runs_code_that_lies_beside_it_and_each_is_named(
    known: str, evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *told: "y")
    with pytest.raises(UnusableWeights, match=f"weights {known} in {evil}: .* never done here") as error:
        OPENERS[known](Weights(places={known: str(evil)}))
    assert "trust_remote_code" not in str(error.value)
    assert not list(evil.rglob("ran"))


def test_no_part_of_dreamsim_runs_code_that_lies_beside_it(
    evil: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import ViTConfig, ViTModel

    monkeypatch.setattr("builtins.input", lambda *told: "y")
    places = {f"dreamsim/{part}": str(evil) for part in DreamSim.PARTS}
    with pytest.raises(UnusableWeights, match="weights dreamsim/dino_vitb16 in .* never done here"):
        open_dreamsim(Weights(places=places))
    tiny = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16)
    ViTModel(tiny).save_pretrained(tmp_path / "vit")
    with pytest.raises(UnusableWeights, match="weights dreamsim/clip_vitb16 in .* never done here"):
        open_dreamsim(Weights(places={**places, "dreamsim/dino_vitb16": str(tmp_path / "vit")}))
    assert not list(evil.rglob("ran"))


def test_weights_that_cannot_be_used_are_named_and_not_the_prompts(evil: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a fox\n")
    with pytest.raises(UsageError, match="eval quality: weights dino_vitb16 in .*: expected safetensors") as error:
        evaluate("quality", tmp_path / "prompts.txt", profile="instant", weights=tmp_path, out=tmp_path / "out")
    assert "prompts.txt" not in str(error.value)


def test_torn_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "architectures": ["ViTModel"]}))
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(UnusableWeights, match=f"weights dino_vitb16 in {tmp_path}: expected safetensors"):
        load_model("dino_vitb16", str(tmp_path))


SETS = "- {name: fox, shots: [a fox runs, a fox sits]}\n"
EPISODES = "- {name: fox, cast: {a: b}, shots: [{prompt: p, shows: [a]}, {prompt: q, shows: [a]}]}\n"
HEAD = "prompt,mov_sec,control_signal1\n"
STORY = '{"a": {"prompt": "p", "event_list": "A jumps", "class": ["x"]}}'


def read_movement(path: Path) -> Any:
    return read_cases(path, "movement")


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_sets, SETS * 2, "expected a name for every set, got 'fox' twice"),
        (read_sets, "- {name: [", "expected YAML"),
        (read_episodes, EPISODES * 2, "expected a name for every episode, got 'fox' twice"),
        (read_episodes, "- {name: [", "expected YAML"),
        (read_movement, f"{HEAD}a fox,x,0 0 1 1\n", "row 1: mov_sec: expected a whole second"),
        (
            read_movement,
            f"{HEAD}a fox,0,0 1\na fox,5,0 1\n",
            "row 2: mov_sec: expected a whole second, 0 to 4, got '5'",
        ),
        (read_movement, f"{HEAD}a fox,1,0 2\n", "row 1: control_signal1: mask: expected 0 and 1"),
        (read_movement, f"{HEAD}a fox,1,0 0 0 0\n", "row 1: control_signal1 shows nothing"),
        (read_prompts, STORY, "event_list and class as lists"),
    ],
)
def test_a_list_that_says_something_else_is_refused(
    tmp_path: Path, read: Callable[[Path], Any], text: str, message: str
) -> None:
    path = tmp_path / "list"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(path)


def test_flags_of_another_form_are_refused(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text('{"a": {"prompt": "p", "event_list": ["b"], "class": ["x"]}}')
    flags = tmp_path / "flags.json"
    for text in ('{"verdicts": []}', '{"verdicts": {"hailuo/gpt4o": []}}', "{"):
        flags.write_text(text)
        with pytest.raises(ValueError, match=f"{flags}: expected the released verdicts of StoryEval"):
            replayed(flags, prompts, "hailuo/gpt4o")


def test_released_flags_count_by_the_rules_they_were_given_under(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--rules llava does not go with flags of hailuo/gpt4o"):
        evaluate("storyeval", tmp_path / "p", verdicts=tmp_path / "v", judged="hailuo/gpt4o", rules="llava")
