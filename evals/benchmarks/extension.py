"""Shots that go on from one another: do seams hold, and what is left of place, look and events after n shots?

A benchmark of the suite: one unit a chain of shots of one puppet in one place, so each arm is a method and its rows go
on where they stopped. Everything is read from pixels; how a shot goes on stands in `extension_arms`. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import median
from typing import Any

import numpy as np

from evals.benchmarks.protocol import APART, Film, Judged, Judgement, Line, Unit, noise_of
from evals.benchmarks.shot_measures import (
    BACKDROP,
    COMPARED,
    DRIFTS,
    DYNAMICS,
    FLOOR,
    GATES,
    HOLD,
    JUMP,
    LEVELS,
    Points,
    apart,
    by_distance,
    by_shot,
    lines_by_size,
    of_shot,
)
from evals.benchmarks.shots_seen import (
    READ,
    SeenShot,
    check_drawn,
    fact_of,
    kept,
    mean_of,
    means_of,
    see_shot,
    units_of,
)
from evals.metrics.consistency import GATE
from evals.metrics.score import NotMeasured, Outcome, Score
from evals.sheets import SHOTS
from evals.slices import SLICE, column_over_time
from evals.world.chains import SIZES, Chain, chain
from evals.world.requests import asked_after
from evals.world.settings import read_by
from evals.world.splits import Case
from evals.world.stages import empty_stage, stages_apart
from generators.clip import Given
from generators.seams import HOLDS, seam_jump
from generators.world.words import WIDTH

BY_SHOT = {name: read for name, read in READ.items() if name != FLOOR}
"""Measures of a shot that are also told by its number in the chain."""
NOWHERE = NotMeasured(reason="no part of the stage is seen in both shots")


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
        check_drawn(self.sizes, SIZES, self.split)


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
        """Where chains and noise come from, how they are read, and what films; not how many, and not the arm."""
        told = self._settings
        read = {**read_by(), "gate": GATE, "motion, colour and stage": "frames of the shot's own"}
        return {"split": told.split, "seed": told.seed, **read, "film": dict(told.film)}

    def units(self) -> Sequence[Unit]:
        """One chain each, sizes in turn, so that the first of a longer list are those of a shorter."""
        return units_of({name: one.shots for name, one in self._chains.items()})

    def chain(self, name: str) -> Chain:
        """The chain behind a unit."""
        return self._chains[name]

    def shots(self, name: str) -> tuple[Case, ...]:
        """The shots of a chain."""
        return self._chains[name].shots

    def noise(self, name: str) -> int:
        """The seed of a shot's noise: the same for every arm, whatever else is filmed."""
        return noise_of(self.name, self._settings.seed, name)

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """Every measure of one chain; a chain of which a shot is missing has none."""
        missing = next((film for film in films if isinstance(film, NotMeasured)), None)
        if missing is not None:
            return Judgement(outcomes=dict.fromkeys(_names(len(films)), missing), headline="completion")
        there = [film for film in films if isinstance(film, Film)]
        told = self.shots(unit.name)
        shots = [asked_after(shot, film.lead) for shot, film in zip(told, there, strict=True)]
        seen = [
            see_shot(film, shown=shown, case=shot, other=other)
            for film, shown, shot, other in zip(there, unit.cases, shots, (*told[1:], told[0]), strict=True)
        ]
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
            pictures={SLICE: column_over_time(joined(there), seam_column(self.chain(unit.name)))},
        )

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Over all chains, by size; over the number of the shot; over the distance of two shots."""
        return lines_by_size(judged, self._settings.sizes, _points(SIZES[-1]))


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


def seam_column(one: Chain) -> int:
    """The column of pixels where the puppet usually stands when a shot ends and another begins; else the middle.

    It is the script's own, so that the slices of all arms show one and the same column.
    """
    on_stage = [x for x in one.stands() if 0 <= x < WIDTH]
    return int(median(on_stage)) if on_stage else WIDTH // 2


def _of_seams(films: Sequence[Film]) -> dict[str, Outcome]:
    jumps = [jump_between(before, after) for before, after in pairwise(films)]
    pairs = [(before.frames[-1], after.frames[after.lead]) for before, after in pairwise(films)]
    levels = [float(np.abs(now.astype(np.int16) - was).mean()) for was, now in pairs]
    found: dict[str, Outcome] = {}
    for name, values in ((JUMP, jumps), (LEVELS, levels), (HOLD, [float(jump <= HOLDS) for jump in jumps])):
        found[name] = Score(value=float(np.mean(values)))
        found |= {of_shot(name, number): Score(value=value) for number, value in enumerate(values, 2)}
    return found


def _of_shots(seen: Sequence[SeenShot]) -> dict[str, Outcome]:
    """What shots are measured by, over all of them and by their number."""
    return means_of(seen) | {
        of_shot(name, number): mean_of([read(shot)], NotMeasured(reason=why))
        for name, (read, why) in BY_SHOT.items()
        for number, shot in enumerate(seen, 1)
    }


def _of_stages(seen: Sequence[SeenShot], films: Sequence[Film]) -> dict[str, Outcome]:
    """How far the empty stages of two shots are apart: over all pairs, and by distance."""
    stages = [empty_stage(one.own, film.frames[film.lead :]) for one, film in zip(seen, films, strict=True)]
    found: dict[int, list[float | None]] = {}
    for (i, first), (j, second) in combinations(enumerate(stages), 2):
        found.setdefault(j - i, []).append(stages_apart(first, second))
    everywhere = [value for values in found.values() for value in values]
    return {BACKDROP: mean_of(everywhere, NOWHERE)} | {
        apart(BACKDROP, distance): mean_of(values, NOWHERE) for distance, values in found.items()
    }


def _points(size: int) -> Points:
    """Measures of chains of so many shots that are points of a curve."""
    seams = by_shot((JUMP, LEVELS, HOLD), range(2, size + 1))
    return {**seams, **by_shot(BY_SHOT, range(1, size + 1)), **by_distance((*GATES, BACKDROP), size)}


def _names(size: int) -> tuple[str, ...]:
    """All that a chain of so many shots is measured by."""
    return (JUMP, LEVELS, HOLD, *READ, DYNAMICS.name, *GATES, *DRIFTS, COMPARED, BACKDROP, *_points(size))
