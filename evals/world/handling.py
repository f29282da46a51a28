"""What a puppet does with a prop: push, lift. Each automaton takes a View and returns what it saw, done or not."""

from __future__ import annotations

import numpy as np

from evals.world.curves import Run, eased, stretches
from evals.world.detectors import Curve
from evals.world.movement import LEVEL, moves, went
from evals.world.sightings import Seen, View, kept, missed
from evals.world.tracks import PropTrack, Track
from generators.world.motion import GROUND, TALL

_ALIKE, _SLACK = 0.4, 3
"""How much less or more than its pusher a prop may move: a share, and pixels beside it."""
_AHEAD = (0.3, 1.3)
"""Heights that a prop is ahead of who pushes it."""
_NOT_HELD = 0.5
"""Heights above the pusher's feet at which a prop is not on the ground."""
_OVERHEAD = (0.45, 0.5)
"""Heights, aside and up, that a held prop may be from the head of its holder."""
_GROUNDED = 0.2
"""Heights up that a prop still counts as on the ground."""
_LEAP, _UNSEEN = 0.75, 5
"""A prop that moves so many heights in a frame, or is not seen for so many, was not carried."""
_RISES = 0.05
"""Heights a frame below which a prop has come to rest."""


def push(view: View) -> list[Seen]:
    """Goes and the prop goes before it, on the ground."""
    assert view.prop is not None
    found = []
    for run in moves(view):
        far = abs(float(view.prop.x[run[1]] - view.prop.x[run[0]])) / TALL
        if pushes(view.me, view.prop, run) and far >= view.setting.stride:
            evidence = f"pushes the {view.prop.kind} {far:.2f} heights"
            found.append(went(view, run, evidence, far / view.setting.stride))
        else:
            found.append(missed(f"the {view.prop.kind} moves {far:.2f} heights", 0.8 * far / view.setting.stride))
    return found or [missed("stays where it is")]


def pushes(me: Track, prop: PropTrack, run: Run) -> bool:
    """The prop is seen, moves as the puppet does, ahead of it, and stays down."""
    inner = slice(run[0], run[1] + 1)
    if not (prop.seen[max(run[0] - 1, 0) : run[0] + 2].any() and prop.seen[run[1] - 1 : run[1] + 2].any()):
        return False
    mine, its = me.x[run[1]] - me.x[run[0]], prop.x[run[1]] - prop.x[run[0]]
    ahead = np.median((prop.x - me.x)[inner]) * np.sign(mine) / TALL
    down = np.ptp(prop.foot[inner]) < LEVEL * TALL
    grounded = np.median(prop.foot[inner] - me.foot[inner]) > -_NOT_HELD * TALL
    return bool(abs(mine - its) < _ALIKE * abs(mine) + _SLACK and _AHEAD[0] < ahead < _AHEAD[1] and down and grounded)


def lift(view: View) -> list[Seen]:
    """The prop goes up from the ground and is held over the actor's head."""
    assert view.prop is not None
    prop, me = view.prop, view.me
    on = prop.seen & me.seen
    high = (GROUND - prop.foot) / TALL
    held = on & (np.abs(prop.x - me.x) < _OVERHEAD[0] * TALL) & (np.abs(prop.foot - me.top) < _OVERHEAD[1] * TALL)
    low = np.flatnonzero(on & (high < _GROUNDED))
    up = stretches(held & (high >= view.setting.lifted))
    up = [run for run in up if run[1] > run[0] and _carried(prop, low[low < run[0]], run[0])]
    if not up:
        most = float(high[on].max(initial=0))
        return [missed(f"the {prop.kind} is at most {most:.2f} heights up", most / view.setting.lifted * 0.8)]
    begin = int(low[low < up[0][0]][-1])
    rest = _comes_to_rest(high, up[0][0])
    start, end = eased(view.times, high, begin, rest, 0.0, float(high[rest]))
    evidence = f"lifts the {prop.kind} {high[rest]:.2f} heights over its head"
    return [kept(evidence, start, end, view.scene, float(high[rest]) / view.setting.lifted)]


def _carried(prop: PropTrack, low: np.ndarray, up: int) -> bool:
    """Whether the prop went all the way from its last low place without a leap."""
    if not len(low):
        return False
    at = np.flatnonzero(prop.seen[low[-1] : up + 1]) + low[-1]
    leaps = np.hypot(np.diff(prop.x[at]), np.diff(prop.foot[at])) / np.diff(at)
    return bool(np.diff(at).max(initial=0) <= _UNSEEN and leaps.max(initial=0) < _LEAP * TALL)


def _comes_to_rest(high: Curve, first: int) -> int:
    """The first sample from `first` on after which the curve hardly rises."""
    for i in range(first, len(high) - 1):
        if high[i + 1] - high[i] < _RISES:
            return i
    return len(high) - 1
