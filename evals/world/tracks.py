"""Who is where over the whole clip: sightings cleaned, gaps bridged, a puppet followed through a change of colour.

Knows frames and hues; what a movement means is for `events`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from evals.world.backdrop import Backdrop, backdrop_pixels, sight_backdrop
from evals.world.cleanliness import clean, examine
from evals.world.curves import stretches
from evals.world.detectors import Curve, Frames, PropSighting, Sighting, sight, sight_props
from evals.world.settings import Setting
from evals.world.shapes import Shape, aside_of, compare, kind_of, tilt_of
from generators.world.motion import TALL
from generators.world.words import FPS, WIDTH

BRIDGE = 2
"""Frames a track may miss and go on."""
EDGE = 2.5
"""Pixels from the canvas's edge that count as touching it."""
_DOUBLE = 0.5
"""Parts of its own pixels that stand away from a puppet when there are two of it."""
MISFIT = {"ball": 26.0, "box": 24.0}
"""A prop's picture that fits worse than this is not there …"""
_DOUBT = 6.0
"""… unless it is by no more than this, and the prop is seen before and after."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """One puppet through the clip, a value a frame looked at; where it is not seen, the last or next value stands.

    `size` is the square root of its area, `hue_at` its colour in every frame, None where it is not seen.
    """

    hue: str
    seen: NDArray[np.bool_]
    x: Curve
    left: Curve
    right: Curve
    top: Curve
    foot: Curve
    size: Curve
    tilt: Curve
    aside: Curve
    """Pixels by which `x`, the middle of its colour, is off its own middle: tails and wings pull."""
    area: Curve
    """Pixels of it in the frame itself, 0 inside a bridged gap."""
    glow: Curve
    """How much of its colour is left while it fades on the spot, 1 to 0."""
    kind: str | None
    kind_fit: float
    """Overlap of its silhouette with that kind's, 0..1."""
    kind_lead: float
    """How much better that kind fits than the next."""
    hue_at: tuple[str | None, ...] = field(repr=False)
    clean: NDArray[np.bool_] = field(repr=False)
    """Frames that show it as one compact, opaque body: what happens elsewhere may be a smear."""
    double: NDArray[np.bool_] = field(repr=False)
    """Frames that show a second body of its hue, at least half as large."""

    @property
    def tall(self) -> Curve:
        """Height of what is seen, pixels."""
        return self.foot - self.top

    @property
    def wide(self) -> Curve:
        """Width of what is seen, pixels."""
        return self.right - self.left

    @property
    def at_edge(self) -> NDArray[np.bool_]:
        """Whether it touches the left or right edge of the canvas."""
        return (self.left < EDGE) | (self.right > WIDTH - EDGE)

    @property
    def recoloured(self) -> bool:
        """Whether it wears another hue later on."""
        return any(hue not in (None, self.hue) for hue in self.hue_at)


