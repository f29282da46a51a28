"""What the graph thinks with: protocols of the agents and of the models behind them, and the values they exchange.

Agents think by rules, or ask a model behind an endpoint or in this process; all of them stand behind these protocols.
Knows no network, no database and no prompt's wording.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pydantic import BaseModel

from agents.storyboard import Place, PlannedShot, Storyboard, Subject
from generators.clip import Event, Frames
from prompts.catalog import Rendered


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A wrong answer and what was wrong with it; sent along when a model is asked again."""

    answer: str
    objection: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """One thing to ask a language or vision model; equal digests mean the same question."""

    role: str
    """Who asks: planner, segmenter, reworder, critic."""
    prompt: Rendered
    shape: type[BaseModel]
    images: tuple[bytes, ...] = field(default=(), repr=False)
    """JPEG bytes, in the order of time."""
    turns: tuple[Turn, ...] = ()
    vote: int = 0
    """Tells votes on one question apart."""
    sends: int | None = None
    """How often it may go out without an answer coming; None leaves it to the transport. Decides no answer."""

    def digest(self, model: str) -> str:
        """sha256 over all that decides the answer, the model's name included."""
        parts = {
            "model": model,
            "prompt": [self.prompt.name, self.prompt.digest, self.prompt.system, self.prompt.user],
            "shape": self.shape.model_json_schema(),
            "images": [hashlib.sha256(image).hexdigest() for image in self.images],
            "turns": [[turn.answer, turn.objection] for turn in self.turns],
            "vote": self.vote,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back, as text, and what it cost."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    cut_off: bool = False
    """The model stopped at its token limit; the text is not whole."""
    unanswered: int = 0
    """How many times the request went out before without an answer coming; each may have been paid."""


@runtime_checkable
class LanguageModel(Protocol):
    """Answers one question once. Asking again and checking are `agents.answers.ask`'s."""

    @property
    def name(self) -> str:
        """What the call's row will say."""
        ...

    async def complete(self, question: Question) -> Reply:
        """Put the question. Raises ModelUnavailable, ModelMisconfigured or ModelRefused."""
        ...


@runtime_checkable
class Priced(Protocol):
    """A model whose answers cost money or tokens, and that can say beforehand how much at most."""

    def at_most(self, question: Question) -> Reply:
        """What one answer can come to: its text is empty, its tokens and cost are the most there can be."""
        ...


@runtime_checkable
class InProcess(Protocol):
    """A model that works in this process: a question whose asker is gone, or that failed, is not carried out."""

    async def open(self) -> None:
        """Load what it needs, if it is not there. Raises ModelMisconfigured or ModelUnavailable."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A model that keeps answers, and can be told that one was of no use."""

    def reject(self, question: Question, reason: str) -> None:
        """Do not give the kept answer to this question again."""
        ...


@dataclass(frozen=True, kw_only=True)
class Brief:
    """What a planner must keep to, beside the story."""

    shot_seconds: tuple[float, ...]
    """Lengths of shots that the backend films well, shortest first."""
    max_shots: int
    style: str = ""
    seconds: float | None = None
    """Length of the whole film that the person asked for."""


class Planner(Protocol):
    """Makes a storyboard of a story; event times may be provisional."""

    async def plan(self, story: str, brief: Brief) -> Storyboard:
        """Raises PlanError when no storyboard can be made of it, or a ModelError."""
        ...


class Segmenter(Protocol):
    """Gives every event of a shot its time, and the shot its synopsis where that is wanted."""

    async def segment(self, shot: PlannedShot) -> PlannedShot:
        """The same shot with its events in order, inside it. Raises PlanError or a ModelError."""
        ...


class Reworder(Protocol):
    """Says the same thing in other words, for an event that was not filmed as it was worded."""

    async def reword(self, shot: PlannedShot, event: int, evidence: str) -> PlannedShot | None:
        """The shot with event number `event` (from 0) worded anew, or None when there is no other wording."""
        ...


@dataclass(frozen=True, kw_only=True)
class Viewing:
    """One take as a critic gets it: pixels, and what was promised first (law 5)."""

    shot: str
    """Its number."""
    take: int
    frames: Frames = field(repr=False)
    fps: int
    events: tuple[Event, ...]
    """Promised events, their times in seconds of this clip."""
    prompt: str
    subjects: tuple[Subject, ...] = ()
    place: Place | None = None
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class EventVerdict:
    """What was seen of one promised event. `start` and `end` are seconds, None when it was not seen or not timed."""

    done: bool | None
    """None where the critic cannot tell, whatever the take shows: no film of it can mend that."""
    confidence: float
    evidence: str
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        _share("EventVerdict.confidence", self.confidence)


@dataclass(frozen=True, kw_only=True)
class VerdictResult:
    """What a critic saw in one take, one entry a promised event. Takes rank by events, identity, quality."""

    critic: str
    events: tuple[EventVerdict, ...]
    identity: float
    """1 when everybody looks as described throughout, 0 when nobody does."""
    quality: float
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _share("VerdictResult.identity", self.identity)
        _share("VerdictResult.quality", self.quality)

    @property
    def failed(self) -> tuple[int, ...]:
        """Indices of promised events that were not seen."""
        return tuple(i for i, event in enumerate(self.events) if event.done is False)

    @property
    def rank(self) -> tuple[int, float, float]:
        """Bigger is better."""
        return sum(bool(event.done) for event in self.events), self.identity, self.quality


@runtime_checkable
class Critic(Protocol):
    """Watches a take and says, event by event, what happened. A critic that computes long leaves the event loop."""

    @property
    def name(self) -> str:
        """What the verdict's row will say."""
        ...

    async def judge(self, viewing: Viewing) -> VerdictResult:
        """One verdict for all promised events, in their order. Raises a ModelError when it cannot see."""
        ...


@dataclass(frozen=True, kw_only=True)
class Brains:
    """Who plans, times, words anew and judges one run. Without a critic the film is cut unjudged, and says so."""

    planner: Planner
    segmenter: Segmenter
    reworder: Reworder | None = None
    critic: Critic | None = None


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected 0 to 1, got {value}")
