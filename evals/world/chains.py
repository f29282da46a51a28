"""Chains of shots: one puppet in one place, a new event in every shot, and each shot begins where the last one ended.

A chain is one long script, cut every four seconds: neighbouring shots share a frame, so the rendered truth has no seam
at all. There is one puppet, because a shot's sentence names only those who act in it. In every shot it wears a colour
that its kind never wore in training; sentences are those that training never had.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from evals.world.splits import Case
from generators.clip import Frames
from generators.world.captions import write_caption
from generators.world.grammar import event_times, held_out_look, with_event
from generators.world.motion import play
from generators.world.script import Actor, Script
from generators.world.words import FPS, HUES, KINDS, PLACES, SHORT, TIMES, VERBS

SIZES = (2, 3, 4, 5, 6)
STEP = SHORT - 1
"""Frames from the beginning of a shot to the beginning of the next."""
ACTS = tuple(verb.name for verb in VERBS.values() if verb.slot in ("none", "side"))
"""What a puppet does alone and without a thing that would stand in shots whose sentence does not name it."""
_TRIES = 50


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One chain; `script` is the whole of it."""

    name: str
    script: Script
    shots: tuple[Case, ...]
    """What happens in each. Their actors stand where the chain begins, not where the shot does: see `stands`."""

    def stands(self) -> tuple[float, ...]:
        """Where the puppet stands when a shot ends and the next begins, pixels from the left; beyond them off stage."""
        (puppet,) = play(self.script).puppets
        return tuple(float(x) for x in puppet.x[STEP:-1:STEP])

    def truth(self) -> Frames:
        """The whole film as rendered (32 n + 1, 64, 96, 3)."""
        from evals.world.controls import film  # loads torch, which tables need not wait for

        return film(self.script)

    def cut(self, frames: Frames) -> tuple[Frames, ...]:
        """Its shots out of the whole film, 33 frames each: the first frame of each is the last one before it."""
        return tuple(frames[shot * STEP : shot * STEP + SHORT] for shot in range(len(self.shots)))


def chain(size: int, number: int, seed: int = 0) -> Chain:
    """The chain of so many shots with this number; the same for the same arguments. Raises ValueError for its size."""
    if size not in SIZES:
        raise ValueError(f"chain: expected {SIZES[0]} to {SIZES[-1]} shots, got {size}")
    rng = np.random.default_rng([seed, size, number, zlib.crc32(b"chain")])
    name = f"chain-{size}-{number:04d}"
    script = _script(rng, size)
    return Chain(name=name, script=script, shots=tuple(_shot(rng, script, name, shot) for shot in range(size)))


def _shot(rng: np.random.Generator, script: Script, name: str, shot: int) -> Case:
    event, begins = script.events[shot], shot * STEP / FPS
    moved = replace(event, start=round(event.start - begins, 3), end=round(event.end - begins, 3))
    own = replace(script, events=(moved,), frames=SHORT)
    caption = write_caption(own, rng, "heldout")
    return Case(name=f"{name}-{shot + 1}", split="both", number=shot, script=own, caption=caption)


def _script(rng: np.random.Generator, size: int) -> Script:
    for _ in range(_TRIES):
        found = _continued(rng, _opening(rng, size), 0, size)
        if found is not None:
            return found
    raise ValueError(f"chain: found no script of {size} shots in {_TRIES} tries")


def _opening(rng: np.random.Generator, size: int) -> Script:
    kind = KINDS[rng.integers(len(KINDS))]
    hue = next(hue for hue in HUES if held_out_look(hue, kind))
    x, faces = round(float(rng.uniform(26, 70)), 1), int(rng.choice([-1, 1]))
    return Script(
        place=PLACES[rng.integers(len(PLACES))],
        time=TIMES[rng.integers(len(TIMES))],
        actors=(Actor(hue=hue, kind=kind, x=x, faces=faces),),
        events=(),
        frames=size * STEP + 1,
    )


def _continued(rng: np.random.Generator, script: Script, shot: int, size: int) -> Script | None:
    """The script with an event in every shot from `shot` on; None where what happened so far leaves none possible."""
    if shot == size:
        return script
    ((start, end),) = event_times(rng, SHORT, 1)
    begins = shot * STEP / FPS
    for verb in rng.permutation(ACTS):
        grown = with_event(rng, script, str(verb), (begins + start, begins + end))
        found = None if grown is None else _continued(rng, grown, shot + 1, size)
        if found is not None:
            return found
    return None
