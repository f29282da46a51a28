"""Training of the bundled autoencoder: diffusers' own AutoencoderKLWan, small, taught the run's latent code.

Latents are 4x smaller in time, the first frame on its own, causal, and `4 * patch` times smaller in space. Knows
nothing of captions. B clips, C channels, T frames of H x W, t latent frames of h x w.
"""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    AutoencoderKLWan,
    WanAttentionBlock,
    WanResidualBlock,
    patchify,
    unpatchify,
)
from torch import Tensor, nn

from generators.training.checkpoint import RunFolder, State, read_checkpoint
from generators.training.clips import ClipSource, WorldClips, to_pixels, to_signal
from generators.training.codec import LinearCodec, open_codec, vivid
from generators.training.config import VaeSize, VaeTraining
from generators.training.loop import Losses, OnTrainingProgress, TrainingOutcome, autocast, fast_dtype, follow, run
from generators.training.optimiser import Muon
from generators.training.pictures import draw_sheet
from generators.world.words import SHORT

_POSTERIOR_LOGVAR = -10.0
"""What the posterior says of its spread: nearly nothing, the code is a function of the pixels."""


def build_vae(size: VaeSize, seed: int) -> AutoencoderKLWan:
    """A fresh autoencoder whose residual branches start at zero: it begins as a nearly linear codec."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKLWan(
            base_dim=size.encoder_width,
            decoder_base_dim=size.decoder_width,
            z_dim=size.channels,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[True, True],
            is_residual=True,
            patch_size=size.patch,
            in_channels=3 * size.patch**2,
            out_channels=3 * size.patch**2,
            scale_factor_spatial=4 * size.patch,
            scale_factor_temporal=4,
            latents_mean=[0.0] * size.channels,
            latents_std=[1.0] * size.channels,
        )
    for module in vae.modules():
        last = {WanResidualBlock: "conv2", WanAttentionBlock: "proj"}.get(type(module))
        if last is not None:
            nn.init.zeros_(getattr(module, last).weight)
            nn.init.zeros_(getattr(module, last).bias)
    return vae


def encode_whole(vae: AutoencoderKLWan, signal: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance (B, C, t, h, w) of a signal (B, 3, T, H, W) in -1..1.

    Equals `vae.encode`, but takes all frames after the first in one pass instead of four by four.
    """
    x = patchify(signal, vae.config["patch_size"])
    cache: list[Any] = [None] * vae._cached_conv_counts["encoder"]
    parts = [vae.encoder(x[:, :, :1], feat_cache=cache, feat_idx=[0])]
    if x.shape[2] > 1:
        parts.append(vae.encoder(x[:, :, 1:], feat_cache=cache, feat_idx=[0]))
    mean, logvar = vae.quant_conv(torch.cat(parts, 2)).chunk(2, 1)
    return mean, logvar.clamp(-30, 20)


