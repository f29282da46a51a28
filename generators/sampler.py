"""Our own denoising loop: the same bits as the stock pipeline until a control or a given frame takes hold.

Knows steps, guidance, holding of given latents, progress and cancelling. Knows nothing of a family's insides
(`models`), of what a control does (`controls`), or of files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from generators.clip import Progress, ShotRequest
from generators.controls import build_control
from generators.controls.base import Control, Run, Shot, Step, attached
from generators.errors import ControlRejected, RequestRejected, ShootingCancelled
from generators.models.base import Branch, Layout, Readable, Reader, Start, Text, VideoModel
from generators.models.stepping import Stepper
from generators.seams import check_given

OnStep = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to denoise: `guidance_2` is for the low-noise expert of models that have one, None means the same."""

    steps: int
    guidance: float
    guidance_2: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RequestRejected(f"steps: expected at least 1, got {self.steps}")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Clips denoised in one batch, before given frames are copied back."""

    latents: Tensor
    """(B, C, F, h, w)."""
    text: Text
    start: Start
    controls: tuple[tuple[Control, ...], ...] = ()
    """Of each request, as they stand after the last step: some keep a log."""


def sample(
    model: VideoModel,
    requests: Sequence[ShotRequest],
    settings: Settings,
    *,
    on_step: OnStep | None = None,
    cancelled: threading.Event | None = None,
) -> Sample:
    """Denoise requests of one size and length in lock step, each from its own generator.

    Raises RequestRejected or ControlRejected before any work is done, RuntimeError when the model has another holder,
    ShootingCancelled between two steps once `cancelled` is set.
    """
    layout = common_layout(model, requests)
    controls = [controls_of(model, request, settings) for request in requests]
    negatives = [request.negative_prompt for request in requests] if settings.guidance > 1 else None
    with torch.no_grad(), attached(model, controls) as run:
        _stop_if(cancelled)
        text = model.encode([request.prompt for request in requests], negatives)
        start = model.start(requests, layout)
        stepper = model.stepper(settings.steps, layout)
        latents = denoise(model, text, start, settings, run, stepper, on_step=on_step, cancelled=cancelled)
    return Sample(latents=latents, text=text, start=start, controls=run.controls)


def denoise(
    model: VideoModel,
    text: Text,
    start: Start,
    settings: Settings,
    run: Run,
    stepper: Stepper,
    *,
    on_step: OnStep | None = None,
    cancelled: threading.Event | None = None,
    latents: Tensor | None = None,
    span: range | None = None,
) -> Tensor:
    """The loop: latents (B, C, F, h, w) from noise. Given latents are held in what the model reads.

    They are never written into the scheduler's own state, which a multistep corrector would overwrite. `span` is a run
    of steps, from the `latents` that the first of them reads; by default all of them, from noise. Where a control edits
    latents they are float32 between steps; the finished clip has the noise's dtype.
    """
    _check_stepper(stepper, run)
    total = len(stepper.timesteps)
    latents = stepper.begin(start.noise) if latents is None else latents
    edits = any(control.edits_latents for of_row in run.controls for control in of_row)
    if edits:
        latents = latents.to(torch.promote_types(latents.dtype, torch.float32))  # half precision rounds edits away
    for i in span or range(total):
        t = stepper.timesteps[i]
        _stop_if(cancelled)
        probe = partial(_StepProbe, model, text, start, stepper, i)
        came, latents = latents, run.before_step(Step(index=i, of=total, sigma=stepper.sigma(i)), latents, probe)
        _tell(stepper, run, came, latents, i)
        shown = stepper.scaled(hold(latents, start, _given(model, start, stepper, i)), i)
        prediction = _guided(model, shown, t, text, start, settings, run)
        run.predicted(partial(_foreseen, stepper, start, prediction, shown, i))
        latents = stepper.step(prediction, i, latents, start.generators)
        came, latents = latents, run.after_step(latents, probe)
        _tell(stepper, run, came, latents, i + 1)
        if on_step is not None:
            on_step(Progress(step=i + 1, of=total))
    if span is not None and span.stop < total:
        return latents
    finished = hold(latents, start, _left(start, stepper))
    return finished.to(start.noise.dtype) if edits else finished


@dataclass(frozen=True)
class _StepProbe:
    """The conditional pass of one request at step i, as far as someone reads it."""

    model: VideoModel
    text: Text
    start: Start
    stepper: Stepper
    i: int
    request: int

    def __call__(self, latents: Tensor, layers: Sequence[int], read: Reader, *, recompute: bool = True) -> list[Tensor]:
        """See `Probe`."""
        assert isinstance(self.model, Readable)  # `controls_of` refused others
        start, own = _alone(self.start, self.request), slice(self.request, self.request + 1)
        mask = None if self.text.cond_mask is None else self.text.cond_mask[own]
        text = replace(self.text, cond=self.text.cond[own], cond_mask=mask, uncond=None, uncond_mask=None)
        # given frames as the step itself will read them, by the batch's stepper: it draws their noise once a step
        shown = hold(latents, start, _given(self.model, start, self.stepper, self.i))
        shown, t = self.stepper.of(self.request).scaled(shown, self.i), self.stepper.timesteps[self.i]
        return self.model.read(shown, t, text, start, layers, read, recompute=recompute)


def _alone(start: Start, request: int) -> Start:
    """What is known of one request of a batch."""
    own = slice(request, request + 1)
    of_batch = ("noise", "held", "clean", "channels", "image", "generators")
    return replace(start, **{name: x[own] for name in of_batch if (x := getattr(start, name)) is not None})


def _foreseen(stepper: Stepper, start: Start, prediction: Tensor, shown: Tensor, i: int, request: int) -> Tensor:
    """One request's finished latents (1, C, F, h, w) that step i's prediction stands for, given frames in place."""
    own, alone = slice(request, request + 1), _alone(start, request)
    clean = stepper.clean(prediction[own], i, shown[own]).to(start.noise.dtype)
    return hold(clean, alone, alone.clean)


def _tell(stepper: Stepper, run: Run, came: Tensor, latents: Tensor, i: int) -> None:
    """Tell the scheduler which latents of step i were edited, where edits are to survive."""
    if run.edited:
        told = came.clone()
        for request in set(range(len(latents))) - set(run.edited):
            told[request] = latents[request]
        stepper.edited(told, latents, i)


def hold(latents: Tensor, start: Start, given: Tensor | None) -> Tensor:
    """The latents with the given frames, (B, C, F, h, w), in their places."""
    if start.held is None or given is None:
        return latents
    return torch.where(start.held, given, latents)


def _given(model: VideoModel, start: Start, stepper: Stepper, i: int) -> Tensor | None:
    """Given frames as step i reads them: finished where the model knows such tokens, else at the step's noise."""
    if start.clean is None or start.held is None:
        return None
    if model.gives_tokens_at_zero:
        return stepper.stirred(start.clean, start.held, i, start.generators)
    return stepper.noised(start.clean, start.noise, i)


