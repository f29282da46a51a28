"""The segmenter: gives every event of a shot its time.

An endpoint says shares, which are put right when they nearly add up; the rules take natural lengths from the puppet
world's verbs. Knows one shot at a time and nothing of where it stands in the film.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.answers import ask
from agents.brains import LanguageModel, Question
from agents.errors import PlanError
from agents.storyboard import PlannedEvent, PlannedShot, Shape, shot_problems
from agents.worldplan import natural, read_phrase, timed
from prompts.catalog import load

SHORTEST = 0.5
"""Seconds; what is shorter cannot be seen to happen."""


class Share(Shape):
    """How much of the shot one event takes."""

    event: int
    share: float


class Shares(Shape):
    """All events of a shot, in their order."""

    shares: list[Share]


class RuleSegmenter:
    """Natural lengths, scaled to the shot; a person's own times (anything but provisional ones) stay."""

    async def segment(self, shot: PlannedShot) -> PlannedShot:
        """The shot with its events one after the other."""
        if not provisional(shot):
            return shot
        told = [read_phrase(event.phrase) for event in shot.events]
        weights = natural([t.verb if t else None for t in told])
        return with_times(shot, weights)


class ModelSegmenter:
    """Asks a language model for the shares of a shot's events; a single event needs no question."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    async def segment(self, shot: PlannedShot) -> PlannedShot:
        """The shot with its events one after the other. Raises a ModelError."""
        if not provisional(shot):
            return shot
        if len(shot.events) < 2:
            return with_times(shot, [1.0] * len(shot.events))
        prompt = load("segment").render(
            prompt=shot.prompt, seconds=shot.seconds, events=[event.phrase for event in shot.events]
        )
        question = Question(role="segmenter", prompt=prompt, shape=Shares)
        answer = await ask(self.model, question, Shares, lambda a: share_problems(a, len(shot.events), shot.seconds))
        return with_times(shot, [share.share for share in answer.shares])


def share_problems(answer: Shares, events: int, seconds: float) -> list[str]:
    """What is wrong with shares; a sum of 0.9 to 1.1 is put right silently, rounding is no mistake."""
    if [share.event for share in answer.shares] != list(range(1, events + 1)):
        return [f"expected the events 1 to {events} once each and in order"]
    if any(share.share <= 0 for share in answer.shares):
        return ["every share must be more than 0"]
    total = sum(share.share for share in answer.shares)
    if not 0.9 <= total <= 1.1:
        return [f"the shares must sum to 1, they sum to {total:.2f}"]
    short = [s.event for s in answer.shares if s.share / total * seconds < SHORTEST]
    return [f"event {n} would last less than {SHORTEST} s of {seconds:g} s" for n in short]


def provisional(shot: PlannedShot) -> bool:
    """Whether the events still want their times: planners without a clock let every event last the whole shot."""
    return len(shot.events) > 0 and all(e.start == 0 and e.end == shot.seconds for e in shot.events)


def with_times(shot: PlannedShot, weights: Sequence[float]) -> PlannedShot:
    """The shot, its events one after the other, each as long as its weight asks. Raises PlanError."""
    if not shot.events:
        return shot
    events: tuple[PlannedEvent, ...] = timed(shot.events, weights, shot.seconds)
    timed_shot = shot.model_copy(update={"events": events})
    problems = shot_problems(timed_shot, set(shot.subjects), {shot.place} if shot.place else set())
    if problems:
        raise PlanError(f"The events of a shot could not be timed: {'; '.join(problems)}")
    return timed_shot
