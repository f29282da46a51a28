"""Brains that say what they were told to say: for tests, dry work and demonstrations. They ship with the product."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel

from agents.brains import Brief, EventVerdict, Question, Reply, VerdictResult, Viewing
from agents.errors import ModelUnavailable
from agents.storyboard import PlannedShot, Storyboard

Line = str | BaseModel | Exception
"""What a scripted model says: text as it stands, an answer as JSON, or an error to raise."""


class ScriptedModel:
    """A language model that speaks its lines in order, or asks `say` for one; keeps the questions it was put."""

    def __init__(self, lines: Sequence[Line] | Callable[[Question], Line], name: str = "scripted") -> None:
        self._name = name
        self._say = lines if callable(lines) else None
        self._lines = [] if callable(lines) else list(lines)
        self.asked: list[Question] = []

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    async def complete(self, question: Question) -> Reply:
        """The next line; ModelUnavailable when there is none left."""
        self.asked.append(question)
        line = self._say(question) if self._say else self._next()
        if isinstance(line, Exception):
            raise line
        text = line if isinstance(line, str) else json.dumps(line.model_dump(mode="json"))
        tokens = len(question.prompt.system + question.prompt.user) // 4 + 1
        return Reply(text=text, tokens_in=tokens, tokens_out=len(text) // 4 + 1)

    def _next(self) -> Line:
        if not self._lines:
            raise ModelUnavailable(f"Scripted model {self._name!r} has no line left after {len(self.asked) - 1}")
        return self._lines.pop(0)


class ScriptedPlanner:
    """Gives the storyboard it was given, whatever the story."""

    def __init__(self, storyboard: Storyboard) -> None:
        self.storyboard = storyboard
        self.plans = 0

    async def plan(self, story: str, brief: Brief) -> Storyboard:
        """The storyboard it was given."""
        self.plans += 1
        return self.storyboard


class ScriptedSegmenter:
    """Leaves every shot as the planner timed it."""

    async def segment(self, shot: PlannedShot) -> PlannedShot:
        """The shot as it is."""
        return shot


class ScriptedCritic:
    """Sees in every take what its script says: a flag per promised event, by shot and take; all of them by default.

    A flag of None is an event that it cannot judge.
    """

    def __init__(self, seen: Mapping[tuple[str, int], Sequence[bool | None] | Exception] | None = None) -> None:
        self._seen = dict(seen or {})
        self.viewings: list[tuple[str, int]] = []

    @property
    def name(self) -> str:
        """`scripted`."""
        return "scripted"

    async def judge(self, viewing: Viewing) -> VerdictResult:
        """A verdict from the script; quality is the share of events seen."""
        key = (viewing.shot, viewing.take)
        self.viewings.append(key)
        flags = self._seen.get(key, [True] * len(viewing.events))
        if isinstance(flags, Exception):
            raise flags
        if len(flags) != len(viewing.events):
            raise ValueError(f"Script for shot, take {key}: expected {len(viewing.events)} flags, got {len(flags)}")
        verdicts = tuple(
            EventVerdict(
                done=done,
                confidence=1.0,
                evidence="as scripted",
                start=event.start if done else None,
                end=event.end if done else None,
            )
            for done, event in zip(flags, viewing.events, strict=True)
        )
        quality = sum(map(bool, flags)) / len(flags) if flags else 1.0
        return VerdictResult(critic=self.name, events=verdicts, identity=1.0, quality=quality)
