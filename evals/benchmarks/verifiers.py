"""Who says whether a clip shows its events: vision models asked as StoryEval asks them, and stored answers.

Two turns a run: describe the key frames, then flag every event with reasons first. A verifier gives text; reading the
flags and asking again is done here once for all of them. An answer without usable flags is no vote, never a 0.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import cv2
import numpy as np
from PIL import Image

from agents.answers import extract_json
from agents.blocking import Blocking, Closing
from agents.brains import LanguageModel, Question
from agents.errors import ModelRefused
from agents.storyboard import Shape
from evals.metrics.frame_indices import linspace_end
from evals.metrics.score import Case
from generators.clip import Frames
from prompts.catalog import Rendered, load

TAG = "[EVENT_FLAGS]"
SIZE = (512, 320)
"""Width and height that frames are resized to, their shape not kept."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How one published verifier is asked: runs a clip, tries a run, and which frames it is shown."""

    name: str
    runs: int
    tries: int
    frames: Literal["a quarter", "always 32"]

    def __post_init__(self) -> None:
        if self.runs < 1 or self.tries < 1:
            raise ValueError(f"Rules: expected at least 1 run and 1 try, got {self.runs} and {self.tries}")


GPT4O = Rules(name="gpt4o", runs=3, tries=3, frames="a quarter")
LLAVA = Rules(name="llava", runs=2, tries=5, frames="always 32")
RULES = {rules.name: rules for rules in (GPT4O, LLAVA)}


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One run over one clip. `flags` is empty when no try gave usable ones; `problem` then says why."""

    flags: tuple[int, ...]
    description: str = ""
    answer: str = ""
    problem: str = ""


@runtime_checkable
class Verifier(Protocol):
    """Gives text for key frames (JPEG). Raises a ModelError when the model cannot be used at all."""

    @property
    def name(self) -> str:
        """What the manifest says."""
        ...

    def describe(self, pictures: Sequence[bytes], case: Case, run: int) -> str:
        """What the frames show."""
        ...

    def score(self, pictures: Sequence[bytes], description: str, case: Case, run: int, attempt: int) -> str:
        """Reasons, then a line with the tag and a flag an event."""
        ...


def key_indices(frames: int, rules: Rules) -> list[int]:
    """A quarter of the frames, at least 4 and at most 32 (all of fewer than 4); or always 32, repeats allowed."""
    if rules.frames == "always 32":
        return linspace_end(frames, 32)
    count = max(min(32, frames // 4), 4)
    return list(range(frames)) if frames < count else linspace_end(frames, count)


def key_pictures(frames: Frames, rules: Rules, quality: int = 95) -> tuple[bytes, ...]:
    """The key frames at 512 x 320 by area, as JPEG."""
    return tuple(_jpeg(frames[at], quality) for at in key_indices(len(frames), rules))


def _jpeg(frame: Frames, quality: int) -> bytes:
    out = io.BytesIO()
    small = np.asarray(cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA), np.uint8)
    Image.fromarray(small).save(out, "JPEG", quality=quality)
    return out.getvalue()


def read_flags(text: str, events: int) -> tuple[int, ...] | str:
    """The flags after the last tag, every integer on its line; or what is wrong, when they are not one an event."""
    at = text.rfind(TAG)
    if at < 0:
        return f"the answer has no {TAG}"
    line = (text[at + len(TAG) :].splitlines() or [""])[0]
    flags = tuple(int(number) for number in re.findall(r"\d+", line))
    if len(flags) != events:
        return f"{len(flags)} flags for {events} events"
    if set(flags) - {0, 1}:
        return "a flag is neither 0 nor 1"
    return flags


def vote(verifier: Verifier, pictures: Sequence[bytes], case: Case, run: int, rules: Rules) -> Vote:
    """Describe, then score until the flags can be used, at most `rules.tries` times."""
    answer, problem, description = "", "", ""
    try:
        description = verifier.describe(pictures, case, run)
        for attempt in range(rules.tries):
            answer = verifier.score(pictures, description, case, run, attempt)
            flags = read_flags(answer, len(case.events))
            if not isinstance(flags, str):
                return Vote(flags=flags, description=description, answer=answer)
            problem = flags
    except ModelRefused as error:
        problem = f"refused: {error}"
    return Vote(flags=(), description=description, answer=answer, problem=problem)


class Said(Shape):
    """A model's answer in its own words."""

    answer: str


class ModelVerifier(Blocking):
    """A vision model behind an OpenAI-compatible endpoint, an open one in this process, or any other LanguageModel."""

    def __init__(self, model: LanguageModel, closing: Closing | None = None) -> None:
        super().__init__(closing)
        self.model = model

    @property
    def name(self) -> str:
        """The model's name and the digests of the wordings it is asked with."""
        wordings = "+".join(load(name).digest[:8] for name in ("storyeval_describe", "storyeval_score"))
        return f"{self.model.name} ({wordings})"

    def describe(self, pictures: Sequence[bytes], case: Case, run: int) -> str:
        """One question with the key frames."""
        return self._ask(load("storyeval_describe").render(count=len(pictures)), pictures, run)

    def score(self, pictures: Sequence[bytes], description: str, case: Case, run: int, attempt: int) -> str:
        """The second one, with the description and the events; every attempt is a vote of its own."""
        prompt = load("storyeval_score").render(
            description=description, prompt=case.prompt, events=list(case.events), count=len(case.events), tag=TAG
        )
        return self._ask(prompt, pictures, run + 1000 * attempt)

    def _ask(self, prompt: Rendered, pictures: Sequence[bytes], number: int) -> str:
        question = Question(role="verifier", prompt=prompt, shape=Said, images=tuple(pictures), vote=number)
        return plain_text(self.wait(self.model.complete(question)).text)


def plain_text(reply: str) -> str:
    """The words of an answer, be they bare or in the JSON that the model was asked for."""
    try:
        found = extract_json(reply)
    except ValueError:
        return reply
    return found["answer"] if isinstance(found, dict) and isinstance(found.get("answer"), str) else reply


class ReplayVerifier:
    """Gives the flags that somebody stored, by case and run; an empty run is an answer without flags."""

    def __init__(self, verdicts: Mapping[str, Sequence[Sequence[int]]], name: str = "replay") -> None:
        self.verdicts = verdicts
        self._name = name

    @property
    def name(self) -> str:
        """Whose answers they are."""
        return self._name

    def describe(self, pictures: Sequence[bytes], case: Case, run: int) -> str:
        """Nothing was kept of it."""
        return ""

    def score(self, pictures: Sequence[bytes], description: str, case: Case, run: int, attempt: int) -> str:
        """The stored flags behind the tag. Raises KeyError for a case that was never judged."""
        runs = self.verdicts[case.name]
        flags = runs[run] if run < len(runs) else ()
        return f"{TAG} {', '.join(map(str, flags))}" if flags else "no flags were stored"
