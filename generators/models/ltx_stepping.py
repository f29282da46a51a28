"""How LTX's pipelines step: rows of tokens; the condition pipeline each token from a time of its own.

Its given tokens are stirred by a little noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from generators.models.stepping import Draws, Stepper

Convert = Callable[[Tensor], Tensor]


class LTXStepper(Stepper):
    """A scheduler that draws noise draws it in the order of the pipelines' rows of tokens.

    `pack` turns latents (B, C, F, h, w) into rows of tokens (B, N, D), `unpack` turns them back.
    """

    def __init__(self, scheduler: Any, pack: Convert, unpack: Convert) -> None:
        super().__init__(scheduler)
        self._pack, self._unpack = pack, unpack

    def step(self, prediction: Tensor, i: int, latents: Tensor, generators: tuple[torch.Generator, ...] = ()) -> Tensor:
        """Latents of step i + 1."""
        if not self.is_stochastic:
            return super().step(prediction, i, latents, generators)
        return self._unpack(super().step(self._pack(prediction), i, self._pack(latents), generators))


class LTXConditionStepper(LTXStepper):
    """The condition pipeline steps each token from its own time, and predicts the other sign.

    `stir` is its `image_cond_noise_scale`.
    """

    def __init__(self, scheduler: Any, stir: float, pack: Convert, unpack: Convert) -> None:
        super().__init__(scheduler, pack, unpack)
        self.stir = stir
        self._draws = Draws()

    def stirred(self, clean: Tensor, held: Tensor, i: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Finished latents with noise that falls with the square of time, drawn once a step from each clip's own."""
        if not self.stir:
            return clean
        rows = [
            row + self.stir * self._noise(generator, i, row) * (self.timesteps[i] / 1000.0) ** 2 if any_held else row
            for row, generator, any_held in zip(clean.split(1), generators, held.flatten(1).any(1), strict=True)
        ]
        return torch.cat(rows)

    def left(self, clean: Tensor, held: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Finished latents as the pipeline leaves them in the clip: as its last step read them."""
        return self.stirred(clean, held, len(self.timesteps) - 1, generators)

    def _noise(self, generator: torch.Generator, i: int, like: Tensor) -> Tensor:
        """This step's draw; a probe and the step itself read the same one."""
        tokens = (1, like[0, 0].numel(), like.shape[1])

        def draw() -> Tensor:
            return self._unpack(randn_tensor(tokens, generator=generator, device=like.device, dtype=like.dtype))

        return self._draws.at(i, generator, draw)

    def step(self, prediction: Tensor, i: int, latents: Tensor, generators: tuple[torch.Generator, ...] = ()) -> Tensor:
        """Latents of step i + 1; held tokens are stepped like the others and replaced by whoever holds them."""
        batch, rows = len(latents), (prediction, latents)
        if self.is_stochastic:
            rows = (self._pack(prediction), self._pack(latents))
        after: Tensor = self.scheduler.step(
            -rows[0].reshape(batch, 1, -1),
            self.timesteps[i],
            rows[1].reshape(batch, 1, -1),
            per_token_timesteps=self.timesteps[i].expand(batch).unsqueeze(-1).float(),
            **self.draws_from(generators),
            return_dict=False,
        )[0].reshape(rows[1].shape)
        return self._unpack(after) if self.is_stochastic else after
