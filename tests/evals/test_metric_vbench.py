"""VBench's dimensions with real encoders at tiny size; without weights they are not measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evals.benchmarks.protocol import Film, Judged
from evals.benchmarks.quality import Quality, QualitySettings
from evals.metrics.consistency import Vectors, within_shot
from evals.metrics.embedders import LOADERS, Embedder, TextEmbedder, Weights, digest
from evals.metrics.score import Case, NotMeasured, Score
from evals.metrics.vbench import (
    QUALITY,
    RANGES,
    SEMANTIC,
    TextAlignment,
    Totals,
    WithinShot,
    normalised,
    quality_metrics,
    totals,
)
from generators.clip import Frames

CASE = Case(name="a", prompt="a red fox")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Random encoders of the right architectures in their ids' folders."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPConfig,
        CLIPModel,
        Dinov2Config,
        Dinov2Model,
        PreTrainedTokenizerFast,
        ViTConfig,
        ViTModel,
    )

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(**small, image_size=224, patch_size=32)).save_pretrained(folder / "dino_vitb16")
    dino = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=56, patch_size=28)
    Dinov2Model(dino).save_pretrained(folder / "dinov2_vitb14")
    text = {**small, "vocab_size": 8, "max_position_embeddings": 6, "bos_token_id": 1, "eos_token_id": 2}
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16}, projection_dim=8)
    CLIPModel(config).save_pretrained(folder / "clip_vitb32")
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2, "?": 3, "a": 4, "red": 5, "fox": 6}, "?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="?", model_max_length=6)
    fast.save_pretrained(folder / "clip_vitb32")
    return Weights(folder=folder)


@pytest.fixture(scope="module")
def frames() -> Frames:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)


def test_without_weights_every_dimension_that_needs_them_says_which(frames: Frames) -> None:
    for metric in quality_metrics(Weights()):
        found = metric.measure(np.repeat(frames, 8, axis=0), 8, CASE)
        if metric.name.startswith("temporal flickering (static"):
            assert found == NotMeasured(reason="the clip moves: the filter lets static clips pass alone")
        elif metric.name.split("(")[0].strip() in ("subject consistency", "background consistency", "text alignment"):
            assert isinstance(found, NotMeasured)
            assert "missing weights" in found.reason
        else:
            assert isinstance(found, Score), metric.name


def test_all_metrics_of_motion_read_the_flow_that_was_asked_for() -> None:
    named, asked = ({metric.name for metric in quality_metrics(Weights(), *flow)} for flow in ((), ("farneback",)))
    assert "motion smoothness (dis warp)" in named
    assert {name.replace("dis", "farneback") for name in named - asked} == asked - named
    assert len(asked - named) == 4
    assert not any("dis" in name.split("(")[-1] for name in asked)


def test_a_folder_without_safetensors_is_no_weights(tmp_path: Path) -> None:
    (tmp_path / "dino_vitb16").mkdir()
    (tmp_path / "dino_vitb16" / "config.json").write_text("{}")
    (tmp_path / "dino_vitb16" / "pytorch_model.bin").write_bytes(b"")
    found = Weights(folder=tmp_path).open("dino_vitb16")
    assert isinstance(found, NotMeasured)
    assert str(tmp_path) not in found.reason  # reasons stand in tables that must not change with the machine
    with pytest.raises(KeyError):
        Weights().open("unknown")
    assert set(LOADERS) >= {"dino_vitb16", "clip_vitb32"}


@pytest.mark.parametrize("known", ["dino_vitb16", "dinov2_vitb14", "clip_vitb32"])
def test_encoders_open_from_their_folder_and_see_frames(weights: Weights, frames: Frames, known: str) -> None:
    encoder = weights.open(known)
    assert isinstance(encoder, Embedder)
    found = encoder.embed(frames)
    assert len(found) == 3
    assert found.ndim == 2
    np.testing.assert_allclose(encoder.embed(frames[:1]), found[:1], atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-4
    assert weights.folder is not None
    assert encoder.name == f"{known} {digest(str(weights.folder / known))}"


def test_an_encoder_that_reads_no_text_is_not_measured_there(weights: Weights) -> None:
    found = weights.open_text("dino_vitb16")
    assert isinstance(found, NotMeasured)
    assert isinstance(weights.open_text("clip_vitb32"), TextEmbedder)


def test_a_place_of_its_own_goes_before_the_folder(weights: Weights, tmp_path: Path) -> None:
    assert weights.folder is not None
    elsewhere = Weights(folder=tmp_path, places={"dino_vitb16": str(weights.folder / "dino_vitb16")})
    assert isinstance(elsewhere.open("dino_vitb16"), Embedder)


def test_subject_consistency_is_its_formula_over_class_tokens(weights: Weights, frames: Frames) -> None:
    encoder = weights.open("dino_vitb16")
    assert isinstance(encoder, Embedder)
    metric = WithinShot(dimension="subject consistency", encoder="dino_vitb16", embedder=encoder)
    found = metric.measure(frames, 8, CASE)
    assert isinstance(found, Score)
    assert found.value == pytest.approx(within_shot(encoder.embed(frames)))
    still = metric.measure(np.repeat(frames[:1], 3, axis=0), 8, CASE)
    assert isinstance(still, Score)
    assert still.value == pytest.approx(1)
    assert isinstance(metric.measure(frames[:1], 8, CASE), NotMeasured)


class Colour:
    """Mean colour of a frame."""

    name = "colour"

    def embed(self, frames: Frames) -> Vectors:
        return np.asarray(frames.reshape(len(frames), -1, 3).mean(1) + 1.0)


def test_the_table_tells_consistency_over_videos_and_over_all_frames(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("one\ntwo\nthree\n")
    metric = WithinShot(dimension="background consistency", encoder="colour", embedder=Colour())
    bench = Quality(QualitySettings(prompts=tmp_path / "prompts.txt"), [metric])
    rng = np.random.default_rng(3)
    clips = [rng.integers(0, 256, (count, 2, 2, 3), dtype=np.uint8) for count in (3, 9, 1)]
    judged = [
        Judged(unit=unit, judgement=bench.judge(unit, [Film(frames=clip, fps=8)]))
        for unit, clip in zip(bench.units(), clips, strict=True)
    ]
    found = {line.summary.metric: line.summary for line in bench.lines(judged)}
    each = []
    for f in (Colour().embed(clip) for clip in clips[:2]):
        cosine = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in f] for a in f]
        each.append([(cosine[i][i - 1] + cosine[i][0]) / 2 for i in range(1, len(f))])
    assert found[metric.name].mean == pytest.approx(np.mean([np.mean(one) for one in each]))
    weighted = found[f"{metric.name}, frame-weighted"]
    assert weighted.mean == pytest.approx(np.mean(each[0] + each[1]))
    assert weighted.count == 2
    alone = {line.summary.metric: line.summary for line in bench.lines(judged[2:])}
    assert alone[f"{metric.name}, frame-weighted"].unmeasured == {"the clip has one frame": 1}


def test_text_alignment_is_the_mean_cosine_with_the_prompt(weights: Weights, frames: Frames) -> None:
    encoder = weights.open_text("clip_vitb32")
    assert isinstance(encoder, TextEmbedder)
    found = TextAlignment(encoder="clip_vitb32", embedder=encoder).measure(frames, 8, CASE)
    assert isinstance(found, Score)
    text = encoder.embed_texts([CASE.prompt])[0]
    slow = [f @ text / np.linalg.norm(f) / np.linalg.norm(text) for f in encoder.embed(frames)]
    assert found.value == pytest.approx(100 * np.mean(slow))
    nothing = TextAlignment(encoder="x", embedder=encoder).measure(frames, 8, Case(name="b", prompt=""))
    assert nothing == NotMeasured(reason="the case has no prompt")


def test_totals_weigh_dynamic_degree_half_and_quality_four_times() -> None:
    best = {name: high for name, (_, high) in RANGES.items()}
    assert totals(best) == Totals(quality=1.0, semantic=1.0)
    still = totals({**best, "dynamic degree": 0.0})
    assert isinstance(still, Totals)
    assert still.quality == pytest.approx(6 / 6.5)
    assert still.total == pytest.approx((4 * 6 / 6.5 + 1) / 5)
    assert (len(QUALITY), len(SEMANTIC)) == (7, 9)
    assert normalised("temporal flickering", 0.6293) == 0


def test_totals_of_some_dimensions_are_not_measured() -> None:
    found = totals({"scene": 0.5})
    assert isinstance(found, NotMeasured)
    assert "subject consistency" in found.reason
