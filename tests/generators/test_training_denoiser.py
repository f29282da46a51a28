"""The denoiser's training: equals stock inference, given frames are clean, resuming keeps bits, exports load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from safetensors.torch import load_file

from generators.errors import TrainingError
from generators.training.checkpoint import RunFolder, read_checkpoint
from generators.training.clips import DrawnClips, WorldClips, draw_script, draw_verb, to_signal
from generators.training.codec import read_codec
from generators.training.config import (
    DenoiserSize,
    DenoiserTraining,
    GivenSegments,
    LatentShards,
    Machine,
    Schedule,
    VaeSize,
    VaeTraining,
)
from generators.training.data import ShardFolder
from generators.training.denoiser import build_denoiser, given_frames, spread_normal, train_denoiser
from generators.training.export import export, import_weights, load_trained
from generators.training.forward import few_columns, predict
from generators.training.loop import fast_dtype
from generators.training.mean import mean_weights
from generators.training.text import build_tokenizer, text_columns
from generators.training.vae import train_vae
from generators.world.captions import vocabulary
from generators.world.words import VERBS

TINY = DenoiserSize(channels=16, layers=2, heads=2, head_dim=24, ffn=64, text_width=48, text_heads=4, text_ffn=64)
CAPTIONS = ("In the meadow by day, the red fox jumps high up.", "Then the blue cat spins around.", "")


class FlatClips:
    """Clips of one colour each, with one of two captions; `verbs` is what is said to happen in all of them."""

    def __init__(self, verbs: tuple[str, ...] = ()) -> None:
        self.verbs = verbs

    def draw(self, rng: np.random.Generator, *, clips: int, frames: int, captions: int) -> DrawnClips:
        shades = torch.from_numpy(rng.integers(255, size=(clips, 1, 3, 1, 1), dtype=np.uint8))
        noise = torch.from_numpy(rng.integers(40, size=(clips, frames, 3, 32, 48), dtype=np.uint8))
        told = tuple(tuple(CAPTIONS[i % 2] for i in range(captions)) for _ in range(clips))
        return DrawnClips(frames=(shades // 2 + noise), captions=told, verbs=self.verbs * clips)


def tiny_vae_training(out: Path, steps: int) -> VaeTraining:
    return VaeTraining(
        out=out,
        size=VaeSize(encoder_width=8, decoder_width=8, channels=16),
        batch=2,
        frames=5,
        code_clips=16,
        schedule=Schedule(steps=steps, sample_every=0),
        machine=Machine(precision="float32"),
    )


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a tiny autoencoder and its latent code."""
    out = tmp_path_factory.mktemp("run")
    train_vae(tiny_vae_training(out, 2), source=FlatClips())
    return out


def tiny_training(out: Path, steps: int) -> DenoiserTraining:
    return DenoiserTraining(
        out=out,
        size=TINY,
        batch=4,
        shards=LatentShards(clips=4, count=3, first=2, every=2, batch=4, long_share=0.5),
        schedule=Schedule(steps=steps, warmup=1, sample_every=0, log_every=1),
        machine=Machine(precision="float32"),
        given=GivenSegments(share=0.5),
    )


def with_codec(run_folder: Path, out: Path) -> Path:
    """A new run folder that shares autoencoder and latent code."""
    out.mkdir(parents=True)
    for name in ("vae", "codec.safetensors"):
        (out / name).symlink_to(run_folder / name)
    return out


