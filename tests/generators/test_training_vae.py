"""The bundled autoencoder's training: fast passes equal stock, the linear code is what it says, resuming keeps bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from generators.errors import TrainingError
from generators.training.checkpoint import read_checkpoint
from generators.training.clips import DrawnClips, WorldClips, to_signal
from generators.training.codec import blocks, fit_codec, open_codec, read_codec, unblocks, vivid
from generators.training.config import Machine, Schedule, VaeSize, VaeTraining
from generators.training.loop import TrainingProgress
from generators.training.vae import (
    build_vae,
    decode_whole,
    encode_whole,
    reconstruction_loss,
    train_vae,
    trained_vae,
)

TINY = VaeSize(encoder_width=8, decoder_width=8, channels=16)


class SlidingSquares:
    """Clips of a bright square that slides over a flat ground, small and quick."""

    def draw(self, rng: np.random.Generator, *, clips: int, frames: int, captions: int) -> DrawnClips:
        canvas = np.full((clips, frames, 3, 32, 48), 60, dtype=np.uint8)
        for clip in canvas:
            y, x, speed = int(rng.integers(20)), int(rng.integers(20)), int(rng.integers(3))
            colour = rng.integers(100, 255, size=(3, 1, 1), dtype=np.uint8)
            for t in range(frames):
                left = (x + speed * t) % 40
                clip[t, :, y : y + 8, left : left + 8] = colour
        told = tuple(tuple("the red fox walks to the right" for _ in range(captions)) for _ in range(clips))
        return DrawnClips(frames=torch.from_numpy(canvas), captions=told)


def tiny_training(out: Path, steps: int) -> VaeTraining:
    return VaeTraining(
        out=out,
        size=TINY,
        batch=2,
        frames=5,
        code_clips=16,
        schedule=Schedule(steps=steps, warmup=1, sample_every=0, log_every=1),
        machine=Machine(precision="float32"),
    )


def awakened(size: VaeSize) -> torch.nn.Module:
    """A net whose zero-initialised branches do something."""
    vae = build_vae(size, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in vae.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return vae


@pytest.mark.parametrize("patch", [2, 4])
def test_whole_clip_passes_equal_the_stock_chunked_ones(patch: int) -> None:
    vae = awakened(replace(TINY, patch=patch))
    signal = to_signal(SlidingSquares().draw(np.random.default_rng(0), clips=2, frames=13, captions=0).frames)
    with torch.no_grad():
        posterior = vae.encode(signal).latent_dist
        mean, logvar = encode_whole(vae, signal)
        torch.testing.assert_close(mean, posterior.mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(logvar, posterior.logvar, atol=1e-5, rtol=1e-4)
        seen = decode_whole(vae, mean).clamp(-1, 1)
        torch.testing.assert_close(seen, vae.decode(mean).sample, atol=1e-5, rtol=1e-4)


def test_a_fresh_autoencoder_has_silent_residual_branches() -> None:
    vae = build_vae(TINY, seed=0)
    assert not vae.encoder.mid_block.resnets[0].conv2.weight.any()
    assert vae.encoder.mid_block.resnets[0].conv1.weight.any()


def test_blocks_are_taken_apart_and_put_together_again() -> None:
    signal = torch.randn(2, 3, 9, 16, 24, generator=torch.Generator().manual_seed(0))
    rows = blocks(signal)
    assert rows.shape == (2, 3, 2, 3, 3 * 4 * 8 * 8)
    assert torch.equal(rows[1, 2, 1, 2].reshape(3, 4, 8, 8), signal[1, :, 5:9, 8:16, 16:24])
    torch.testing.assert_close(unblocks(rows), signal)


@pytest.mark.slow
def test_the_code_is_the_weighted_principal_axes_and_codes_are_decorrelated() -> None:
    codec = fit_codec(SlidingSquares(), seed=0, channels=16, clips=32)
    rng = np.random.default_rng([0, 4])
    signal = torch.cat(
        [to_signal(SlidingSquares().draw(rng, clips=16, frames=33, captions=0).frames) for _ in range(2)]
    )
    codes = codec.encode(signal)
    assert codes.shape == (32, 16, 9, 4, 6)
    later = codes[:, :, 1:].movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(later.std(0).square().mean(), torch.tensor(1.0), atol=0.15, rtol=0)
    # slow reference: project one block by hand on axes found by a plain weighted covariance
    rows = blocks(signal)[:, :].flatten(0, -2).double()
    weight = blocks(vivid(signal)).flatten(0, -2).mean(1).double() + 0.02
    weight = weight / weight.sum()
    centred = rows - (weight.unsqueeze(1) * rows).sum(0)
    covariance = (centred * weight.unsqueeze(1)).T @ centred
    leading = torch.linalg.eigh(covariance).eigenvectors[:, -1]
    ours = codec.analysis_DC[:, 0].double()
    assert abs(float(leading @ ours / ours.norm())) > 1 - 1e-6


@pytest.mark.slow
def test_decoding_a_code_is_the_projection_of_the_picture() -> None:
    codec = fit_codec(SlidingSquares(), seed=0, channels=16, clips=32)
    signal = to_signal(SlidingSquares().draw(np.random.default_rng(9), clips=2, frames=9, captions=0).frames)
    rows = codec.encode(signal).movedim(1, -1)[:, 1:] @ codec.synthesis_CD + codec.mean_D
    again = (rows - codec.mean_D) @ codec.analysis_DC
    torch.testing.assert_close(again.movedim(-1, 1), codec.encode(signal)[:, :, 1:], atol=1e-3, rtol=1e-3)
    error = (codec.decode(codec.encode(signal)) - signal).square().mean()
    assert error < 0.2 * (signal - signal.mean()).square().mean()


@pytest.mark.slow
def test_a_folder_keeps_its_code_and_refuses_another_size(tmp_path: Path) -> None:
    codec = open_codec(tmp_path, SlidingSquares(), seed=0, channels=16, clips=16)
    assert open_codec(tmp_path, SlidingSquares(), seed=1, channels=16).digest == codec.digest
    assert read_codec(tmp_path / "codec.safetensors").digest == codec.digest
    with pytest.raises(TrainingError, match="16 channels"):
        open_codec(tmp_path, SlidingSquares(), seed=0, channels=8)
    with pytest.raises(TrainingError, match="No latent code"):
        read_codec(tmp_path / "other")


def test_pixels_around_puppets_weigh_more_in_the_loss() -> None:
    truth = torch.zeros(1, 3, 5, 16, 16)
    truth[:, 0, :, 3, 3] = 1.0
    far, near = truth.clone(), truth.clone()
    far[:, :, 2, 12, 12] += 0.5
    near[:, :, 2, 4, 4] += 0.5
    assert vivid(truth).sum() == 5 * 25
    torch.testing.assert_close(
        reconstruction_loss(near, truth, puppets=4.0), 5 * reconstruction_loss(far, truth, puppets=4.0)
    )


@pytest.mark.slow
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    train_vae(tiny_training(tmp_path / "whole", 4), source=SlidingSquares())
    train_vae(tiny_training(tmp_path / "parts", 2), source=SlidingSquares())
    train_vae(tiny_training(tmp_path / "parts", 4), source=SlidingSquares())
    whole, parts = (read_checkpoint(tmp_path / name / "vae" / "checkpoint.pt") for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 4
    for name in ("vae", "average"):
        for key, tensor in whole["trainee"][name].items():
            assert torch.equal(tensor, parts["trainee"][name][key]), f"{name}.{key}"


@pytest.mark.slow
def test_a_folder_trained_with_other_sizes_is_refused_by_name(tmp_path: Path) -> None:
    train_vae(tiny_training(tmp_path, 1), source=SlidingSquares())
    with pytest.raises(TrainingError, match="size.*encoder_width"):
        train_vae(replace(tiny_training(tmp_path, 2), size=VaeSize(encoder_width=16, decoder_width=8, channels=16)))


@pytest.mark.slow
def test_training_lowers_the_loss_and_tells_about_it(tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    train_vae(tiny_training(tmp_path, 30), told.append, SlidingSquares())
    assert [progress.step for progress in told] == list(range(1, 31))
    assert np.mean([p.losses["code"] for p in told[-5:]]) < 0.8 * np.mean([p.losses["code"] for p in told[:5]])
    assert (tmp_path / "vae" / "loss.png").stat().st_size > 0


@pytest.mark.slow
def test_a_trained_autoencoder_says_its_code_and_has_a_sharp_posterior(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="train"):
        trained_vae(tmp_path)
    train_vae(tiny_training(tmp_path, 2), source=SlidingSquares())
    vae, code = trained_vae(tmp_path)
    assert code == read_codec(tmp_path / "codec.safetensors").digest
    signal = to_signal(SlidingSquares().draw(np.random.default_rng(5), clips=1, frames=9, captions=0).frames)
    posterior = vae.encode(signal).latent_dist
    assert posterior.mean.shape == (1, 16, 3, 4, 6)
    assert torch.equal(posterior.logvar, torch.full_like(posterior.logvar, -10.0))


def test_world_clips_are_a_function_of_the_generator() -> None:
    one, two = (WorldClips().draw(np.random.default_rng(7), clips=2, frames=33, captions=3) for _ in range(2))
    assert torch.equal(one.frames, two.frames)
    assert one.captions == two.captions
    assert one.frames.shape == (2, 33, 3, 64, 96)
