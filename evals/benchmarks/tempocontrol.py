"""TempoControl's temporal accuracy: does an object appear, or a movement peak, when it was asked to.

Movement needs no weights. The two object tasks need a detector; the released numbers used YOLOv10n, numbers of
another one carry its name, and without a detector they are not measured.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from evals.benchmarks.protocol import Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.metrics.classical import ONE_FRAME
from evals.metrics.detection import open_detector
from evals.metrics.embedders import Weights
from evals.metrics.flow import motion_energy, movement_second
from evals.metrics.frame_indices import linspace_end
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from evals.metrics.temporal import ALIASES, Presence, one_object, onset_hits, read_mask, two_objects
from generators.clip import Frames

SECONDS = 5
FOLLOWS, MEETS = "motion follows its mask (Pearson)", "peaks of the mask met by motion, within an entry"
"""Ours, and those that a mask made from sound would be judged by; both over Farneback flow at the mask's rate."""
NO_OBJECT = NotMeasured(reason="movement names no object")
Heat = list[list[float] | None]
"""A row for every time at which a thing may be asked for, filled where this clip was asked: when it was seen."""
Task = Literal["one object", "two objects", "movement"]
COLUMNS: Mapping[Task, tuple[str, ...]] = {
    "one object": ("prompt", "temp_object", "control_signal1"),
    "two objects": ("prompt", "temp_object", "static_object", "control_signal1"),
    "movement": ("prompt", "mov_sec", "control_signal1"),
}

ORIGINAL = "original_prompt"
"""What a prompt of two objects was before its times were written into it; the released videos are named after it."""


@runtime_checkable
class Detector(Protocol):
    """Says what is to be seen in a picture."""

    @property
    def name(self) -> str:
        """Id and digest of the weights."""
        ...

    def seen(self, frames: Frames) -> Sequence[frozenset[str]]:
        """Lower-case names of everything detected, a set a frame."""
        ...


