"""Looks where in a clip, and when, the words of its events are attended to; steers nothing.

What is counted is what was computed: probability after all biases, over all keys, of the conditional branch. Of every
looked-at call only a curve over time is kept, and a running mean over space. Knows no pictures and no files.

E events, F steps of the token grid in time, h x w tokens of one of them, N video tokens, C columns of words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from generators.attention import attended
from generators.clip import Event
from generators.controls.base import AttentionCall, Control, Shot, Step
from generators.controls.config import Looking
from generators.errors import ControlRejected
from generators.models.base import Branch, Layout, Site
from generators.timeline import Interval, Timeline

Numbers = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Attention:
    """How much of its attention a video token gave to the words of each event: shares of 1, mean over heads."""

    events: tuple[Event, ...]
    intervals: tuple[Interval, ...]
    """Seconds of each of the F steps in time."""
    curves: dict[tuple[int, int], Numbers] = field(repr=False)
    """(step, layer) -> (E, F), mean over space."""
    maps: Numbers = field(repr=False)
    """(E, F, h, w), mean over steps and layers, on the finest grid that was seen."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Denoising steps that were looked at."""
        return tuple(sorted({step for step, _ in self.curves}))

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks that were looked at."""
        return tuple(sorted({layer for _, layer in self.curves}))

    @property
    def curve(self) -> Numbers:
        """(E, F), mean over steps and layers."""
        mean: Numbers = np.stack(list(self.curves.values())).astype(np.float64).mean(0).astype(np.float32)
        return mean

    def inside(self, event: int) -> float:
        """The part of the event's attention, over the clip's seconds, that falls into its interval: 0..1."""
        promised = self.events[event]
        curve = self.curve[event].astype(np.float64)
        whole = sum(mass * (b - a) for mass, (a, b) in zip(curve, self.intervals, strict=True))
        within = sum(
            mass * max(min(b, promised.end) - max(a, promised.start), 0.0)
            for mass, (a, b) in zip(curve, self.intervals, strict=True)
        )
        return float(within / whole)


class LookingControl(Control):
    """Looking on one request. Raises ControlRejected for words, steps or layers that are not there."""

    name = "Looking"
    looks_only = True
    reads_words = True
    acts_in_probes = False

    def __init__(self, config: Looking, shot: Shot) -> None:
        super().__init__(shot)
        self.events = shot.request.events
        if not self.events:
            raise ControlRejected("Looking: expected a request with at least one event, got none")
        layers = {site.layer for site in shot.sites if site.kind in ("cross", "joint")}
        self.steps = _chosen("steps", config.steps, set(range(shot.steps)))
        self.layers = _chosen("layers", config.layers, layers)
        places = [event.occurrence for event in self.events]
        words = shot.text.place([event.phrase for event in self.events], places, what="event")
        columns = sorted({column for word in words for column in word})
        belongs = [[float(column in word) for word in words] for column in columns]
        self.columns_C = torch.tensor(columns, device=shot.device)
        self.belongs_CE = torch.tensor(belongs, device=shot.device)
        self.curves: dict[tuple[int, int], Tensor] = {}
        self._maps: dict[tuple[int, int, int], Tensor] = {}
        self._seen: dict[tuple[int, int, int], int] = {}

    def at(self, site: Site) -> bool:
        """Attention to text, in the chosen blocks."""
        return site.kind in ("cross", "joint") and site.layer in self.layers

    def acts(self, step: Step, branch: Branch) -> bool:
        """At the chosen steps, in the conditional branch."""
        return branch is Branch.COND and step.index in self.steps

    def observe(self, call: AttentionCall, out_BHND: Tensor, lse_BHN: Tensor) -> None:
        """Keep what each event's words were given, and forget the call."""
        text = call.over("text")
        mass_NC = attended(text.q, text.k, self.columns_C, lse_BHN, text.biases)[0].float()
        maps = (mass_NC @ self.belongs_CE).T.unflatten(1, call.layout.grid)
        self.curves[call.step.index, call.site.layer] = maps.mean((2, 3))
        self._maps[call.layout.grid] = self._maps.get(call.layout.grid, 0) + maps
        self._seen[call.layout.grid] = self._seen.get(call.layout.grid, 0) + 1

    def found(self) -> Attention:
        """What was seen so far. Raises RuntimeError before the first step that is looked at."""
        if not self.curves:
            raise RuntimeError("Looking: nothing was denoised yet")
        layout = self.shot.layout
        return Attention(
            events=self.events,
            intervals=tuple(step_seconds(step, layout, self.shot.timeline) for step in range(layout.grid[0])),
            curves={at: curve.cpu().numpy() for at, curve in sorted(self.curves.items())},
            maps=self._mean_map().cpu().numpy(),
        )

    def _mean_map(self) -> Tensor:
        finest = max(self._maps, key=lambda grid: grid[1] * grid[2])[1:]
        total: Any = sum(F.interpolate(maps, size=finest, mode="bilinear") for maps in self._maps.values())
        mean: Tensor = total / sum(self._seen.values())
        return mean


def attention_of(controls: Sequence[Control]) -> Attention:
    """What the one among a clip's controls that looked has seen. Raises ControlRejected when none did."""
    for control in controls:
        if isinstance(control, LookingControl):
            return control.found()
    raise ControlRejected("controls: expected Looking among them, got none that looks")


def step_seconds(step: int, layout: Layout, timeline: Timeline) -> Interval:
    """When a step of the token grid is shown; padding in front counts as the clip's start."""
    last = max(layout.latent(step), 0)
    first = max(last - layout.patch[0] + 1, 0)
    return Interval(timeline.interval(first).start, timeline.interval(last).end)


def _chosen(name: str, asked: Sequence[int], there: set[int]) -> set[int]:
    missing = sorted(set(asked) - there)
    if missing or not there:
        raise ControlRejected(f"Looking.{name}: expected some of {_spelt(there)}, got {', '.join(map(str, missing))}")
    return set(asked) or there


def _spelt(numbers: set[int]) -> str:
    """Numbers for people: `0 to 29`, or each of them where some are left out; `none` of none."""
    if not numbers:
        return "none, since this model has no attention to text that can be looked at"
    if len(numbers) == max(numbers) - min(numbers) + 1 > 2:
        return f"{min(numbers)} to {max(numbers)}"
    return ", ".join(map(str, sorted(numbers)))
