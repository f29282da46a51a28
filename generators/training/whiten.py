"""Makes the latents of a trained autoencoder white: decorrelated channels of unit variance, same pictures.

A rotation R to the latents' principal axes is folded into the two 1x1x1 convolutions around the latent space, mean
and deviation go into the config, as stock pipelines expect. Few, white, low-noise channels are what a small denoiser
learns fastest from.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

from generators.errors import TrainingError
from generators.training.clips import ClipSource, WorldClips, to_signal
from generators.training.config import VaeTraining
from generators.training.vae import decode_whole, encode_whole, trained_vae
from generators.world.words import SHORT

_POSTERIOR_LOGVAR = -10.0
"""What the whitened posterior says of its spread; the rotation mixes the learned ones."""


@dataclass(frozen=True, kw_only=True)
class LatentCodec:
    """A whitened autoencoder between pixels and unit-variance latents; `digest` names its weights."""

    vae: AutoencoderKLWan
    digest: str

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """uint8 (B, T, 3, H, W) to normalised float32 latents (B, C, t, H/8, W/8)."""
        mean, deviation = self._statistics(frames.device)
        return (encode_whole(self.vae, to_signal(frames))[0] - mean) / deviation

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents to a signal (B, 3, T, H, W) in -1..1."""
        mean, deviation = self._statistics(latents.device)
        return decode_whole(self.vae, latents * deviation + mean).clamp(-1, 1)

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        rows = torch.tensor([config["latents_mean"], config["latents_std"]], device=device)
        return rows[0].view(1, -1, 1, 1, 1), rows[1].view(1, -1, 1, 1, 1)


@torch.no_grad()
def latent_axes(vae: AutoencoderKLWan, frames: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Principal axes of the posterior means over clips: rotation (C, C), columns by falling variance, mean, deviation.

    Mean and deviation (C,) are those of the rotated latents, in float64. `frames` are uint8 (B, T, 3, H, W).
    """
    rows = [encode_whole(vae, to_signal(batch))[0].movedim(1, -1).flatten(0, -2).double() for batch in frames]
    latents = torch.cat(rows)
    values, vectors = torch.linalg.eigh(latents.T.cov())
    rotation, variance = vectors.flip(1), values.flip(0)
    if variance[-1] < 1e-8 * variance[0]:
        raise TrainingError(f"A latent channel is dead (variances {variance.tolist()}); train the autoencoder longer")
    return rotation, latents.mean(0) @ rotation, variance.sqrt()


@torch.no_grad()
def rotate(vae: AutoencoderKLWan, rotation: Tensor) -> None:
    """Fold z' = z R into the autoencoder in place; decode(encode(x)) stays what it was."""
    size, rotation = len(rotation), rotation.double()
    into, out = vae.quant_conv, vae.post_quant_conv
    weight, bias = into.weight.double(), into.bias.double()
    turned = torch.einsum("ij,ikxyz->jkxyz", rotation, weight[:size])
    into.weight.copy_(torch.cat([turned, torch.zeros_like(weight[size:])]))
    into.bias.copy_(torch.cat([bias[:size] @ rotation, torch.full_like(bias[size:], _POSTERIOR_LOGVAR)]))
    out.weight.copy_(torch.einsum("oixyz,ij->ojxyz", out.weight.double(), rotation))


def whiten(vae: AutoencoderKLWan, frames: list[Tensor]) -> None:
    """Rotate the latents to their principal axes and write `latents_mean` and `latents_std` into the config."""
    rotation, mean, deviation = latent_axes(vae, frames)
    rotate(vae, rotation)
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=deviation.tolist())


def finish_vae(config: VaeTraining, source: ClipSource | None = None, clips: int = 256) -> Path:
    """Whiten the averaged autoencoder of the run's checkpoint; gives the folder it was written to.

    Latent statistics are taken over `clips` training clips. An older result is replaced.
    """
    source = source or WorldClips()
    vae = trained_vae(config)
    rng = np.random.default_rng([config.seed, 2**31 + 1])
    drawn = [source.draw(rng, clips=min(16, clips - i), frames=SHORT, captions=0).frames for i in range(0, clips, 16)]
    whiten(vae, drawn)
    folder = codec_folder(config.out)
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    vae.save_pretrained(fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.replace(folder)
    return folder


def codec_folder(out: Path) -> Path:
    """Where a run keeps its whitened autoencoder."""
    return out / "vae" / "whitened"


def load_codec(out: Path, device: str = "cpu") -> LatentCodec:
    """The run's whitened autoencoder. Raises TrainingError when there is none yet."""
    folder = codec_folder(out)
    weights = folder / "diffusion_pytorch_model.safetensors"
    if not weights.exists():
        raise TrainingError(f"No whitened autoencoder at {folder}; train and finish the autoencoder first")
    vae = AutoencoderKLWan.from_pretrained(folder).to(device).eval().requires_grad_(False)
    digest = hashlib.sha256(weights.read_bytes() + (folder / "config.json").read_bytes()).hexdigest()
    return LatentCodec(vae=vae, digest=digest)