def decode_whole(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Signal (B, 3, T, H, W) of latents (B, C, t, h, w), not clamped. Equals `vae.decode` before its clamp."""
    x = vae.post_quant_conv(latents)
    cache: list[Any] = [None] * vae._cached_conv_counts["decoder"]
    parts = [vae.decoder(x[:, :, :1], feat_cache=cache, feat_idx=[0], first_chunk=True)]
    if x.shape[2] > 1:
        parts.append(vae.decoder(x[:, :, 1:], feat_cache=cache, feat_idx=[0]))
    signal: Tensor = unpatchify(torch.cat(parts, 2), vae.config["patch_size"])
    return signal


def channels_last(module: nn.Module) -> None:
    """Lay convolution weights out channels-last in place: about 1.5 times faster with bfloat16 on a CPU."""
    for parameter in module.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        elif parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def reconstruction_loss(seen: Tensor, truth: Tensor, *, puppets: float) -> Tensor:
    """Absolute plus squared error, 1 + `puppets` times as much on and around puppets. (B, 3, T, H, W) in -1..1."""
    error = seen.float() - truth
    return ((1 + puppets * vivid(truth)) * (error.abs() + error.square())).mean()


class VaeTrainee:
    """The autoencoder, its moving average and optimiser. Encoder and decoder learn the same code side by side."""

    def __init__(self, config: VaeTraining, codec: LinearCodec, source: ClipSource) -> None:
        self.config, self.source = config, source
        self.device = torch.device(config.machine.device)
        self.codec = codec.to(self.device)
        self.clips_per_step = config.batch
        self.vae: AutoencoderKLWan = build_vae(config.size, config.seed)
        nn.Module.to(self.vae, self.device)
        channels_last(self.vae)
        self.average = copy.deepcopy(self.vae).eval().requires_grad_(False)
        self._fresh = 0
        self.optimiser = Muon(
            [self.vae],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=config.weight_decay,
            products=fast_dtype(config.machine),
        )

    def step(self, index: int, rate: float) -> Losses:
        """One step on fresh windows; everything random comes from (seed, index)."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * rate
        rng = np.random.default_rng([self.config.seed, index])
        noise = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        truth = to_signal(self._windows(rng))
        codes = self.codec.encode(truth)
        read = round(len(truth) * self.config.encoder_share)
        with autocast(self.config.machine):
            mean = encode_whole(self.vae, truth[:read])[0].float()
            seen = decode_whole(self.vae, self._heard(codes, mean.detach(), noise))
        pixels = reconstruction_loss(seen, truth, puppets=self.config.puppets)
        code = F.mse_loss(mean, codes[:read])
        self.optimiser.zero_grad(set_to_none=True)
        (pixels + code).backward()
        size = nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        self.optimiser.step()
        follow(self.average, self.vae, self.config.ema, index - self._fresh)
        shown = vivid(truth)
        error = ((seen.detach().float() - truth).abs() * shown).sum() / (3 * shown.sum().clamp(min=1))
        return {"loss": pixels.item(), "puppets": error.item(), "code": code.item(), "gradient": size.item()}

    def _windows(self, rng: np.random.Generator) -> Tensor:
        """Cut `windows` pieces of `frames` frames out of every drawn clip: uint8 (B, T, 3, H, W)."""
        config = self.config
        drawn = self.source.draw(rng, clips=config.batch // config.windows, frames=SHORT, captions=0).frames
        starts = rng.integers(drawn.shape[1] - config.frames + 1, size=(config.windows, len(drawn)))
        return torch.stack([clip[s : s + config.frames] for row in starts for clip, s in zip(drawn, row, strict=True)])

    def _heard(self, codes: Tensor, mean: Tensor, noise: torch.Generator) -> Tensor:
        """What the decoder is given: for half of the clips that were encoded the encoder's word, else the exact code.

        Half of all clips get noise of up to `latent_noise`, as a denoiser's latents are never exact.
        """
        own = len(mean) // 2
        heard = torch.cat([mean[:own], codes[own:]])
        shape = (len(codes), 1, 1, 1, 1)
        sigma = torch.rand(shape, generator=noise, device=codes.device) * self.config.latent_noise
        sigma = sigma * (torch.rand(shape, generator=noise, device=codes.device) < 0.5)
        return heard + sigma * torch.randn(codes.shape, generator=noise, device=codes.device)

    def state(self) -> State:
        """Nets and optimiser; the random state is a function of the step."""
        return {
            "vae": self.vae.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: State) -> None:
        """Load what `state` gave."""
        self.vae.load_state_dict(state["vae"])
        self.average.load_state_dict(state["average"])
        self._fresh = state["fresh"]
        if state["optimiser"] is not None:  # None where exported weights were imported: it begins anew
            self.optimiser.load_state_dict(state["optimiser"])

    @torch.no_grad()
    def examine(self, path: Path) -> Losses:
        """Truth above reconstruction for four fixed clips at full length; the losses are on fresh clips as they are."""
        rng = np.random.default_rng([self.config.seed, 2**31])
        drawn = self.source.draw(rng, clips=4, frames=SHORT, captions=0).frames
        seen = to_pixels(reconstruct(self.average, to_signal(drawn)))
        rows = []
        for truth, copied in zip(drawn, seen, strict=True):
            for title, clip in (("truth", truth), ("through the autoencoder", copied)):
                rows.append((title, clip.permute(0, 2, 3, 1).cpu().numpy()))
        draw_sheet(rows, path)
        return {}


@torch.no_grad()
def reconstruct(vae: AutoencoderKLWan, signal: Tensor) -> Tensor:
    """Encode to the mean and decode: (B, 3, T, H, W) in -1..1."""
    return decode_whole(vae, encode_whole(vae, signal)[0]).clamp(-1, 1)


def train_vae(
    config: VaeTraining, on_progress: OnTrainingProgress | None = None, source: ClipSource | None = None
) -> TrainingOutcome:
    """Train, or go on training, the autoencoder in `config.out / "vae"`. Draws from the puppet world by default.

    It learns the folder's latent code, which is fitted when there is none.
    """
    if config.machine.threads is not None:
        torch.set_num_threads(config.machine.threads)
    source = source or WorldClips(device=config.machine.device)
    codec = open_codec(config.out, source, seed=config.seed, channels=config.size.channels, clips=config.code_clips)
    settings = {
        "seed": config.seed,
        "size": asdict(config.size),
        "batch": config.batch,
        "frames": config.frames,
        "codec": codec.digest,
    }
    folder = RunFolder(config.out / "vae")
    return run(VaeTrainee(config, codec, source), config.schedule, folder, settings, on_progress)


def trained_vae(out: Path) -> tuple[AutoencoderKLWan, str]:
    """The averaged autoencoder of a run, in eval mode on the CPU, and the digest of the code it speaks.

    Its posterior is the code itself: the log-variance channels are a constant. Raises TrainingError without one.
    """
    state = read_checkpoint(RunFolder(out / "vae").checkpoint)
    size = VaeSize(**state["settings"]["size"])
    vae = build_vae(size, state["settings"]["seed"]).eval().requires_grad_(False)
    vae.load_state_dict(state["trainee"]["average"])
    weight, bias = vae.quant_conv.parameters()
    weight[size.channels :] = 0.0
    bias[size.channels :] = _POSTERIOR_LOGVAR
    return vae, state["settings"]["codec"]
