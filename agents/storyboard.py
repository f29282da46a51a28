"""The storyboard: what a planner writes, a person edits as YAML, and storage keeps as rows.

Knows its own shape and what a schema cannot say (phrases verbatim in prompts, events in order and inside the shot,
cast names known). Knows nothing of models, databases or files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agents.errors import PlanError
from agents.sources import shot_named

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


STALE = "its synopsis was not, and its frames read the synopsis"
"""How a note of a synopsis that was left behind ends."""

BREAKS = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1f\x85]")
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x9f]")
"""Neither tabs nor what separates lines."""


class Shape(BaseModel):
    """Base of everything a person or a model may write: values are frozen; unknown keys and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, allow_inf_nan=False)


class Shown(Shape):
    """Base of what is said of a film. It is shown in terminals, which obey control characters: those are left out."""

    @field_validator("*", mode="before")
    @classmethod
    def _without_controls(cls, value: object) -> object:
        if isinstance(value, str):
            return CONTROLS.sub("", BREAKS.sub("\n", value))
        if isinstance(value, list | tuple):
            return [cls._without_controls(one) if isinstance(one, str) else one for one in value]
        return value


class Subject(Shown):
    """One member of the cast, with one fixed description used in every shot."""

    name: str = Field(min_length=1)
    description: str = Field(min_length=1)


class Place(Shown):
    """Where shots happen."""

    name: str = Field(min_length=1)
    description: str = Field(min_length=1)


class PlannedEvent(Shown):
    """One thing that happens: `phrase` verbatim in the shot's prompt, `start` and `end` in seconds from its start."""

    subject: str
    phrase: str = Field(min_length=1)
    start: float = Field(ge=0)
    end: float = Field(gt=0)


class PlannedShot(Shown):
    """One uncut clip. `continues` goes on from the shot before it; otherwise it starts with a cut."""

    prompt: str = Field(min_length=1)
    subjects: tuple[str, ...] = ()
    place: str | None = None
    camera: str = "static"
    seconds: float = Field(gt=0, le=3600)
    transition: Literal["cut", "continues"] = "cut"
    motion_from: str | None = Field(default=None, min_length=1)
    """Whose motion it has: a video file, `shot N` of this film, `run N shot M`, or `camera pan left`."""
    synopsis: tuple[str, ...] = ()
    """The shot's states in order, a sentence each: its frames read them one after the other (VSTAR)."""
    events: tuple[PlannedEvent, ...] = ()


