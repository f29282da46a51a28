"""What encoders are shown, pixel by pixel, and the places they are opened from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.metrics.embedders import PatchEmbedder, VisionTransformer, Weights, digest
from evals.metrics.score import NotMeasured
from generators.clip import Frames

Cli = Callable[..., Any]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random encoders at tiny width with the published patches."""
    import torch
    from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

    found = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    ViTModel(ViTConfig(**SMALL, intermediate_size=16, image_size=224, patch_size=16)).save_pretrained(
        found / "dino_vitb16"
    )
    Dinov2Model(Dinov2Config(**SMALL, image_size=56, patch_size=14)).save_pretrained(found / "dinov2_vitb14")
    return found


def shown(eye: VisionTransformer, frames: Frames, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The pixels that the network is given."""
    seen = []
    network = eye.model

    class Recorder:
        config = network.config

        def __call__(self, pixels: Any, **options: Any) -> Any:
            seen.append(pixels.numpy())
            return network(pixels, **options)

    monkeypatch.setattr(eye, "model", Recorder())
    eye.embed(frames)
    return np.concatenate(seen)


def slow_resize(frame: Frames, height: int, width: int) -> np.ndarray:
    """Bilinear between the centres of pixels, one output at a time; a scale of its own on each axis."""
    tall, wide = frame.shape[:2]
    found = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            down = max((y + 0.5) * tall / height - 0.5, 0)
            right = max((x + 0.5) * wide / width - 0.5, 0)
            y0, x0 = int(down), int(right)
            y1, x1 = min(y0 + 1, tall - 1), min(x0 + 1, wide - 1)
            top = frame[y0, x0] * (1 - (right - x0)) + frame[y0, x1] * (right - x0)
            low = frame[y1, x0] * (1 - (right - x0)) + frame[y1, x1] * (right - x0)
            found[y, x] = top * (1 - (down - y0)) + low * (down - y0)
    return found


@pytest.mark.parametrize(
    ("known", "size", "expected"),
    [
        ("dino_vitb16", (480, 832), (224, 388)),
        ("dino_vitb16", (480, 720), (224, 336)),  # 720 * (224 / 480) is 335.99… in floating point
        ("dino_vitb16", (832, 480), (388, 224)),
        ("dinov2_vitb14", (480, 832), (224, 378)),
    ],
)
def test_the_shorter_side_is_224_and_nothing_is_cropped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, known: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    eye = VisionTransformer(known, str(folder / known))
    assert shown(eye, np.zeros((1, *size, 3), np.uint8), monkeypatch).shape == (1, 3, *expected)


@pytest.mark.parametrize("size", [(30, 52), (20, 26), (52, 30)])
def test_pixels_are_those_of_a_slow_bilinear_resize_under_imagenet_statistics(
    folder: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    eye = VisionTransformer("dino_vitb16", str(folder / "dino_vitb16"), side=24)
    pixels = shown(eye, frames, monkeypatch)
    height, width = pixels.shape[2:]
    assert (min(height, width), max(height, width)) == (24, 24 * max(size) // min(size))
    slow = np.stack([slow_resize(frame, height, width) for frame in frames]) / 255
    slow = (slow - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(pixels, slow.transpose(0, 3, 1, 2), atol=1e-4)


def test_a_vit_sees_the_patches_that_are_whole(folder: Path) -> None:
    eye = VisionTransformer("dino_vitb16", str(folder / "dino_vitb16"), side=32)
    frames = np.random.default_rng(1).integers(0, 256, (1, 32, 60, 3), dtype=np.uint8)
    assert eye.patches(frames).shape == (1, 2 * 3, 16)
    beyond = frames.copy()
    beyond[:, :, 48:] = 255 - beyond[:, :, 48:]  # the last 12 columns are no patch
    np.testing.assert_array_equal(eye.patches(beyond), eye.patches(frames))


def test_patches_are_the_tokens_behind_the_class_token(folder: Path) -> None:
    import torch
    from transformers import Dinov2Model

    eye = Weights(folder=folder).open_patches("dinov2_vitb14")
    assert isinstance(eye, PatchEmbedder)
    frames = np.random.default_rng(2).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    pixels = (frames / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        tokens = Dinov2Model.from_pretrained(folder / "dinov2_vitb14").eval()(
            torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32)
        )
    np.testing.assert_allclose(eye.embed(frames), tokens.last_hidden_state[:, 0], atol=1e-4)
    np.testing.assert_allclose(eye.patches(frames), tokens.last_hidden_state[:, 1:], atol=1e-4)


def test_a_hub_id_is_opened_from_its_snapshot_and_named_by_its_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def snapshot(repo: str, **options: Any) -> str:
        asked.append((repo, options["allow_patterns"]))
        return str(folder / "dino_vitb16")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    eye = Weights(places={"dino_vitb16": "someone/dino"}).open("dino_vitb16")
    assert isinstance(eye, VisionTransformer)
    assert eye.name == f"dino_vitb16 {digest(str(folder / 'dino_vitb16'))}"
    assert [repo for repo, _ in asked] == ["someone/dino"]
    assert not any(name.endswith((".bin", ".pt", ".pth", "*")) for name in asked[0][1])  # no pickle is fetched


def test_a_place_that_cannot_be_had_is_not_measured_and_not_named_in_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gone(repo: str, **options: Any) -> str:
        raise ConnectionError(f"no network for {repo}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", gone)
    absent = Weights(places={"dino_vitb16": str(tmp_path / "none")}).open("dino_vitb16")
    assert absent == NotMeasured(
        reason="missing weights dino_vitb16: its place is no folder and no hub id within reach"
    )
    empty = Weights(places={"dino_vitb16": str(tmp_path)}).place("dino_vitb16")
    assert empty == NotMeasured(
        reason="missing weights dino_vitb16: expected config.json and *.safetensors in its folder"
    )


def test_an_id_that_is_none_has_no_place() -> None:
    with pytest.raises(ValueError, match=r"expected ids of dino_vitb16.*; got dino$"):
        Weights(places={"dino": "somewhere"})


def test_the_command_opens_an_encoder_from_a_place_of_its_own(cli: Cli, folder: Path, tmp_path: Path) -> None:
    prompts, place = tmp_path / "prompts.txt", folder / "dino_vitb16"
    prompts.write_text("a red fox\n")
    words = ("eval", "quality", prompts, "--profile", "instant", "--seconds", "1", "--out", tmp_path / "results")
    done = cli(*words, "--encoder", f"dino_vitb16={place}")
    assert done.code == 0, done.err
    (manifest,) = (tmp_path / "results").glob("quality/*/manifest.json")
    metrics = json.loads(manifest.read_text())["settings"]["metrics"]
    assert metrics["subject consistency (dino_vitb16)"] == f"dino_vitb16 {digest(str(place))}"
    assert "missing weights" in metrics["background consistency (clip_vitb32)"]


@pytest.mark.parametrize(
    ("benchmark", "words", "said"),
    [
        ("quality", "dino_vitb16", "expected ID=FOLDER or ID=HUB-ID, got dino_vitb16"),
        ("quality", "dino_vitb16=", "expected ID=FOLDER or ID=HUB-ID, got dino_vitb16="),
        ("quality", "dino=x", "got dino"),
        ("storyeval", "dino_vitb16=x", "storyeval reads no encoders"),
    ],
)
def test_an_encoder_that_cannot_be_meant_is_a_usage_error(
    cli: Cli, tmp_path: Path, benchmark: str, words: str, said: str
) -> None:
    (tmp_path / "prompts.txt").write_text("a\n")
    done = cli("eval", benchmark, tmp_path / "prompts.txt", "--profile", "instant", "--encoder", words)
    assert done.code == 2
    assert said in " ".join(done.err.split())
