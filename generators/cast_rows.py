"""Rows of a set of shots: each with its own latents, schedule and noise, so that they can come, go and start over.

Knows single rows, how the sampler steps many of them at once, and how to hear what a block makes of them. Knows
nothing of sweeps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from generators.controls.base import Control, Run
from generators.controls.storyboarding_config import Storyboarding
from generators.errors import ControlRejected
from generators.models.base import Branch, Layout, Start, Text
from generators.models.stepping import Stepper


@dataclass(kw_only=True)
class Row:
    """One copy of one shot, between two steps."""

    controls: Sequence[Control]
    stepper: Stepper
    latents: Tensor
    """(1, C, F, h, w)."""
    generator: torch.Generator | None
    follows: Mapping[int, Tensor] | None = None
    """Latents that it has at each step, of a row that was filmed before."""
    kept_steps: Container[int] = ()
    """Steps whose latents are kept in `path`."""
    path: dict[int, Tensor] = field(default_factory=dict)

    @property
    def acting(self) -> Sequence[Control]:
        """Its controls, without those that edit latents where it follows: its path has their edits already."""
        return [c for c in self.controls if self.follows is None or not c.edits_latents]

    def moment(self) -> Moment:
        """Where it stands now."""
        state = None if self.generator is None else self.generator.get_state()
        return Moment(latents=self.latents, stepper=_twin(self.stepper), state=state)

    def back_to(self, moment: Moment) -> None:
        """Stand where it stood."""
        self.latents, self.stepper = moment.latents, _twin(moment.stepper)
        if self.generator is not None and moment.state is not None:
            self.generator.set_state(moment.state)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A row between two steps: latents, schedule with its memory, and noise to come."""

    latents: Tensor
    stepper: Stepper
    state: Tensor | None