def _left(start: Start, stepper: Stepper) -> Tensor | None:
    """Given frames as they stand in the finished clip."""
    if start.clean is None or start.held is None:
        return None
    return stepper.left(start.clean, start.held, start.generators)


def _guided(
    model: VideoModel, latents: Tensor, t: Tensor, text: Text, start: Start, settings: Settings, run: Run
) -> Tensor:
    """Classifier-free guidance: uncond + g (cond - uncond)."""

    def passed(*branches: Branch) -> Tensor:
        run.branches = branches
        return model.predict(latents, t, text, branches, start)

    if text.uncond is None:
        return passed(Branch.COND)
    if model.joins_branches:
        uncond, cond = passed(Branch.UNCOND, Branch.COND).chunk(2)
    else:
        cond, uncond = passed(Branch.COND), passed(Branch.UNCOND)
    return uncond + model.guidance(t, settings.guidance, settings.guidance_2, settings.steps) * (cond - uncond)


def common_layout(model: VideoModel, requests: Sequence[ShotRequest]) -> Layout:
    """Of requests of one size and length. Raises RequestRejected for none, several sizes and wrong given frames."""
    if not requests:
        raise RequestRejected("requests: expected at least one, got none")
    sizes = {(r.frames, r.height, r.width) for r in requests}
    if len(sizes) > 1:
        raise RequestRejected(f"requests: expected one size and length in a batch, got (frames, height, width) {sizes}")
    frames, height, width = sizes.pop()
    for request in requests:
        check_given(request.given, frames, height, width)
    return model.layout(frames, height, width)


def controls_of(model: VideoModel, request: ShotRequest, settings: Settings) -> list[Control]:
    """The request's controls, built. Raises ControlRejected where one cannot act on it, or on the model."""
    if not request.controls:
        return []
    shot = Shot.of(model, request, settings.steps)
    controls = [build_control(config, shot) for config in request.controls]
    for control in controls:
        if control.probes and not isinstance(model, Readable):
            raise ControlRejected(
                f"{control.name} reads passes with gradients, which {type(model).__name__} cannot give yet"
            )
    return controls


def _check_stepper(stepper: Stepper, run: Run) -> None:
    editing = [c.name for of_row in run.controls for c in of_row if c.edits_latents and c.edits_survive]
    if editing and not stepper.keeps_edits:
        raise ControlRejected(
            f"{', '.join(editing)} edits latents, which {type(stepper.scheduler).__name__} throws away: it remembers "
            "earlier steps; use FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler or DPMSolverMultistepScheduler"
        )


def _stop_if(cancelled: threading.Event | None) -> None:
    if cancelled is not None and cancelled.is_set():
        raise ShootingCancelled("filming was cancelled between two steps; nothing was kept")
