"""What a puppet does on the spot: jump, spin, grow, shrink, dance, lie down, float, vanish.

Each automaton takes a View and returns what it saw, done or not, best guess included. Lengths are nominal heights.
"""

from __future__ import annotations

import numpy as np

from evals.world.curves import Run, crossing, eased, stretches
from evals.world.detectors import Curve
from evals.world.sightings import OPAQUE, UPRIGHT, Seen, View, kept, missed
from evals.world.tracks import EDGE
from generators.world.motion import TALL
from generators.world.words import WIDTH

OFF_GROUND = 0.16
"""Heights above the ground that are no longer a step."""
_ASIDE = 0.55
"""Heights that a jump may land from where it began."""
_LONGEST_JUMP = 3.4
"""Seconds."""
_SLID = 0.3
"""Heights that an edge went out of the canvas in the last samples: gone, and not faded."""
_SLIPPED = 0.35
"""Heights that the far edge ran after it."""
_ON_THE_SPOT = 0.5
"""Heights that who fades away may move meanwhile."""
_FEWEST = 4
"""Usable samples below which nothing is said of a spin."""
_CLEARLY_THIN = 0.12
"""Widths below the threshold at which a single turn counts."""
_FACING = 0.78
"""Share of its usual shape from which on a puppet is no longer turning."""
_CREEP = 0.012
"""Growth a frame, as a share, that still belongs to a change of size."""
_FALLEN = 0.6
"""Tilt, in radians, that is no longer a swing of a dance."""
_LEANS = 0.07
"""Tilt, in radians, that is a swing of a dance."""
_FEWEST_SWINGS = 3
_BEAT = 0.8
"""Seconds between two swings of one dance, at most."""


def flights(view: View) -> list[Run]:
    """Stretches in which the actor is off the ground."""
    return [run for run in stretches((view.rise > OFF_GROUND) & view.me.seen) if run[1] > run[0]]


def landed(view: View, run: Run) -> bool:
    """Whether a flight was seen to begin and to end on the ground."""
    return view.first < run[0] and run[1] < view.last


def flight_times(view: View, run: Run) -> tuple[float, float]:
    """Take-off and landing of a parabola, from where it passes OFF_GROUND."""
    high = view.rise
    first, last = run[0] - 1, run[1] + 1
    peak = int(run[0] + np.argmax(high[run[0] : run[1] + 1]))
    up = crossing(view.times, high, OFF_GROUND, first, peak)
    down = crossing(view.times, high, OFF_GROUND, peak, last)
    share = (1 - np.sqrt(max(1 - OFF_GROUND / float(high[peak]), 0.0))) / 2
    length = (down - up) / max(1 - 2 * share, 0.2)
    return up - share * length, up - share * length + length


def jump(view: View) -> list[Seen]:
    """Up and down again, and lands where it started."""
    found = []
    for run in flights(view):
        high = float(view.rise[run[0] : run[1] + 1].max())
        if not landed(view, run):
            found.append(missed(f"rises {high:.2f} heights and does not land", 0.8 * high / view.setting.rise))
            continue
        start, end = flight_times(view, run)
        far = abs(float(view.me.x[run[1] + 1] - view.me.x[run[0] - 1])) / TALL
        if high < view.setting.rise or far > _ASIDE or end - start > _LONGEST_JUMP:
            found.append(missed(f"rises {high:.2f} heights, lands {far:.2f} heights away", high / view.setting.rise))
        else:
            found.append(kept(f"rises {high:.2f} heights and lands", start, end, view.scene, high / view.setting.rise))
    return found or [missed("stays on the ground")]


def float_up(view: View) -> list[Seen]:
    """Rises from the ground and is still up there at the end."""
    high, last = view.rise, view.last
    up = float(np.median(high[max(last - 2, 0) : last + 1]))
    low = np.flatnonzero((high < OFF_GROUND) & view.me.seen)
    if up < view.setting.rise or not view.stays or not len(low):
        return [missed(f"is {max(up, 0):.2f} heights above the ground at the end", up / view.setting.rise)]
    start, end = eased(view.times, high, int(low[-1]), last, 0.0, up)
    return [kept(f"rises {up:.2f} heights and stays up", start, end, view.scene, up / view.setting.rise)]


