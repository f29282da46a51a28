"""One denoising schedule walked from noise to clip: a diffusers scheduler, asked the same of every family.

Knows timesteps, noise levels and the arithmetic of one step. Knows nothing of networks, guidance or controls. A family
whose scheduler wants more (a history, a cast after every step) subclasses `Stepper` beside its model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class Stepper:
    """A fresh scheduler with its timesteps set; sharing one would mix histories."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def of(self, request: int) -> Stepper:
        """The one that steps this request of the batch."""
        return self

    @property
    def timesteps(self) -> Tensor:
        """(steps,), the model's own time, falling."""
        timesteps: Tensor = self.scheduler.timesteps
        return timesteps

    @property
    def is_multistep(self) -> bool:
        """Whether a step reads earlier predictions: edits of the latents between steps would be thrown away."""
        return hasattr(self.scheduler, "model_outputs")

    @property
    def keeps_edits(self) -> bool:
        """Whether edits of the latents between steps last, told by `edited` where the scheduler has a corrector."""
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        if isinstance(self.scheduler, DPMSolverMultistepScheduler):  # remembers predictions, but steps from the sample
            return True
        return not self.is_multistep or self._corrects

    @property
    def _corrects(self) -> bool:
        from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

        return isinstance(self.scheduler, UniPCMultistepScheduler) and bool(dict(self.scheduler.config)["predict_x0"])

    def edited(self, before: Tensor, after: Tensor, i: int) -> None:
        """Latents that step i reads were changed: move a corrector's memory of step i - 1 to where they come from.

        UniPC builds its sample anew from that memory, scaled by sigma_i / sigma_(i-1); an edit that it is not told of
        survives to about a hundredth. What did not change keeps its bits.
        """
        memory = self.scheduler.last_sample if self._corrects else None
        if memory is None or i >= len(self.timesteps):
            return
        was, now = (self.scheduler._sigma_to_alpha_sigma_t(self.scheduler.sigmas[j])[1] for j in (i - 1, i))
        moved = memory + (after - before) * (was / now).to(memory.device, memory.dtype)
        self.scheduler.last_sample = torch.where(after == before, memory, moved)

    @property
    def is_flow(self) -> bool:
        """Whether clips and noise mix linearly (rectified flow), instead of by signal and noise variances."""
        flow = getattr(self.scheduler.config, "use_flow_sigmas", False)
        return bool(flow) or type(self.scheduler).__name__.startswith("FlowMatch")

    @property
    def is_stochastic(self) -> bool:
        """Whether a flow scheduler draws new noise at every step, of which this class feeds the draws."""
        drawing = type(self.scheduler).__name__ == "FlowMatchLCMScheduler"  # always: it has no setting for it
        return drawing or bool(getattr(self.scheduler.config, "stochastic_sampling", False))

    def begin(self, noise: Tensor) -> Tensor:
        """Latents of the first step from unit noise."""
        scale = self.scheduler.init_noise_sigma if hasattr(self.scheduler, "init_noise_sigma") else 1.0
        return noise if scale == 1.0 else noise * scale

    def sigma(self, i: int) -> float:
        """Share of noise in what step i reads, in 0..1."""
        if self.is_flow:
            return float(self.scheduler.sigmas[i])
        return float((1 - self.scheduler.alphas_cumprod[int(self.timesteps[i])]) ** 0.5)

    def scaled(self, latents: Tensor, i: int) -> Tensor:
        """Latents as the network wants to read them at step i."""
        if not hasattr(self.scheduler, "scale_model_input"):
            return latents
        scaled: Tensor = self.scheduler.scale_model_input(latents, self.timesteps[i])
        return scaled

    def noised(self, clean: Tensor, noise: Tensor, i: int) -> Tensor:
        """Clean latents at the noise level that step i reads."""
        if self.is_flow:
            sigma = self.sigma(i)
            return (1 - sigma) * clean + sigma * noise
        time = self.timesteps[i].to(torch.long).expand(clean.shape[0])
        noised: Tensor = self.scheduler.add_noise(clean, noise, time)
        return noised

    def clean(self, prediction: Tensor, i: int, read: Tensor) -> Tensor:
        """Finished latents as the network foresees them: its (guided) prediction for what it read at step i, solved.

        Raises ValueError for a kind of prediction other than flow, epsilon, v_prediction and sample.
        """
        if self.is_flow:
            return read - self.sigma(i) * prediction
        kept = float(self.scheduler.alphas_cumprod[int(self.timesteps[i])])
        signal, noise = math.sqrt(kept), math.sqrt(1 - kept)
        match self.scheduler.config.prediction_type:
            case "epsilon":
                return (read - noise * prediction) / signal
            case "v_prediction":
                return signal * read - noise * prediction
            case "sample":
                return prediction
            case kind:
                raise ValueError(f"prediction_type: expected epsilon, v_prediction or sample, got {kind!r}")

    def stirred(self, clean: Tensor, held: Tensor, i: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Finished latents as a model that knows such tokens reads them at step i: as they are, in most families."""
        return clean

    def left(self, clean: Tensor, held: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Finished latents as the last step leaves them in the clip: as they are, in most families."""
        return clean

    def step(self, prediction: Tensor, i: int, latents: Tensor, generators: tuple[torch.Generator, ...] = ()) -> Tensor:
        """Latents of step i + 1 from the network's (guided) prediction at step i.

        A stochastic step draws from each clip's own generator, where Wan's stock pipelines draw from torch's global
        one: a clip's noise must not hang on its neighbours, nor on what was drawn before (decision 37).
        """
        after: Tensor = self.scheduler.step(
            prediction, self.timesteps[i], latents, **self.draws_from(generators), return_dict=False
        )[0]
        return after

    def draws_from(self, generators: Sequence[torch.Generator]) -> dict[str, Any]:
        """What a flow scheduler's step is told of where its noise comes from; nothing where it draws none."""
        return {"generator": list(generators)} if self.is_stochastic and generators else {}


class Draws:
    """Noise that a step draws from a clip's own generator: one draw, however often the step is read."""

    def __init__(self) -> None:
        self._newest: dict[int, tuple[int, Tensor]] = {}

    def at(self, i: int, generator: torch.Generator, draw: Callable[[], Tensor]) -> Tensor:
        """Step i's noise of this generator."""
        step, noise = self._newest.get(id(generator), (-1, None))
        if step != i or noise is None:
            noise = draw()
            self._newest[id(generator)] = i, noise
        return noise
