"""Stories of several shots in the puppet world: does a cast that comes and goes stay itself, do places stay places.

Every shot is filmed from its own caption; who is in it, what happens and where is read from its pixels. Scores across
shots look only at appearances whose own shot shows what it promised, so that a still picture wins nothing. Beside them
stand the ceiling, the rendered story through the model's autoencoder, and the floor, every shot held against the
script of the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from evals.benchmarks.protocol import ABSENT, ALL, Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.benchmarks.world import Autoencoder, readable
from evals.metrics.classical import boundary_match, cuts
from evals.metrics.consistency import GATE, Appearance, gated
from evals.metrics.entities import occm
from evals.metrics.score import Case as Shown
from evals.metrics.score import NotMeasured, Outcome, Score
from evals.world.controls import film as rendered
from evals.world.detectors import Frames
from evals.world.looks import mean_colour, usual_size
from evals.world.scores import ClipJudgement, judge_scene
from evals.world.settings import SCORE, read_by
from evals.world.splits import Case
from evals.world.stages import empty_stage, stages_apart
from evals.world.tracks import Scene, watch
from generators.world.captions import write_caption
from generators.world.grammar import sample_script
from generators.world.script import Actor, Script
from generators.world.words import HUES, KINDS, PLACES, TIMES

STORIES = 50
SHOTS = (3, 4, 5, 6)
"""Lengths of stories, in turn."""
CAST = 3
LOOK, COLOUR, SIZE, OCCM = "look kept across shots", "colour drift (CIELAB)", "size ratio CV", "OCCM"
SAME, APART, CUT, ECR = "same place (MAE)", "different places (MAE)", "cut F1", "ECR over shots"
DECAY, PLACE = "look kept after shots away", "Place over shots"
BY_SCRIPT = (ECR, OCCM, PLACE)
"""What counts every shot of a story."""


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One shot as it was read."""

    judged: ClipJudgement
    scene: Scene = field(repr=False)
    frames: Frames = field(repr=False)


_Look = tuple[Appearance, str | None]
"""An appearance and the kind that its silhouette names."""


class Stories:
    """The benchmark; a unit is a story, a case a shot of it."""

    name = "world-stories"

    def __init__(self, count: int, autoencoder: Autoencoder | NotMeasured, seed: int = 0) -> None:
        if count < 1:
            raise ValueError(f"stories: expected at least 1 story, got {count}")
        self._autoencoder = autoencoder
        self._seed = seed
        self._stories = {f"story-{number:04d}": story(number, seed) for number in range(count)}

    @property
    def cases(self) -> Mapping[str, tuple[Case, Case]]:
        """By shot: the case, and the next shot of its story, whose script is wrong for it."""
        return {
            shot.name: (shot, shots[(at + 1) % len(shots)])
            for shots in self._stories.values()
            for at, shot in enumerate(shots)
        }

    def settings(self) -> Mapping[str, Any]:
        """Stories are drawn by seed."""
        return {**read_by(), "seed": self._seed, "gate": GATE, "unread shots": "not measured"}

    @property
    def ceiling(self) -> str:
        """Digest of the autoencoder; empty without one."""
        return "" if isinstance(self._autoencoder, NotMeasured) else self._autoencoder.digest

    def units(self) -> Sequence[Unit]:
        """One story each."""
        return [
            Unit(
                name=name,
                cases=tuple(
                    Shown(name=s.name, prompt=s.caption.text, events=s.caption.phrases, group=name, shot=number)
                    for number, s in enumerate(shots, 1)
                ),
                classes=(f"{len(shots)} shots",),
            )
            for name, shots in self._stories.items()
        ]

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """A shot that the film lacks shows nobody; one that cannot be read leaves unmeasured what counts all shots."""
        shots = self._stories[unit.name]
        readings = [readable(film) for film in films]
        seen = [_see(film, shot.script) for film, shot in zip(readings, shots, strict=True)]
        shifted = [*shots[1:], shots[0]]
        wrong = [_anew(one, shot.script) for one, shot in zip(seen, shifted, strict=True)]
        outcomes = _by_script(shots, seen) | _between(shots, seen)
        outcomes |= dict.fromkeys(BY_SCRIPT, unread) if (unread := _unread(readings)) else {}
        outcomes |= {f"{name} (ceiling)": one for name, one in self._ceiling(shots, outcomes).items()}
        floors = dict.fromkeys(BY_SCRIPT, unread) if unread else _by_script(shifted, wrong)
        outcomes |= {f"{name} (floor)": one for name, one in floors.items()}
        return Judgement(outcomes=outcomes, facts={"gaps": _gaps(_appearances(seen))}, headline=LOOK)

    def _ceiling(self, shots: Sequence[Case], names: Iterable[str]) -> dict[str, Outcome]:
        if isinstance(self._autoencoder, NotMeasured):
            return dict.fromkeys(names, self._autoencoder)
        best = [self._autoencoder.roundtrip(rendered(shot.script)) for shot in shots]
        seen = [_watched(one, shot.script) for one, shot in zip(best, shots, strict=True)]
        return _by_script(shots, seen) | _between(shots, seen)

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """All stories, stories of each length, and how looks last while somebody is away."""
        lengths = list(dict.fromkeys(one.unit.classes[0] for one in judged))
        found = lines_by_class(judged, lengths)
        found = [
            line for line in found if line.group == ALL or not line.summary.metric.endswith(("(ceiling)", "(floor)"))
        ]
        for gap in sorted({int(gap) for one in judged for gap in one.judgement.facts["gaps"]}):
            inside = [
                Judged(unit=one.unit, judgement=Judgement(outcomes={DECAY: Score(value=kept)}))
                for one in judged
                if (kept := one.judgement.facts["gaps"].get(str(gap))) is not None
            ]
            found += [Line(group=f"gap {gap}", summary=line.summary) for line in lines_by_class(inside)]
        return found


