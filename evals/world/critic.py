"""The critic of the puppet world: reads from a take's pixels which promised events happened, and when.

Looks with the CRITIC setting only; the scores that report results look at other frames. What it cannot read (a
phrase or a look from outside the puppet world) is not judged and says so: it is never taken for done. The
threshold of its calibration holds for it as for any critic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from agents.brains import EventVerdict, VerdictResult, Viewing
from agents.calibration import Belief, belief_in, believed
from agents.critic import digest_of
from evals.world.detectors import Frames, sharpness
from evals.world.events import judge_event
from evals.world.phrases import Look, Unreadable, read_look, read_promise
from evals.world.scores import intruders, judge_actor
from evals.world.settings import CRITIC, READINGS, Setting
from evals.world.tracks import Scene, watch
from generators.clip import Event
from generators.world.words import PLACES

CRISP = 0.55
"""Sharpness of a rendered clip; a take as crisp as that has full marks for it."""
CLEAN = 24.0
"""Mean RGB difference to the nearest backdrop at which nothing of it is left."""


class WorldCritic:
    """Judges takes by detectors. Needs no model, no network and no key.

    `belief` is what is known of it; by default what its calibration file says.
    """

    def __init__(self, setting: Setting = CRITIC, belief: Belief | None = None) -> None:
        self._setting = setting
        self.belief = belief or belief_in(self.name, self.digest())

    @property
    def name(self) -> str:
        """What the verdict's row will say."""
        return f"world-{self._setting.name}"

    def how(self) -> dict[str, str | int]:
        """All that decides a verdict: the detectors by their number, and the setting's lines, as text."""
        return {"readings": READINGS} | {name: str(value) for name, value in asdict(self._setting).items()}

    def digest(self) -> str:
        """What its calibration knows this way of looking by."""
        return digest_of(self.how())

    async def judge(self, viewing: Viewing) -> VerdictResult:
        """One verdict for all promised events. Raises ValueError for frames that are not the puppet world's."""
        return await asyncio.to_thread(self._judge, viewing)

    def _judge(self, viewing: Viewing) -> VerdictResult:
        scene = watch(viewing.frames, self._setting, viewing.fps)
        cast, notes = _cast(viewing)
        verdict = VerdictResult(
            critic=self.name,
            events=tuple(_verdict(scene, event, cast) for event in viewing.events),
            identity=_identity(scene, cast, notes),
            quality=_quality(scene, viewing.frames),
            notes=(*notes, *_place_note(scene, viewing)),
        )
        return believed(verdict, self.belief)


def _cast(viewing: Viewing) -> tuple[dict[str, Look], list[str]]:
    looks: dict[str, Look] = {}
    notes = []
    for subject in viewing.subjects:
        try:
            looks[subject.name] = read_look(subject.name, subject.description)
        except Unreadable as error:
            notes.append(f"not judged: {error}")
    return looks, notes


def _verdict(scene: Scene, event: Event, cast: Mapping[str, Look]) -> EventVerdict:
    try:
        promise = read_promise(event.subject, event.phrase, cast)
    except Unreadable as error:
        return EventVerdict(done=None, confidence=0.0, evidence=f"not judged: {error}")
    seen = judge_event(scene, promise, (event.start, event.end))
    return EventVerdict(
        done=seen.done, confidence=seen.confidence, evidence=f"the {promise.hue} puppet {seen.evidence}",
        start=seen.start, end=seen.end,
    )  # fmt: skip


def _identity(scene: Scene, cast: Mapping[str, Look], notes: list[str]) -> float:
    """Mean over the cast of colour kept, no double, right kind; halved when a stranger stands on the stage."""
    hues = {look.hue for look in cast.values()}
    marks = []
    for name, look in cast.items():
        actor = judge_actor(scene, look.hue, look.kind or "", hues)
        if not actor.seen:
            notes.append(f"{name}: no {look.hue} puppet was seen")
        if actor.clone:
            notes.append(f"{name}: a second {look.hue} puppet stands on the stage")
        if actor.seen and not actor.kept:
            notes.append(f"{name}: changes its colour")
        wrong = look.kind is not None and actor.right_kind is False
        if wrong:
            notes.append(f"{name}: looks like a {actor.kind}, not a {look.kind}")
        marks.append(
            float(np.mean([actor.seen and actor.kept, actor.seen and not actor.clone, actor.seen and not wrong]))
        )
    strangers = intruders(scene, hues)
    notes.extend(f"a {hue} puppet stands on the stage that nobody asked for" for hue in strangers)
    return (float(np.mean(marks)) if marks else 0.0) * (0.5 if strangers else 1.0)


def _quality(scene: Scene, frames: Frames) -> float:
    """How crisp edges are, and how clean the backdrop is, in equal parts."""
    crisp = min(sharpness(frames) / CRISP, 1.0)
    clean = 1 - min(float(np.median(scene.backdrop.misfit)) / CLEAN, 1.0)
    return 0.5 * crisp + 0.5 * clean


def _place_note(scene: Scene, viewing: Viewing) -> list[str]:
    if viewing.place is None:
        return []
    words = f"{viewing.place.name} {viewing.place.description}".lower()
    wanted = [place for place in PLACES if place in words]
    seen = max(set(scene.backdrop.places), key=scene.backdrop.places.count)
    return [f"the place looks like the {seen}, not the {wanted[0]}"] if wanted and seen not in wanted else []
