"""Does steering help? Held-out captions of several events, filmed by every arm from the same noise, read from pixels.

A benchmark of the suite: one unit a caption, so each arm is a method and its rows go on where they stopped. Arms take
turns caption by caption; what is steered how stands in `steering_arms`. Knows no model: a backend films.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.benchmarks.protocol import APART, Benchmark, Film, Judged, Judgement, Line, Unit, lines_by_class, noise_of
from evals.benchmarks.steering_arms import Arm
from evals.benchmarks.timing import timing_facts
from evals.footage import BackendFootage, Footage
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from evals.suite import Progress, Result, run
from evals.world import splits
from evals.world.requests import request_of
from evals.world.scores import SCORES, ClipJudgement, judge_scene, leak, mean_iou, onset_error
from evals.world.settings import SCORE, read_by
from evals.world.tracks import watch
from generators.clip import Backend, ShotRequest
from generators.world.words import HEIGHT, WIDTH

HELD_OUT: splits.SplitName = "both"
"""Combinations and sentences that training never had."""
INSIDE = 0.5
"""Overlap of promise and sight from which an event happened in its time."""
LENGTHS = (2, 3, 4)
"""Events that a caption may have."""


@dataclass(frozen=True, kw_only=True)
class SteeringSettings:
    """Which captions: so many for each number of events. `film` says what films: weights, steps, guidance."""

    cases: int = 96
    events: tuple[int, ...] = (2, 3, 4)
    split: str = "test"
    seed: int = 0
    film: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.cases < 1:
            raise ValueError(f"cases: expected at least 1, got {self.cases}")
        if not self.events or not set(self.events) <= set(LENGTHS):
            raise ValueError(f"events: expected some of 2, 3 and 4, got {', '.join(map(str, self.events)) or 'none'}")
        if self.split not in APART:
            raise ValueError(f"split: expected test or tune, got {self.split!r}")


Read = Callable[[ClipJudgement], float | bool | None]


def _in_time(clip: ClipJudgement) -> float:
    return sum(event.iou >= INSIDE for event in clip.events) / len(clip.events)


READ: Mapping[str, tuple[Read, str]] = {
    "completion": (SCORES["ECR"], ""),
    "whole captions": (lambda clip: clip.completed == 1, ""),
    "order": (SCORES["Order"], ""),
    "in time": (_in_time, ""),
    "tIoU": (mean_iou, "no event was done"),
    "onset error (s)": (onset_error, "no event was done"),
    "leakage": (leak, "no event was done"),
    "colour": (SCORES["Colour"], ""),
    "kind": (SCORES["Kind"], "no silhouette could be named"),
    "place": (SCORES["Place"], ""),
    "identity": (SCORES["ID"], "no puppet was seen"),
}
"""What the tables show, how it is read, and why it may be missing.

