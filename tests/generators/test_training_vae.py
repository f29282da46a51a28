"""The bundled autoencoder's training: fast passes equal stock, whitening keeps pictures, resuming keeps bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from generators.errors import TrainingError
from generators.training.checkpoint import read_checkpoint
from generators.training.clips import DrawnClips, WorldClips, to_pixels, to_signal
from generators.training.config import Machine, Schedule, VaeSize, VaeTraining
from generators.training.loop import TrainingProgress
from generators.training.vae import build_vae, decode_whole, encode_whole, reconstruction_loss, train_vae
from generators.training.whiten import finish_vae, load_codec, whiten

TINY = VaeSize(encoder_width=8, decoder_width=8)


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


def test_whitening_keeps_pictures_and_makes_channels_white() -> None:
    vae = awakened(TINY)
    rng = np.random.default_rng(3)
    batches = [SlidingSquares().draw(rng, clips=4, frames=9, captions=0).frames for _ in range(3)]
    signal = to_signal(batches[0])
    with torch.no_grad():
        before = vae.decode(vae.encode(signal).latent_dist.mode()).sample
        whiten(vae, batches)
        after = vae.decode(vae.encode(signal).latent_dist.mode()).sample
        torch.testing.assert_close(after, before, atol=1e-4, rtol=0)
        latents = torch.cat([vae.encode(to_signal(batch)).latent_dist.mode() for batch in batches])
    mean = torch.tensor(vae.config["latents_mean"]).view(1, -1, 1, 1, 1)
    deviation = torch.tensor(vae.config["latents_std"]).view(1, -1, 1, 1, 1)
    rows = ((latents - mean) / deviation).movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(rows.T.cov(), torch.eye(TINY.channels), atol=0.02, rtol=0)


def test_moving_pixels_weigh_more_in_the_loss() -> None:
    truth = torch.zeros(1, 3, 5, 4, 4)
    truth[:, :, 2, 0, 0] = 1.0
    wrong_still, wrong_moving = truth.clone(), truth.clone()
    wrong_still[:, :, 2, 3, 3] += 0.5
    wrong_moving[:, :, 2, 0, 0] -= 0.5
    still = reconstruction_loss(wrong_still, truth, moving=4.0, squared=1.0)
    moving = reconstruction_loss(wrong_moving, truth, moving=4.0, squared=1.0)
    torch.testing.assert_close(moving, 5 * still)


def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    train_vae(tiny_training(tmp_path / "whole", 4), source=SlidingSquares())
    train_vae(tiny_training(tmp_path / "parts", 2), source=SlidingSquares())
    train_vae(tiny_training(tmp_path / "parts", 4), source=SlidingSquares())
    whole, parts = (read_checkpoint(tmp_path / name / "vae" / "checkpoint.pt") for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 4
    for name in ("vae", "average"):
        for key, tensor in whole["trainee"][name].items():
            assert torch.equal(tensor, parts["trainee"][name][key]), f"{name}.{key}"


def test_a_folder_trained_with_other_sizes_is_refused_by_name(tmp_path: Path) -> None:
    train_vae(tiny_training(tmp_path, 1), source=SlidingSquares())
    with pytest.raises(TrainingError, match="size.*encoder_width"):
        train_vae(replace(tiny_training(tmp_path, 2), size=VaeSize(encoder_width=16, decoder_width=8)))


def test_training_lowers_the_loss_and_tells_about_it(tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    train_vae(tiny_training(tmp_path, 30), told.append, SlidingSquares())
    assert [progress.step for progress in told] == list(range(1, 31))
    assert np.mean([p.losses["l1"] for p in told[-5:]]) < 0.8 * np.mean([p.losses["l1"] for p in told[:5]])
    assert (tmp_path / "vae" / "loss.png").stat().st_size > 0


def test_a_finished_codec_is_read_back_and_named_by_its_weights(tmp_path: Path) -> None:
    config = tiny_training(tmp_path, 2)
    with pytest.raises(TrainingError, match="train"):
        load_codec(tmp_path)
    train_vae(config, source=SlidingSquares())
    finish_vae(config, SlidingSquares(), clips=8)
    codec = load_codec(tmp_path)
    frames = SlidingSquares().draw(np.random.default_rng(5), clips=1, frames=9, captions=0).frames
    assert codec.encode(frames).shape == (1, 16, 3, 4, 6)
    assert to_pixels(codec.decode(codec.encode(frames))).shape == frames.shape
    assert codec.digest == load_codec(tmp_path).digest


def test_world_clips_are_a_function_of_the_generator() -> None:
    one, two = (WorldClips().draw(np.random.default_rng(7), clips=2, frames=33, captions=3) for _ in range(2))
    assert torch.equal(one.frames, two.frames)
    assert one.captions == two.captions
    assert one.frames.shape == (2, 33, 3, 64, 96)
