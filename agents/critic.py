"""The critic with a vision model behind it, after the protocol of StoryEval: describe, then score, in several votes.

It sees only sampled frames. An event counts as done when every vote says so and their confidence reaches the threshold
of the model's calibration; a vote needs evidence, and an identity that changes fails the later event. A model that was
not calibrated is used with a warning. The critic of the puppet world reads pixels instead and comes from outside.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from agents.answers import ask
from agents.brains import EventVerdict, LanguageModel, Question, VerdictResult, Viewing
from agents.calibration import Belief, belief_in, believed, warn
from agents.storyboard import Shown
from generators.clip import Frames
from prompts.catalog import load

Size = tuple[int, int]


class Description(Shown):
    """What a vision model says the frames show."""

    description: str


class EventScore(Shown):
    """One event: evidence first, decision last, so that the decision rests on it."""

    event: int
    evidence: str
    start: float
    end: float
    confidence: float
    done: bool


class Scores(Shown):
    """One vote on all events of a take."""

    events: list[EventScore]
    identity: float
    quality: float


@dataclass(frozen=True, kw_only=True)
class CriticOptions:
    """How a take is shown and how often it is voted on."""

    votes: int = 3
    most_frames: int = 32
    size: Size = (512, 320)
    """Width and height that frames are resized to; the shape is not kept (StoryEval)."""
    jpeg_quality: int = 85

    def __post_init__(self) -> None:
        if self.votes < 1:
            raise ValueError(f"CriticOptions.votes: expected at least 1, got {self.votes}")
        if self.most_frames < 4:
            raise ValueError(f"CriticOptions.most_frames: expected at least 4, got {self.most_frames}")

    def how(self) -> dict[str, str | int]:
        """All that decides a model's verdict beside the model: wordings by digest, frames, votes."""
        return {
            "describe": load("describe").digest[:16],
            "score": load("score").digest[:16],
            "votes": self.votes,
            "frames": self.most_frames,
            "size": f"{self.size[0]}x{self.size[1]}",
            "jpeg": self.jpeg_quality,
        }


def digest_of(how: dict[str, str | int]) -> str:
    """What a calibration knows a way of looking by: the first 16 digits of the sha256 over it."""
    return hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()[:16]


class ModelCritic:
    """Asks a vision model what it sees, then what of it was promised.

    `belief` is what is known of the model; by default what its calibration file says, if there is one.
    """

    def __init__(
        self, model: LanguageModel, options: CriticOptions | None = None, belief: Belief | None = None
    ) -> None:
        self.model = model
        self.options = options or CriticOptions()
        self.belief = belief or belief_in(model.name, self.digest())
        self._warned = False

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    def how(self) -> dict[str, str | int]:
        """All that decides a verdict beside the model."""
        return self.options.how()

    def digest(self) -> str:
        """What the model's calibration knows this way of looking by."""
        return digest_of(self.how())

    async def judge(self, viewing: Viewing) -> VerdictResult:
        """A verdict from several votes. Raises a ModelError when one cannot be had."""
        if not self._warned:
            self._warned = True
            warn(self.belief)
        images = await asyncio.to_thread(key_frames, viewing.frames, self.options)
        votes = [await self._vote(viewing, images, vote) for vote in range(self.options.votes)]
        return believed(count_votes(self.name, votes), self.belief)

    async def _vote(self, viewing: Viewing, images: tuple[bytes, ...], vote: int) -> Scores:
        seconds = f"{len(viewing.frames) / viewing.fps:.2f}"
        seen = await ask(
            self.model,
            Question(
                role="critic",
                prompt=load("describe").render(count=len(images), seconds=seconds),
                shape=Description,
                images=images,
                vote=vote,
            ),
            Description,
        )
        prompt = load("score").render(
            description=seen.description,
            prompt=viewing.prompt,
            cast=[f"{subject.name}: {subject.description}" for subject in viewing.subjects],
            events=[f"{event.subject} {event.phrase}" for event in viewing.events],
            count=len(viewing.events),
            seconds=seconds,
        )
        question = Question(role="critic", prompt=prompt, shape=Scores, images=images, vote=vote)
        return await ask(self.model, question, Scores, lambda answer: score_problems(answer, len(viewing.events)))


def key_frames(frames: Frames, options: CriticOptions) -> tuple[bytes, ...]:
    """Evenly spaced frames, first and last included, as JPEG: a quarter of them, at least 4, at most `most_frames`."""
    count = min(max(min(options.most_frames, len(frames) // 4), 4), len(frames))
    picked = np.linspace(0, len(frames) - 1, count).round().astype(int)
    return tuple(_jpeg(frames[index], options) for index in picked)


def _jpeg(frame: Frames, options: CriticOptions) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).resize(options.size, Image.Resampling.BOX).save(buffer, "JPEG", quality=options.jpeg_quality)
    return buffer.getvalue()


def score_problems(answer: Scores, events: int) -> list[str]:
    """What is wrong with a vote: an event missing or twice, a share outside 0 to 1, a decision without evidence."""
    found: list[str] = []
    if [score.event for score in answer.events] != list(range(1, events + 1)):
        found.append(f"expected the events 1 to {events} once each and in order")
    for name, share in (("identity", answer.identity), ("quality", answer.quality)):
        if not 0 <= share <= 1:
            found.append(f"{name}: expected 0 to 1, got {share}")
    for score in answer.events:
        if not 0 <= score.confidence <= 1:
            found.append(f"event {score.event}: confidence: expected 0 to 1, got {score.confidence}")
        if not score.evidence.strip():
            found.append(f"event {score.event}: evidence is empty; say what the frames show")
        if score.done and not 0 <= score.start < score.end:
            found.append(f"event {score.event}: done, but its times {score.start} to {score.end} are no interval")
    return found


def count_votes(critic: str, votes: Sequence[Scores]) -> VerdictResult:
    """Unanimous: an event is done when every vote says so. Times and shares are medians of the votes."""
    events = []
    for scores in zip(*(vote.events for vote in votes), strict=True):
        done = all(score.done for score in scores)
        ayes = sum(score.done for score in scores)
        speaker = next(score for score in scores if score.done == done)
        events.append(
            EventVerdict(
                done=done,
                confidence=statistics.median(score.confidence for score in scores if score.done == done),
                evidence=f"{speaker.evidence} ({ayes} of {len(scores)} votes)",
                start=statistics.median(score.start for score in scores) if done else None,
                end=statistics.median(score.end for score in scores) if done else None,
            )
        )
    return VerdictResult(
        critic=critic,
        events=tuple(events),
        identity=statistics.median(vote.identity for vote in votes),
        quality=statistics.median(vote.quality for vote in votes),
    )