class RowSteppers(Stepper):
    """Steps each row by its own schedule; rows that follow what was filmed before go where it went."""

    def __init__(self, rows: Sequence[Row]) -> None:
        own = next((row.stepper for row in rows if row.follows is None), rows[0].stepper)
        super().__init__(own.scheduler)
        self.rows = rows
        self._first = own
        """Of a row that steps: those of rows that follow stand still, and some scale by the step they stand at."""

    def of(self, request: int) -> Stepper:
        """The row's own schedule."""
        return self.rows[request].stepper

    @property
    def is_multistep(self) -> bool:
        """As its rows' schedules are."""
        return self._first.is_multistep

    @property
    def keeps_edits(self) -> bool:
        """As its rows' schedules do."""
        return self._first.keeps_edits

    def edited(self, before: Tensor, after: Tensor, i: int) -> None:
        """Latents that step i reads were changed: tell each row's schedule."""
        for row, was, now in zip(self.rows, before.split(1), after.split(1), strict=True):
            row.stepper.edited(was, now, i)

    def begin(self, noise: Tensor) -> Tensor:
        """Latents of the first step from unit noise."""
        return torch.cat([row.stepper.begin(one) for row, one in zip(self.rows, noise.split(1), strict=True)])

    def scaled(self, latents: Tensor, i: int) -> Tensor:
        """Latents as the network wants to read them at step i."""
        steppers = [row.stepper if row.follows is None else self._first for row in self.rows]
        return torch.cat([own.scaled(one, i) for own, one in zip(steppers, latents.split(1), strict=True)])

    def noised(self, clean: Tensor, noise: Tensor, i: int) -> Tensor:
        """Clean latents at the noise level that step i reads."""
        return self._first.noised(clean, noise, i)

    def clean(self, prediction: Tensor, i: int, read: Tensor) -> Tensor:
        """Finished latents as the network foresees them at step i."""
        return self._first.clean(prediction, i, read)

    def stirred(self, clean: Tensor, held: Tensor, i: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Finished latents as a model that knows such tokens reads them at step i."""
        return self._first.stirred(clean, held, i, generators)

    def left(self, clean: Tensor, held: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Finished latents as the last step leaves them in the clip."""
        return self._first.left(clean, held, generators)

    def step(self, prediction: Tensor, i: int, latents: Tensor, generators: tuple[torch.Generator, ...] = ()) -> Tensor:
        """Latents of step i + 1; keeps those of step i where a row is kept."""
        stepped = []
        for number, row in enumerate(self.rows):
            own = slice(number, number + 1)
            if i in row.kept_steps:
                row.path[i] = latents[own].cpu().clone()
            if row.follows is None:
                stepped.append(row.stepper.step(prediction[own], i, latents[own], generators[own]))
            else:
                stepped.append(row.follows.get(i + 1, latents[own].cpu()).to(latents))
        return torch.cat(stepped)


def text_of(text: Text, places: Sequence[int]) -> Text:
    """The encoded prompts of some rows."""
    chosen = list(places)
    names = ("cond", "uncond", "cond_mask", "uncond_mask")
    tensors = {name: x[chosen] for name in names if (x := getattr(text, name)) is not None}
    return replace(text, maps=tuple(text.maps[i] for i in chosen), **tensors)


def start_of(start: Start, places: Sequence[int]) -> Start:
    """Where some rows start."""
    chosen = list(places)
    names = ("noise", "held", "clean", "channels", "image")
    tensors = {name: x[chosen] for name in names if (x := getattr(start, name)) is not None}
    return replace(start, generators=tuple(start.generators[i] for i in chosen if start.generators), **tensors)


def spans(steps: range, rows_at: Callable[[int], tuple[int, ...]], cuts: Container[int]) -> list[range]:
    """Runs of steps in which the same rows ride; a cut begins a new one."""
    found: list[range] = []
    for step in steps:
        if found and step not in cuts and rows_at(step) == rows_at(found[-1].start):
            found[-1] = range(found[-1].start, step + 1)
        else:
            found.append(range(step, step + 1))
    return found


@contextmanager
def features_of(
    model: Any, config: Storyboarding, layout: Layout, level: int, run: Run, hear: bool
) -> Iterator[dict[str, Tensor]]:
    """What a block in the middle gives in the conditional pass, (rows, F, C, h, w) float32, as "states".

    Nothing unless asked to hear. Of a UNet it is the up block whose output has height and width halved `level` times.
    """
    found: dict[str, Tensor] = {}
    frames, height, width = layout.grid

    def listen(module: Any, inputs: Any, output: Any) -> None:
        rows = len(run.controls)
        states: Tensor = output[0] if isinstance(output, tuple) else output
        if states.ndim == 4:  # a UNet folds frames into the batch
            states = states.unflatten(0, (-1, frames))
        if Branch.COND in run.branches and len(states) == rows * len(run.branches):
            first = rows * list(run.branches).index(Branch.COND)
            own = states[first : first + rows].float()
            found["states"] = own if own.ndim == 5 else own.unflatten(1, (frames, height, width)).movedim(-1, 2)

    handles = []
    for network in (getattr(model, "experts", None) or (model.network,)) if hear else ():
        blocks, usual = _blocks_of(network, level)
        layer = usual if config.feature_layer is None else config.feature_layer
        if not 0 <= layer < len(blocks):
            raise ControlRejected(f"Storyboarding.feature_layer: expected one of 0..{len(blocks) - 1}, got {layer}")
        handles.append(blocks[layer].register_forward_hook(listen))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _blocks_of(network: Any, level: int) -> tuple[Sequence[Any], int]:
    """Blocks whose outputs can be read, and the number of the one that is unless another is asked for."""
    if hasattr(network, "up_blocks"):
        return network.up_blocks, max(len(network.up_blocks) - 2 - level, 0)
    blocks = network.blocks if hasattr(network, "blocks") else network.transformer_blocks
    return blocks, int(0.65 * len(blocks))


def _twin(stepper: Stepper) -> Stepper:
    """The same schedule with a memory of its own; nothing else of it is copied, for some know the model."""
    twin = copy.copy(stepper)
    twin.scheduler = copy.deepcopy(stepper.scheduler)
    return twin
