"""What a benchmark of the suite is: units to film, a judgement of each, a table of all. Knows no runner and no file.

A unit is what is judged at once: one clip, or all shots of a story. A judgement is plain data, so that a row of a
file can hold it and a stopped run goes on.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from evals.metrics.frechet import Distance
from evals.metrics.score import NOTHING, Case, NotMeasured, Outcome, Score, Summary, summarise, together
from generators.clip import Frames

T = TypeVar("T")
ALL = "all"
MATRICES = "matrices"
"""The fact that holds matrices of similarity for the report: by encoder, of the film and of what it is held against."""
SHOWN = 6
"""Frames in a unit's strip."""
APART: Mapping[str, int] = {"test": 0, "tune": 1_000_003}
"""Added to the seed that draws cases and noise: what is chosen on the one never saw the other."""
AUTOENCODER = "truth through the autoencoder"
"""The control that is the ceiling, a method of its own: what was rendered, encoded and decoded by a model."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Cases judged together."""

    name: str
    cases: tuple[Case, ...]
    classes: tuple[str, ...] = ()
    shown: int = SHOWN
    """Frames in its strip, over all its clips."""


@dataclass(frozen=True, kw_only=True)
class Film:
    """One clip of a unit; `seconds` is what it took to make, None where nobody knows."""

    frames: Frames = field(repr=False)
    fps: float
    seconds: float | None = None
    lead: int = 0
    """Leading frames that the clip before it shows already."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Scores of one unit by metric, and facts that its benchmark's table needs."""

    outcomes: Mapping[str, Outcome]
    facts: Mapping[str, Any] = field(default_factory=dict)
    headline: str = ""
    """The metric that ranks units best to worst."""
    pictures: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """PNG by what it shows, kept beside the row."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A unit and its judgement, as read back from a row."""

    unit: Unit
    judgement: Judgement


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a table: a metric over the units of a class."""

    group: str
    summary: Summary


@runtime_checkable
class Benchmark(Protocol):
    """Settings and models are the implementation's; equal `settings()` mean comparable numbers."""

    @property
    def name(self) -> str:
        """What folders and tables call it."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """All that decides a unit's numbers, as JSON: prompts by digest, models by name and digest; not how many."""
        ...

    def units(self) -> Sequence[Unit]:
        """What to film, in order."""
        ...

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """One film a case, or why there is none. Raises for missing infrastructure, never for a bad clip."""
        ...

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """The table."""
        ...


@runtime_checkable
class HasCeiling(Protocol):
    """A benchmark with ceilings beside its scores: rows beside another ceiling are not read, methods still compare."""

    @property
    def ceiling(self) -> str:
        """Digest of the autoencoder that drew it; empty without one."""
        ...


def chosen(what: str, table: Mapping[str, T], names: Sequence[str], always: str) -> tuple[T, ...]:
    """Entries of these names in the table's order, all for no names, `always` in any case.

    Raises ValueError for an unknown name; `what` says of what it is one.
    """
    if unknown := [name for name in names if name not in table]:
        raise ValueError(f"{what}: expected some of {', '.join(table)}; got {', '.join(unknown)}")
    return tuple(entry for name, entry in table.items() if not names or name in names or name == always)


def noise_of(benchmark: str, seed: int, case: str) -> int:
    """The seed of a case's noise: the same for every arm, whatever else is filmed."""
    return zlib.crc32(f"{benchmark}/{seed}/{case}".encode()) >> 1


ABSENT = NotMeasured(reason="the film has no such shot")
"""A shot that a film of several was made without: it shows nothing, where one that failed tells nothing."""


def absent_by_reason(judged: Sequence[Judged]) -> Mapping[str, int]:
    """How many units have no film, by reason."""
    filmless = [one.judgement.outcomes.values() for one in judged if not one.judgement.facts]
    return Counter(next((one.reason for one in outcomes if isinstance(one, NotMeasured)), "") for outcomes in filmless)


def crowd_line(metric: str, found: Distance, said: str = "", absent: Mapping[str, int] = NOTHING) -> Line:
    """A distance of two crowds, with its error and its warning."""
    note = "; ".join(filter(None, (said, found.warning)))
    number = Score(value=found.value)
    return Line(group=ALL, summary=together(metric, number, found.made, note, error=found.error, absent=absent))


def lines_by_class(judged: Sequence[Judged], classes: Sequence[str] = ()) -> list[Line]:
    """Every metric over all units, then over the units of each class that has any."""
    metrics = list(dict.fromkeys(name for one in judged for name in one.judgement.outcomes))
    found: list[Line] = []
    for metric in metrics:
        for group in (ALL, *classes):
            inside = [one for one in judged if group == ALL or group in one.unit.classes]
            outcomes = [one.judgement.outcomes[metric] for one in inside if metric in one.judgement.outcomes]
            if outcomes:
                found.append(Line(group=group, summary=summarise(metric, outcomes)))
    return found


def as_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a row holds it."""
    if isinstance(outcome, NotMeasured):
        return {"value": None, "why": outcome.reason}
    return {"value": outcome.value, "details": dict(outcome.details)}


def from_json(found: Mapping[str, Any]) -> Outcome:
    """And back."""
    if found["value"] is None:
        return NotMeasured(reason=found["why"])
    return Score(value=found["value"], details=found.get("details", {}))
