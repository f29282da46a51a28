"""Where a puppet goes: walk, enter, leave, approach, chase, hop over.

One movement is one thing: somebody who pushes, chases, approaches, enters or leaves does not also walk. Each
automaton takes a View and returns what it saw, done or not. Lengths are nominal heights unless they say pixels.
"""

from __future__ import annotations

import numpy as np

from evals.world.bodily import flight_times, flights, landed
from evals.world.curves import Run, eased, pieces, runs
from evals.world.detectors import Curve
from evals.world.handling import pushes
from evals.world.movement import LEVEL, PAUSE, STILL, moves, went
from evals.world.sightings import Seen, View, kept, missed
from evals.world.tracks import EDGE, Track
from generators.world.motion import OFF_LEFT, OFF_RIGHT, TALL
from generators.world.words import WIDTH

_OFF_FEET = 0.3
"""Heights above the ground, on the whole, at which one flies and does not walk."""
_SLIVER = 0.25
"""Share of the usual area below which a puppet at the edge is gone."""
_CAME_IN, _DEEP = 0.25, 0.35
"""Heights that one must come in, and be inside at the end."""
_WENT_OUT = 0.35
"""Heights that one must go towards the edge."""
_CLOSED = 0.5
"""Heights by which a gap must close to be walked up to."""
_TOGETHER = 0.55
"""Share of the longer of two ways that the shorter must be."""
_BEHIND = (0.3, 2.2)
"""Heights that a hunter is behind its prey."""
_BESIDE = 0.3
"""Heights before and behind the other where a hop begins and ends."""
_SAME_GROUND = 0.4
"""Heights that the feet of both may differ when a hop begins."""


def walk(view: View) -> list[Seen]:
    """Goes to the promised side on its feet and stays on the stage."""
    way = 1 if view.side == "right" else -1
    found = []
    for run in moves(view):
        far = way * (view.me.x[run[1]] - view.me.x[run[0]]) / TALL
        reason = _other_name(view, run)
        if far < view.setting.stride:
            found.append(missed(f"goes {far:.2f} heights to the {view.side}", 0.8 * far / view.setting.stride))
        elif reason:
            found.append(missed(f"goes {far:.2f} heights to the {view.side}, but {reason}", 0.8))
        else:
            found.append(went(view, run, f"walks {far:.2f} heights to the {view.side}", far / view.setting.stride))
    return found or [missed("stays where it is")]


def _other_name(view: View, run: Run) -> str:
    """What the movement is instead of a walk; empty when it is one."""
    if _from_outside(view, run):
        return "comes from outside"
    if _to_outside(view, run):
        return "leaves the stage"
    if float(np.median(view.rise[run[0] : run[1] + 1])) > _OFF_FEET:
        return "flies"
    for prop in view.scene.props.values():
        if prop.seen[run[0] : run[1] + 1].mean() > 0.6 and pushes(view.me, prop, run):
            return f"pushes the {prop.kind}"
    for hue, other in view.scene.tracks.items():
        if other is not view.me and hue != view.me.hue and _stands_there(other, run):
            if _gap_closed(view, other, run) and _rests(other, run):
                return f"walks up to the {hue} puppet"
            if _together(view.me, other, run):
                return f"goes along with the {hue} puppet"
    return ""


def _stands_there(other: Track, run: Run) -> bool:
    """Whether the other is a puppet all the while, not a rim of somebody's colour."""
    during = slice(run[0], run[1] + 1)
    return bool(other.seen[during].all() and other.clean[during].mean() > 0.5)


def _from_outside(view: View, run: Run) -> bool:
    me = view.me
    return run[0] <= view.first + 1 and view.first >= 2 and bool(me.at_edge[view.first])


def _to_outside(view: View, run: Run) -> bool:
    me = view.me
    return run[1] >= view.last - 1 and view.last <= len(view.times) - 3 and bool(me.at_edge[view.last])


def enter(view: View) -> list[Seen]:
    """Is not there at first, then comes in over the promised side."""
    me, first = view.me, view.first
    if first < 2:
        return [missed("is there from the start")]
    left = view.side == "left"
    touches = me.left[first] < 3 * EDGE if left else me.right[first] > WIDTH - 3 * EDGE
    inside = [r for r in runs(me.x, STILL) if r[0] <= first + 1 and me.seen[r[1]]]
    if not touches or not inside:
        return [missed(f"appears {me.x[first]:.0f} pixels from the left edge, not over the {view.side} side", 0.4)]
    outside = OFF_LEFT if left else OFF_RIGHT
    return [_entered(view, run, outside) for run in _whole_and_first(me.x, inside[0])]


def _whole_and_first(x: Curve, run: Run) -> list[Run]:
    cut = pieces(x, run, PAUSE * TALL)
    return [run, cut[0]] if len(cut) > 1 else [run]


def _entered(view: View, run: Run, outside: float) -> Seen:
    x = view.me.x
    far = (x[run[1]] - x[run[0]]) / TALL * (1 if view.side == "left" else -1)
    depth = (x[run[1]] if view.side == "left" else WIDTH - x[run[1]]) / TALL
    if far < _CAME_IN or depth < _DEEP:
        return missed(f"comes in only {depth:.2f} heights", depth)
    path = np.where(np.arange(len(x)) < view.first, outside, x)
    start, end = eased(view.times, path, max(view.first - 1, 0), run[1], outside, float(x[run[1]]))
    return kept(f"comes in {depth:.2f} heights from the {view.side}", start, end, view.scene, 1.5)


