"""Did it happen, and when: one automaton a verb, over the tracks of a scene.

`judge_event` answers for one promised event. The automata themselves live in `bodily` (what a puppet does on the
spot) and `travels` (where it goes); each returns every time it saw something like its verb.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evals.world.bodily import dance, float_up, grow, jump, lie_down, shrink, spin, vanish
from evals.world.sightings import Seen, View, missed
from evals.world.tracks import Scene
from evals.world.travels import approach, chase, enter, hop_over, leave, lift, push, walk
from generators.world.script import Script, ScriptEvent
from generators.world.words import HUES, PROPS, SIDES, VERBS

Window = tuple[float, float]
AUTOMATA: dict[str, Callable[[View], list[Seen]]] = {
    "walk": walk, "jump": jump, "spin": spin, "grow": grow, "shrink": shrink, "dance": dance, "lie_down": lie_down,
    "float": float_up, "vanish": vanish, "enter": enter, "leave": leave, "push": push, "lift": lift,
    "approach": approach, "chase": chase, "hop_over": hop_over,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What should happen: the verb and the hue of who does it, and what else the verb needs."""

    verb: str
    hue: str
    side: str | None = None
    prop: str | None = None
    other: str | None = None
    """Hue of the other puppet."""

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise ValueError(f"Promise.verb: expected one of {', '.join(VERBS)}; got {self.verb!r}")
        has = {"side": (self.side, SIDES), "prop": (self.prop, PROPS), "other": (self.other, tuple(HUES))}
        for name, (value, allowed) in has.items():
            if (value is not None) != (name == VERBS[self.verb].slot) or (value is not None and value not in allowed):
                raise ValueError(f"Promise {self.verb!r} needs {VERBS[self.verb].slot!r}; got {name}={value!r}")


def promised(script: Script, event: ScriptEvent) -> Promise:
    """The script's event as a promise that pixels can keep."""
    return Promise(
        verb=event.verb,
        hue=script.actors[event.actor].hue,
        side=event.side,
        prop=None if event.prop is None else script.props[event.prop].kind,
        other=None if event.other is None else script.actors[event.other].hue,
    )


def judge_event(scene: Scene, promise: Promise, window: Window | None = None) -> Seen:
    """Whether the promise was kept anywhere in the clip; a window only decides between several times it was.

    The evidence says in words what was seen, or what was missing.
    """
    actor = scene.tracks.get(promise.hue)
    if actor is None or actor.seen.sum() < 3:
        return missed(f"no {promise.hue} puppet was seen")
    other = None if promise.other is None else scene.tracks.get(promise.other)
    if promise.other is not None and (other is None or other.seen.sum() < 3):
        return missed(f"no {promise.other} puppet was seen")
    prop = None if promise.prop is None else scene.props[promise.prop]
    if prop is not None and prop.seen.sum() < 3:
        return missed(f"no {promise.prop} was seen")
    view = View(scene=scene, me=actor, other=other, prop=prop, side=promise.side)
    return _best(AUTOMATA[promise.verb](view), window)


def _best(found: list[Seen], window: Window | None) -> Seen:
    kept = [one for one in found if one.done]
    if not kept:
        return max(found, key=lambda one: one.confidence, default=missed("nothing like it was seen"))
    if window is None:
        return max(kept, key=lambda one: one.confidence)
    return max(kept, key=lambda one: (overlap((one.start, one.end), window), one.confidence))


def overlap(a: tuple[float | None, float | None], b: Window) -> float:
    """Temporal intersection over union of two intervals; 0 when the first was never timed."""
    if a[0] is None or a[1] is None:
        return 0.0
    both = min(a[1], b[1]) - max(a[0], b[0])
    return max(both, 0.0) / (max(a[1], b[1]) - min(a[0], b[0]))