`order` and `in time` count what was not done as failed, so arms compare over the same clips; tIoU and onset error
look at done events alone, leakage at every time that any of them was seen.
"""
FLOOR = "completion of another caption"


class Steering:
    """The benchmark. Classes are the number of events and whether one puppet does them all."""

    def __init__(self, settings: SteeringSettings) -> None:
        self._settings = settings
        drawn = settings.seed + APART[settings.split]
        listed = {count: splits.cases(HELD_OUT, count, settings.cases, drawn) for count in settings.events}
        cases = [listed[count][number] for number in range(settings.cases) for count in settings.events]
        self._pairs = {case.name: (case, splits.partner(case, drawn)) for case in cases}

    @property
    def name(self) -> str:
        """`steering`, or `steering-tune`: the two never share a table."""
        return "steering" if self._settings.split == "test" else f"steering-{self._settings.split}"

    def settings(self) -> Mapping[str, Any]:
        """Where captions and noise come from, and what films; not how many, and not the arm."""
        told = self._settings
        drawn = {"split": told.split, "held out": HELD_OUT, "seed": told.seed}
        return {**read_by(), **drawn, "film": dict(told.film)}

    def units(self) -> Sequence[Unit]:
        """One caption each, numbers of events in turn, so that the first of a longer list are those of a shorter."""
        return [
            Unit(name=name, cases=(Case(name=name, prompt=case.caption.text),), classes=_classes(case))
            for name, (case, _) in self._pairs.items()
        ]

    @property
    def pairs(self) -> Mapping[str, tuple[splits.Case, splits.Case]]:
        """Behind every unit its caption, and another that lends a wrong script."""
        return self._pairs

    def world_case(self, name: str) -> splits.Case:
        """Script and caption behind a unit."""
        return self._pairs[name][0]

    def noise(self, name: str) -> int:
        """The seed of a caption's noise: the same for every arm, whatever else is filmed."""
        return noise_of(self.name, self._settings.seed, name)

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """Every measure of one clip, and of its single events."""
        film = films[0]
        case, other = self._pairs[unit.name]
        count = len(case.script.events)
        names = [*READ, *(f"event {number}" for number in range(1, count + 1)), FLOOR]
        if isinstance(film, NotMeasured):
            return Judgement(outcomes=dict.fromkeys(names, film), headline="completion")
        scene = watch(film.frames, SCORE)
        clip = judge_scene(scene, case.script)
        values = [_outcome(read(clip), why) for read, why in READ.values()]
        values += [Score(value=float(event.done)) for event in clip.events]
        values.append(Score(value=judge_scene(scene, other.script).completed))
        facts = {
            "classes": list(unit.classes),
            "verbs": list(case.verbs),
            "done": [event.done for event in clip.events],
            "evidence": [event.evidence for event in clip.events],
            **timing_facts([(one.start, one.end) for one in clip.events], case.script.seconds, LENGTHS),
        }
        return Judgement(outcomes=dict(zip(names, values, strict=True)), facts=facts, headline="completion")

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Over all, by number of events, and by the size of the cast."""
        counts = [f"{count} events" for count in sorted(self._settings.events)]
        return lines_by_class(judged, [*counts, "one puppet", "two puppets"])


def _classes(case: splits.Case) -> tuple[str, ...]:
    alone = len(case.script.actors) == 1
    return f"{len(case.script.events)} events", "one puppet" if alone else "two puppets"


def _outcome(value: float | bool | None, why: str) -> Outcome:
    return NotMeasured(reason=why) if value is None else Score(value=float(value))


def arm_footage(benchmark: Steering, backend: Backend, arm: Arm) -> Footage:
    """Clips of one arm, each from its caption's own noise. Raises ValueError for a backend of another canvas."""
    limits = backend.limits
    if (limits.width, limits.height) != (WIDTH, HEIGHT):
        raise ValueError(
            f"{backend.name} films {limits.width}x{limits.height}: expected the puppet world's {WIDTH}x{HEIGHT}"
        )

    def ask(case: Case, _seed: int) -> ShotRequest:
        return arm.steer(request_of(benchmark.world_case(case.name), benchmark.noise(case.name)))

    return BackendFootage(backend=backend, ask=ask, name=arm.name, source=f"array, arm {arm.digest()}")


def run_arms(
    benchmark: Benchmark,
    footages: Sequence[Footage],
    out: Path,
    seed: int = 0,
    on_progress: Callable[[str, Progress], None] | None = None,
) -> list[Result]:
    """Run every arm, in turn at each caption, so that a stop leaves them level and their clocks meet the same load."""
    running: dict[str, Generator[Progress, None, Result]] = {
        footage.name: run(benchmark, footage, out, seed) for footage in footages
    }
    results: dict[str, Result] = {}
    while len(results) < len(running):
        for name, steps in running.items():
            if name in results:
                continue
            try:
                step = next(steps)
            except StopIteration as stop:
                results[name] = stop.value
                continue
            if on_progress is not None:
                on_progress(name, step)
    return list(results.values())
