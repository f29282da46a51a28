"""The bundled model's latent space: a linear code of 8 x 8 x 4 pixel blocks, fitted once, in closed form.

Principal axes of drawn clips, weighted towards the puppets, decide what a latent channel means. The autoencoder's
encoder and decoder both learn to speak this code, apart from each other; the denoiser can be trained on exact codes
before either is ready, and a better decoder never makes a denoiser old. Why: docs/decisions/0004.
B clips, T frames, t latent frames, C channels, h x w latent pixels, D = 3 * 4 * 8 * 8 numbers in a block.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from generators.errors import TrainingError
from generators.training.checkpoint import write_whole
from generators.training.clips import ClipSource, to_signal
from generators.world.words import SHORT

CODEC = "codec.safetensors"
"""Its file in a run's folder and in an export."""
SIDE, STRIDE = 8, 4
"""Pixels a side and frames of a block; the first frame of a clip is a block of its own."""
_VIVID = 0.5
"""Spread of a pixel's channels (2 is black to white) from which on it belongs to a puppet; backdrops stay below."""
_BACKDROP = 0.02
"""Weight of a block without puppets when the axes are fitted."""


def vivid(signal: Tensor) -> Tensor:
    """1 where a puppet is or within two pixels of one, else 0: (B, 1, T, H, W) of a signal (B, 3, T, H, W)."""
    colour = (signal.amax(1) - signal.amin(1) > _VIVID).float()
    grown = F.max_pool2d(colour.flatten(0, 1).unsqueeze(1), 5, 1, 2)
    return grown.reshape(len(signal), 1, *signal.shape[2:])


def blocks(signal: Tensor) -> Tensor:
    """(B, C, T, H, W) with T = 4k + 1 to (B, 1 + k, h, w, C * 4 * 8 * 8); the first frame is repeated four times."""
    clips, channels, _, height, width = signal.shape
    whole = torch.cat([signal[:, :, :1].expand(-1, -1, STRIDE - 1, -1, -1), signal], 2)
    cut = whole.reshape(clips, channels, -1, STRIDE, height // SIDE, SIDE, width // SIDE, SIDE)
    return cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)


def unblocks(rows: Tensor) -> Tensor:
    """The inverse of `blocks`; of the first block the mean of its four frames is taken."""
    clips, latent_frames, high, wide, _ = rows.shape
    cut = rows.reshape(clips, latent_frames, high, wide, 3, STRIDE, SIDE, SIDE)
    whole = cut.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(clips, 3, latent_frames * STRIDE, high * SIDE, wide * SIDE)
    return torch.cat([whole[:, :, :STRIDE].mean(2, keepdim=True), whole[:, :, STRIDE:]], 2)