def vanish(view: View) -> list[Seen]:
    """Is there, then is not, without having gone anywhere."""
    last = view.last
    if last >= len(view.times) - 2:
        return [missed("is still there at the end")]
    before = max(last - 2, view.first)
    gone = view.me.left[last] < EDGE and view.me.left[before] - view.me.left[last] > _SLID * TALL
    gone |= view.me.right[last] > WIDTH - EDGE and view.me.right[last] - view.me.right[before] > _SLID * TALL
    moved = abs(float(view.me.x[last] - view.me.x[before])) / TALL
    if gone or moved > _ON_THE_SPOT or _slips_out(view):
        return [missed(f"goes off the stage, moving {moved:.2f} heights", 0.3)]
    whole = np.flatnonzero(view.me.glow > OPAQUE)
    first = int(whole[-1]) if len(whole) else view.first
    start, end = eased(view.times, view.me.glow, first, len(view.times) - 1, 1.0, 0.0)
    return [kept("fades away on the spot", start, end, view.scene, 1.5)]


def _slips_out(view: View) -> bool:
    """Whether the far edge of the puppet ran toward the near side of the canvas before it was gone."""
    last = view.last
    before = max(last - 3, view.first)
    out_left = view.me.left[last] < EDGE and view.me.right[before] - view.me.right[last] > _SLIPPED * TALL
    out_right = view.me.right[last] > WIDTH - EDGE and view.me.left[last] - view.me.left[before] > _SLIPPED * TALL
    return bool(out_left or out_right)


def spin(view: View) -> list[Seen]:
    """Gets thin and wide again while it stays as tall."""
    me = view.me
    usable = me.seen & ~me.at_edge & _standing(view) & ~_flying(view)
    if usable.sum() < _FEWEST:
        return [missed("is hardly ever whole and upright on the stage")]
    ends = _against_neighbours(me.wide / np.maximum(me.tall, 1), usable)
    filled = _against_neighbours(me.area / np.maximum(me.tall, 1) ** 2, usable)
    wide = np.where(me.area > 0, np.sqrt(ends * filled), 0.1)  # a blurred edge leaves its ends, not what is between
    thin = stretches(usable & (wide < view.setting.thin))
    turns = [run for run in thin if view.first < run[0] and run[1] < view.last]
    least = float(wide[usable].min())
    if not turns or (len(turns) < 2 and least > view.setting.thin - _CLEARLY_THIN):
        return [missed(f"shows at least {least:.2f} of its width", 0.7 * view.setting.thin / max(least, 0.1))]
    start, end = float(view.times[turns[0][0]]), float(view.times[turns[-1][1]])
    margin = max(0.3, 0.24 * (end - start) + 0.2)
    return [
        kept(
            f"turns edge on {len(turns)} times", start - margin, end + margin, view.scene,
            view.setting.thin / max(least, 0.1),
        )
    ]  # fmt: skip


def _against_neighbours(wide: Curve, usable: np.ndarray) -> Curve:
    """Each width over the usual width, 1 where nothing usable is seen."""
    usual = float(np.percentile(wide[usable], 80))
    return np.where(usable, wide / max(usual, 1e-6), 1.0)


def _standing(view: View) -> np.ndarray:
    """Samples before the puppet lies down for good, with a sample of distance."""
    lying = stretches(np.abs(view.me.tilt) > UPRIGHT)
    until = (
        lying[-1][0] - 1
        if lying and lying[-1][1] >= view.last and lying[-1][1] - lying[-1][0] >= 2
        else len(view.times)
    )
    return np.arange(len(view.times)) < until


def _flying(view: View) -> np.ndarray:
    """Samples of a jump or a flight; an edge-on puppet whose feet are too thin to see is down soon after."""
    high = np.zeros(len(view.times), dtype=bool)
    for first, last in stretches(view.rise > 2 * OFF_GROUND):
        high[first : last + 1] = last - first >= 2
    return high


def grow(view: View) -> list[Seen]:
    """Is clearly bigger at the end than before, in height and area."""
    return [_resized(view, bigger=True)]


def shrink(view: View) -> list[Seen]:
    """Is clearly smaller at the end than before, in height and area."""
    return [_resized(view, bigger=False)]


def _resized(view: View, bigger: bool) -> Seen:
    me = view.me
    whole = me.seen & ~me.at_edge & (np.abs(me.tilt) < UPRIGHT) & (me.glow > OPAQUE) & (me.area > 0)
    aspect = me.wide / np.maximum(me.tall, 1)
    if whole.any():
        whole &= aspect > _FACING * np.percentile(aspect[whole], 60)  # not while it spins
    at = np.flatnonzero(whole)
    if len(at) < 6:
        return missed("is hardly ever whole and upright on the stage")
    size, tall = me.size[at], me.tall[at]
    best, cut = 0.0, 0
    for k in range(2, len(at) - 2):
        ratios = [np.log(np.median(c[k : k + 3]) / np.median(c[max(k - 3, 0) : k])) for c in (size, tall)]
        change = min(ratios) if bigger else -max(ratios)
        if change > best:
            best, cut = float(change), k
    return _resize_verdict(view, at, size, tall, cut, bigger)


