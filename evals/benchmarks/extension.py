"""Shots that go on from one another: do seams hold, and what is left of place, look and events after n shots?

A benchmark of the suite: one unit a chain of shots of one puppet in one place, so each arm is a method and its rows go
on where they stopped. Everything is read from pixels; how a shot goes on stands in `extension_arms`. Knows no model.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from agents.takespec import fitted
from evals.benchmarks.cast import (
    COMPARED,
    DRIFTS,
    DYNAMICS,
    FEW,
    FLOOR,
    GATES,
    PACE,
    READ,
    SeenShot,
    apart,
    fact_of,
    kept,
    mean_of,
    see_shot,
)
from evals.benchmarks.protocol import ALL, SHOWN, Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.benchmarks.steering import APART
from evals.metrics.consistency import GATE
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from evals.sheets import SHOTS
from evals.slices import SLICE, column_over_time
from evals.world.chains import SIZES, Chain, chain
from evals.world.looks import lead
from evals.world.settings import SCORE
from evals.world.splits import Case as WorldCase
from evals.world.stages import empty_stage, stages_apart
from generators.clip import Given
from generators.seams import HOLDS, seam_jump
from generators.world.words import FPS, WIDTH
from storage.records import EventPlan

JUMP, LEVELS, HOLD = "seam jump (medians)", "seam jump (levels)", "seams that hold"
BACKDROP = "backdrop drift (levels)"
BY_SHOT = (*READ, PACE)
"""Measures of a shot that are also told by its number in the chain."""
_PLACED = re.compile(r"(?P<metric>.*), (?:(?P<apart>\d+) apart|shot (?P<shot>\d+))")
"""A measure of pairs of shots so far apart, or of the shots of one number: a point of a curve."""


def of_shot(name: str, number: int) -> str:
    """The measure of the shots with this number in their chains; of a seam, the shot that begins with it."""
    return f"{name}, shot {number}"


@dataclass(frozen=True, kw_only=True)
class ExtensionSettings:
    """Which chains: so many of each size. `film` says what films: weights, steps, guidance."""

    chains: int = 16
    sizes: tuple[int, ...] = SIZES
    split: str = "test"
    seed: int = 0
    film: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.chains < 1:
            raise ValueError(f"chains: expected at least 1, got {self.chains}")
        if not self.sizes or not set(self.sizes) <= set(SIZES):
            raise ValueError(
                f"sizes: expected some of {', '.join(map(str, SIZES))} shots, "
                f"got {', '.join(map(str, self.sizes)) or 'none'}"
            )
        if self.split not in APART:
            raise ValueError(f"split: expected test or tune, got {self.split!r}")


class Extension:
    """The benchmark. Classes are the sizes of chains."""

    def __init__(self, settings: ExtensionSettings) -> None:
        self._settings = settings
        drawn = settings.seed + APART[settings.split]
        sizes = sorted(set(settings.sizes))
        listed = [chain(size, number, drawn) for number in range(settings.chains) for size in sizes]
        self._chains = {one.name: one for one in listed}

    @property
    def name(self) -> str:
        """`extension`, or `extension-tune`: the two never share a table."""
        return "extension" if self._settings.split == "test" else f"extension-{self._settings.split}"

    def settings(self) -> Mapping[str, Any]:
        """Where chains and noise come from, and what films; not how many, and not the arm."""
        told = self._settings
        return {"split": told.split, "seed": told.seed, "gate": GATE, "setting": SCORE.name, "film": dict(told.film)}

    def units(self) -> Sequence[Unit]:
        """One chain each, sizes in turn, so that the first of a longer list are those of a shorter."""
        return [
            Unit(
                name=name,
                cases=tuple(
                    Case(name=shot.name, prompt=shot.caption.text, events=shot.caption.phrases, group=name, shot=number)
                    for number, shot in enumerate(one.shots, 1)
                ),
                classes=(f"{len(one.shots)} shots",),
                shown=SHOWN * len(one.shots),
            )
            for name, one in self._chains.items()
        ]

    def chain(self, name: str) -> Chain:
        """The chain behind a unit."""
        return self._chains[name]

    def shots(self, name: str) -> tuple[WorldCase, ...]:
        """The shots of a chain."""
        return self._chains[name].shots

    def noise(self, name: str) -> int:
        """The seed of a shot's noise: the same for every arm, whatever else is filmed."""
        return zlib.crc32(f"{self.name}/{self._settings.seed}/{name}".encode()) >> 1

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """Every measure of one chain; a chain of which a shot is missing has none."""
        missing = next((film for film in films if isinstance(film, NotMeasured)), None)
        if missing is not None:
            return Judgement(outcomes=dict.fromkeys(_names(len(films)), missing), headline="completion")
        there = [film for film in films if isinstance(film, Film)]
        told = self.shots(unit.name)
        shots = [asked_after(shot, film.lead) for shot, film in zip(told, there, strict=True)]
        others = (*told[1:], told[0])
        seen = [see_shot(*one) for one in zip(there, unit.cases, shots, others, strict=True)]
        begins = np.cumsum([len(film.frames) - film.lead for film in there])[:-1]
        return Judgement(
            outcomes=_of_seams(there) | _of_shots(seen) | kept(seen) | _of_stages(seen, there),
            facts={
                "classes": list(unit.classes),
                "verbs": [shot.verbs[0] for shot in shots],
                "done": [bool(shot.judged.completed) for shot in seen],
                "seams": [int(at) for at in begins],
                SHOTS: [fact_of(shot, read) for shot, read in zip(shots, seen, strict=True)],
            },
            headline="completion",
            pictures={SLICE: column_over_time(joined(there), _column(seen))},
        )

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Over all chains, by size; over the number of the shot; over the distance of two shots."""
        found = lines_by_class(judged, [f"{size} shots" for size in sorted(set(self._settings.sizes))])
        lines: list[Line] = []
        for line in found:
            placed = _PLACED.fullmatch(line.summary.metric)
            if placed is None:
                lines.append(line)
            elif line.group == ALL:
                group = f"distance {placed['apart']}" if placed["apart"] else f"shot {placed['shot']}"
                lines.append(Line(group=group, summary=replace(line.summary, metric=placed["metric"])))
        return lines


def asked_after(shot: WorldCase, lead: int) -> WorldCase:
    """The shot with its event where a clip that begins with so many finished frames is asked for it."""
    told, script = shot.caption, shot.script
    plans = [
        EventPlan(subject=subject, phrase=phrase, start=event.start, end=event.end)
        for subject, phrase, event in zip(told.subjects, told.phrases, script.events, strict=True)
    ]
    times = fitted(plans, script.seconds, lead / FPS, script.seconds)
    events = tuple(replace(e, start=a, end=b) for e, (a, b) in zip(script.events, times, strict=True))
    return replace(shot, script=replace(script, events=events))


def joined(films: Sequence[Film]) -> np.ndarray:
    """The frames of a chain, those that two clips show taken once."""
    return np.concatenate([film.frames[film.lead :] for film in films])


def jump_between(before: Film, after: Film) -> float:
    """The jump of the seam as the report judges it: over the later clip's median frame difference."""
    given = after.lead or 1
    frames = after.frames if after.lead else np.concatenate([before.frames[-1:], after.frames])
    jump = seam_jump(frames, [Given(first=0, frames=frames[:given])])
    assert jump is not None  # a clip is longer than what it was given
    return jump


