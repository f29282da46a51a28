"""What a clip is worth against its script: events done, in order, in time, by the right puppets, at the right place.

`judge_clip` reads one clip; `summarise` turns many judgements into scores with counts and intervals. A score that
cannot be read from a clip is None there and counted as failed, never as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evals.metrics.bootstrap import Interval, interval
from evals.metrics.temporal import one_object
from evals.world.detectors import Frames, sharpness
from evals.world.events import Promise, Window, best, every_sight, overlap, promised
from evals.world.settings import SCORE, Setting
from evals.world.sightings import Seen
from evals.world.tracks import Scene, watch
from generators.world.script import Script
from generators.world.words import FPS

SOON = 0.35
"""Seconds by which an onset may come too early and still be in order."""
CLONE = 60.0
"""Pixels of one hue, away from its puppet, that are a second puppet."""
LASTING = 4
"""Frames looked at that something unpromised must last to count."""
LOST = 40.0
"""Mean RGB difference to the nearest backdrop at which there is no place to name."""
Relation = Literal["before", "during", "after"]
LEAD = 0.02
"""Overlap by which one kind must beat the next to be named."""


@dataclass(frozen=True, kw_only=True)
class EventJudgement:
    """One promised event. `same_look` says that its actors still wore their colours when it ended."""

    promise: Promise
    window: Window
    done: bool
    same_look: bool
    confidence: float
    evidence: str
    start: float | None
    end: float | None
    sights: tuple[Window, ...]
    """Every time it was seen done, in order; none shares its time with another."""

    @property
    def iou(self) -> float:
        """Overlap in time of promise and sight; 0 when it was not done."""
        return overlap((self.start, self.end), self.window) if self.done else 0.0


@dataclass(frozen=True, kw_only=True)
class ActorJudgement:
    """One promised puppet: whether it was seen, kept its colour, had no double, and what it looked like."""

    hue: str
    seen: bool
    kept: bool
    clone: bool
    kind: str | None
    right_kind: bool | None
    """None when the silhouette named no kind."""


@dataclass(frozen=True, kw_only=True)
class ClipJudgement:
    """Everything read from one clip."""

    setting: str
    seconds: float
    events: tuple[EventJudgement, ...]
    actors: tuple[ActorJudgement, ...]
    intruders: tuple[str, ...]
    """Unpromised hues that stood on the stage."""
    place: bool
    time: bool
    sharpness: float
    backdrop_misfit: float = field(repr=False)

    @property
    def completed(self) -> float:
        """Share of promised events that were done."""
        return _share([event.done for event in self.events])

    @property
    def completed_id(self) -> float:
        """The same, but an event whose actor had changed its look by then does not count."""
        return _share([event.done and event.same_look for event in self.events])

    @property
    def colour(self) -> bool:
        """Every promised hue was seen and no other one."""
        return all(actor.seen for actor in self.actors) and not self.intruders

    @property
    def identity(self) -> float | None:
        """Share of the puppets seen that stayed themselves; None when none was seen."""
        seen = [actor for actor in self.actors if actor.seen]
        return _share([actor.kept and not actor.clone for actor in seen]) if seen else None

    @property
    def kind(self) -> float | None:
        """Share of puppets of the promised kind among those whose kind could be named."""
        named = [actor.right_kind for actor in self.actors if actor.right_kind is not None]
        return _share(named) if named else None

    @property
    def count(self) -> float:
        """OCCM of ViStoryBench in 0..1: exp(-|seen - promised| / promised)."""
        promised_count = len(self.actors)
        seen = sum(a.seen + a.clone for a in self.actors) + len(self.intruders)
        return float(np.exp(-abs(seen - promised_count) / promised_count))


def judge_clip(frames: Frames, script: Script, setting: Setting = SCORE, fps: int = FPS) -> ClipJudgement:
    """Watch a clip (T, 64, 96, 3) and hold it against its script. Raises ValueError for frames of another size."""
    return judge_scene(watch(frames, setting, fps), script, sharpness(frames))


def judge_scene(scene: Scene, script: Script, crisp: float = 1.0) -> ClipJudgement:
    """Hold a scene that was already watched against a script."""
    hues = {actor.hue for actor in script.actors}
    misfit = float(np.median(scene.backdrop.misfit))
    return ClipJudgement(
        setting=scene.setting.name,
        seconds=scene.seconds,
        events=tuple(
            _judge(scene, promised(script, event), (float(event.start), float(event.end)))
            for event in sorted(script.events, key=lambda e: e.start)
        ),
        actors=tuple(judge_actor(scene, actor.hue, actor.kind, hues) for actor in script.actors),
        intruders=intruders(scene, hues),
        place=misfit < LOST and _mostly(scene.backdrop.places, script.place),
        time=misfit < LOST and _mostly(scene.backdrop.times, script.time),
        sharpness=crisp,
        backdrop_misfit=misfit,
    )


def _judge(scene: Scene, promise: Promise, window: Window) -> EventJudgement:
    found = every_sight(scene, promise)
    seen = best(found, window)
    players = [promise.hue] + ([promise.other] if promise.other else [])
    return EventJudgement(
        promise=promise, window=window, done=seen.done, confidence=seen.confidence, evidence=seen.evidence,
        start=seen.start, end=seen.end, sights=tuple(sorted(_apart(found, window))),
        same_look=seen.end is not None and all(_same_look(scene, hue, seen.end) for hue in players),
    )  # fmt: skip


def _apart(found: Sequence[Seen], window: Window) -> list[Window]:
    """Times of the done sights, best ones first; what shares time with a better one is the same happening."""
    times: list[Window] = []
    rest = [one for one in found if one.done]
    while rest:
        chosen = best(rest, window)
        assert chosen.start is not None
        assert chosen.end is not None
        times.append((chosen.start, chosen.end))
        rest = [one for one in rest if overlap((one.start, one.end), times[-1]) == 0]
    return times


def _same_look(scene: Scene, hue: str, until: float) -> bool:
    worn = scene.tracks[hue].hue_at
    return all(now in (None, hue) for now, at in zip(worn, scene.times, strict=True) if at <= until)


def judge_actor(scene: Scene, hue: str, kind: str, cast: set[str]) -> ActorJudgement:
    """Look at one promised puppet alone."""
    track = scene.tracks.get(hue)
    if track is None or track.seen.sum() < 3:
        return ActorJudgement(hue=hue, seen=False, kept=False, clone=False, kind=None, right_kind=None)
    named = track.kind if track.kind_lead >= LEAD and track.kind_fit >= scene.setting.kind_fit else None
    return ActorJudgement(
        hue=hue, seen=True, kept=not track.recoloured,
        clone=int((scene.sightings[hue].clone > CLONE).sum()) >= LASTING,
        kind=named, right_kind=None if named is None else named == kind,
    )  # fmt: skip


def intruders(scene: Scene, cast: set[str]) -> tuple[str, ...]:
    """Hues outside the cast that stand on the stage for a second or more, those a puppet turned into included."""
    return tuple(
        hue
        for hue, sighting in scene.sightings.items()
        if hue not in cast and int((sighting.area > CLONE).sum()) >= LASTING and not _fading(scene, hue, cast)
    )


def _fading(scene: Scene, hue: str, cast: set[str]) -> bool:
    """Whether the hue only shows where a promised puppet is fading away."""
    on = np.flatnonzero(scene.sightings[hue].area > CLONE)
    for mine in cast & set(scene.tracks):
        track = scene.tracks[mine]
        if (track.glow[on] < 0.95).all() and (np.abs(scene.sightings[hue].x[on] - track.x[on]) < 8).all():
            return True
    return False


def _mostly(seen: Sequence[str], wanted: str) -> bool:
    return _share([one == wanted for one in seen]) > 0.5


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)


def in_order(clip: ClipJudgement) -> bool | None:
    """Whether all events were done with onsets in the script's order; None for a single event."""
    if len(clip.events) < 2:
        return None
    onsets = [event.start for event in clip.events]
    return all(a is not None and b is not None and b >= a - SOON for a, b in zip(onsets[:-1], onsets[1:], strict=True))


