"""The planner with a language model behind it: a free one, and one that keeps to the puppet world's words.

The prompt asks, the shape holds the answer, and code checks what a schema cannot; wrong answers go back with what is
wrong. The planner without a model is `offline.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import ValidationError

from agents import worldplan
from agents.answers import ask
from agents.brains import Brief, LanguageModel, Question
from agents.errors import PlanError
from agents.storyboard import Place, PlannedEvent, PlannedShot, Shape, Storyboard, Subject
from agents.titles import split_title
from agents.worldplan import MOST_EVENTS, OneOf, WorldPlan
from generators.world.captions import predicates
from generators.world.words import HUES, KINDS, PLACES, PROPS, TIMES, VERBS
from prompts.catalog import load

LONGEST_STORY = 200_000
"""Characters sent to a model; about what the larger ones read at once."""
MOST_SHOT_EVENTS = 4
MOST_UNTOLD = 10
"""Sentences left out that are named one by one."""
_NEEDS = {"none": "", "side": " (needs side)", "prop": " (needs prop)", "other": " (needs other)"}


class DraftEvent(Shape):
    """An event without its time: who, and the phrase verbatim in the prompt."""

    subject: str
    phrase: str


class DraftShot(Shape):
    """A shot as a model writes it."""

    prompt: str
    subjects: list[str]
    place: str
    camera: str
    seconds: float
    transition: Annotated[str, OneOf(("cut", "continues"))]
    events: list[DraftEvent]


class Draft(Shape):
    """A storyboard as a model writes it: plain lists, everything required, as strict schemas want it."""

    title: str
    style: str
    cast: list[Subject]
    places: list[Place]
    shots: list[DraftShot]
    notes: list[str]


class ModelPlanner:
    """Asks a language model for a storyboard in free words, for backends that film anything."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    async def plan(self, story: str, brief: Brief) -> Storyboard:
        """Raises PlanError for an empty story, or a ModelError."""
        prompt = load("plan").render(
            story=_checked(story),
            style=brief.style,
            max_shots=brief.max_shots,
            shot_seconds=[f"{s:g}" for s in brief.shot_seconds],
            film_seconds=f"{brief.seconds:g}" if brief.seconds else "",
        )
        question = Question(role="planner", prompt=prompt, shape=Draft)
        draft = await ask(self.model, question, Draft, lambda answer: draft_problems(answer, brief))
        return _with_notes(board_of(draft), story)


class ModelWorldPlanner:
    """Asks a language model for a plan in the puppet world's words, for the bundled model."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    async def plan(self, story: str, brief: Brief) -> Storyboard:
        """Raises PlanError for an empty story, or a ModelError. Sentences that no shot tells are named in the notes."""
        title, body = split_title(_checked(story))
        sentences = _sentences(body)
        prompt = load("plan_world").render(
            title=title if body != story else "",
            story="\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1)),
            max_shots=brief.max_shots,
            max_events=MOST_EVENTS,
            kinds=KINDS,
            hues=list(HUES),
            places=PLACES,
            times=TIMES,
            props=PROPS,
            verbs=[(f"{verb.name}{_NEEDS[verb.slot]}", _looks(verb.name)) for verb in VERBS.values()],
        )
        question = Question(role="planner", prompt=prompt, shape=WorldPlan)
        answer = await ask(
            self.model,
            question,
            WorldPlan,
            lambda a: worldplan.problems(a, brief.max_shots),
        )
        board = worldplan.storyboard(worldplan.tidied(answer), brief.shot_seconds)
        notes = untold(sentences, [shot.sentence for shot in answer.shots])
        shown = {member.name for member in board.cast}
        notes += [f"No shot shows {member.name!r}" for member in answer.cast if member.name not in shown]
        if brief.style:
            notes.append(f"The style {brief.style!r} is not applied: the bundled world has one look")
        return _with_notes(board.model_copy(update={"notes": (*board.notes, *notes)}), story)


def untold(sentences: Sequence[str], told: Sequence[str]) -> list[str]:
    """Notes on the story's sentences that no shot tells: small models leave some out and do not say so."""
    words = " ".join(_plain(sentence) for sentence in told)
    left = [sentence for sentence in sentences if _plain(sentence) not in words]
    notes = [f"No shot tells {_short(sentence)!r}" for sentence in left[:MOST_UNTOLD]]
    return [*notes, f"… nor {len(left) - MOST_UNTOLD} more sentences"] if len(left) > MOST_UNTOLD else notes