@dataclass(frozen=True, kw_only=True)
class LinearCodec:
    """code = (block - mean) @ analysis, block = code @ synthesis + mean; first frames have matrices of their own."""

    mean_D: Tensor
    first_mean_D: Tensor
    analysis_DC: Tensor
    synthesis_CD: Tensor
    first_analysis_DC: Tensor
    first_synthesis_CD: Tensor

    @property
    def channels(self) -> int:
        """Latent channels."""
        return self.analysis_DC.shape[1]

    def to(self, device: torch.device | str) -> LinearCodec:
        """The same code on another device."""
        return LinearCodec(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    @torch.no_grad()
    def encode(self, signal: Tensor) -> Tensor:
        """Signal (B, 3, T, H, W) in -1..1 to codes (B, C, t, h, w) whose channels have mean 0 and variance near 1."""
        rows = blocks(signal)
        first = (rows[:, :1] - self.first_mean_D) @ self.first_analysis_DC
        later = (rows[:, 1:] - self.mean_D) @ self.analysis_DC
        return torch.cat([first, later], 1).movedim(-1, 1).contiguous()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """The linear picture of codes (B, C, t, h, w): a signal (B, 3, T, H, W). What a decoder has to beat."""
        rows = codes.movedim(1, -1)
        first = rows[:, :1] @ self.first_synthesis_CD + self.first_mean_D
        later = rows[:, 1:] @ self.synthesis_CD + self.mean_D
        return unblocks(torch.cat([first, later], 1)).clamp(-1, 1)

    @property
    def digest(self) -> str:
        """sha256 of the matrices: latents of equal digests may be mixed."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def write(self, path: Path) -> None:
        """Keep the code as safetensors, whole or not at all."""
        data = self._bytes()

        def put(file: BinaryIO) -> None:
            file.write(data)

        write_whole(path, put)

    def _bytes(self) -> bytes:
        data: bytes = save({name: tensor.contiguous().cpu() for name, tensor in vars(self).items()})
        return data


def read_codec(path: Path) -> LinearCodec:
    """The code kept at `path`. Raises TrainingError when there is none."""
    if not path.exists():
        raise TrainingError(f"No latent code at {path}; train the autoencoder first, which fits it")
    return LinearCodec(**load(path.read_bytes()))


def open_codec(out: Path, source: ClipSource, *, seed: int, channels: int, clips: int = 160) -> LinearCodec:
    """The run's latent code: read, or fitted and kept when the run has none yet. TrainingError on other sizes."""
    path = out / CODEC
    if not path.exists():
        fit_codec(source, seed=seed, channels=channels, clips=clips).write(path)
    codec = read_codec(path)
    if codec.channels != channels:
        raise TrainingError(f"{path} has {codec.channels} channels, asked for were {channels}; choose another folder")
    return codec


def fit_codec(source: ClipSource, *, seed: int, channels: int, clips: int = 160) -> LinearCodec:
    """Fit axes and scales on `clips` drawn clips. Channels fall in variance as the square root of what they explain."""
    rng = np.random.default_rng([seed, 4])
    batches = [
        to_signal(source.draw(rng, clips=min(16, clips - i), frames=SHORT, captions=0).frames)
        for i in range(0, clips, 16)
    ]
    rows_ND = torch.cat([blocks(batch).flatten(0, -2) for batch in batches]).double()
    seen_N = torch.cat([blocks(vivid(batch)).flatten(0, -2).mean(1) for batch in batches]).double()
    stills = [still for batch in batches for still in batch.unbind(2)[::STRIDE]]
    heads_ND = torch.cat([blocks(still.unsqueeze(2)).flatten(0, -2) for still in stills]).double()
    glow_N = torch.cat([blocks(vivid(still.unsqueeze(2))).flatten(0, -2).mean(1) for still in stills]).double()
    axes_DC, share_C = _axes(rows_ND, seen_N + _BACKDROP, channels)
    head_axes_DC, _ = _axes(heads_ND, glow_N + _BACKDROP, min(channels, 3 * SIDE * SIDE))
    gain_C = share_C**0.25
    gain_C = gain_C / gain_C.square().mean().sqrt()
    mean_D, head_mean_D = rows_ND.mean(0), heads_ND.mean(0)
    white_DC, back_CD = _whitener((rows_ND - mean_D) @ axes_DC, axes_DC)
    head_DC, head_back_CD = _whitener((heads_ND - head_mean_D) @ head_axes_DC, head_axes_DC)
    # turn the first frames' channels towards what later channels would say of the same still
    overlap = ((heads_ND - head_mean_D) @ head_DC).T @ ((heads_ND - mean_D) @ white_DC)
    left, _, right = torch.linalg.svd(overlap)
    turn_CC = left @ right
    return LinearCodec(
        mean_D=mean_D.float(),
        first_mean_D=head_mean_D.float(),
        analysis_DC=(white_DC * gain_C).float(),
        synthesis_CD=(back_CD / gain_C.unsqueeze(1)).float(),
        first_analysis_DC=(head_DC @ turn_CC * gain_C).float(),
        first_synthesis_CD=((turn_CC.T @ head_back_CD) / gain_C.unsqueeze(1)).float(),
    )


def _axes(rows_ND: Tensor, weight_N: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Leading principal axes (D, C) under weights, and each one's share of the largest variance (C,)."""
    weight_N = weight_N / weight_N.sum()
    centred_ND = rows_ND - weight_N @ rows_ND
    variance, axes = torch.linalg.eigh((centred_ND * weight_N.unsqueeze(1)).T @ centred_ND)
    if variance[-channels] <= 1e-9 * variance[-1]:
        raise TrainingError(f"These clips hold fewer than {channels} different shapes; draw richer ones")
    return axes.flip(1)[:, :channels], (variance.flip(0) / variance[-1])[:channels]


def _whitener(codes_NC: Tensor, axes_DC: Tensor) -> tuple[Tensor, Tensor]:
    """Scale orthonormal axes so that each channel has unit variance; with the matrix that undoes it."""
    spread_C = codes_NC.std(0).clamp(min=1e-6)
    return axes_DC / spread_C, (axes_DC * spread_C).T
