"""How SkyReels-V2's diffusion forcing reads finished frames: with a little noise, at a time of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from generators.models.stepping import Draws, Stepper


class ForcingStepper(Stepper):
    """Stirs finished frames at every step; the pipeline's one scheduler a frame is one scheduler here.

    `given_time` is the pipeline's `addnoise_condition`, in thousandths of noise; `dtype` is the network's, in which
    the pipeline mixes.
    """

    def __init__(self, scheduler: Any, given_time: float, dtype: torch.dtype) -> None:
        super().__init__(scheduler)
        self.share = 0.001 * given_time
        self.dtype = dtype
        self._draws = Draws()

    def stirred(self, clean: Tensor, held: Tensor, i: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Finished latents mixed with noise that is drawn once a step, for the held frames, from each clip's own."""
        if not self.share:
            return clean
        rows = zip(clean.split(1), held.flatten(1), generators, strict=True)
        return torch.cat([self._mixed(row, places, i, generator) for row, places, generator in rows])

    def step(self, prediction: Tensor, i: int, latents: Tensor, generators: tuple[torch.Generator, ...] = ()) -> Tensor:
        """Latents of step i + 1.

        The pipeline writes them over those of step i, in place: where the corrector did not run, which is in the first
        step, the scheduler remembers that very memory and so goes on from what was written there.
        """
        after = super().step(prediction, i, latents, generators)
        if getattr(self.scheduler, "last_sample", None) is latents:
            self.scheduler.last_sample = after
        return after

    def _mixed(self, row: Tensor, places: Tensor, i: int, generator: torch.Generator) -> Tensor:
        if not places.any():
            return row
        given = row[:, :, places].to(self.dtype)
        noise = self._draws.at(
            i, generator, lambda: randn_tensor(given.shape, generator=generator, device=given.device, dtype=given.dtype)
        )
        mixed = row.clone()
        mixed[:, :, places] = (given * (1.0 - self.share) + noise * self.share).to(row.dtype)
        return mixed
