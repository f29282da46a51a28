"""How frames that exist already enter a Wan model.

Three ways, by checkpoint: picture-to-video checkpoints read them as extra channels with a mask (and, in 2.1, as image
features); all others hold the latent frames whose pixels are all given, at timestep 0 where the model was trained so
and as noised latents elsewhere (the sampler does that). Nothing here is random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from generators.clip import ShotRequest
from generators.models.base import Layout, Start, frames_as_video
from generators.models.given import frame_at, known_frames

if TYPE_CHECKING:
    from generators.models.wan import WanShaped

GREY = 128
BLANK = "this checkpoint starts from a picture and was given none: it starts from plain grey"


class WanGiven:
    """Turns the given frames of a batch into the `Start` of one model."""

    def __init__(self, model: WanShaped) -> None:
        self.model = model

    def start(self, requests: Sequence[ShotRequest], layout: Layout, noise: Tensor) -> Start:
        """What is known of the clips before the first step. Raises RequestRejected for frames that cannot be held."""
        if self.model.joins_channels:
            blank = any(frame_at(request, 0) is None for request in requests)
            return Start(
                noise=noise,
                channels=torch.cat([self._channels(request, layout) for request in requests]),
                image=self._images(requests),
                notes=(BLANK,) if blank else (),
            )
        if not any(request.given for request in requests):
            return Start(noise=noise)
        held, clean = zip(*(self._held(request, layout) for request in requests), strict=True)
        return Start(noise=noise, held=torch.cat(held), clean=torch.cat(clean))

    def _held(self, request: ShotRequest, layout: Layout) -> tuple[Tensor, Tensor]:
        known = known_frames(request, self.model.stride)
        clean = torch.zeros(1, *layout.shape, device=self.model.device)
        if known.pixels is not None:
            latents = self.encoded(frames_as_video(known.pixels, self.model.device, torch.float32))
            clean[:, :, : known.latents] = latents
        mask = torch.tensor(known.held, device=self.model.device).view(1, 1, -1, 1, 1)
        return mask, torch.where(mask, clean, 0.0)

    def encoded(self, video: Tensor) -> Tensor:
        """Normalised latents (B, C, F, h, w) of a video (B, 3, frames, H, W) in [-1, 1]."""
        vae = self.model.pipe.vae
        latents = vae.encode(video.to(vae.dtype)).latent_dist.mode().to(self.model.device, torch.float32)
        mean, scale = self.model.statistics(latents.device, latents.dtype)
        normal: Tensor = (latents - mean) * scale
        return normal

    def _channels(self, request: ShotRequest, layout: Layout) -> Tensor:
        """(1, stride + C, F, h, w): which pixel frames are known, and the latents of a clip that is 0 elsewhere."""
        video = torch.zeros(1, 3, request.frames, request.height, request.width, device=self.model.device)
        known = torch.zeros(1, 1, request.frames, layout.height, layout.width)
        for block in request.given:
            video[:, :, block.first : block.last] = frames_as_video(block.frames, video.device, video.dtype)
            known[:, :, block.first : block.last] = 1
        first = known[:, :, :1].repeat_interleave(self.model.stride, dim=2)
        known = torch.cat([first, known[:, :, 1:]], dim=2)
        mask = known.view(1, -1, self.model.stride, layout.height, layout.width).transpose(1, 2)
        return torch.cat([mask.to(video.device), self.encoded(video)], dim=1)

    def _images(self, requests: Sequence[ShotRequest]) -> Tensor | None:
        """Image features of the first frame (and of the last, for checkpoints that read both)."""
        config = self.model.experts[0].config
        if config.image_dim is None:
            return None
        features = [self._features(request, both=config.pos_embed_seq_len is not None) for request in requests]
        return torch.cat(features).to(self.model.experts[0].dtype)

    def _features(self, request: ShotRequest, *, both: bool) -> Tensor:
        from PIL import Image

        places = (0, request.frames - 1) if both else (0,)
        grey = np.full((request.height, request.width, 3), GREY, dtype=np.uint8)
        frames = [frame_at(request, place) for place in places]
        pictures: Any = [Image.fromarray(grey if frame is None else frame) for frame in frames]
        features: Tensor = self.model.pipe.encode_image(pictures, self.model.device)
        return features