def tau(clip: ClipJudgement) -> float | None:
    """Kendall's tau between promised and seen order over completed events; None for fewer than two."""
    onsets = [event.start for event in clip.events if event.done and event.start is not None]
    pairs = [np.sign(b - a) for a, b in combinations(onsets, 2)]
    return float(np.mean(pairs)) if pairs else None


def relation(one: Window, other: Window) -> Relation:
    """Allen's thirteen relations of two times in three, as CATER groups them; what overlaps by `SOON` at most meets.

    So a time as short as that is before or after whatever it lies in.
    """
    (start, end), (next_start, next_end) = one, other
    if min(end, next_end) - max(start, next_start) > SOON:
        return "during"
    return "before" if start <= next_start else "after"


def allen(clip: ClipJudgement) -> float | None:
    """Share of the pairs of completed events that stand to each other in time as promised; None without a pair.

    The world's own captions promise one event after another, so there it says how many kept apart and in order.
    """
    seen = [(e.window, (e.start, e.end)) for e in clip.events if e.done and e.start is not None and e.end is not None]
    pairs = [relation(a, b) == relation(at, bt) for (a, at), (b, bt) in combinations(seen, 2)]
    return _share(pairs) if pairs else None


def strict(clip: ClipJudgement) -> float:
    """Completion that counts an event only when no earlier promise began after it."""
    done, latest = 0, -np.inf
    for event in clip.events:
        if event.done and event.start is not None:
            done += event.start >= latest - SOON
            latest = max(latest, event.start)
    return done / len(clip.events)