@dataclass(frozen=True, kw_only=True)
class PropTrack:
    """A prop through the clip; `foot` is its lower edge."""

    kind: str
    seen: NDArray[np.bool_]
    x: Curve
    foot: Curve


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that a setting saw of a clip. `times` are the seconds of the frames looked at."""

    setting: Setting
    times: Curve
    seconds: float
    sightings: dict[str, Sighting] = field(repr=False)
    tracks: dict[str, Track] = field(repr=False)
    props: dict[str, PropTrack] = field(repr=False)
    backdrop: Backdrop = field(repr=False)


def watch(frames: Frames, setting: Setting, fps: int = FPS) -> Scene:
    """Look at a clip (T, 64, 96, 3) the way `setting` does. Raises ValueError for another size or too few frames."""
    chosen = np.arange(setting.first, len(frames), setting.step)
    if len(chosen) < 4:
        raise ValueError(
            f"watch: {setting.name} needs at least 4 of its frames, a clip of {len(frames)} has {len(chosen)}"
        )
    looked = frames[chosen]
    sightings = sight(looked)
    shapes = {hue: compare(sighting) for hue, sighting in sightings.items()}
    backdrop = sight_backdrop(looked)
    neat = {hue: clean(examine(looked, backdrop, one, shapes[hue]), setting) for hue, one in sightings.items()}
    tracks = {hue: follow(hue, sightings, shapes, neat) for hue in sightings}
    return Scene(
        setting=setting,
        times=chosen / fps,
        seconds=len(frames) / fps,
        sightings=sightings,
        tracks={hue: replace(t, glow=_glow(looked, backdrop, sightings[hue], t)) for hue, t in tracks.items()},
        props={kind: _prop_track(prop) for kind, prop in sight_props(looked, _stage(backdrop)).items()},
        backdrop=backdrop,
    )


def _stage(backdrop: Backdrop) -> NDArray[np.float32]:
    """The empty stage that is seen most."""
    seen = list(zip(backdrop.places, backdrop.times, strict=True))
    return backdrop_pixels(*max(set(seen), key=seen.count))


def follow(
    hue: str, sightings: dict[str, Sighting], shapes: dict[str, Shape], neat: dict[str, NDArray[np.bool_]]
) -> Track:
    """The puppet that first wears `hue`, also after it turned into another colour on the spot."""
    parts = [(hue, 0)]
    while (turn := _recolouring(parts[-1], sightings, [h for h, _ in parts])) is not None:
        parts.append(turn)
    worn = _worn(parts, sightings)
    return replace(
        _track(hue, _joined(parts, sightings), _joined_shape(parts, shapes), worn),
        clean=np.array([now is not None and neat[now][frame] for frame, now in enumerate(worn)]),
    )


def _recolouring(part: tuple[str, int], sightings: dict[str, Sighting], known: list[str]) -> tuple[str, int] | None:
    """(hue, frame) when the puppet's colour ends for good where another one begins for good."""
    mine = sightings[part[0]].area > 0
    if not mine.any() or mine[-1]:
        return None
    last = int(np.flatnonzero(mine)[-1])
    old = sightings[part[0]]
    usual = float(np.median(old.area[mine]))
    for hue, other in sightings.items():
        on = np.flatnonzero(other.area > 0.5 * usual)
        if hue in known or not len(on) or not 0 < on[0] - last <= BRIDGE or len(on) < 3:
            continue
        if np.hypot(other.x[on[0]] - old.x[last], other.y[on[0]] - old.y[last]) < TALL / 2:
            return hue, int(on[0])
    return None


def _joined(parts: list[tuple[str, int]], sightings: dict[str, Sighting]) -> Sighting:
    whole = sightings[parts[0][0]]
    for hue, begin in parts[1:]:
        later = sightings[hue]
        whole = Sighting(
            hue=whole.hue,
            area=_then(whole.area, later.area, begin),
            x=_then(whole.x, later.x, begin),
            y=_then(whole.y, later.y, begin),
            left=_then(whole.left, later.left, begin),
            right=_then(whole.right, later.right, begin),
            top=_then(whole.top, later.top, begin),
            foot=_then(whole.foot, later.foot, begin),
            clone=_then(whole.clone, later.clone, begin),
            masks=np.concatenate([whole.masks[:begin], later.masks[begin:]]),
        )
    return whole


def _then(before: Curve, after: Curve, begin: int) -> Curve:
    return np.concatenate([before[:begin], after[begin:]])


def _joined_shape(parts: list[tuple[str, int]], shapes: dict[str, Shape]) -> Shape:
    whole = shapes[parts[0][0]]
    for hue, begin in parts[1:]:
        later = shapes[hue]
        whole = Shape(
            fits=_then(whole.fits, later.fits, begin),
            tilts=_then(whole.tilts, later.tilts, begin),
            drawable=_then(whole.drawable, later.drawable, begin),
            asides=_then(whole.asides, later.asides, begin),
        )
    return whole


def _worn(parts: list[tuple[str, int]], sightings: dict[str, Sighting]) -> tuple[str | None, ...]:
    worn: list[str | None] = []
    for frame in range(len(sightings[parts[0][0]].area)):
        hue = [h for h, begin in parts if begin <= frame][-1]
        worn.append(hue if sightings[hue].area[frame] > 0 else None)
    return tuple(worn)


def _track(hue: str, one: Sighting, shape: Shape, worn: tuple[str | None, ...]) -> Track:
    seen = _lasting(_bridged(one.area > _least(one.area)), one)
    clean = seen & (one.left > EDGE) & (one.right < WIDTH - EDGE)
    kind, fit, lead = kind_of(shape, clean if clean.any() else seen & (one.area > 0))
    tilt = np.where(one.area > 0, tilt_of(shape, kind), np.nan)
    return Track(
        hue=hue, seen=seen, kind=kind, kind_fit=fit, kind_lead=lead, hue_at=worn,
        area=one.area, glow=np.ones(len(seen)), clean=seen,
        double=(one.area > 0) & (one.clone >= _DOUBLE * one.area),
        x=_filled(_middle(one), seen), left=_filled(one.left, seen), right=_filled(one.right, seen),
        top=_filled(one.top, seen), foot=_filled(one.foot, seen),
        size=_filled(np.sqrt(np.where(one.area > 0, one.area, np.nan)), seen), tilt=_filled(tilt, seen),
        aside=_filled(np.where(one.area > 0, aside_of(shape, kind), np.nan), seen),
    )  # fmt: skip


