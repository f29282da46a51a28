"""Distillation: a step lands where the teacher's guided steps do, given frames stay, stock diffusers loads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

from generators.errors import TrainingError
from generators.training.checkpoint import read_checkpoint
from generators.training.clips import DrawnClips
from generators.training.codec import open_codec
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
from generators.training.denoiser import noised, train_denoiser
from generators.training.distil import LEARNT, DistilTrainee, film_levels, train_distilled
from generators.training.distil_config import DistilTraining
from generators.training.export import load_trained
from generators.training.forward import few_columns
from generators.training.scenes_config import Lora
from generators.training.text import text_columns
from generators.training.vae import train_vae

TINY = DenoiserSize(channels=16, layers=2, heads=2, head_dim=24, ffn=64, text_width=48, text_heads=4, text_ffn=64)
CAPTIONS = ("In the meadow by day, the red fox jumps high up.", "Then the blue cat spins around.")
PLAIN = Machine(precision="float32")


class FlatClips:
    """Noise over one shade a clip, in the world's captions."""

    def draw(self, rng: np.random.Generator, *, clips: int, frames: int, captions: int) -> DrawnClips:
        noise = torch.from_numpy(rng.integers(255, size=(clips, frames, 3, 32, 48), dtype=np.uint8))
        told = tuple(tuple(CAPTIONS[i % 2] for i in range(captions)) for _ in range(clips))
        return DrawnClips(frames=noise, captions=told)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose tiny denoiser was trained for three steps."""
    out = tmp_path_factory.mktemp("run")
    size = VaeSize(encoder_width=8, decoder_width=8, channels=16)
    short = Schedule(steps=1, sample_every=0)
    train_vae(
        VaeTraining(out=out, size=size, batch=2, frames=5, code_clips=16, schedule=short, machine=PLAIN),
        source=FlatClips(),
    )
    config = DenoiserTraining(
        out=out, size=TINY, batch=4, shards=SHARDS, schedule=replace(short, steps=3, warmup=0), machine=PLAIN
    )
    train_denoiser(config, source=FlatClips())
    return out


SHARDS = LatentShards(clips=4, count=2, first=2, batch=4, long_share=0.5)


def distilling(run_folder: Path, out: Path, steps: int, **more: Any) -> DistilTraining:
    """A tiny distillation in a folder of its own that shares what was trained."""
    if not out.exists():
        out.mkdir()
        for name in ("vae", "denoiser", "codec.safetensors"):
            (out / name).symlink_to(run_folder / name)
    usual: dict[str, Any] = {
        "film_steps": 3, "batch": 4, "shards": SHARDS, "machine": PLAIN, "lora": Lora(rank=2),
        "schedule": Schedule(steps=steps, warmup=0, sample_every=0, log_every=1), "given": GivenSegments(share=0.5),
    }  # fmt: skip
    return DistilTraining(out=out, **(usual | more))


def trainee(config: DistilTraining) -> DistilTrainee:
    source = FlatClips()
    return DistilTrainee(config, load_trained(config.out), open_codec(config.out, source, seed=0, channels=16), source)


def test_the_levels_of_a_film_are_the_schedulers_and_the_teachers_lie_between() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=4.0)
    levels = film_levels(scheduler, 8, 3)
    scheduler.set_timesteps(8)
    torch.testing.assert_close(levels[:, 0], scheduler.sigmas[:-1])
    assert torch.equal(levels[:-1, -1], levels[1:, 0])
    assert levels[-1, -1] == 0
    assert (levels.diff(dim=1) < 0).all()
    even = levels / (4 - 3 * levels)
    torch.testing.assert_close(even.diff(dim=1), even.diff(dim=1)[:, :1].expand(-1, 3))


@pytest.mark.slow
def test_a_step_lands_where_the_stock_pipelines_guided_steps_land(run_folder: Path, tmp_path: Path) -> None:
    one = trainee(distilling(run_folder, tmp_path / "a", 1, guidance=2.5))
    generator = torch.Generator().manual_seed(0)
    start, levels = torch.randn(2, 16, 3, 4, 6, generator=generator), one.levels[torch.tensor([0, 2])]
    given = torch.zeros(2, 3, dtype=torch.bool)
    net, pipe = one.teacher.transformer, one.teacher
    with torch.no_grad(), few_columns(net) as columns:
        told = text_columns(pipe.tokenizer, pipe.text_encoder, [*CAPTIONS, "", ""])
        velocity = one.landing(start, levels, given, told, columns)
    with torch.no_grad():  # the obvious way: 512 columns, one clip and one branch at a time
        for row in range(2):
            x = start[row : row + 1]
            yes, no = pipe.encode_prompt(CAPTIONS[row], "", max_sequence_length=512)
            for here, there in zip(levels[row][:-1], levels[row][1:], strict=True):
                time = 1000 * here.expand(1)
                guided, plain = (net(x, time, text, return_dict=False)[0] for text in (yes, no))
                x = x + (there - here) * (plain + 2.5 * (guided - plain))
            landed = start[row] + (levels[row, -1] - levels[row, 0]) * velocity[row]
            torch.testing.assert_close(landed, x[0], atol=2e-4, rtol=1e-3)


@pytest.mark.slow
def test_given_frames_are_clean_at_the_start_and_are_left_there(run_folder: Path, tmp_path: Path) -> None:
    one = trainee(distilling(run_folder, tmp_path / "a", 1))
    clean, noise = torch.randn(2, 2, 16, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    given = torch.tensor([[True, False, False], [False, False, True]])
    levels = one.levels[torch.tensor([0, 1])]
    start = noised(clean, noise, levels[:, :1] * ~given)
    assert torch.equal(start[0, :, 0], clean[0, :, 0])
    torch.testing.assert_close(start[1, :, 0], clean[1, :, 0].lerp(noise[1, :, 0], levels[1, 0]))
    with torch.no_grad(), few_columns(one.teacher.transformer) as columns:
        told = text_columns(one.teacher.tokenizer, one.teacher.text_encoder, [*CAPTIONS, "", ""])
        velocity = one.landing(start, levels, given, told, columns)
    assert not velocity[0, :, 0].any()
    assert not velocity[1, :, 2].any()
    assert velocity[0, :, 1].any()


@pytest.mark.slow
def test_fresh_adapters_have_nothing_to_learn_of_single_unguided_steps(run_folder: Path, tmp_path: Path) -> None:
    alike = trainee(distilling(run_folder, tmp_path / "a", 1, substeps=1, guidance=1.0))
    other = trainee(distilling(run_folder, tmp_path / "b", 1, substeps=2, guidance=3.0))
    assert alike.step(0, 1.0)["loss"] < 1e-9
    assert other.step(0, 1.0)["loss"] > 1e-6


@pytest.mark.slow
def test_a_student_with_nothing_to_learn_films_what_it_is_taught(run_folder: Path, tmp_path: Path) -> None:
    alike = trainee(distilling(run_folder, tmp_path / "a", 1, substeps=1, guidance=1.0))
    other = trainee(distilling(run_folder, tmp_path / "b", 1, substeps=2, guidance=3.0))
    assert alike.examine(tmp_path / "a.png")["apart"] < 1e-6
    assert other.examine(tmp_path / "b.png")["apart"] > 1e-6
    assert (tmp_path / "b.png").stat().st_size > 0


@pytest.mark.slow
def test_learning_goes_on_bit_for_bit_and_stock_diffusers_films_with_what_was_learnt(
    run_folder: Path, tmp_path: Path
) -> None:
    for out, stops in ((tmp_path / "whole", (4,)), (tmp_path / "parts", (2, 4))):
        for steps in stops:
            train_distilled(distilling(run_folder, out, steps), source=FlatClips())
    one, two = (read_checkpoint(tmp_path / n / "distilled" / "checkpoint.pt")["trainee"] for n in ("whole", "parts"))
    for name in ("weights", "average"):
        for key, tensor in one["learning"][name].items():
            assert torch.equal(tensor, two["learning"][name][key]), f"{name}.{key}"
    films = []
    for adapters in (None, tmp_path / "whole" / "distilled" / LEARNT):
        pipe: Any = load_trained(run_folder)
        if adapters is not None:
            pipe.load_lora_weights(adapters)
        films.append(film(pipe))
    assert np.isfinite(films[1]).all()
    assert not np.array_equal(*films)


def film(pipe: WanPipeline) -> Any:
    asked: Any = {"height": 32, "width": 48, "num_frames": 9, "num_inference_steps": 3, "guidance_scale": 1.0}
    return pipe(CAPTIONS[0], generator=torch.Generator().manual_seed(0), output_type="np", **asked).frames


@pytest.mark.slow
def test_adapters_of_another_teacher_are_refused(run_folder: Path, tmp_path: Path) -> None:
    config = distilling(run_folder, tmp_path / "a", 1)
    train_distilled(config, source=FlatClips())
    state = read_checkpoint(run_folder / "denoiser" / "checkpoint.pt")
    state["trainee"]["average"]["transformer.proj_out.bias"] += 1.0
    (config.out / "denoiser").unlink()
    (config.out / "denoiser").mkdir()
    torch.save(state, config.out / "denoiser" / "checkpoint.pt")
    with pytest.raises(TrainingError, match="teacher"):
        train_distilled(config, source=FlatClips())


def test_wrong_settings_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="film_steps"):
        DistilTraining(film_steps=0)
    with pytest.raises(ValueError, match="substeps"):
        DistilTraining(substeps=0)
    with pytest.raises(ValueError, match="guidance"):
        DistilTraining(guidance=-1.0)
    with pytest.raises(ValueError, match="batch"):
        DistilTraining(batch=0)
    with pytest.raises(ValueError, match="compiled"):
        DistilTraining(machine=Machine(compile=True))
