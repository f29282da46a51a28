"""Does a cast stay itself over a set of shots, and what does that cost? One puppet, n shots, filmed by every arm.

A benchmark of the suite: one unit a set, so each arm is a method and its rows go on where they stopped. Identity stands
beside motion, completion and place, for a set that stands still or shows one shot n times looks the same all along.
How a set is filmed stands in `cast_arms`, how a shot is read in `shots_seen`. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.benchmarks.cast_draw import SIZES, draw_set
from evals.benchmarks.protocol import APART, Film, Judged, Judgement, Line, Unit, noise_of
from evals.benchmarks.shot_measures import COMPARED, DRIFTS, DYNAMICS, GATES, LOOK, by_distance, lines_by_size
from evals.benchmarks.shots_seen import READ, check_drawn, fact_of, kept, means_of, see_shot, units_of
from evals.metrics.consistency import GATE
from evals.metrics.score import NotMeasured
from evals.sheets import SHOTS
from evals.world.settings import read_by
from evals.world.splits import Case


@dataclass(frozen=True, kw_only=True)
class CastBenchSettings:
    """Which sets: so many of each size. `film` says what films: weights, steps, guidance."""

    sets: int = 24
    sizes: tuple[int, ...] = SIZES
    split: str = "test"
    seed: int = 0
    film: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.sets < 1:
            raise ValueError(f"sets: expected at least 1, got {self.sets}")
        check_drawn(self.sizes, SIZES, self.split)


class Cast:
    """The benchmark. Classes are the sizes of sets."""

    def __init__(self, settings: CastBenchSettings) -> None:
        self._settings = settings
        drawn = settings.seed + APART[settings.split]
        sizes = sorted(set(settings.sizes))
        named = [(f"cast-{size}-{number:04d}", size, number) for number in range(settings.sets) for size in sizes]
        self._sets = {name: draw_set(size, number, drawn) for name, size, number in named}

    @property
    def name(self) -> str:
        """`cast`, or `cast-tune`: the two never share a table."""
        return "cast" if self._settings.split == "test" else f"cast-{self._settings.split}"

    def settings(self) -> Mapping[str, Any]:
        """Where sets and noise come from, and what films; not how many, and not the arm."""
        told = self._settings
        return {**read_by(), "split": told.split, "seed": told.seed, "gate": GATE, "film": dict(told.film)}

    def units(self) -> Sequence[Unit]:
        """One set each, sizes in turn, so that the first of a longer list are those of a shorter."""
        return units_of(self._sets)

    @property
    def pairs(self) -> Mapping[str, tuple[Case, Case]]:
        """By shot: the case, and the next shot of its set, whose script is wrong for it."""
        return {
            shot.name: (shot, shots[(at + 1) % len(shots)])
            for shots in self._sets.values()
            for at, shot in enumerate(shots)
        }

    def shots(self, name: str) -> tuple[Case, ...]:
        """The shots of a set."""
        return self._sets[name]

    def noise(self, name: str) -> int:
        """The seed of a shot's noise: the same for every arm, whatever else is filmed."""
        return noise_of(self.name, self._settings.seed, name)

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """Every measure of one set; a set of which a shot is missing has none."""
        missing = next((film for film in films if isinstance(film, NotMeasured)), None)
        if missing is not None:
            return Judgement(outcomes=dict.fromkeys(_names(len(films)), missing), headline=LOOK)
        there = [film for film in films if isinstance(film, Film)]
        pairs = [self.pairs[case.name] for case in unit.cases]
        seen = [
            see_shot(film, shown=shown, case=case, other=other)
            for film, shown, (case, other) in zip(there, unit.cases, pairs, strict=True)
        ]
        facts = {
            "classes": list(unit.classes),
            "looks": [one.look for one in seen],
            "pace": [one.pace for one in seen],
            SHOTS: [fact_of(case, one) for (case, _), one in zip(pairs, seen, strict=True)],
        }
        return Judgement(outcomes=kept(seen) | means_of(seen), facts=facts, headline=LOOK)

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Over all sets, by size, and how looks last over the distance of two shots."""
        return lines_by_size(judged, self._settings.sizes, by_distance(GATES, SIZES[-1]))


def _names(size: int) -> tuple[str, ...]:
    """All that a set of so many shots is measured by."""
    return (*GATES, *DRIFTS, COMPARED, *by_distance(GATES, size), *READ, DYNAMICS.name)