def story(number: int, seed: int = 0) -> tuple[Case, ...]:
    """Shots of one cast in two places: the first of the cast opens, goes away, and comes back at the end."""
    rng = np.random.default_rng([seed, number, 7])
    hues = [str(hue) for hue in rng.permutation(list(HUES))[:CAST]]
    cast = [Actor(hue=hue, kind=KINDS[rng.integers(len(KINDS))]) for hue in hues]
    places = [str(place) for place in rng.permutation(PLACES)[:2]]
    time = TIMES[rng.integers(len(TIMES))]
    length = SHOTS[number % len(SHOTS)]
    found = []
    for shot in range(length):
        lead = 0 if shot in (0, length - 1) else int(rng.integers(1, CAST))
        members = [cast[lead], cast[(lead + 1) % CAST if lead else int(rng.integers(1, CAST))]]
        drawn = sample_script(rng)
        actors = tuple(replace(a, hue=m.hue, kind=m.kind) for a, m in zip(drawn.actors, members, strict=False))
        script = replace(drawn, actors=actors, place=places[shot % 2], time=time)
        name = f"story-{number:04d}-{shot + 1}"
        caption = write_caption(script, rng, "heldout")
        found.append(Case(name=name, split="templates", number=100 * number + shot, script=script, caption=caption))
    return tuple(found)


def _see(film: Film | NotMeasured, script: Script) -> _Seen | None:
    return None if isinstance(film, NotMeasured) else _watched(film.frames, script)


def _unread(films: Sequence[Film | NotMeasured]) -> NotMeasured | None:
    """Why not every shot of a story can be counted; None where it can."""
    failed = [(at, one) for at, one in enumerate(films, 1) if isinstance(one, NotMeasured) and one != ABSENT]
    return NotMeasured(reason=f"shot {failed[0][0]}: {failed[0][1].reason}") if failed else None


def _watched(frames: Frames, script: Script) -> _Seen:
    scene = watch(frames, SCORE)
    return _Seen(judged=judge_scene(scene, script), scene=scene, frames=frames)


def _anew(one: _Seen | None, script: Script) -> _Seen | None:
    """The same shot held against another script."""
    return one and replace(one, judged=judge_scene(one.scene, script))


def _by_script(shots: Sequence[Case], seen: Sequence[_Seen | None]) -> dict[str, Outcome]:
    """What a shot's own script decides: another one has a floor."""
    promised = [len(shot.script.actors) for shot in shots]
    return {
        ECR: Score(value=float(np.mean([one.judged.completed if one else 0.0 for one in seen]))),
        OCCM: Score(value=occm([_onstage(one) for one in seen], promised)),
        PLACE: Score(value=float(np.mean([bool(one and one.judged.place) for one in seen]))),
    }


