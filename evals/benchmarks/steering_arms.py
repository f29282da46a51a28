"""The arms of the steering bench: ways to steer one and the same caption from one and the same noise.

Every strength is the preset's own: nothing here was chosen by looking at a clip of the test captions. An arm joins by
one entry in `ARMS`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from agents.sentences import states_of
from evals.benchmarks.protocol import chosen
from generators.clip import ShotRequest
from generators.controls.config import VSTAR, ControlConfig, TempoControl, TSAttn
from generators.errors import RequestRejected

Synopsis = Literal["none", "even", "given"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to steer. `says` is what the tables' readers are told."""

    name: str
    says: str
    controls: tuple[ControlConfig, ...] = ()
    synopsis: Synopsis = "none"
    """Whether VSTAR is told a sentence for every event, reached at even steps or in the middle of the event's time."""
    whole_picture: bool = False
    """Whether events lose their subjects, so that each is held against all others on every row."""

    def steer(self, request: ShotRequest) -> ShotRequest:
        """The same shot, steered."""
        controls = tuple(self._told(one, request) if isinstance(one, VSTAR) else one for one in self.controls)
        events = request.events
        if self.whole_picture:
            events = tuple(replace(event, subject="") for event in events)
        return replace(request, controls=controls, events=events)

    def digest(self) -> str:
        """Equal digests mean equal steering."""
        plain = [{"name": type(one).__name__} | one.plain() for one in self.controls]
        told = json.dumps([plain, self.synopsis, self.whole_picture], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    def _told(self, vstar: VSTAR, request: ShotRequest) -> VSTAR:
        """The band with the shot's states: its own prompt, cut down to one event each."""
        if self.synopsis == "none":
            return vstar
        in_time = sorted(request.events, key=lambda event: event.start)
        middles = tuple(round((event.start + event.end) / 2, 4) for event in in_time)
        return replace(
            vstar,
            synopsis=states(request.prompt, [event.phrase for event in in_time]),
            seconds=middles if self.synopsis == "given" else (),
        )


def states(prompt: str, phrases: Sequence[str]) -> tuple[str, ...]:
    """The prompt once for every phrase, with the sentences of the other phrases left out.

    Raises RequestRejected where one sentence holds two of them.
    """
    told = states_of(prompt, phrases)
    if not told:
        raise RequestRejected(f"states: the sentences of {prompt!r} do not come apart, one for each event")
    return told


TOLD = "the states of the shot"
"""Stands where an arm will tell the states of its shot."""
NONE = "none"
"""The arm that all others are held against."""
ARMS: Mapping[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(name=NONE, says="no control: the caption alone"),
        Arm(name="ts-attn", says="TS-Attn with the times of the events", controls=(TSAttn(),)),
        Arm(
            name="ts-attn-no-region",
            says="TS-Attn without the region mask: every row is steered",
            controls=(TSAttn(region=False),),
        ),
        Arm(
            name="ts-attn-no-rearrangement",
            says="TS-Attn without rearrangement: all events are lifted at all times",
            controls=(TSAttn(rearrangement=False),),
        ),
        Arm(
            name="ts-attn-no-reinforcement",
            says="TS-Attn without reinforcement: the factor 1 to 1.5 is 1",
            controls=(TSAttn(reinforcement=False),),
        ),
        Arm(
            name="ts-attn-uniform",
            says="TS-Attn with even intervals, as when nobody knows the times",
            controls=(TSAttn(intervals="uniform"),),
        ),
        Arm(
            name="ts-attn-half",
            says="TS-Attn in the first half of the steps instead of a fifth, as chosen on the tune split",
            controls=(TSAttn(steps=0.5),),
        ),
        Arm(
            name="ts-attn-whole-picture",
            says="TS-Attn with every event held against all others, whoever does them, on every row",
            controls=(TSAttn(),),
            whole_picture=True,
        ),
        Arm(
            name="ts-attn-no-erosion",
            says="TS-Attn whose region keeps lone tokens: in a coarse grid a puppet may be one",
            controls=(TSAttn(erosion="none"),),
        ),
        Arm(
            name="ts-attn-no-padding",
            says="TS-Attn measuring its bias over words alone",
            controls=(TSAttn(padding=False),),
        ),
        Arm(name="ts-attn-paper", says="TS-Attn by the paper's equations", controls=(TSAttn(preset="paper"),)),
        Arm(name="tempo", says="TempoControl: phrases in their times, subjects always", controls=(TempoControl(),)),
        Arm(
            name="vstar",
            says="VSTAR as published: a state an event, at even steps, and the band",
            controls=(VSTAR(),),
            synopsis="even",
        ),
        Arm(name="vstar-band", says="VSTAR's band alone", controls=(VSTAR(),)),
        Arm(
            name="vstar-synopsis",
            says="VSTAR's synopsis alone, each state in the middle of its event",
            controls=(VSTAR(synopsis=(TOLD,), regularise=False),),
            synopsis="given",
        ),
        Arm(name="ts-attn+vstar-band", says="TS-Attn and VSTAR's band", controls=(TSAttn(), VSTAR())),
        Arm(name="ts-attn+tempo", says="TS-Attn and TempoControl", controls=(TSAttn(), TempoControl())),
        Arm(
            name="ts-attn+vstar-band+tempo",
            says="TS-Attn, VSTAR's band and TempoControl",
            controls=(TSAttn(), VSTAR(), TempoControl()),
        ),
    )
}
"""By name, in the order of the table."""


def arms_named(names: Sequence[str]) -> tuple[Arm, ...]:
    """The arms of these names, all for none, and `none` first in any case. Raises ValueError for an unknown one."""
    return chosen("arms", ARMS, names, NONE)