def prefix(clip: ClipJudgement) -> float:
    """Share of events done in order before the first miss."""
    before = -np.inf
    for number, event in enumerate(clip.events):
        if not event.done or event.start is None or event.start < before - SOON:
            return number / len(clip.events)
        before = event.start
    return 1.0


def firing(clip: ClipJudgement) -> NDArray[np.bool_]:
    """Which event's detector fires in which event's segment (E, E): some sight of it lies mostly there.

    Segments meet half-way between one event's promised end and the next one's begin; the first and the last are open.
    """
    borders = [(a.window[1] + b.window[0]) / 2 for a, b in zip(clip.events[:-1], clip.events[1:], strict=True)]
    edges = np.array([-np.inf, *borders, np.inf])
    fired = np.zeros((len(clip.events), len(clip.events)), bool)
    for row, event in zip(fired, clip.events, strict=True):
        for start, end in event.sights:
            row[np.argmax(np.minimum(end, edges[1:]) - np.maximum(start, edges[:-1]))] = True
    return fired


def leak(clip: ClipJudgement) -> float | None:
    """Share of the firing that is off the diagonal of `firing`: events that bleed into other events' segments.

    A segment that promises the very same once more is no other segment. None without two events and a sight.
    """
    fired = firing(clip)
    if len(fired) < 2 or not fired.any():
        return None
    own = np.array([[one.promise == other.promise for other in clip.events] for one in clip.events])
    return float((fired & ~own).sum() / fired.sum())


def timing(clip: ClipJudgement) -> float | None:
    """Share of completed events that overlap their promised time by half or more (tIoU)."""
    done = [event.iou >= 0.5 for event in clip.events if event.done]
    return _share(done) if done else None


def mean_iou(clip: ClipJudgement) -> float | None:
    """Mean tIoU of completed events."""
    done = [event.iou for event in clip.events if event.done]
    return float(np.mean(done)) if done else None


def frame_accuracy(clip: ClipJudgement) -> float:
    """TempoControl's accuracy with detectors: mean over events of the share of moments that show it as promised."""
    moments = np.arange(0, clip.seconds, 1 / FPS)
    shares = []
    for event in clip.events:
        start, end = (event.start, event.end) if event.done else (None, None)
        mask = (moments >= event.window[0]) & (moments < event.window[1])
        seen = (moments >= start) & (moments < end) if start is not None and end is not None else np.zeros_like(mask)
        shares.append(one_object([int(one) for one in mask], [bool(one) for one in seen]).accuracy)
    return float(np.mean(shares))


def onset_error(clip: ClipJudgement) -> float | None:
    """Mean seconds between promised and seen onsets of completed events."""
    apart = [abs(event.start - event.window[0]) for event in clip.events if event.start is not None]
    return float(np.mean(apart)) if apart else None


SCORES: dict[str, Callable[[ClipJudgement], float | bool | None]] = {
    "ECR": lambda clip: clip.completed,
    "ECR-id": lambda clip: clip.completed_id,
    "ECR-strict": strict,
    "Order": in_order,
    "Prefix": prefix,
    "Timing": timing,
    "Colour": lambda clip: clip.colour,
    "ID": lambda clip: clip.identity,
    "Kind": lambda clip: clip.kind,
    "Count": lambda clip: clip.count,
    "Place": lambda clip: clip.place,
    "Time": lambda clip: clip.time,
}
"""Scores of 0..1, bigger is better."""
MEASURES: dict[str, Callable[[ClipJudgement], float | None]] = {
    "Kendall tau": tau,
    "Allen relations": allen,
    "tIoU": mean_iou,
    "Onset error (s)": onset_error,
    "Leak": leak,
    "Frame accuracy": frame_accuracy,
    "Omissions": lambda clip: float(sum(not actor.seen for actor in clip.actors)),
    "Clones": lambda clip: float(sum(actor.clone for actor in clip.actors)),
    "Intruders": lambda clip: float(len(clip.intruders)),
    "Sharpness": lambda clip: clip.sharpness,
}
"""Printed beside the scores; no bar hangs on them."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score over many clips. `value` is None when no clip could be evaluated."""

    name: str
    value: float | None
    interval: Interval | None
    n_total: int
    n_evaluated: int
    n_failed: int
    per_item: tuple[float | None, ...] = field(repr=False)


def score(name: str, values: Sequence[float | bool | None]) -> Score:
    """Mean, bootstrap interval and counts of one score's values, a value a clip; None where it could not be read."""
    items = tuple(None if value is None else float(value) for value in values)
    good = [value for value in items if value is not None]
    over = interval(good) if good else None
    return Score(
        name=name, value=None if over is None else over.mean, interval=over, n_total=len(items),
        n_evaluated=len(good), n_failed=len(items) - len(good), per_item=items,
    )  # fmt: skip


def summarise(clips: Sequence[ClipJudgement]) -> dict[str, Score]:
    """Every score and measure over many clips."""
    return {name: score(name, [read(clip) for clip in clips]) for name, read in (SCORES | MEASURES).items()}
