"""The training loop both nets share: resume, step, log, draw, save, stop. Knows nothing of what is trained.

Step `i` of a run depends on the state after step `i - 1` and on (seed, i) only, so a run that was killed and
resumed gives the same weights as one that was not.
"""

from __future__ import annotations

import contextlib
import signal
import statistics
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol

import torch

from generators.errors import TrainingError
from generators.training.checkpoint import RunFolder, State, require_same
from generators.training.config import Machine, Schedule
from generators.training.pictures import draw_losses

Losses = dict[str, float]


class Trainee(Protocol):
    """A net in training, with its optimiser and its data."""

    clips_per_step: int

    def step(self, index: int, rate: float) -> Losses:
        """Take one optimiser step at `rate` times the full learning rate."""
        ...

    def state(self) -> State:
        """Everything the next step depends on."""
        ...

    def restore(self, state: State) -> None:
        """Become what `state` was taken from; its `fresh` is the step at which optimiser and average were new."""
        ...

    def examine(self, path: Path) -> Losses:
        """Draw what the net does now as a contact sheet; its errors on clips it never saw, where they are measured."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """`step` of `of` steps are done; losses are means since the last report."""

    step: int
    of: int
    losses: Losses
    clips_per_second: float


OnTrainingProgress = Callable[[TrainingProgress], None]


@dataclass(frozen=True, kw_only=True)
class TrainingOutcome:
    """Why training ended and where it can go on: run it again with the same folder."""

    step: int
    seconds: float
    reason: Literal["steps", "minutes", "stopped"]
    checkpoint: Path


def run(
    trainee: Trainee,
    schedule: Schedule,
    folder: RunFolder,
    settings: Mapping[str, object],
    on_progress: OnTrainingProgress | None = None,
    *,
    agree: Callable[[bool], bool] = bool,
    newer: Collection[str] = (),
) -> TrainingOutcome:
    """Train from the folder's checkpoint, if any, until the steps are done, the minutes are over, or Ctrl-C.

    `settings` are what the checkpoint must have been trained with. Raises TrainingError when they differ. `agree` is
    for a run of several processes: whether any of them wants what this one is asked, so that all stop at one step.
    `newer` are settings that older checkpoints do not tell, which is logged and no difference.
    """
    step, fresh = _resume(trainee, folder, settings, newer)
    began = time.monotonic()
    saved, report = began, _Report(schedule, folder, trainee.clips_per_step, on_progress)
    reason: Literal["steps", "minutes", "stopped"] = "steps"

    def save(name: str = "checkpoint.pt") -> None:
        told = {"step": step, "of": schedule.steps, "fresh": fresh, "settings": dict(settings)}
        folder.save(told | {"trainee": trainee.state()}, name)

    with stop_on_signals() as stop:
        while step < schedule.steps:
            if schedule.decay_steps and step == schedule.steps - schedule.decay_steps:
                save("before-decay.pt")  # the place to go on from with the full learning rate
            losses = trainee.step(step, schedule.rate(step, fresh))
            step += 1
            report.add(step, losses)
            if schedule.sample_every and step % schedule.sample_every == 0:
                if measured := trainee.examine(folder.folder / f"samples-{step:07d}.png"):
                    folder.append({"step": step, **measured})
                draw_losses(folder.rows(), folder.folder / "loss.png")
            now = time.monotonic()
            if agree(stop.is_set()):
                reason = "stopped"
                break
            late = schedule.minutes is not None and now - began > 60 * schedule.minutes
            if agree(late) and step < schedule.steps:
                reason = "minutes"
                break
            if now - saved > 60 * schedule.checkpoint_minutes:
                save()
                saved = now
    save()
    draw_losses(folder.rows(), folder.folder / "loss.png")
    return TrainingOutcome(step=step, seconds=time.monotonic() - began, reason=reason, checkpoint=folder.checkpoint)


def _resume(
    trainee: Trainee, folder: RunFolder, settings: Mapping[str, object], newer: Collection[str]
) -> tuple[int, int]:
    """The step to go on with, and the one at which the optimiser was new."""
    state = folder.load()
    if state is None:
        return 0, 0
    require_same(state["settings"], settings, folder.checkpoint, newer)
    fresh = int(state.get("fresh", 0))
    try:
        trainee.restore(state["trainee"] | {"fresh": fresh})
    except KeyError as error:
        raise TrainingError(
            f"{folder.checkpoint} lacks {error}: it is no checkpoint of this training; use another folder"
        ) from error
    return int(state["step"]), fresh


class _Report:
    """Collects losses and tells log and listener every `log_every` steps."""

    def __init__(
        self, schedule: Schedule, folder: RunFolder, clips: int, on_progress: OnTrainingProgress | None
    ) -> None:
        self._schedule, self._folder, self._clips, self._tell = schedule, folder, clips, on_progress
        self._losses: list[Losses] = []
        self._since = time.monotonic()

    def add(self, step: int, losses: Losses) -> None:
        self._losses.append(losses)
        if step % self._schedule.log_every and step != self._schedule.steps:
            return
        now = time.monotonic()
        names = {name for row in self._losses for name in row}
        means = {n: statistics.fmean(r[n] for r in self._losses if n in r) for n in sorted(names)}
        rate = self._clips * len(self._losses) / max(now - self._since, 1e-9)
        self._folder.append({"step": step, **means, "clips_per_second": round(rate, 3)})
        if self._tell is not None:
            self._tell(TrainingProgress(step=step, of=self._schedule.steps, losses=means, clips_per_second=rate))
        self._losses, self._since = [], now


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event instead of breaking a step; a second Ctrl-C breaks it."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fast_dtype(machine: Machine) -> torch.dtype:
    """bfloat16 where `machine` asks for it or, on auto, where the processor multiplies it natively; else float32."""
    native = torch.device(machine.device).type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    wanted = machine.precision == "bf16" or (machine.precision == "auto" and native)
    return torch.bfloat16 if wanted else torch.float32


def autocast(machine: Machine) -> contextlib.AbstractContextManager[object]:
    """Autocast to `fast_dtype`, or nothing where that is float32."""
    if fast_dtype(machine) == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(torch.device(machine.device).type, torch.bfloat16)


@torch.no_grad()
def follow(average: torch.nn.Module, net: torch.nn.Module, decay: float, step: int) -> None:
    """Move the exponential average towards the net; early steps weigh more, so that the start is forgotten."""
    weight = 1 - min(decay, (1 + step) / (10 + step))
    pairs = zip(average.parameters(), net.parameters(), strict=True)
    ours, theirs = zip(*pairs, strict=True)
    torch._foreach_lerp_(list(ours), list(theirs), weight)  # pyright: ignore[reportPrivateImportUsage]
