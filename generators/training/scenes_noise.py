"""What a network is shown and asked for in training: noise at a drawn time, and the target that its scheduler means.

Two kinds of schedulers: those that mix clips and noise linearly (rectified flow; Wan), and those with a table of
variances (CogVideoX). Knows latents and times, no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from generators.errors import TrainingError
from generators.models.base import Layout, Start
from generators.models.stepping import Stepper
from generators.training.denoiser import noise_levels
from generators.training.scenes_config import NoiseLevels


class Objective(Protocol):
    """How a family's noise is made and what its network predicts. A time is a tensor without axes."""

    def time(self, generator: torch.Generator) -> Tensor:
        """A time drawn for one set, as the network is told it."""
        ...

    def noised(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Latents (B, C, F, h, w) at this time."""
        ...

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the network should say of them."""
        ...


class FlowObjective:
    """x_s = (1 - s) x_0 + s n at time T s; the network predicts n - x_0."""

    def __init__(self, levels: NoiseLevels, shift: float, times: int) -> None:
        self.mean, self.shift, self.times = levels.mean, shift, times

    def time(self, generator: torch.Generator) -> Tensor:
        """T s with s logit-normal, then shifted."""
        return self.times * noise_levels(torch.randn((), generator=generator), self.mean, self.shift)

    def noised(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The linear mix."""
        level = time / self.times
        return (1 - level) * clean + level * noise

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The velocity, the same at every time."""
        return noise - clean


class DiffusionObjective:
    """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) n; the network predicts v = sqrt(a_t) n - sqrt(1 - a_t) x_0 (Eq. 1 to 3).

    Schedulers that ask for the noise or for the clip itself are served alike.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.kind: str = scheduler.config.prediction_type

    def time(self, generator: torch.Generator) -> Tensor:
        """One of the scheduler's times, evenly."""
        return torch.randint(self.scheduler.config.num_train_timesteps, (), generator=generator)

    def noised(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the scheduler makes of it."""
        noisy: Tensor = self.scheduler.add_noise(clean, noise, time.expand(len(clean)))
        return noisy

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """By the scheduler's `prediction_type`."""
        if self.kind == "v_prediction":
            velocity: Tensor = self.scheduler.get_velocity(clean, noise, time.expand(len(clean)))
            return velocity
        return noise if self.kind == "epsilon" else clean


def objective_of(scheduler: Any, levels: NoiseLevels) -> Objective:
    """The objective that a pipeline's scheduler means. Raises TrainingError for one that means neither."""
    if Stepper(scheduler).is_flow:
        own = getattr(scheduler.config, "flow_shift", None) or getattr(scheduler.config, "shift", None) or 1.0
        shift = own if levels.shift is None else levels.shift
        return FlowObjective(levels, float(shift), scheduler.config.num_train_timesteps)
    known = getattr(scheduler.config, "prediction_type", None)
    if known not in ("v_prediction", "epsilon", "sample") or not hasattr(scheduler, "add_noise"):
        raise TrainingError(
            f"{type(scheduler).__name__} (prediction_type {known!r}): expected a flow-matching scheduler, or one that "
            "predicts v_prediction, epsilon or sample"
        )
    return DiffusionObjective(scheduler)


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One set as the network is shown it: (1, C, F of all shots, h, w) latents, and what it should say of them."""

    shown: Tensor
    time: Tensor
    target: Tensor
    start: Start
    noised: Tensor
    """(1, 1, F, 1, 1) bool: the latent frames that count."""


def lesson_of(
    clean: Tensor, layouts: Sequence[Layout], objective: Objective, generator: torch.Generator, *, sequel: bool
) -> Lesson:
    """Noise a set, or only its last shot when it is a sequel. Draws time and noise, in this order, on the CPU."""
    time = objective.time(generator).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean.device, clean.dtype)
    lengths = torch.tensor([layout.frames for layout in layouts])
    filmed = torch.tensor([not sequel] * (len(layouts) - 1) + [True])
    noised = filmed.repeat_interleave(lengths).view(1, 1, -1, 1, 1).to(clean.device)
    start = Start(noise=noise, held=~noised if sequel else None, clean=clean if sequel else None)
    return Lesson(
        shown=torch.where(noised, objective.noised(clean, noise, time), clean),
        time=time,
        target=objective.target(clean, noise, time),
        start=start,
        noised=noised,
    )


def loss_of(predicted: Tensor, lesson: Lesson) -> Tensor:
    """Mean squared error over the noised shots."""
    error = (predicted.float() - lesson.target.float()).square() * lesson.noised
    return error.sum() / (lesson.noised.sum() * error[:, :, :1].numel())