def test_few_text_columns_score_as_the_512_of_the_stock_pipeline() -> None:
    tokenizer = build_tokenizer(vocabulary())
    nets = build_denoiser(TINY, 16, len(tokenizer), seed=0).eval()
    torch.nn.init.normal_(nets.transformer.proj_out.weight)
    generator = torch.Generator().manual_seed(0)
    noisy, levels = torch.randn(3, 16, 3, 4, 6, generator=generator), torch.tensor([0.9, 0.5, 0.2])
    ids = tokenizer(list(CAPTIONS), padding="max_length", max_length=512, return_tensors="pt")
    mask = ids.attention_mask
    with torch.no_grad():
        padded = nets.text_encoder(ids.input_ids, mask).last_hidden_state * mask.unsqueeze(-1)
        stock = nets.transformer(noisy, 1000 * levels, padded, return_dict=False)[0]
        with few_columns(nets.transformer) as columns:
            text = text_columns(tokenizer, nets.text_encoder, CAPTIONS)
            ours = predict(nets.transformer, columns, noisy, levels, text)
            by_frame = predict(nets.transformer, columns, noisy, levels.view(3, 1).repeat(1, 3), text)
        again = nets.transformer(noisy, 1000 * levels, padded, return_dict=False)[0]
    assert text[0].shape[1] == 32
    torch.testing.assert_close(ours, stock, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(by_frame, stock, atol=2e-5, rtol=1e-4)
    assert torch.equal(again, stock)


def test_noise_levels_of_a_batch_are_spread_evenly_and_normal() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([spread_normal(16, generator) for _ in range(400)])
    places = (torch.special.ndtr(drawn) * 16).floor().sort(1).values
    assert torch.equal(places, torch.arange(16.0).expand(400, 16))
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 1) < 0.02
    assert abs(drawn[:, 0].mean()) < 0.15  # and shuffled: no row of the batch has levels of its own


def test_the_tokenizer_splits_punctuation_keeps_offsets_and_ends_every_text() -> None:
    tokenizer = build_tokenizer(vocabulary())
    text = "The red fox, JUMPS up. dragon"
    batch = tokenizer(text, return_offsets_mapping=True)
    words = [text[a:b] for a, b in batch["offset_mapping"]]
    assert words == ["The", "red", "fox", ",", "JUMPS", "up", ".", "dragon", ""]
    tokens = tokenizer.convert_ids_to_tokens(batch["input_ids"])
    assert tokens == ["the", "red", "fox", ",", "jumps", "up", ".", "<unk>", "</s>"]
    assert tokenizer("")["input_ids"] == [1]


def test_given_segments_leave_something_hidden_and_come_from_every_side() -> None:
    given = given_frames(np.random.default_rng(0), 200, 9, GivenSegments())
    assert given.any(1).all()
    assert (~given).any(1).all()
    starts, ends = given[:, 0], given[:, -1]
    assert (starts & ~ends).sum() > 30
    assert (ends & ~starts).sum() > 30
    assert (starts & ends).sum() > 30
    hidden = (~given[starts & ends]).sum(1)
    assert hidden.min() == 2
    assert hidden.max() == 5


def test_verbs_are_drawn_as_often_as_asked_and_those_learned_last_more_often_by_default() -> None:
    def shares(often: Mapping[str, float]) -> dict[str, float]:
        rng = np.random.default_rng(0)
        counts = Counter(draw_verb(rng, often) for _ in range(4000))
        return {verb: counts[verb] / 4000 for verb in VERBS}

    even = shares({"walk": 1.0})
    assert all(abs(share - 1 / len(VERBS)) < 0.02 for share in even.values())
    wished = shares({"chase": 6.0, "walk": 0.0})
    assert wished["walk"] == 0
    assert abs(wished["chase"] - 6 / (len(VERBS) - 2 + 6)) < 0.03
    meeting = {verb for verb, what in VERBS.items() if what.slot in ("prop", "other")}
    assert {verb for verb, share in shares(LatentShards().often).items() if share > 0.08} == meeting


def test_shards_of_other_verbs_are_other_shards_and_unknown_verbs_are_refused(run_folder: Path, tmp_path: Path) -> None:
    codec = read_codec(run_folder / "codec.safetensors")
    one, two = (
        ShardFolder(LatentShards(often=often), tmp_path, codec, FlatClips(), seed=0)
        for often in ({"chase": 2.0}, {"chase": 3.0})
    )
    assert one.folder != two.folder
    with pytest.raises(ValueError, match="expected verbs of the world, got fly"):
        LatentShards(often={"fly": 2.0})
    with pytest.raises(ValueError, match="at least 0"):
        LatentShards(often={"walk": -1.0})
    with pytest.raises(ValueError, match=r"noise_means: expected verbs of the world, got fly"):
        DenoiserTraining(noise_means={"fly": 1.0})
    with pytest.raises(ValueError, match=r"noise_means: expected finite numbers"):
        DenoiserTraining(noise_means={"walk": float("nan")})