def _resize_verdict(view: View, whole: np.ndarray, size: Curve, tall: Curve, cut: int, bigger: bool) -> Seen:
    word = "bigger" if bigger else "smaller"
    if cut == 0:
        return missed("keeps its size")
    first, last = _levels(size, cut, bigger)
    before, after = np.median(size[max(first - 2, 0) : first + 1]), np.median(size[last : last + 3])
    times_tall = float(np.median(tall[last : last + 3]) / np.median(tall[max(first - 2, 0) : first + 1]))
    ratio = float(after / before) if bigger else float(before / after)
    height = times_tall if bigger else 1 / times_tall
    need = view.setting.grown if bigger else view.setting.shrunk
    if min(ratio, height) < need:
        return missed(f"becomes {ratio:.2f} times {word}", (ratio - 1) / (need - 1) * 0.9)
    span = view.times[whole]
    start, end = eased(span, size, first, last, float(before), float(after))
    return kept(f"becomes {ratio:.2f} times {word}", start, end, view.scene, (ratio - 1) / (need - 1))


def _levels(size: Curve, cut: int, bigger: bool) -> Run:
    """Where the change around `cut` began and ended: as far as the curve keeps rising (or falling)."""
    steps = np.diff(size) if bigger else -np.diff(size)
    moving = steps > _CREEP * size[:-1]
    first = last = cut
    while first > 0 and (moving[first - 1] or (first > 1 and moving[first - 2])):
        first -= 1
    while last < len(size) - 1 and (moving[last] or (last < len(size) - 2 and moving[last + 1])):
        last += 1
    return first, last


def dance(view: View) -> list[Seen]:
    """Sways from side to side, leaning with it, at least two times over."""
    me = view.me
    lean = np.where(me.seen & (np.abs(me.tilt) < _FALLEN), me.tilt, 0.0)
    drift = _drift(me.x)
    sway = (me.x - drift) / TALL
    beats = _swings(view, sway, lean, view.setting.sway / 2)
    if len(beats) < _FEWEST_SWINGS:
        return [missed(f"sways {len(beats)} times", len(beats) / (_FEWEST_SWINGS + 1))]
    first, last = beats[0], beats[-1]
    wide = float(np.ptp(sway[first : last + 1]))
    if wide < view.setting.sway:
        return [missed(f"sways by {wide:.2f} heights", wide / view.setting.sway)]
    margin = 0.2
    start, end = float(view.times[first]) - margin, float(view.times[last]) + margin
    return [
        kept(f"sways {len(beats)} times by {wide:.2f} heights", start, end, view.scene, len(beats) / _FEWEST_SWINGS)
    ]


def _drift(x: Curve) -> Curve:
    """Where the puppet is on the whole: the mean over about a second on both sides."""
    padded = np.pad(x, 4, mode="edge")
    return np.convolve(padded, np.full(9, 1 / 9), mode="valid")


def _swings(view: View, sway: Curve, lean: Curve, least: float) -> list[int]:
    """Samples at which the puppet is far out, each on the other side than the one before and soon after it."""
    groups: list[list[int]] = [[]]
    for i, (aside, tilt) in enumerate(zip(sway, lean, strict=True)):
        if abs(tilt) < _LEANS or aside * tilt <= 0 or abs(aside) < 0.4 * least:
            continue
        if groups[-1] and view.times[i] - view.times[groups[-1][-1]] > _BEAT:
            groups.append([])
        if not groups[-1] or np.sign(lean[groups[-1][-1]]) != np.sign(tilt):
            groups[-1].append(i)
    return max(groups, key=len)


def lie_down(view: View) -> list[Seen]:
    """Stands first and lies at the end."""
    lean = np.abs(view.me.tilt)
    end_lean = float(np.median(lean[max(view.last - 2, 0) : view.last + 1]))
    stands = np.flatnonzero(view.me.seen & (lean < UPRIGHT))
    still_down = len(stands) >= 2 and stands[-1] < view.last - 1
    if end_lean < view.setting.lean or not view.stays or not still_down:
        return [missed(f"leans {np.rad2deg(end_lean):.0f} degrees at the end", end_lean / view.setting.lean)]
    start, end = eased(view.times, lean, int(stands[-1]), view.last, 0.0, max(end_lean, 1.2))
    return [
        kept(
            f"leans {np.rad2deg(end_lean):.0f} degrees and stays down",
            start,
            end,
            view.scene,
            end_lean / view.setting.lean,
        )
    ]