def _column(seen: Sequence[SeenShot]) -> int:
    """The column of pixels where the puppet usually stands when a shot ends and another begins; else the middle."""
    tracks = [track for one in seen[:-1] if (track := lead(one.scene)) is not None]
    usual = float(np.median([track.x[-1] for track in tracks])) if tracks else WIDTH / 2
    return min(max(round(usual), 0), WIDTH - 1)


def _of_seams(films: Sequence[Film]) -> dict[str, Outcome]:
    jumps = [jump_between(before, after) for before, after in pairwise(films)]
    pairs = [(before.frames[-1], after.frames[after.lead]) for before, after in pairwise(films)]
    levels = [float(np.abs(now.astype(np.int16) - was).mean()) for was, now in pairs]
    found: dict[str, Outcome] = {}
    for name, values in ((JUMP, jumps), (LEVELS, levels), (HOLD, [float(jump <= HOLDS) for jump in jumps])):
        found[name] = mean_of(values)
        found |= {of_shot(name, number): Score(value=value) for number, value in enumerate(values, 2)}
    return found


def _of_shots(seen: Sequence[SeenShot]) -> dict[str, Outcome]:
    series: dict[str, list[float | bool | None]] = {
        name: [read(one.judged) for one in seen] for name, read in READ.items()
    }
    series[PACE] = [one.pace for one in seen]
    moved = [one.dynamic.value for one in seen if isinstance(one.dynamic, Score)]
    found = {name: mean_of(values) for name, values in series.items()}
    found |= {DYNAMICS.name: mean_of(moved), FLOOR: mean_of([one.floor for one in seen])}
    for name, values in series.items():
        found |= {of_shot(name, number): mean_of([value]) for number, value in enumerate(values, 1)}
    return found


def _of_stages(seen: Sequence[SeenShot], films: Sequence[Film]) -> dict[str, Outcome]:
    """How far the empty stages of two shots are apart: over all pairs, and by distance."""
    stages = [empty_stage(one.scene, film.frames) for one, film in zip(seen, films, strict=True)]
    found: dict[int, list[float | None]] = {}
    for (i, first), (j, second) in combinations(enumerate(stages), 2):
        found.setdefault(j - i, []).append(stages_apart(first, second))
    everywhere = [value for values in found.values() for value in values]
    return {BACKDROP: mean_of(everywhere, FEW)} | {
        apart(BACKDROP, distance): mean_of(values, FEW) for distance, values in found.items()
    }


def _names(size: int) -> tuple[str, ...]:
    """All that a chain of so many shots is measured by."""
    distances = [apart(name, away) for name in (*GATES, BACKDROP) for away in range(1, size)]
    seams = [of_shot(name, number) for name in (JUMP, LEVELS, HOLD) for number in range(2, size + 1)]
    shots = [of_shot(name, number) for name in BY_SHOT for number in range(1, size + 1)]
    whole = (JUMP, LEVELS, HOLD, *BY_SHOT, DYNAMICS.name, FLOOR, *GATES, *DRIFTS, COMPARED, BACKDROP)
    return (*whole, *seams, *shots, *distances)