def test_shards_are_made_once_and_are_the_same_again(run_folder: Path, tmp_path: Path) -> None:
    codec = read_codec(run_folder / "codec.safetensors")
    config = tiny_training(tmp_path, 1).shards
    one, two = (ShardFolder(config, tmp_path / name, codec, FlatClips(), seed=0) for name in ("a", "b"))
    one.make(0)
    two.make(0)
    assert one.path(0).read_bytes() == two.path(0).read_bytes()
    before = one.path(0).stat().st_mtime_ns
    one.make(0)
    assert one.path(0).stat().st_mtime_ns == before
    lengths = {one.batch(step, 4).latents.shape[2] for step in range(8)}
    assert lengths == {9, 17}


@pytest.mark.slow
def test_a_shard_knows_what_happens_first_in_its_clips(run_folder: Path, tmp_path: Path) -> None:
    jumps = {verb: float(verb == "jump") for verb in VERBS}
    drawn = WorldClips(often=jumps).draw(np.random.default_rng(3), clips=6, frames=65, captions=1)
    assert drawn.verbs == ("jump",) * 6
    assert any("then" in caption.lower() or "next" in caption.lower() for (caption,) in drawn.captions)
    codec = read_codec(run_folder / "codec.safetensors")
    shards = LatentShards(clips=4, count=1, first=1, batch=2, long_share=0.0)
    known, unknown = (
        ShardFolder(shards, tmp_path / name, codec, source, seed=0).batch(0, 3).verbs
        for name, source in (("a", FlatClips(verbs=("walk",))), ("b", FlatClips()))
    )
    assert (known, unknown) == (["walk"] * 3, [None] * 3)


@pytest.mark.slow
def test_noise_is_drawn_where_the_verb_of_a_clip_is_decided(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.Tensor] = []

    def spy(transformer: Any, columns: Any, noisy: Any, levels: torch.Tensor, text: Any) -> torch.Tensor:
        drawn.append(levels)
        return predict(transformer, columns, noisy, levels, text)

    monkeypatch.setattr("generators.training.denoiser.predict", spy)
    config = replace(
        tiny_training(with_codec(run_folder, tmp_path / "run"), 4),
        given=GivenSegments(share=0.0),
        noise_means={"chase": 30.0, "spin": -30.0},
    )
    for verbs, lowest, highest in ((("chase",), 0.999, 1.0), (("spin",), 0.0, 0.001), ((), 0.05, 0.999)):
        drawn.clear()
        train_denoiser(replace(config, out=with_codec(run_folder, tmp_path / f"run {verbs}")), source=FlatClips(verbs))
        levels = torch.cat(drawn)
        assert levels.numel() >= 8
        assert lowest <= levels.min() <= levels.max() <= highest


@pytest.mark.slow
def test_what_is_measured_while_training_is_the_error_of_the_averaged_nets(run_folder: Path, tmp_path: Path) -> None:
    out = with_codec(run_folder, tmp_path / "run")
    config = replace(tiny_training(out, 1), schedule=Schedule(steps=1, warmup=1, sample_every=1, log_every=1))
    train_denoiser(config, source=FlatClips())
    (row,) = RunFolder(out / "denoiser").rows()
    assert {"loss", "at 0.5", "at 0.9", "at 0.98"} <= set(row)
    # Fresh nets answer zero, so what they see behind the noise is the noisy clip itself: x_s - x_0 = s (n - x_0).
    codec = read_codec(out / "codec.safetensors")
    drawn = FlatClips().draw(np.random.default_rng([0, 2**31]), clips=48, frames=33, captions=1)
    clean = codec.encode(to_signal(drawn.frames))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for level in (0.5, 0.9):
        seen = clean + level * (noise - clean)
        assert row[f"at {level}"] == pytest.approx((seen - clean).square().mean().item(), rel=0.02)


