"""Does a cast stay itself over a set of shots, and what does that cost? One puppet, n shots, filmed by every arm.

A benchmark of the suite: one unit a set, so each arm is a method and its rows go on where they stopped. Identity stands
beside motion, completion and place, for a set that stands still or shows one shot n times looks the same all along.
Everything is read from pixels; how a set is filmed stands in `cast_arms`. Knows no model: a backend films.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.staging import ANCHORS
from evals.benchmarks.cameras import request_of
from evals.benchmarks.cast_arms import Arm
from evals.benchmarks.cast_draw import SIZES, draw_set
from evals.benchmarks.protocol import ALL, SHOWN, Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.benchmarks.steering import APART
from evals.metrics.consistency import GATE, Appearance, gated, over_distance
from evals.metrics.flow import DynamicDegree
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from evals.sheets import SHOTS, shot_fact
from evals.world.looks import lead, mean_colour, pace
from evals.world.pictures import timeline
from evals.world.scores import SCORES, ClipJudgement, judge_actor, judge_scene
from evals.world.settings import SCORE
from evals.world.splits import Case as WorldCase
from evals.world.tracks import Scene, watch
from generators.clip import Backend, Clip, FilmsTogether, ShotRequest, ShotSet
from generators.errors import RequestRejected
from generators.world.words import HUES, KINDS

LOOK, LOOK_ALL = "look kept across shots", "look kept across shots, ungated"
COLOUR, COLOUR_ALL = "colour drift (CIELAB)", "colour drift (CIELAB), ungated"
COMPARED, PACE, FLOOR = "shots compared", "displacement (px/s)", "completion of another shot"
GATES: Mapping[str, float] = {LOOK: GATE, LOOK_ALL: 0.0}
"""How well its own shot must show what it promised for an appearance to be compared."""
DRIFTS: Mapping[str, float] = {COLOUR: GATE, COLOUR_ALL: 0.0}
READ: Mapping[str, Callable[[ClipJudgement], float | bool | None]] = {
    "completion": SCORES["ECR"],
    "colour": SCORES["Colour"],
    "kind": SCORES["Kind"],
    "place": SCORES["Place"],
    "identity within shots": SCORES["ID"],
}
"""Means over the shots of a set in which they can be read."""
DYNAMICS = DynamicDegree()
NOBODY = NotMeasured(reason="no puppet was seen")
FEW = NotMeasured(reason="fewer than two shots to compare")
_LOOKS = [(hue, kind) for hue in HUES for kind in KINDS]


def apart(name: str, distance: int) -> str:
    """The measure over pairs of shots that are so far apart."""
    return f"{name}, {distance} apart"


@dataclass(frozen=True, kw_only=True)
class CastSettings:
    """Which sets: so many of each size. `film` says what films: weights, steps, guidance."""

    sets: int = 24
    sizes: tuple[int, ...] = SIZES
    split: str = "test"
    seed: int = 0
    film: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.sets < 1:
            raise ValueError(f"sets: expected at least 1, got {self.sets}")
        if not self.sizes or not set(self.sizes) <= set(SIZES):
            raise ValueError(
                f"sizes: expected some of {', '.join(map(str, SIZES))} shots, "
                f"got {', '.join(map(str, self.sizes)) or 'none'}"
            )
        if self.split not in APART:
            raise ValueError(f"split: expected test or tune, got {self.split!r}")


@dataclass(frozen=True, kw_only=True)
class SeenShot:
    """One shot as it was read; `look` and `colour` are of the puppet that fills most of it, None without one."""

    scene: Scene = field(repr=False)
    judged: ClipJudgement
    fidelity: float
    look: tuple[str, str | None] | None
    colour: NDArray[np.float32] | None = field(repr=False)
    pace: float | None
    dynamic: Outcome
    floor: float


class Cast:
    """The benchmark. Classes are the sizes of sets."""

    def __init__(self, settings: CastSettings) -> None:
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
        return {"split": told.split, "seed": told.seed, "gate": GATE, "setting": SCORE.name, "film": dict(told.film)}

    def units(self) -> Sequence[Unit]:
        """One set each, sizes in turn, so that the first of a longer list are those of a shorter."""
        return [
            Unit(
                name=name,
                cases=tuple(
                    Case(name=shot.name, prompt=shot.caption.text, group=name, shot=number)
                    for number, shot in enumerate(shots, 1)
                ),
                classes=(f"{len(shots)} shots",),
                shown=SHOWN * len(shots),
            )
            for name, shots in self._sets.items()
        ]

    @property
    def pairs(self) -> Mapping[str, tuple[WorldCase, WorldCase]]:
        """By shot: the case, and the next shot of its set, whose script is wrong for it."""
        return {
            shot.name: (shot, shots[(at + 1) % len(shots)])
            for shots in self._sets.values()
            for at, shot in enumerate(shots)
        }

    def shots(self, name: str) -> tuple[WorldCase, ...]:
        """The shots of a set."""
        return self._sets[name]

    def noise(self, name: str) -> int:
        """The seed of a shot's noise: the same for every arm, whatever else is filmed."""
        return zlib.crc32(f"{self.name}/{self._settings.seed}/{name}".encode()) >> 1

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """Every measure of one set; a set of which a shot is missing has none."""
        shots = self._sets[unit.name]
        missing = next((film for film in films if isinstance(film, NotMeasured)), None)
        if missing is not None:
            return Judgement(outcomes=dict.fromkeys(_names(len(shots), DYNAMICS.name), missing), headline=LOOK)
        there = [film for film in films if isinstance(film, Film)]
        seen = [see_shot(film, case, *self.pairs[case.name]) for film, case in zip(there, unit.cases, strict=True)]
        outcomes = kept(seen) | {name: mean_of([read(one.judged) for one in seen]) for name, read in READ.items()}
        moved = [one.dynamic.value for one in seen if isinstance(one.dynamic, Score)]
        outcomes |= {
            PACE: mean_of([one.pace for one in seen]),
            DYNAMICS.name: mean_of(moved),
            FLOOR: mean_of([one.floor for one in seen]),
        }
        facts = {
            "classes": list(unit.classes),
            "looks": [one.look for one in seen],
            "pace": [one.pace for one in seen],
            SHOTS: [fact_of(shot, one) for shot, one in zip(shots, seen, strict=True)],
        }
        return Judgement(outcomes=outcomes, facts=facts, headline=LOOK)

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Over all sets, by size, and how looks last over the distance of two shots."""
        found = lines_by_class(judged, [f"{size} shots" for size in sorted(set(self._settings.sizes))])
        over_all = {line.summary.metric: line.summary for line in found if line.group == ALL}
        far = {apart(name, away): (name, away) for name in GATES for away in range(1, SIZES[-1])}
        return [line for line in found if line.summary.metric not in far] + [
            Line(group=f"distance {away}", summary=replace(over_all[metric], metric=name))
            for metric, (name, away) in far.items()
            if metric in over_all
        ]


def see_shot(film: Film, shown: Case, case: WorldCase, other: WorldCase) -> SeenShot:
    """Read one clip against its own script; `other` is a shot whose script is wrong for it."""
    scene = watch(film.frames, SCORE)
    judged = judge_scene(scene, case.script)
    track = lead(scene)
    look = None
    if track is not None:
        wanted = case.script.actors[0]
        look = track.hue, judge_actor(scene, track.hue, wanted.kind, {wanted.hue}).kind
    return SeenShot(
        scene=scene,
        judged=judged,
        fidelity=judged.completed_id,
        look=look,
        colour=None if track is None else mean_colour(scene, film.frames, track.hue),
        pace=None if track is None else pace(scene, track),
        dynamic=DYNAMICS.measure(film.frames, film.fps, shown),
        floor=judge_scene(scene, other.script).completed,
    )


def _names(size: int, dynamic: str) -> tuple[str, ...]:
    away = [apart(name, distance) for name in GATES for distance in range(1, size)]
    return (*GATES, *DRIFTS, COMPARED, *away, *READ, PACE, dynamic, FLOOR)


def kept(seen: Sequence[SeenShot]) -> dict[str, Outcome]:
    """Looks and colours over pairs of shots, gated and not, and looks by distance as well."""
    looks = [_appearance(at, one, _one_hot(one.look)) for at, one in enumerate(seen) if one.look and one.look[1]]
    found: dict[str, Outcome] = {COMPARED: Score(value=len(gated(looks)) / len(seen))}
    for name, gate in GATES.items():
        curve = over_distance({"cast": looks}, gate)  # the cosine of two looks is 1 or 0
        found[name] = mean_of([value for values in curve.values() for value in values], FEW)
        found |= {apart(name, d): mean_of(curve.get(d, []), FEW) for d in range(1, len(seen))}
    colours = [_appearance(at, one, one.colour) for at, one in enumerate(seen) if one.colour is not None]
    for name, gate in DRIFTS.items():
        pairs = combinations(gated(colours, gate), 2)
        found[name] = mean_of([float(np.linalg.norm(a.embedding - b.embedding)) for a, b in pairs], FEW)
    return found


def _appearance(shot: int, one: SeenShot, embedding: NDArray[np.floating]) -> Appearance:
    return Appearance(shot=shot, embedding=embedding, fidelity=one.fidelity)


def _one_hot(look: tuple[str, str | None]) -> NDArray[np.float64]:
    return np.array([float(look == one) for one in _LOOKS])


def mean_of(values: Sequence[float | bool | None], why: NotMeasured = NOBODY) -> Outcome:
    """The mean of what could be read, or why there is none."""
    known = [float(value) for value in values if value is not None]
    return Score(value=float(np.mean(known))) if known else why


def fact_of(shot: WorldCase, one: SeenShot) -> dict[str, Any]:
    """A shot for its row: its words and who was seen, and its event in time."""
    seen = "nobody" if one.look is None else f"{one.look[0]} {one.look[1] or 'shape'}"
    return shot_fact(f"{shot.caption.text} · seen: {seen}", shot.script.seconds, timeline(shot.script, one.judged))


class ShotsDrawn(Protocol):
    """A benchmark whose units are shots of one story, each with noise of its own."""

    def shots(self, name: str) -> tuple[WorldCase, ...]:
        """The shots of a unit."""
        ...

    def noise(self, name: str) -> int:
        """The seed of a shot's noise."""
        ...


