"""`train scenes`, `scenes-data` and `world` from the command line, on tiny models and a real small video."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel

from generators.models.tiny_cogvideox import tiny_cogvideox
from generators.models.tiny_text import byte_tokenizer
from generators.video import write_film
from tests.loopback import ChatServer, says

Cli = Callable[..., Any]
CAPTION = "A plain red wall with a little noise on it, nothing moves."
PROFILE = """
[brains]
base_url = "{url}"
key_env = "STAGE_KEY"
[brains.models]
critic = "tiny"
[critic]
kind = "endpoint"
[backend]
kind = "instant"
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one film of three shots."""
    folder = tmp_path_factory.mktemp("videos")
    noise = np.random.default_rng(0).integers(0, 9, (20, 32, 48, 3))
    shots = [(np.array(colour) + noise).astype(np.uint8) for colour in ((200, 40, 40), (40, 60, 220), (60, 200, 60))]
    write_film(folder / "film.mp4", shots, 8)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP of tiny size."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": 300, "bos_token_id": 0, "eos_token_id": 1},
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_from_a_video_to_trained_adapters(
    cli: Cli, desk: Path, videos: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGE_KEY", "never-shown")
    server = ChatServer([says(json.dumps({"caption": CAPTION}))])
    with server.running() as url:
        (desk / "seeing.toml").write_text(PROFILE.format(url=url))
        options = ("--encoder", clip, "--least-similar", "-1", "--captions", "seeing.toml", "--json")
        made = cli("train", "scenes-data", videos, *options)
    assert made.code == 0, made.err
    wanted = {"videos": 1, "shots": 3, "runs": 1, "longest": 3, "captioned": 3}
    assert {name: made.data[name] for name in wanted} == wanted
    assert len(server.asked) == 3
    assert CAPTION in json.dumps(server.asked[1])  # what was said before comes along

    model = tiny_cogvideox("t2v-2b", desk / "model")
    words = ("train", "scenes", made.data["table"], "--model", model, "--frames", 9, "--size", "32x32", "--rank", 2)
    few = ("--steps", 1, "--batch", 1, "--sample-every", 0, "--precision", "float32", "--json")
    trained = cli(*words, *few)
    assert trained.code == 0, trained.err
    assert trained.data["reason"] == "steps"
    for stage in (1, 2):
        assert load_file(desk / f"training/scenes/stage-{stage}/learnt/pytorch_lora_weights.safetensors")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "scenes", "CLIPS", "--steps", 1), "name --frames and --size"),
        (("train", "scenes", "--size", "64x64"), "the puppet world's clips are 96x64"),
        (("train", "scenes", "--frames", 9), "33 or 65 frames, got 9"),
        (("train", "scenes", "--sequels", 2), "expected a share of 0 to 1, got 2"),
        (("train", "scenes", "--ema", 1), "ema: expected a decay between 0 and 1"),
        (("train", "scenes-data", "nowhere"), "expected a folder of videos, got nowhere"),
        (("train", "scenes-data", "CLIPS", "--threshold", 0), "threshold: expected more than 0"),
        (("train", "scenes-data", "CLIPS", "--encoder", "nowhere"), "expected a folder with a model's config.json"),
        (("train", "scenes-data", "CLIPS", "--captions", "bundled"), "a profile whose critic asks a vision model"),
        (("train", "world", "vae", "--often", "jump=2"), "--often: belongs to the denoiser; leave it out for the vae"),
        (("train", "world", "denoiser", "--often", "jump"), "--often: expected VERB=WEIGHT, such as jump=2; got jump"),
        (("train", "world", "denoiser", "--often", "fly=2"), "expected verbs of the world, got fly"),
        (("train", "world", "denoiser", "--learning-rate", 0), "--learning-rate: expected between 0 and 1, got 0.0"),
        (("train", "world", "denoiser", "--often", "jump=nan"), "LatentShards.often: expected finite numbers"),
        (("train", "world", "import", "CLIPS"), "expected a folder that `train world export` wrote"),
    ],
)
def test_what_cannot_be_trained_says_why(
    cli: Cli, desk: Path, videos: Path, words: tuple[object, ...], said: str
) -> None:
    answer = cli(*(videos if word == "CLIPS" else word for word in words))
    assert answer.code != 0
    assert said in " ".join(answer.err.split())


@pytest.mark.slow
def test_the_weights_of_the_box_can_be_trained_further(cli: Cli, desk: Path) -> None:
    assert cli("train", "world", "import").code == 0
    state = torch.load(desk / "training/world/denoiser/checkpoint.pt", weights_only=True)
    assert state["step"] == state["fresh"] > 0
    again = cli("train", "world", "import")
    assert again.code != 0
    assert "training/world has been trained already" in " ".join(again.err.split())
