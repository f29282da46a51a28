"""CLIPSeg as a segmenter: what it makes of maps, and what it will not load. Weights are random, classes are real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from generators.errors import BackendUnavailable, RequestRejected
from generators.models.tiny_text import byte_tokenizer
from generators.segmenters import Segmenter
from generators.segmenters.clipseg import DEVIATION, MEAN, CLIPSegSegmenter

SIDE = 48
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 32, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clipseg(tmp_path_factory.mktemp("clipseg"), seed=0)


def tiny_clipseg(folder: Path, *, seed: int, safe: bool = True) -> Path:
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    common: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    config = CLIPSegConfig(
        text_config={**common, "num_hidden_layers": 1, "vocab_size": 259, "eos_token_id": 1, "pad_token_id": 0},
        vision_config={**common, "num_hidden_layers": 3, "image_size": SIDE, "patch_size": 16},
        projection_dim=16,
        extract_layers=[0, 1],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPSegForImageSegmentation(config)
    if safe:
        model.save_pretrained(str(folder))
    else:
        config.save_pretrained(str(folder))
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    byte_tokenizer(77).save_pretrained(str(folder))
    return folder


def otsu_by_trying(values: np.ndarray) -> float:
    """The split with the most variance between its sides, by trying every one."""
    levels = np.unique(values)
    best, found = -1.0, float(levels[-1])
    for low, high in zip(levels[:-1], levels[1:], strict=True):
        off, on = values[values <= low], values[values > low]
        between = len(off) * len(on) * (off.mean() - on.mean()) ** 2
        if between > best:
            best, found = between, (float(low) + float(high)) / 2
    return found


def test_a_mask_is_the_models_map_parted_in_every_frame(folder: Path) -> None:
    segmenter = CLIPSegSegmenter(str(folder), side=SIDE, batch=2)
    made = segmenter(FRAMES, "red fox")
    assert made.shape == (5, 32, 40)
    assert made.dtype == np.bool_
    words = segmenter.tokenizer(["red fox"], return_tensors="pt")
    for frame, mask in zip(FRAMES, made, strict=True):
        small = np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) / 255
        pixels = torch.from_numpy((small - MEAN) / DEVIATION).permute(2, 0, 1).unsqueeze(0).float()
        with torch.no_grad():
            logits = segmenter.model(pixel_values=pixels, **words).logits
        likely = torch.nn.functional.interpolate(
            logits.reshape(1, 1, SIDE, SIDE).sigmoid(), size=(32, 40), mode="bilinear"
        )[0, 0].numpy()
        assert np.mean(mask == (likely > otsu_by_trying(likely.astype(np.float64)))) > 0.95  # PIL rounds to 8 bits
        assert 0 < mask.sum() < mask.size


def test_how_frames_are_batched_and_asked_again_changes_nothing(folder: Path) -> None:
    whole, one_by_one = (CLIPSegSegmenter(str(folder), side=SIDE, batch=batch) for batch in (16, 1))
    assert np.mean(whole(FRAMES, "red fox") == one_by_one(FRAMES, "red fox")) > 0.999
    assert np.array_equal(whole(FRAMES, "red fox"), whole(FRAMES, "red fox"))


def test_a_frame_in_which_nothing_is_likely_has_no_subject_where_that_is_asked(folder: Path) -> None:
    assert not CLIPSegSegmenter(str(folder), side=SIDE, least=0.999)(FRAMES, "red fox").any()


def test_its_name_is_that_of_its_weights(folder: Path, tmp_path: Path) -> None:
    other = CLIPSegSegmenter(str(tiny_clipseg(tmp_path / "other", seed=1)), side=SIDE)
    one, again = (CLIPSegSegmenter(str(folder), side=SIDE) for _ in range(2))
    assert isinstance(one, Segmenter)
    assert one.name == again.name != other.name
    assert one.name.startswith("clipseg ")


def test_only_safetensors_of_clipseg_are_loaded(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="safetensors"):
        CLIPSegSegmenter(str(tiny_clipseg(tmp_path / "pickled", seed=0, safe=False)))
    with pytest.raises(BackendUnavailable, match="CIDAS/clipseg-rd64-refined"):
        CLIPSegSegmenter(str(tmp_path / "nothing"))
    torn = tiny_clipseg(tmp_path / "torn", seed=0)
    (torn / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(BackendUnavailable, match="torn: expected a folder or hub id of CLIPSeg in safetensors"):
        CLIPSegSegmenter(str(torn))


def test_what_makes_no_sense_is_refused(folder: Path) -> None:
    with pytest.raises(RequestRejected, match="got 0"):
        CLIPSegSegmenter(str(folder), batch=0)
    with pytest.raises(RequestRejected, match="words"):
        CLIPSegSegmenter(str(folder), side=SIDE)(FRAMES, " ")