class SetFootage:
    """Clips of one arm, a whole set at a time, each shot from its own noise. A set that is rejected has no clips."""

    def __init__(self, benchmark: ShotsDrawn, backend: Backend, arm: Arm) -> None:
        self.name, self.source = arm.name, f"array, arm {arm.digest()}"
        self._benchmark, self._backend, self._arm = benchmark, backend, arm
        self._filmed: dict[str, Film | NotMeasured] = {}

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        """A shot; the first that is asked of a set films all of it. Noise is the benchmark's, not `seed`."""
        if case.name not in self._filmed:
            shots = self._benchmark.shots(case.group)
            names = [shot.name for shot in shots]
            try:
                clips = self._shoot(shots)
            except RequestRejected as error:
                self._filmed = dict.fromkeys(names, NotMeasured(reason=f"rejected: {error}"))
            else:
                films = [Film(frames=clip.frames, fps=clip.fps, seconds=clip.seconds_spent) for clip in clips]
                self._filmed = dict(zip(names, films, strict=True))
        return self._filmed[case.name]

    def _shoot(self, shots: Sequence[WorldCase]) -> list[Clip]:
        requests = tuple(self._request(shot, shots[0]) for shot in shots)
        if not self._arm.together:
            return self._backend.shoot(requests)
        if not isinstance(self._backend, FilmsTogether):
            raise RequestRejected(f"{self._backend.name} films shots one by one; it knows no sets")
        subjects = tuple(shot.caption.subjects[0] for shot in shots)
        everyone = tuple(range(len(shots)))
        told = ShotSet(
            requests=requests, subjects=subjects, anchors=ANCHORS, wanted=everyone, steering=self._arm.steering
        )
        return self._backend.shoot_set(told)

    def _request(self, shot: WorldCase, first: WorldCase) -> ShotRequest:
        return request_of(shot, self._benchmark.noise((first if self._arm.one_noise else shot).name))
