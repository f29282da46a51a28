"""Which scripts the world can play: random stories whose events are possible, unambiguous and visible.

`sample_script` draws one; `possible` says whether an event may follow what a script already holds. Held-out
combinations of (kind, verb) and (hue, kind) never appear in the training split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from generators.world.motion import (
    LEFT_MOST,
    OFF_LEFT,
    OFF_RIGHT,
    REACH,
    RIGHT_MOST,
    STRIDE,
    Stage,
    play,
    stride,
)
from generators.world.script import Actor, Prop, Script, ScriptEvent
from generators.world.words import FPS, HUES, KINDS, LONG, PLACES, PROPS, SHORT, SIDES, TIMES, VERBS

Split = Literal["train", "heldout"]

SHORTEST = 1.5
"""Seconds an event needs at least: three latent frames."""
LEAD = 0.3
"""Seconds of rest before the first and after the last event, so that start and end can be seen."""
APART = 20.0
"""Two puppets that have nothing to do with each other keep this distance."""
_TRIES, _REDRAWS = 400, 20
_VERBS, _HUES = tuple(VERBS), tuple(HUES)
_SETTLES = ("lie_down", "float", "vanish", "leave")
"""After these an actor does nothing more in the clip."""


def held_out_act(kind: str, verb: str) -> bool:
    """Whether this puppet never does this in training: every verb misses some kinds, every kind some verbs."""
    return (3 * KINDS.index(kind) + _VERBS.index(verb)) % 8 == 0


def held_out_look(hue: str, kind: str) -> bool:
    """Whether this puppet never wears this colour in training: one hue a kind."""
    return (_HUES.index(hue) + 2 * KINDS.index(kind)) % 8 == 3


def is_held_out(script: Script) -> bool:
    """Whether any look or act of the script was kept from training."""
    looks = any(held_out_look(a.hue, a.kind) for a in script.actors)
    return looks or any(held_out_act(script.actors[e.actor].kind, e.verb) for e in script.events)


def sample_script(
    rng: np.random.Generator,
    *,
    frames: int = SHORT,
    events: int = 1,
    split: Split = "train",
    verb: str | None = None,
) -> Script:
    """Draw a possible script with so many events; `verb` fixes the first event's verb.

    Raises ValueError when that many events of at least 1.5 s do not fit, or when no script was found.
    """
    if events * SHORTEST > frames / FPS - 2 * LEAD:
        raise ValueError(f"{events} events of {SHORTEST} s do not fit into {frames} frames at {FPS} a second")
    for _ in range(_REDRAWS):
        first = verb or _VERBS[rng.integers(len(_VERBS))]  # kept for many tries: rare verbs come up as often as others
        for _ in range(_TRIES):
            script = _try(rng, frames, events, split, first)
            if script is not None and is_held_out(script) == (split == "heldout"):
                return script
    raise ValueError(f"No possible script with {events} events ({split}, verb {verb}) in {_REDRAWS * _TRIES} tries")


def event_times(rng: np.random.Generator, frames: int, events: int) -> Iterator[tuple[float, float]]:
    """Slots one after the other, each at least 1.5 s, sharing the clip at random."""
    spare = frames / FPS - 2 * LEAD - events * SHORTEST
    shares = rng.dirichlet(np.full(events, 3.0)) * spare
    edges = LEAD + np.concatenate([[0.0], np.cumsum(SHORTEST + shares)])
    yield from zip(edges[:-1], edges[1:], strict=True)


def _try(rng: np.random.Generator, frames: int, count: int, split: Split, first: str) -> Script | None:
    pair = VERBS[first].slot == "other" or (count > 1 and rng.random() < 0.5)
    script = Script(
        place=PLACES[rng.integers(len(PLACES))],
        time=TIMES[rng.integers(len(TIMES))],
        actors=_cast(rng, 2 if pair else 1, split),
        events=(),
        frames=frames,
    )
    for index, slot in enumerate(event_times(rng, frames, count)):
        chosen = first if index == 0 else _VERBS[rng.integers(len(_VERBS))]
        if VERBS[chosen].slot == "other" and not pair:
            return None
        grown = with_event(rng, script, chosen, slot)
        if grown is None:
            return None
        script = grown
    seen = {e.actor for e in script.events} | {e.other for e in script.events}
    return script if seen >= set(range(len(script.actors))) else None


def _cast(rng: np.random.Generator, count: int, split: Split) -> tuple[Actor, ...]:
    hues = rng.permutation(_HUES)[:count]
    if count == 1:
        places = [rng.uniform(26, 70)]
    else:
        gap = rng.uniform(19, 52)
        left = rng.uniform(LEFT_MOST + 4, RIGHT_MOST - 4 - gap)
        places = [left, left + gap]
        rng.shuffle(places)
    return tuple(
        Actor(
            hue=str(hue),
            kind=KINDS[rng.integers(len(KINDS))],
            x=round(float(x), 1),
            faces=int(rng.choice([-1, 1])),
        )
        for hue, x in zip(hues, places, strict=True)
    )


def with_event(rng: np.random.Generator, script: Script, verb: str, slot: tuple[float, float]) -> Script | None:
    """The script with one more event of this verb somewhere in `slot` (seconds); None where it is not possible."""
    low, high = VERBS[verb].seconds
    room = slot[1] - slot[0]
    length = min(rng.uniform(low, high), room)
    start = slot[0] + rng.uniform(0, room - length)
    actor = int(rng.integers(len(script.actors)))
    event = ScriptEvent(
        verb=verb,
        actor=actor,
        start=round(start, 3),
        end=round(start + length, 3),
        side=SIDES[rng.integers(2)] if VERBS[verb].slot == "side" else None,
        other=1 - actor if VERBS[verb].slot == "other" else None,
        prop=len(script.props) if VERBS[verb].slot == "prop" else None,
    )
    props = script.props
    if event.prop is not None:
        if props:
            return None
        x = _at(play(script), event.start, script.frames, actor)[0] + rng.choice([-1, 1]) * REACH
        props = (Prop(kind=PROPS[rng.integers(len(PROPS))], x=round(float(x), 1)),)
    grown = replace(script, props=props)
    return replace(grown, events=(*script.events, event)) if possible(grown, event) else None


def _at(stage: Stage, time: float, frames: int, actor: int) -> tuple[float, float]:
    """(x, height) of an actor when the clock shows `time`."""
    frame = min(int(time * FPS), frames - 1)
    return float(stage.puppets[actor].x[frame]), float(stage.puppets[actor].y[frame])


def possible(script: Script, event: ScriptEvent) -> bool:
    """Whether `event` may happen after the events the script already holds: everybody needed is there and has room."""
    if not _free(script, event.actor, event) or (event.other is not None and not _free(script, event.other, event)):
        return False
    if event.verb == "enter":
        stage = play(replace(script, events=(*script.events, event)))
        return _alone_at(script, stage, event, script.actors[event.actor].x)
    stage = play(script)
    x = _at(stage, event.start, script.frames, event.actor)[0]
    if not LEFT_MOST - 1 <= x <= RIGHT_MOST + 1:
        return False
    return _has_room(script, stage, event, x)


def _free(script: Script, actor: int, event: ScriptEvent) -> bool:
    """Nobody acts twice alike, after settling, or while away; who enters does nothing before."""
    mine = [e for e in script.events if actor in (e.actor, e.other)]
    acted = {e.verb for e in mine if e.actor == actor}
    if event.actor == actor and event.verb in acted:
        return False
    if event.verb == "enter" and event.actor == actor and mine:
        return False
    if event.actor == actor and {event.verb, *acted} >= {"grow", "shrink"}:
        return False
    return not acted & set(_SETTLES)


def _has_room(script: Script, stage: Stage, event: ScriptEvent, x: float) -> bool:
    if event.other is not None:
        return _meets(script, stage, event, x)
    if event.verb in ("walk", "leave"):
        side = event.side or "left"
        far = stride(x, side) if event.verb == "walk" else 200.0
        return far >= STRIDE[0] and _clear(script, stage, event, x, x + (far if side == "right" else -far))
    if event.prop is not None:
        thing = script.props[event.prop].x
        if not 8 <= thing <= 88 or abs(abs(thing - x) - REACH) > 2:
            return False
        if event.verb == "lift":
            return _clear(script, stage, event, x, thing)
        side = "right" if thing > x else "left"
        far = stride(thing, side)
        return far >= STRIDE[0] - 4 and _clear(script, stage, event, x, thing + (far if side == "right" else -far))
    return True


def _clear(script: Script, stage: Stage, event: ScriptEvent, start: float, end: float) -> bool:
    """Nobody else stands on the way or too near its end."""
    low, high = min(start, end), max(start, end)
    for index in range(len(script.actors)):
        if index != event.actor and _here(stage, index, event, script.frames):
            x = _at(stage, event.start, script.frames, index)[0]
            if low - APART < x < high + APART and abs(x - start) >= 1 and _between(x, start, end):
                return False
    return True


def _between(x: float, start: float, end: float) -> bool:
    margin = APART if end > start else -APART
    return min(start, end + margin) < x < max(start, end + margin)


def _here(stage: Stage, actor: int, event: ScriptEvent, frames: int) -> bool:
    frame = min(int(event.start * FPS), frames - 1)
    puppet = stage.puppets[actor]
    return bool(puppet.alpha[frame] > 0.5 and -6 < puppet.x[frame] < 102)


def _alone_at(script: Script, stage: Stage, event: ScriptEvent, x: float) -> bool:
    start = OFF_LEFT if event.side == "left" else OFF_RIGHT
    return _clear(script, stage, event, start, x)


def _meets(script: Script, stage: Stage, event: ScriptEvent, x: float) -> bool:
    assert event.other is not None
    if not _here(stage, event.other, event, script.frames):
        return False
    other, height = _at(stage, event.start, script.frames, event.other)
    gap = abs(other - x)
    if height > 2:
        return False
    if event.verb == "approach":
        return gap >= 38
    if event.verb == "hop_over":
        return 19 <= gap <= 27 and LEFT_MOST <= 2 * other - x <= RIGHT_MOST
    side = "right" if other > x else "left"
    return 20 <= gap <= 34 and stride(other, side) >= STRIDE[0]


def clip_frames(events: int) -> int:
    """The shorter clip length that holds so many events; ValueError when even the longer one does not."""
    for frames in (SHORT, LONG):
        if events * SHORTEST <= frames / FPS - 2 * LEAD:
            return frames
    raise ValueError(f"Expected at most {int((LONG / FPS - 2 * LEAD) // SHORTEST)} events a clip, got {events}")
