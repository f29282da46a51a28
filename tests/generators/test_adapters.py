"""Adapters: found and named, put on any pipeline at their scale, part of what a take's weights are."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from safetensors.torch import load_file, save_file

from generators.adapters import LORA_FILES, read_adapter, whole_name, with_adapters
from generators.backends import BackendConfig, open_backend, weights_of
from generators.clip import Canvas, ShotRequest
from generators.errors import BackendUnavailable
from generators.models.loading import open_model
from generators.models.tiny import tiny_wan
from generators.models.tiny_cogvideox import tiny_cogvideox
from tests.tiny_adapters import write_adapter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan("t2v-2.1", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter("t2v-2.1", tmp_path_factory.mktemp("lora"))


def weight(opened: Any) -> torch.nn.Module:
    return opened.pipe.transformer.blocks[0].attn1.to_q  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_an_adapter_adds_its_scaled_product_to_the_weights_it_was_made_for(
    model: Path, lora: Path, scale: float
) -> None:
    plain, with_it = open_model(str(model)), open_model(str(model), lora=[read_adapter(f"{lora}@{scale}")])
    held = load_file(lora / LORA_FILES[0])
    (down,) = [x for name, x in held.items() if "blocks.0.attn1.to_q" in name and ("lora_A" in name or "down" in name)]
    (up,) = [x for name, x in held.items() if "blocks.0.attn1.to_q" in name and ("lora_B" in name or "up" in name)]
    x = torch.randn(3, down.shape[1])
    with torch.no_grad():
        expected = weight(plain)(x) + scale * x @ down.T @ up.T
        torch.testing.assert_close(weight(with_it)(x), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_an_adapter_of_two_files_reaches_both_experts(tmp_path: Path) -> None:
    folder, lora = tiny_wan("t2v-2.2", tmp_path / "model"), write_adapter("t2v-2.2", tmp_path / "lora")
    assert [file.name for file in read_adapter(str(lora)).files] == list(LORA_FILES)
    opened: Any = open_model(str(folder), lora=[read_adapter(str(lora))])
    assert opened.pipe.get_list_adapters() == {"transformer": ["fabula_0"], "transformer_2": ["fabula_0"]}
    with pytest.raises(BackendUnavailable, match="is for a second expert, and WanPipeline has one"):
        open_model(str(tiny_wan("t2v-2.1", tmp_path / "one")), lora=[read_adapter(str(lora))])


@pytest.mark.slow
def test_clips_filmed_with_an_adapter_differ_and_say_so_in_their_weights(model: Path, lora: Path) -> None:
    def film(*lora: str) -> Any:
        canvas = Canvas(width=32, height=32, fps=8, frame_counts=(9,))
        config = BackendConfig(kind="local", model=str(model), device="cpu", canvas=canvas, lora=lora, steps=1)
        backend = open_backend(config)
        assert weights_of(config) == backend.weights
        (clip,) = backend.shoot([ShotRequest(prompt="a fox jumps", seed=0, frames=9, fps=8, width=32, height=32)])
        return clip

    plain, full, half, both = film(), film(str(lora)), film(f"{lora}@0.5"), film(f"{lora}@0.5", f"{lora}@0.5")
    assert len({clip.weights for clip in (plain, full, half, both)}) == 4
    assert len({clip.frames.tobytes() for clip in (plain, full, half)}) == 3
    assert abs(full.frames.astype(int) - both.frames).max() <= 1  # two halves are a whole


def test_names_are_read_and_what_is_not_there_is_named(lora: Path, tmp_path: Path) -> None:
    odd = tmp_path / "style@2.safetensors"
    shutil.copy(lora / LORA_FILES[0], odd)
    assert read_adapter(str(odd)).scale == 1.0
    assert read_adapter(f"{odd}@0.5") == read_adapter(whole_name(f"{odd}@0.5"))
    assert whole_name(str(lora)) == f"{(lora / LORA_FILES[0]).resolve()}@1"
    (tmp_path / "old.bin").write_bytes(b"")
    for told, says in {
        str(tmp_path / "nowhere"): "nowhere does not exist",
        str(tmp_path): f"holds no {LORA_FILES[0]}",
        str(tmp_path / "old.bin"): "no safetensors file",
        f"{lora}@strong": "expected PATH or PATH@SCALE",
    }.items():
        with pytest.raises(BackendUnavailable, match=re.escape(says)):
            read_adapter(told)


def test_a_digest_counts_adapters_their_order_and_scales(lora: Path, tmp_path: Path) -> None:
    other = read_adapter(str(write_adapter("t2v-2.1", tmp_path, seed=1)))
    one, weaker = read_adapter(str(lora)), read_adapter(f"{lora}@0.5")
    found = [with_adapters("ab", on) for on in ([], [one], [weaker], [other], [one, other], [other, one])]
    assert found[0] == "ab"
    assert len(set(found)) == len(found)


@pytest.mark.slow
def test_an_adapter_of_another_model_is_refused(lora: Path, tmp_path: Path) -> None:
    cog = tiny_cogvideox("t2v-2b", tmp_path / "cog")
    with pytest.raises(BackendUnavailable, match="could not be put on CogVideoXPipeline .*made for another model"):
        open_model(str(cog), lora=[read_adapter(str(lora))])


@pytest.mark.slow
def test_an_adapter_some_of_whose_layers_the_model_has_not_is_refused(model: Path, lora: Path, tmp_path: Path) -> None:
    held = load_file(lora / LORA_FILES[0])
    moved = {name.replace("blocks.0.", "blocks.9."): tensor for name, tensor in held.items()}
    save_file(moved, tmp_path / "other.safetensors")
    with pytest.raises(BackendUnavailable, match="for another model: this WanPipeline takes 8 of its 12"):
        open_model(str(model), lora=[read_adapter(str(tmp_path / "other.safetensors"))])


@pytest.mark.slow
def test_the_same_adapter_gives_the_stock_pipelines_frames(model: Path, lora: Path) -> None:
    stock = WanPipeline.from_pretrained(model)
    stock.load_lora_weights(str(lora), adapter_name="mine")
    opened: Any = open_model(str(model), lora=[read_adapter(str(lora))])
    x = torch.randn(1, stock.transformer.config["in_channels"], 3, 4, 4)
    text = torch.randn(1, 5, stock.transformer.config["text_dim"])
    with torch.no_grad():
        ours, theirs = (
            net(x, torch.tensor([500.0]), text, return_dict=False)[0]
            for net in (opened.pipe.transformer, stock.transformer)
        )
    assert torch.equal(ours, theirs)