def _sentences(story: str) -> list[str]:
    """The story's sentences in any script that marks their ends; headings stand for themselves."""
    parts = re.split(r"(?<=[.!?…؟।])\s+|(?<=[。！？])\s*|\n+", story)
    return [" ".join(part.split()) for part in parts if re.search(r"\w", part)]


def _plain(sentence: str) -> str:
    """Letters and digits alone, so that quotation marks and numbering do not tell two copies apart."""
    return " ".join(re.findall(r"\w+", re.sub(r"^\s*\d+\.\s+", "", sentence.casefold())))


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= 80 else sentence[:79] + "…"


def _looks(verb: str) -> str:
    """How an act is told, in two ways: a small model finds the nearest act by its meaning, not by its name."""
    first, *rest = predicates(verb, "train")
    other = next((wording for wording in rest if wording.split()[0] != first.split()[0]), rest[0])
    return f"{first}, {other}".format(side="left", prop="ball", other="other")


def draft_problems(draft: Draft, brief: Brief) -> list[str]:
    """What a schema cannot check about a draft, as sentences a model can act on."""
    found: list[str] = []
    if not 1 <= len(draft.shots) <= brief.max_shots:
        found.append(f"expected 1 to {brief.max_shots} shots, got {len(draft.shots)}")
    low, high = brief.shot_seconds[0], brief.shot_seconds[-1]
    for number, shot in enumerate(draft.shots, 1):
        if not low - 0.5 <= shot.seconds <= high + 0.5:
            found.append(f"shot {number}: expected {low:g} to {high:g} seconds, got {shot.seconds:g}")
        if not 1 <= len(shot.events) <= MOST_SHOT_EVENTS:
            found.append(f"shot {number}: expected 1 to {MOST_SHOT_EVENTS} events, got {len(shot.events)}")
        found += [f"shot {number}: {problem}" for problem in _order_problems(shot)]
    try:
        board_of(draft)
    except ValidationError as error:
        found += [str(e["msg"]).removeprefix("Value error, ") for e in error.errors()]
    return found


def _order_problems(shot: DraftShot) -> list[str]:
    """Events must stand in the prompt in the order in which they are listed."""
    at = -1
    for event in shot.events:
        found = shot.prompt.find(event.phrase, at + 1)
        if found < 0:
            if event.phrase in shot.prompt:
                return [f"event {event.phrase!r} stands in the prompt before the event listed in front of it"]
            return []  # not verbatim at all: the storyboard says so
        at = found
    return []


def board_of(draft: Draft) -> Storyboard:
    """The draft as a storyboard with provisional times. Raises pydantic's ValidationError."""
    shots = tuple(
        PlannedShot(
            prompt=shot.prompt,
            subjects=tuple(shot.subjects),
            place=shot.place or None,
            camera=shot.camera or "static",
            seconds=shot.seconds,
            transition="continues" if shot.transition == "continues" else "cut",
            events=tuple(
                PlannedEvent(subject=e.subject, phrase=e.phrase, start=0.0, end=shot.seconds) for e in shot.events
            ),
        )
        for shot in draft.shots
    )
    return Storyboard(
        title=draft.title,
        style=draft.style,
        cast=tuple(draft.cast),
        places=tuple(draft.places),
        shots=shots,
        notes=tuple(draft.notes),
    )


def _checked(story: str) -> str:
    if not story.strip():
        raise PlanError("The story is empty. Write what happens, in any language the model reads")
    return story[:LONGEST_STORY]


def _with_notes(board: Storyboard, story: str) -> Storyboard:
    if len(story) <= LONGEST_STORY:
        return board
    note = f"Only the first {LONGEST_STORY} of the story's {len(story)} characters were read"
    return board.model_copy(update={"notes": (*board.notes, note)})
