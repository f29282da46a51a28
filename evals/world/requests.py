"""What a case of the puppet world asks a backend for. Knows no model and no arm."""

from __future__ import annotations

from dataclasses import replace

from agents.takespec import fitted
from evals.world.splits import Case
from generators.clip import Event, ShotRequest
from generators.world.words import FPS, HEIGHT, WIDTH
from storage.records import EventPlan


def request_of(case: Case, seed: int) -> ShotRequest:
    """The shot that a case asks for, its events where the script has them."""
    told = sorted(case.script.events, key=lambda event: event.start)
    events = tuple(
        Event(subject=subject, phrase=phrase, start=event.start, end=event.end)
        for subject, phrase, event in zip(case.caption.subjects, case.caption.phrases, told, strict=True)
    )
    return ShotRequest(
        prompt=case.caption.text, frames=case.script.frames, fps=FPS, width=WIDTH, height=HEIGHT, seed=seed,
        events=events,
    )  # fmt: skip


def asked_after(shot: Case, lead: int) -> Case:
    """The shot with its event where a clip that begins with so many finished frames is asked for it."""
    told, script = shot.caption, shot.script
    plans = [
        EventPlan(subject=subject, phrase=phrase, start=event.start, end=event.end)
        for subject, phrase, event in zip(told.subjects, told.phrases, script.events, strict=True)
    ]
    times = fitted(plans, script.seconds, lead / FPS, script.seconds)
    events = tuple(replace(e, start=a, end=b) for e, (a, b) in zip(script.events, times, strict=True))
    return replace(shot, script=replace(script, events=events))
