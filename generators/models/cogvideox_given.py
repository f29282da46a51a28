"""How frames that exist already enter a CogVideoX model.

Picture-to-video checkpoints read the first frame as extra channels. Everything else that is given is held as noised
latents, since no CogVideoX was trained with finished frames among noisy ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from generators.clip import Frames, ShotRequest
from generators.models.base import Layout, Start, frames_as_video
from generators.models.given import frame_at, known_frames

if TYPE_CHECKING:
    from generators.models.cogvideox import CogVideoXVideoModel

GREY = 128
BLANK = "this checkpoint starts from a picture and was given none: it starts from plain grey"


class CogVideoXGiven:
    """Turns the given frames of a batch into the `Start` of one model."""

    def __init__(self, model: CogVideoXVideoModel) -> None:
        self.model = model

    def pictures(
        self, requests: Sequence[ShotRequest], layout: Layout, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """(B, C, F, h, w): each first frame's latents, sampled by its own generator, and zeros."""
        vae, shape = self.model.pipe.vae, (layout.channels, layout.frames, layout.height, layout.width)
        pictures = torch.zeros(len(requests), *shape, device=self.model.device, dtype=self.model.dtype)
        for row, (request, generator) in enumerate(zip(requests, generators, strict=True)):
            video = frames_as_video(_first(request)[None], self.model.device, self.model.dtype)
            latents = vae.encode(video).latent_dist.sample(generator).to(self.model.dtype)
            pictures[row, :, 0] = self._picture_scale * latents[0, :, 0]
        return pictures

    @property
    def _picture_scale(self) -> float:
        scale: float = self.model.pipe.vae_scaling_factor_image
        return 1 / scale if self.model.pipe.vae.config.invert_scale_latents else scale

    def start(
        self,
        requests: Sequence[ShotRequest],
        layout: Layout,
        noise: Tensor,
        pictures: Tensor | None,
        generators: tuple[torch.Generator, ...],
    ) -> Start:
        """What is known of the clips before the first step. Raises RequestRejected for frames that cannot be held."""
        blank = pictures is not None and any(frame_at(request, 0) is None for request in requests)
        notes = (BLANK,) if blank else ()
        holds = [bool(request.given) and not (pictures is not None and _only_picture(request)) for request in requests]
        if not any(holds):
            return Start(noise=noise, channels=pictures, generators=generators, notes=notes)
        rows = [self._held(request, layout, holds=yes) for request, yes in zip(requests, holds, strict=True)]
        held, clean = zip(*rows, strict=True)
        return Start(
            noise=noise,
            held=torch.cat(held),
            clean=torch.cat(clean),
            channels=pictures,
            generators=generators,
            notes=notes,
        )

    def _held(self, request: ShotRequest, layout: Layout, *, holds: bool) -> tuple[Tensor, Tensor]:
        """Which latent frames are given, padding never, and their latents."""
        device = self.model.device
        mask = torch.zeros(1, 1, layout.frames, 1, 1, dtype=torch.bool, device=device)
        clean = torch.zeros(1, *layout.shape, device=device, dtype=self.model.dtype)
        known = known_frames(request, self.model.stride)
        if not holds or known.pixels is None:
            return mask, clean
        own = slice(layout.lead, layout.lead + known.latents)
        mask[0, 0, layout.lead :, 0, 0] = torch.tensor(known.held, device=device)
        clean[:, :, own] = self.encoded(known.pixels)
        return mask, torch.where(mask, clean, 0.0)

    def encoded(self, pixels: Frames) -> Tensor:
        """Latents (1, C, F, h, w) of frames: the mode of what the VAE makes of them."""
        video = frames_as_video(pixels, self.model.device, self.model.dtype)
        latents = self.model.pipe.vae.encode(video).latent_dist.mode()
        scaled: Tensor = latents * self.model.pipe.vae_scaling_factor_image
        return scaled


def _only_picture(request: ShotRequest) -> bool:
    return len(request.given) == 1 and (request.given[0].first, request.given[0].last) == (0, 1)


def _first(request: ShotRequest) -> Frames:
    found = frame_at(request, 0)
    return np.full((request.height, request.width, 3), GREY, dtype=np.uint8) if found is None else found
