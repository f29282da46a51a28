"""Did it happen, and when: one automaton a verb, over the tracks of a scene.

`judge_event` answers for one promised event. The automata themselves live in `bodily` (what a puppet does on the
spot), `travels` (where it goes) and `handling` (what it does with a prop); each returns every time it saw something
like its verb.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.world.bodily import dance, float_up, grow, jump, lie_down, shrink, spin, vanish
from evals.world.handling import lift, push
from evals.world.sightings import OPAQUE, Seen, View, missed
from evals.world.tracks import Scene, Track
from evals.world.travels import approach, chase, enter, hop_over, leave, walk
from generators.world.motion import TALL
from generators.world.script import Script, ScriptEvent
from generators.world.words import HUES, PROPS, SIDES, VERBS

Window = tuple[float, float]
BODILY = ("jump", "spin", "grow", "shrink", "dance", "lie_down", "float", "vanish")
"""Verbs that are a change of the body itself: a smear looks like them."""
ON_THE_WAY = 0.25
"""Of the clean frames that a bodily event needs, how many a movement needs: decoders blur what moves fast."""
LEAST = 45.0
"""Pixels that a puppet shows at its biggest, at least: a shrunken child has 57."""
MARGIN = 0.5
"""Seconds before and after an event in which its puppet must be clean too."""
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


def every_promise(verb: str, hues: Sequence[str]) -> list[Promise]:
    """Every promise that a cast of these hues can make with the verb."""
    slot = VERBS[verb].slot
    if slot == "side":
        return [Promise(verb=verb, hue=hue, side=side) for hue in hues for side in SIDES]
    if slot == "prop":
        return [Promise(verb=verb, hue=hue, prop=prop) for hue in hues for prop in PROPS]
    if slot == "other":
        return [Promise(verb=verb, hue=hue, other=other) for hue in hues for other in hues if other != hue]
    return [Promise(verb=verb, hue=hue) for hue in hues]


def judge_event(scene: Scene, promise: Promise, window: Window | None = None) -> Seen:
    """Whether the promise was kept anywhere in the clip; a window only decides between several times it was.

    The evidence says in words what was seen, or what was missing.
    """
    return best(every_sight(scene, promise), window)


def every_sight(scene: Scene, promise: Promise) -> list[Seen]:
    """Everything like the promised event that its detector saw, done or not; sights may share their time."""
    actor = scene.tracks.get(promise.hue)
    if actor is None or not _stands(actor):
        return [missed(f"no {promise.hue} puppet was seen")]
    other = None if promise.other is None else scene.tracks.get(promise.other)
    if promise.other is not None and (other is None or not _stands(other)):
        return [missed(f"no {promise.other} puppet was seen")]
    prop = None if promise.prop is None else scene.props[promise.prop]
    if prop is not None and prop.seen.sum() < 3:
        return [missed(f"no {promise.prop} was seen")]
    view = View(scene=scene, me=actor, other=other, prop=prop, side=promise.side)
    share = scene.setting.clean * (1.0 if promise.verb in BODILY else ON_THE_WAY)
    return [_of_clean_puppets(view, one, share) for one in AUTOMATA[promise.verb](view)]


def _stands(track: Track) -> bool:
    """Whether a puppet was there at all: the rim of somebody's colour is smaller than any puppet."""
    return bool(track.seen.sum() >= 3 and track.area.max() >= LEAST)


def _of_clean_puppets(view: View, seen: Seen, share: float) -> Seen:
    """The same, unless its actor (or the other) is a smear, noise, or two of its hue while it happens."""
    for track in (view.me, view.other):
        if not seen.done or track is None or seen.start is None or seen.end is None:
            return seen
        if fault := _fault(view, track, (seen.start, seen.end), share):
            seen = missed(f"{seen.evidence}, but {fault}", 0.8)
    return seen


def _fault(view: View, track: Track, span: Window, share: float) -> str:
    """What keeps a puppet from having done anything around this time; empty when nothing does."""
    opaque = (track.area > 0) & (track.glow > OPAQUE)
    near = opaque & (view.times >= span[0] - MARGIN) & (view.times <= span[1] + MARGIN)
    whole = near & ~track.at_edge
    if not whole.any():
        whole = opaque & ~track.at_edge  # who stands at the edge all the while was seen before
    of_it = "" if track is view.me else f"the {track.hue} puppet "
    shown, neat, double = (int(flags.sum()) for flags in (whole, whole & track.clean, whole & track.double))
    if double > max(view.setting.doubled * shown, 1):
        return f"{of_it}is there twice in {double} of {shown} frames"
    if neat < max(share * shown, 1):
        return f"{of_it}is a clean puppet in only {neat} of {shown} frames"
    leap = _leap(view, track, np.flatnonzero(near))
    return f"{of_it}is somewhere else at once at {leap:.1f} s" if leap is not None else ""


def _leap(view: View, track: Track, shown: NDArray[np.intp]) -> float | None:
    """The second of the first way between two sightings that no puppet goes in that time; None when there is none."""
    cut = track.at_edge[shown]  # what is cut by the canvas moves only its inner edge
    edges = np.minimum(*(np.abs(np.diff(edge[shown])) for edge in (track.left, track.right)))
    across = np.where(cut[1:] | cut[:-1], edges, np.abs(np.diff(track.x[shown])))
    up = np.diff((track.top + track.foot)[shown]) / 2
    leaps = np.hypot(across, up) > view.setting.speed * TALL * np.diff(view.times[shown])
    return float(view.times[shown[1:]][leaps][0]) if leaps.any() else None


def best(found: list[Seen], window: Window | None) -> Seen:
    """Of several sights the one that was done, in the window if need be, and else the one that came nearest to it."""
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
