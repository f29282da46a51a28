"""Captions of training shots by a vision model: the full look of everybody in every caption, in the same words.

What is filmed with several shots in one sequence hears its own caption only, so looks are repeated in each. Knows no
training and no files.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.answers import ask
from agents.blocking import Blocking, Closing
from agents.brains import LanguageModel, Question
from agents.critic import CriticOptions, key_frames
from agents.storyboard import Shape
from generators.clip import Frames
from prompts.catalog import load

REMEMBERED = 4
"""Captions of earlier shots that a model is shown."""
SHORTEST = 20
"""Characters; less is no caption."""


class ShotCaption(Shape):
    """What one shot shows."""

    caption: str


class ModelCaptioner(Blocking):
    """A vision model behind an OpenAI-compatible endpoint or in this process, or any other LanguageModel."""

    def __init__(self, model: LanguageModel, closing: Closing | None = None) -> None:
        super().__init__(closing)
        self.model = model

    def caption(self, frames: Frames, fps: float, before: Sequence[str]) -> str:
        """The caption of a shot; `before` are those of the shots it follows. Raises a ModelError without one."""
        images = key_frames(frames, CriticOptions())
        told = load("caption").render(
            count=len(images), seconds=f"{len(frames) / fps:.2f}", before=list(before[-REMEMBERED:])
        )
        question = Question(role="captioner", prompt=told, shape=ShotCaption, images=images)
        answer = self.wait(ask(self.model, question, ShotCaption, caption_problems))
        return " ".join(answer.caption.split())


def caption_problems(answer: ShotCaption) -> list[str]:
    """What is wrong with a caption: that it is none."""
    short = len(answer.caption.strip()) < SHORTEST
    return [f"caption: expected sentences of at least {SHORTEST} characters, got {answer.caption!r}"] if short else []