def leave(view: View) -> list[Seen]:
    """Goes out over the promised side and is gone at the end."""
    me, last = view.me, _last_of_substance(view)
    if last >= len(view.times) - 1:
        return [missed("is still there at the end", 0.3)]
    left = view.side == "left"
    touches = me.left[last] < 3 * EDGE if left else me.right[last] > WIDTH - 3 * EDGE
    outward = [r for r in runs(me.x, STILL) if r[1] >= last - 1 and me.seen[r[0]]]
    if not touches or not outward:
        return [missed(f"is last seen {me.x[last]:.0f} pixels from the left edge", 0.4)]
    run = _last_piece(me.x, outward[-1])
    far = (me.x[run[0]] - me.x[run[1]]) / TALL * (1 if left else -1)
    if far < _WENT_OUT:
        return [missed(f"goes {far:.2f} heights to the {view.side}", 0.6)]
    outside = OFF_LEFT if left else OFF_RIGHT
    path = np.where(np.arange(len(me.x)) > last, outside, me.x)
    start, end = eased(view.times, path, run[0], min(last + 1, len(path) - 1), float(me.x[run[0]]), outside)
    return [kept(f"goes out to the {view.side}", start, end, view.scene, far / _WENT_OUT)]


def _last_of_substance(view: View) -> int:
    """The last sample that shows more than a sliver at the edge."""
    me = view.me
    usual = float(np.median(me.area[me.area > 0]))
    return int(np.flatnonzero(me.seen & ~(me.at_edge & (me.area < _SLIVER * usual)))[-1])


def _last_piece(x: Curve, run: Run) -> Run:
    return pieces(x, run, PAUSE * TALL)[-1]


def approach(view: View) -> list[Seen]:
    """Walks up to the other, who waits, and stops beside it."""
    assert view.other is not None
    found = []
    for run in moves(view):
        before, after = _gap(view.me, view.other, run[0]), _gap(view.me, view.other, run[1])
        closed = before - after
        evidence = f"comes from {before:.2f} to {after:.2f} heights of the {view.other.hue} puppet"
        high = float(np.median(view.rise[run[0] : run[1] + 1]))
        if closed < view.setting.stride or after > view.setting.near or not _rests(view.other, run) or high > _OFF_FEET:
            found.append(missed(evidence, 0.8 * closed / view.setting.stride))
        else:
            found.append(went(view, run, evidence, closed / view.setting.stride))
    return found or [missed("stays where it is")]


def _gap(me: Track, other: Track, at: int) -> float:
    return abs(_stand(me, at) - _stand(other, at)) / TALL


def _stand(track: Track, at: int) -> float:
    """Where the puppet's own middle is around a sample, whatever its tail does."""
    near = slice(max(at - 1, 0), at + 2)
    return float(track.x[at] - np.median(track.aside[near]))


def _gap_closed(view: View, other: Track, run: Run) -> bool:
    before, after = _gap(view.me, other, run[0]), _gap(view.me, other, run[1])
    return after < view.setting.near and before - after > _CLOSED


def _rests(other: Track, run: Run) -> bool:
    return float(np.ptp(other.x[run[0] : run[1] + 1])) < LEVEL * TALL and bool(other.seen[run[0] : run[1] + 1].all())


def _together(me: Track, other: Track, run: Run) -> bool:
    """Both go the same way, as far, at the same time."""
    mine, its = me.x[run[1]] - me.x[run[0]], other.x[run[1]] - other.x[run[0]]
    return bool(mine * its > 0 and min(abs(mine), abs(its)) > _TOGETHER * max(abs(mine), abs(its)))


def chase(view: View) -> list[Seen]:
    """Runs behind the other, who runs away the same way."""
    assert view.other is not None
    me, other = view.me, view.other
    found = []
    for run in moves(view):
        way = np.sign(me.x[run[1]] - me.x[run[0]])
        ahead = way * (other.x - me.x)[run[0] : run[1] + 1] / TALL
        mine, its = (abs(float(t.x[run[1]] - t.x[run[0]])) / TALL for t in (me, other))
        evidence = f"goes {mine:.2f} heights, {ahead.mean():.2f} behind the {other.hue} puppet, which goes {its:.2f}"
        far = min(mine, its)
        behind = bool(ahead.min() > _BEHIND[0] and ahead.max() <= _BEHIND[1])
        if far < view.setting.stride or not _together(me, other, run) or not behind:
            found.append(missed(evidence, 0.8 * far / view.setting.stride))
        else:
            found.append(went(view, run, evidence, far / view.setting.stride))
    return found or [missed("stays where it is")]


def hop_over(view: View) -> list[Seen]:
    """Takes off on one side of the other and lands on its other side."""
    assert view.other is not None
    me, other = view.me, view.other
    found = []
    for run in flights(view):
        high = float(view.rise[run[0] : run[1] + 1].max())
        before, after = max(run[0] - 1, 0), min(run[1] + 1, len(view.times) - 1)
        a, b = (float(me.x[i] - other.x[i]) / TALL for i in (before, after))
        over = a * b < 0 and min(abs(a), abs(b)) > _BESIDE
        evidence = f"rises {high:.2f} heights, from {abs(a):.2f} before to {abs(b):.2f} behind the {other.hue} puppet"
        if (
            not over
            or high < view.setting.rise
            or not landed(view, run)
            or abs(float(other.foot[before] - me.foot[before])) > _SAME_GROUND * TALL
        ):
            found.append(missed(evidence if over else f"rises {high:.2f} heights and stays on its side", 0.6))
        else:
            start, end = flight_times(view, run)
            found.append(kept(evidence, start, end, view.scene, high / view.setting.rise))
    return found or [missed("stays on the ground")]
