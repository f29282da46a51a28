"""How frames that exist already enter an LTX model: held in place at timestep 0, wherever they are in the clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from generators.clip import Frames, ShotRequest
from generators.models.base import Layout, frames_as_video
from generators.models.given import known_frames

if TYPE_CHECKING:
    from generators.models.ltx import LTXVideoModel


class LTXGiven:
    """Turns the given frames of a batch into what one model holds."""

    def __init__(self, model: LTXVideoModel) -> None:
        self.model = model

    def held(
        self, requests: Sequence[ShotRequest], layout: Layout, generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Which latent frames are given (B, 1, F, 1, 1), and their latents (B, C, F, h, w), 0 elsewhere.

        Raises RequestRejected for frames that cannot be held.
        """
        device = self.model.device
        held = torch.zeros(len(requests), 1, layout.frames, 1, 1, dtype=torch.bool, device=device)
        clean = torch.zeros(len(requests), *layout.shape, device=device)
        for row, (request, generator) in enumerate(zip(requests, generators, strict=True)):
            known = known_frames(request, self.model.stride)
            if known.pixels is not None:
                held[row, 0, :, 0, 0] = torch.tensor(known.held, device=device)
                clean[row, :, : known.latents] = self.encoded(known.pixels, generator)[0]
        return held, torch.where(held, clean, 0.0)

    def encoded(self, pixels: Frames, generator: torch.Generator | None = None) -> Tensor:
        """(1, C, F', h, w) normalised latents, sampled as the pipelines sample them; the mode without a generator."""
        pipe = self.model.pipe
        vae = pipe.vae
        found = vae.encode(frames_as_video(pixels, self.model.device, vae.dtype)).latent_dist
        latents = found.mode() if generator is None else found.sample(generator)
        normal: Tensor = pipe._normalize_latents(latents.to(torch.float32), vae.latents_mean, vae.latents_std)
        return normal