def _middle(one: Sighting) -> Curve:
    """The puppet's x, also where part of it is outside: the edge that is inside, less its usual distance."""
    x = one.x.copy()
    whole = np.flatnonzero((one.area > 0) & (one.left > EDGE) & (one.right < WIDTH - EDGE))
    for frame in np.flatnonzero((one.area > 0) & ((one.left <= EDGE) | (one.right >= WIDTH - EDGE))):
        if len(whole):
            near = whole[np.argmin(np.abs(whole - frame))]
            edge = one.right if one.left[frame] <= EDGE else one.left
            x[frame] = edge[frame] + one.x[near] - edge[near]
    return x


def _glow(frames: Frames, backdrop: Backdrop, one: Sighting, track: Track) -> Curve:
    """The hue left inside the puppet's last whole outline, against the empty stage; 1 when it did not fade."""
    seen = np.flatnonzero((one.area > 0) & track.seen)
    if track.recoloured or not len(seen) or seen[-1] >= len(frames) - 1 or track.at_edge[seen[-1]]:
        return np.ones(len(frames))
    usual = np.median(one.area[seen[-6:]])
    whole = int(seen[one.area[seen] >= 0.9 * usual][-1])
    inside = one.masks[whole]
    empty = backdrop_pixels(backdrop.places[whole], backdrop.times[whole])[inside]
    way = frames[whole, inside].astype(np.float64) - empty
    apart = frames[:, inside].astype(np.float64) - empty
    still = _settled(track, whole)
    left: Curve = (apart * way).sum((1, 2)) / max(float((way * way).sum()), 1e-6)
    left = np.clip(left / max(float(left[still : whole + 1].max()), 1e-6), 0, 1)
    left[:still] = 1
    gone = np.flatnonzero(left < 0.12)
    left[gone[0] if len(gone) else len(left) :] = 0
    return left


def _settled(track: Track, at: int) -> int:
    """The first sample since which the puppet has stood where it stands at `at`."""
    apart = np.hypot(track.x - track.x[at], track.top - track.top[at])
    moving = np.flatnonzero(apart[: at + 1] > 1.5)
    return int(moving[-1]) + 1 if len(moving) else 0


def _least(area: Curve) -> float:
    """A faint remainder of a puppet is noise: below a tenth of its usual area."""
    return max(10.0, float(np.median(area[area > 0])) / 10) if (area > 0).any() else 10.0


def _lasting(seen: NDArray[np.bool_], one: Sighting) -> NDArray[np.bool_]:
    """Without flashes of one or two frames away from the edges: a friend's colour looks like mine while it fades."""
    parts = stretches(seen)
    longest = max((b - a for a, b in parts), default=0)
    out = seen.copy()
    for a, b in parts:
        edge = np.nanmin(one.left[a : b + 1]) < EDGE or np.nanmax(one.right[a : b + 1]) > WIDTH - EDGE
        if b - a < 2 < longest and not edge:
            out[a : b + 1] = False
    return out


def _bridged(seen: NDArray[np.bool_], doubtful: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Close gaps between two sightings that are up to BRIDGE frames long, or doubtful all the way."""
    out = seen.copy()
    on = np.flatnonzero(seen)
    for before, after in zip(on[:-1], on[1:], strict=True):
        if after - before <= BRIDGE + 1 or (doubtful is not None and doubtful[before:after].all()):
            out[before:after] = True
    return out


def _filled(values: Curve, seen: NDArray[np.bool_]) -> Curve:
    """Values where seen, straight lines across gaps, the nearest value outside."""
    good = np.flatnonzero(seen & np.isfinite(values))
    if not len(good):
        return np.zeros(len(values))
    return np.interp(np.arange(len(values)), good, values[good])


def _prop_track(prop: PropSighting) -> PropTrack:
    seen = _bridged(prop.misfit < MISFIT[prop.kind], prop.misfit < MISFIT[prop.kind] + _DOUBT)
    return PropTrack(kind=prop.kind, seen=seen, x=_filled(prop.x, seen), foot=_filled(prop.foot, seen))
