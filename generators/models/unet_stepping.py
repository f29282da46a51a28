"""How the UNet families' schedulers step: eta, generators, and the order in which a stochastic one draws its noise."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from generators.models.stepping import Stepper


class UnetStepper(Stepper):
    """Steps with DDIM's eta, and each request's own generator where a scheduler adds noise.

    ModelScope's pipeline folds frames into the batch before a step; keeping the same order of values in memory here
    gives a stochastic scheduler the same draws.
    """

    def __init__(self, scheduler: Any, *, eta: float, folds_frames: bool) -> None:
        super().__init__(scheduler)
        self.folds_frames = folds_frames
        self._accepts = inspect.signature(scheduler.step).parameters
        self._options: dict[str, Any] = {"eta": eta} if "eta" in self._accepts else {}

    @property
    def is_multistep(self) -> bool:
        """Whether a step reads earlier predictions."""
        return any(
            hasattr(self.scheduler, memory) for memory in ("model_outputs", "ets", "derivatives", "prev_derivative")
        )

    def noised(self, clean: Tensor, noise: Tensor, i: int) -> Tensor:
        """Clean latents at the noise level that step i reads."""
        if self.is_flow:
            return super().noised(clean, noise, i)
        noised: Tensor = self.scheduler.add_noise(clean, noise, self.timesteps[i : i + 1].expand(clean.shape[0]))
        return noised

    def step(self, prediction: Tensor, i: int, latents: Tensor, generators: tuple[torch.Generator, ...] = ()) -> Tensor:
        """Latents of step i + 1 from the network's (guided) prediction at step i."""
        options = dict(self._options)
        if "generator" in self._accepts and generators:
            options["generator"] = list(generators)
        if self.folds_frames:
            prediction, latents = (x.transpose(1, 2).contiguous() for x in (prediction, latents))
        after: Tensor = self.scheduler.step(prediction, self.timesteps[i], latents, **options, return_dict=False)[0]
        return after.transpose(1, 2) if self.folds_frames else after