@dataclass(frozen=True, kw_only=True)
class TempoControlSettings:
    """One of the three lists, by path. `aliases` reads words that COCO calls otherwise by COCO's name."""

    task: Task
    prompts: Path
    aliases: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.task not in COLUMNS:
            raise ValueError(f"TempoControlSettings.task: expected one of {', '.join(COLUMNS)}; got {self.task!r}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"TempoControlSettings.limit: expected at least 1, got {self.limit}")


def read_cases(path: Path, task: Task) -> tuple[Case, ...]:
    """The rows of a list, in order. Raises ValueError naming the row and what it lacks or has wrong."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{path}: expected rows of {', '.join(COLUMNS[task])}, got none")
    return tuple(_case(f"{path}, row {number + 1}", f"{number:03d}", row, task) for number, row in enumerate(rows))


def _case(place: str, name: str, row: Mapping[str, str], task: Task) -> Case:
    if missing := [column for column in COLUMNS[task] if not row.get(column)]:
        raise ValueError(f"{place}: no {', '.join(missing)}; is it the list of {task}?")
    try:
        mask = read_mask(row["control_signal1"])
    except ValueError as error:
        raise ValueError(f"{place}: control_signal1: {error}") from error
    if 1 not in mask:
        raise ValueError(f"{place}: control_signal1 shows nothing at any time")
    spec = {column: row[column].strip() for column in (*COLUMNS[task], ORIGINAL) if row.get(column)}
    second = spec.get("mov_sec")
    if second is not None and not (second.isdecimal() and int(second) < SECONDS):
        raise ValueError(f"{place}: mov_sec: expected a whole second, 0 to {SECONDS - 1}, got {second!r}")
    return Case(name=name, prompt=row["prompt"], classes=(f"from {second or mask.index(1)}",), spec=spec)


class TempoControl:
    """The benchmark. Classes are the entry (or, for movement, the second) at which the thing was to start."""

    def __init__(self, settings: TempoControlSettings, detector: Detector | NotMeasured) -> None:
        self._settings = settings
        self._detector = NO_OBJECT if settings.task == "movement" else detector
        self._cases = read_cases(settings.prompts, settings.task)[: settings.limit]

    @classmethod
    def with_weights(cls, settings: TempoControlSettings, weights: Weights) -> TempoControl:
        """With the detector among the weights; without one the object tasks are not measured. Movement opens none."""
        return cls(settings, NO_OBJECT if settings.task == "movement" else open_detector(weights))

    @property
    def name(self) -> str:
        """Names the task."""
        return f"tempocontrol-{self._settings.task.replace(' ', '-')}"

    @property
    def metric(self) -> str:
        """What the table calls it: by which detector, and whether words were read by COCO's names."""
        seen_by = [] if isinstance(self._detector, NotMeasured) else [self._detector.name]
        variant = ", ".join([*seen_by, *(["COCO aliases"] if self._settings.aliases else [])])
        return f"temporal accuracy, {self._settings.task}" + (f" ({variant})" if variant else "")

    def settings(self) -> Mapping[str, Any]:
        """Task, list by digest, detector."""
        return {
            "task": self._settings.task,
            "prompts": hashlib.sha256(self._settings.prompts.read_bytes()).hexdigest(),
            "aliases": self._settings.aliases,
            "detector": None if isinstance(self._detector, NotMeasured) else self._detector.name,
        }

    def units(self) -> Sequence[Unit]:
        """One prompt each."""
        return [Unit(name=case.name, cases=(case,), classes=case.classes) for case in self._cases]

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """The accuracy of one clip."""
        film, spec = films[0], unit.cases[0].spec
        timing: Heat = []
        beside: dict[str, Outcome] = {}
        if self._settings.task == "movement":
            beside = _with_mask(film, read_mask(spec["control_signal1"]))
        if isinstance(film, NotMeasured):
            outcome: Outcome = film
        elif self._settings.task == "movement":
            outcome, timing = _movement(film, int(spec["mov_sec"]))
        elif isinstance(self._detector, NotMeasured):
            outcome = self._detector
        else:
            outcome, timing = self._presence(self._detector, film.frames, spec)
        return Judgement(outcomes={self.metric: outcome} | beside, facts={"timing": timing}, headline=self.metric)

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Over all, and by onset."""
        onsets = sorted({name for one in judged for name in one.unit.classes}, key=lambda name: int(name.split()[1]))
        return lines_by_class(judged, onsets)

    def _presence(self, detector: Detector, frames: Frames, spec: Mapping[str, str]) -> tuple[Score, Heat]:
        mask = read_mask(spec["control_signal1"])
        found = detector.seen(frames[linspace_end(len(frames), len(mask))])
        timed = [self._word(spec["temp_object"]) in names for names in found]
        heat = [[float(seen) for seen in timed] if entry == mask.index(1) else None for entry in range(len(mask))]
        if self._settings.task == "one object":
            return _score(one_object(mask, timed)), heat
        constant = [self._word(spec["static_object"]) in names for names in found]
        return _score(two_objects(mask, constant, timed)), heat

    def _word(self, name: str) -> str:
        word = name.lower()
        return ALIASES.get(word, word) if self._settings.aliases else word


def _movement(film: Film, wanted: int) -> tuple[Outcome, Heat]:
    if len(film.frames) < 2:
        return ONE_FRAME, []
    got = movement_second(film.frames, film.fps, SECONDS)
    heat = [[float(second == got) for second in range(SECONDS)] if row == wanted else None for row in range(SECONDS)]
    return Score(value=float(got == wanted), details={"wanted": float(wanted), "moved": float(got)}), heat


def _with_mask(film: Film | NotMeasured, mask: Sequence[int]) -> dict[str, Outcome]:
    """How well motion goes with the mask that asked for it."""
    if isinstance(film, NotMeasured):
        return dict.fromkeys((FOLLOWS, MEETS), film)
    if len(film.frames) < 2:
        return dict.fromkeys((FOLLOWS, MEETS), ONE_FRAME)
    found = onset_hits(mask, motion_energy(film.frames, len(mask)))
    still = NotMeasured(reason="motion, or its mask, never changes")
    return {n: still if one is None else Score(value=one) for n, one in zip((FOLLOWS, MEETS), found, strict=True)}


def _score(presence: Presence) -> Score:
    shares = {"present": presence.present, "absent": presence.absent}
    return Score(value=presence.accuracy, details={name: share for name, share in shares.items() if share is not None})