def _between(shots: Sequence[Case], seen: Sequence[_Seen | None]) -> dict[str, Outcome]:
    """What shots have in common and what parts them."""
    there = [one.frames for one in seen if one]
    whole = len(there) == len(seen)
    return {
        **_kept(_appearances(seen)),
        **_places(shots, seen),
        CUT: _cut_f1(there) if whole else NotMeasured(reason="a shot is missing"),
    }


def _onstage(one: _Seen | None) -> int:
    if one is None:
        return 0
    return sum(actor.seen + actor.clone for actor in one.judged.actors) + len(one.judged.intruders)


def _appearances(seen: Sequence[_Seen | None]) -> dict[str, list[_Look]]:
    """By hue: each appearance with its colour and size as a vector, gated by its events, and the kind it looks like."""
    found: dict[str, list[_Look]] = {}
    for number, one in enumerate(seen, 1):
        if one is None:
            continue
        for actor in (actor for actor in one.judged.actors if actor.seen):
            own = [e.done for e in one.judged.events if actor.hue in (e.promise.hue, e.promise.other)]
            vector = np.array([*mean_colour(one.scene, one.frames, actor.hue), usual_size(one.scene, actor.hue)])
            fidelity = float(np.mean(own)) if own else None
            look = Appearance(shot=number, embedding=vector, fidelity=fidelity)
            found.setdefault(actor.hue, []).append((look, actor.kind))
    return found


def _kept(looks: Mapping[str, Sequence[_Look]]) -> dict[str, Outcome]:
    """Over pairs of appearances that passed the gate: the same kind, how far apart in colour, how alike in size."""
    same, drift, spread = [], [], []
    for one in looks.values():
        passed = _passed(one)
        same += [a == b for (_, a), (_, b) in combinations(passed, 2) if a and b]
        drift += [float(np.linalg.norm((a.embedding - b.embedding)[:3])) for (a, _), (b, _) in combinations(passed, 2)]
        if len(passed) > 1:
            sizes = [look.embedding[3] for look, _ in passed]
            spread.append(float(np.std(sizes) / np.mean(sizes)))
    found = {LOOK: [float(flag) for flag in same], COLOUR: drift, SIZE: spread}
    why = NotMeasured(reason="nobody was seen in two shots that show what they promised")
    return {name: Score(value=float(np.mean(values))) if values else why for name, values in found.items()}


def _passed(one: Sequence[_Look]) -> list[_Look]:
    kept = {look.shot for look in gated([look for look, _ in one])}
    return [(look, kind) for look, kind in one if look.shot in kept]


def _gaps(looks: Mapping[str, Sequence[_Look]]) -> dict[str, float]:
    """Share of returns that look like the kind they left as, by how many shots they were away."""
    found: dict[str, list[bool]] = {}
    for one in looks.values():
        passed = [(look.shot, kind) for look, kind in _passed(one) if kind]
        for (left, before), (back, after) in zip(passed[:-1], passed[1:], strict=True):
            found.setdefault(str(back - left - 1), []).append(before == after)
    return {gap: float(np.mean(flags)) for gap, flags in found.items()}


def _places(shots: Sequence[Case], seen: Sequence[_Seen | None]) -> dict[str, Outcome]:
    """How far apart empty stages look, in mean levels outside all puppets, for pairs of one place and of two."""
    stages = [
        (shot.script.place, empty_stage(one.scene, one.frames)) for shot, one in zip(shots, seen, strict=True) if one
    ]
    found: dict[str, list[float]] = {SAME: [], APART: []}
    for (place, first), (other, second) in combinations(stages, 2):
        if (apart := stages_apart(first, second)) is not None:
            found[SAME if place == other else APART].append(apart)
    why = NotMeasured(reason="no two shots of the kind")
    return {name: Score(value=float(np.mean(values))) if values else why for name, values in found.items()}


def _cut_f1(clips: Sequence[Frames]) -> Outcome:
    """Cuts found in the joined film against those that were made."""
    made = np.cumsum([len(clip) for clip in clips])[:-1]
    return Score(value=boundary_match(cuts(np.concatenate(clips)), [int(at) for at in made]).f1)