class Storyboard(Shown):
    """Title, style, cast, places and ordered shots; `notes` say what became of the rest of the story."""

    title: str = Field(min_length=1)
    style: str = ""
    cast: tuple[Subject, ...] = ()
    places: tuple[Place, ...] = ()
    shots: tuple[PlannedShot, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> list[str]:
        names = {subject.name for subject in self.cast}
        places = {place.name for place in self.places}
        found: list[str] = []
        if len(names) != len(self.cast):
            found.append("two members of the cast share a name")
        for number, shot in enumerate(self.shots, 1):
            found += [f"shot {number}: {p}" for p in shot_problems(shot, names, places)]
        if self.shots[0].transition == "continues":
            found.append("shot 1: continues, but no shot stands before it")
        return found + motion_problems(self.shots)


def shot_problems(shot: PlannedShot, cast: set[str], places: set[str]) -> list[str]:
    """What a schema cannot check about one shot, as sentences a model can act on."""
    found = [f"unknown cast member {s!r}; the cast is {sorted(cast)}" for s in shot.subjects if s not in cast]
    if shot.place is not None and shot.place not in places:
        found.append(f"unknown place {shot.place!r}; the places are {sorted(places)}")
    if len(shot.synopsis) == 1 or not all(state.strip() for state in shot.synopsis):
        found.append(f"synopsis: expected no state, or two and more sentences, got {list(shot.synopsis)}")
    before = 0.0
    for event in shot.events:
        where = f"event {event.phrase!r}"
        if event.phrase not in shot.prompt:
            found.append(f"{where} does not stand verbatim in the prompt {shot.prompt!r}")
        if event.subject not in shot.subjects:
            found.append(f"{where}: subject {event.subject!r} is not one of the shot's subjects {list(shot.subjects)}")
        if not event.start < event.end <= shot.seconds + 1e-6:
            found.append(f"{where}: expected start < end <= {shot.seconds}, got {event.start} and {event.end}")
        if event.start < before:
            found.append(f"{where} starts before the event written in front of it")
        before = event.start
    return found


def note_synopses(board: Storyboard, before: Storyboard) -> Storyboard:
    """The edited storyboard with a note for every shot whose prompt was changed and whose synopsis was not.

    Such notes of an earlier edit stay as long as their shot does.
    """
    stale = []
    for number, (shot, old) in enumerate(zip(board.shots, before.shots, strict=False), 1):
        note = f"shot {number}: its prompt was changed and {STALE}"
        if shot.synopsis and shot.synopsis == old.synopsis and (shot.prompt != old.prompt or note in before.notes):
            stale.append(note)
    others = [note for note in board.notes if not note.endswith(STALE)]
    return board.model_copy(update={"notes": (*others, *stale)})


def motion_problems(shots: Sequence[PlannedShot]) -> list[str]:
    """Shots that take their motion from one that is not there, or that would wait for themselves."""
    sources = {number: shot_named(shot.motion_from) for number, shot in enumerate(shots, 1)}
    found = [
        f"shot {number}: motion_from names shot {source}; there are shots 1 to {len(shots)}"
        for number, source in sources.items()
        if source is not None and not 1 <= source <= len(shots)
    ]
    if found:
        return found
    waits = {number: {source} if source else set[int]() for number, source in sources.items()}
    for number, shot in enumerate(shots, 1):
        if shot.transition == "continues" and number > 1:
            waits[number].add(number - 1)
    done: set[int] = set()
    while ready := [number for number in waits.keys() - done if waits[number] <= done]:
        done.update(ready)
    return [
        f"shot {number}: waits for itself; follow its motion_from and what it continues"
        for number in sorted(waits.keys() - done)
        if sources[number]
    ]


def parse_storyboard(data: object, source: str) -> Storyboard:
    """Validate what a model or a person wrote; PlanError lists every problem and names `source`."""
    try:
        return Storyboard.model_validate(data)
    except ValidationError as error:
        raise PlanError(f"{source} is not a storyboard: {'; '.join(_sentences(error))}") from error


_ONE = {"cast": "cast member", "places": "place", "shots": "shot", "subjects": "subject", "events": "event"}
_TOLD = {"extra_forbidden": "there is no such key", "missing": "it is missing"}


def _sentences(error: ValidationError) -> list[str]:
    """What is wrong and where, counted from 1; a list is not blamed for what is wrong with its items."""
    wrong = error.errors()
    holds_wrong = {e["loc"][:depth] for e in wrong for depth in range(len(e["loc"]))}
    return [_sentence(e) for e in wrong if e["loc"] not in holds_wrong]


def _sentence(wrong: ErrorDetails) -> str:
    where: list[str] = []
    for part in wrong["loc"]:
        if isinstance(part, int) and where:
            where[-1] = f"{_ONE.get(where[-1], where[-1])} {part + 1}"
        else:
            where.append(str(part))
    if wrong["type"] == "value_error":
        what = wrong["msg"].removeprefix("Value error, ")
    elif (what := _TOLD.get(wrong["type"], "")) == "":
        got = wrong["input"]
        plain = got is None or isinstance(got, str | int | float)  # aliases of YAML can make a list of any length
        what = f"{wrong['msg']}, got {str(got)[:120]!r}" if plain else f"{wrong['msg']}, got a {type(got).__name__}"
    return ": ".join([*where, what])
