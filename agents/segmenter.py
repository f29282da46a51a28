"""The segmenter: gives every event of a shot its time, and a shot its synopsis where the profile wants one.

An endpoint says shares, which are put right when they nearly add up; the rules take natural lengths from the puppet
world's verbs. Knows one shot at a time and nothing of where it stands in the film.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.answers import ask
from agents.brains import LanguageModel, Question
from agents.errors import PlanError
from agents.sentences import states_of
from agents.storyboard import PlannedEvent, PlannedShot, Shape, Shown, shot_problems
from agents.worldplan import natural, read_phrase, timed
from prompts.catalog import load

FEWEST_STATES, MOST_STATES = 2, 8
"""Of a synopsis that a model writes."""
SHORTEST = 0.5
"""Seconds; what is shorter cannot be seen to happen."""


class Share(Shape):
    """How much of the shot one event takes."""

    event: int
    share: float


class Shares(Shape):
    """All events of a shot, in their order."""

    shares: list[Share]


class Synopsis(Shown):
    """What a shot looks like, one sentence a state."""

    states: list[str]


class RuleSegmenter:
    """Natural lengths, scaled to the shot; a person's own times (anything but provisional ones) stay.

    With `synopsis` a shot of several events whose sentences come apart has one state for each.
    """

    def __init__(self, *, synopsis: bool = False) -> None:
        self.synopsis = synopsis

    async def segment(self, shot: PlannedShot) -> PlannedShot:
        """The shot with its events one after the other."""
        if provisional(shot):
            told = [read_phrase(event.phrase) for event in shot.events]
            shot = with_times(shot, natural([t.verb if t else None for t in told]))
        if self.synopsis and not shot.synopsis and len(shot.events) > 1:
            shot = shot.model_copy(update={"synopsis": states_of(shot.prompt, [event.phrase for event in shot.events])})
        return shot


class ModelSegmenter:
    """Asks a language model for the shares of a shot's events; a single event needs no question.

    With `synopsis` it is asked for the states that every shot goes through, too.
    """

    def __init__(self, model: LanguageModel, *, synopsis: bool = False) -> None:
        self.model, self.synopsis = model, synopsis

    async def segment(self, shot: PlannedShot) -> PlannedShot:
        """The shot with its events one after the other. Raises a ModelError."""
        if provisional(shot):
            shot = await self._timed(shot)
        return await self._described(shot) if self.synopsis and shot.events and not shot.synopsis else shot

    async def _described(self, shot: PlannedShot) -> PlannedShot:
        prompt = load("synopsis").render(
            prompt=shot.prompt, seconds=shot.seconds, events=[event.phrase for event in shot.events]
        )
        question = Question(role="segmenter", prompt=prompt, shape=Synopsis)
        answer = await ask(self.model, question, Synopsis, synopsis_problems)
        return shot.model_copy(update={"synopsis": tuple(answer.states)})

    async def _timed(self, shot: PlannedShot) -> PlannedShot:
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


def synopsis_problems(answer: Synopsis) -> list[str]:
    """What is wrong with a synopsis."""
    if not FEWEST_STATES <= len(answer.states) <= MOST_STATES:
        return [f"expected {FEWEST_STATES} to {MOST_STATES} states, got {len(answer.states)}"]
    return [f"state {n} is empty" for n, state in enumerate(answer.states, 1) if not state.strip()]


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