@pytest.mark.slow
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(run_folder: Path, tmp_path: Path) -> None:
    whole, parts = (with_codec(run_folder, tmp_path / name) for name in ("whole", "parts"))
    train_denoiser(tiny_training(whole, 4), source=FlatClips())
    train_denoiser(tiny_training(parts, 2), source=FlatClips())
    train_denoiser(tiny_training(parts, 4), source=FlatClips())
    one, two = (read_checkpoint(out / "denoiser" / "checkpoint.pt")["trainee"] for out in (whole, parts))
    for name in ("nets", "average"):
        for key, tensor in one[name].items():
            assert torch.equal(tensor, two[name][key]), f"{name}.{key}"


@pytest.mark.slow
def test_a_batch_in_which_nothing_is_given_is_learnt_from_too(run_folder: Path, tmp_path: Path) -> None:
    out = with_codec(run_folder, tmp_path / "run")
    assert train_denoiser(replace(tiny_training(out, 1), given=GivenSegments(share=0.0)), source=FlatClips()).step == 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_captions_are_left_out_as_often_as_asked(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    told: list[str] = []

    def listening(tokenizer: Any, encoder: Any, texts: list[str]) -> Any:
        told.extend(texts)
        return text_columns(tokenizer, encoder, texts)

    monkeypatch.setattr("generators.training.denoiser.text_columns", listening)
    out = with_codec(run_folder, tmp_path / "run")
    train_denoiser(replace(tiny_training(out, 2), caption_dropout=share), source=FlatClips())
    assert told
    assert all((text == "") == (share == 1) for text in told)


def test_short_clips_tell_mostly_one_event_and_long_ones_mostly_more() -> None:
    rng = np.random.default_rng(0)
    counts = {
        frames: Counter(len(draw_script(rng, frames, "train", {}).events) for _ in range(200)) for frames in (33, 65)
    }
    assert 0.6 < counts[33][1] / 200 < 0.8
    assert counts[33][1] + counts[33][2] == 200
    assert counts[65].keys() == {1, 2, 3}
    assert 0.5 < counts[65][2] / 200 < 0.7


def test_half_precision_is_where_it_is_asked_for_or_pays() -> None:
    assert fast_dtype(Machine(precision="bf16")) == torch.bfloat16
    assert fast_dtype(Machine(precision="float32")) == torch.float32
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert fast_dtype(Machine()) == (torch.bfloat16 if native else torch.float32)


def test_an_export_replaces_an_earlier_one_and_nothing_else(run_folder: Path, tmp_path: Path) -> None:
    out, mine = with_codec(run_folder, tmp_path / "run"), tmp_path / "documents"
    train_denoiser(tiny_training(out, 1), source=FlatClips())
    mine.mkdir()
    (mine / "diary.txt").write_text("dear diary")
    with pytest.raises(TrainingError, match="documents holds something that is no exported model"):
        export(out, mine)
    assert [file.name for file in mine.iterdir()] == ["diary.txt"]
    weights = export(out, tmp_path / "weights")
    (weights / "earlier.txt").write_text("old")
    export(out, weights)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["documents", "run", "weights"]
    assert not (weights / "earlier.txt").exists()


@pytest.mark.slow
def test_an_export_loads_with_stock_diffusers_and_films_the_same(run_folder: Path, tmp_path: Path) -> None:
    out = with_codec(run_folder, tmp_path / "run")
    train_denoiser(tiny_training(out, 3), source=FlatClips())
    folder = export(out, tmp_path / "weights")
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 30_000_000
    assert "WanPipeline.from_pretrained" in (folder / "README.md").read_text()
    clips = []
    for pipeline in (load_trained(out), WanPipeline.from_pretrained(folder)):
        assert {pipeline.transformer.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {torch.float32}
        pipeline.set_progress_bar_config(disable=True)
        clips.append(
            pipeline(
                CAPTIONS[0],
                height=32,
                width=48,
                num_frames=9,
                num_inference_steps=2,
                guidance_scale=3.0,
                generator=torch.Generator().manual_seed(0),
            ).frames
        )
    assert np.abs(clips[0] - clips[1]).max() < 0.02  # float16 storage


@pytest.mark.slow
def test_training_goes_on_from_an_export_where_nothing_else_is_left(run_folder: Path, tmp_path: Path) -> None:
    out = with_codec(run_folder, tmp_path / "run")
    train_denoiser(tiny_training(out, 2), source=FlatClips())
    weights = export(out, tmp_path / "weights")
    again = import_weights(weights, tmp_path / "again")
    was, now = (read_checkpoint(run / "denoiser" / "checkpoint.pt") for run in (out, again))
    assert (now["step"], now["fresh"], now["settings"]) == (2, 2, was["settings"])
    for key, tensor in now["trainee"]["nets"].items():
        torch.testing.assert_close(tensor, was["trainee"]["average"][key], atol=1e-3, rtol=1e-3)  # float16 storage
    assert train_denoiser(tiny_training(again, 3), source=FlatClips()).step == 3
    then = read_checkpoint(again / "denoiser" / "checkpoint.pt")["trainee"]
    for key, average in then["average"].items():  # which forgets its start as quickly as that of a new run
        torch.testing.assert_close(average, now["trainee"]["nets"][key].lerp(then["nets"][key], 0.9))
    train_denoiser(tiny_training(again, 4), source=FlatClips())
    last = read_checkpoint(again / "denoiser" / "checkpoint.pt")["trainee"]
    for key, average in last["average"].items():  # also when it goes on in another process
        torch.testing.assert_close(average, then["average"][key].lerp(last["nets"][key], 1 - 2 / 11))
    assert train_vae(tiny_vae_training(again, 3), source=FlatClips()).step == 3
    assert export(again, tmp_path / "weights").name == "weights"
    with pytest.raises(TrainingError, match=r"again has been trained already \(denoiser, vae\); name a new folder"):
        import_weights(weights, again)


@pytest.mark.slow
def test_the_mean_of_two_exports_is_an_export(run_folder: Path, tmp_path: Path) -> None:
    out = with_codec(run_folder, tmp_path / "run")
    exports = []
    for steps in (1, 3):
        train_denoiser(tiny_training(out, steps), source=FlatClips())
        exports.append(export(out, tmp_path / f"after-{steps}"))
    mean = mean_weights(exports, tmp_path / "mean")
    for part in ("transformer", "text_encoder"):
        one, two, made = (weights_of(folder / part) for folder in (*exports, mean))
        assert any(not torch.equal(one[key], two[key]) for key in one)
        for key, tensor in made.items():
            assert torch.equal(tensor, ((one[key].double() + two[key].double()) / 2).to(tensor.dtype)), key
    assert "the mean of weights after 1 and 3 optimiser steps" in (mean / "README.md").read_text()
    WanPipeline.from_pretrained(mean)
    assert read_checkpoint(import_weights(mean, tmp_path / "on") / "denoiser" / "checkpoint.pt")["step"] == 3
    with pytest.raises(TrainingError, match="at least two exported models, got 1"):
        mean_weights(exports[:1], tmp_path / "none")
    with pytest.raises(TrainingError, match=r"run has no training\.json"):
        mean_weights([exports[0], out], tmp_path / "none")
    (exports[1] / "codec.safetensors").write_bytes(b"another")
    with pytest.raises(TrainingError, match=r"differ in codec\.safetensors: expected models of one training run"):
        mean_weights(exports, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def test_a_folder_that_does_not_tell_how_it_was_made_is_not_imported(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"has no training\.json and codec\.safetensors: expected a folder that"):
        import_weights(tmp_path, tmp_path / "run")


def test_the_rate_warms_up_anew_where_the_optimiser_is_new() -> None:
    schedule = Schedule(steps=100, warmup=3)
    assert [schedule.rate(step, fresh=10) for step in (10, 11, 12, 13, 14)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_another_latent_code_is_refused(run_folder: Path, tmp_path: Path) -> None:
    out = with_codec(run_folder, tmp_path / "run")
    train_denoiser(tiny_training(out, 1), source=FlatClips())
    state = read_checkpoint(out / "denoiser" / "checkpoint.pt")
    state["settings"]["codec"] = "another"
    torch.save(state, out / "denoiser" / "checkpoint.pt")
    with pytest.raises(TrainingError, match="codec"):
        train_denoiser(tiny_training(out, 2), source=FlatClips())
    with pytest.raises(TrainingError, match="another latent code"):
        export(out, tmp_path / "weights")
