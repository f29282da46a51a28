"""Shots of one puppet as they are read: who is in them, what they look like, how much moves, and what two shots share.

What the benches of sets and of chains measure alike. Everything is read from pixels; knows no bench and no arm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.benchmarks.protocol import APART, SHOWN, Film, Unit
from evals.benchmarks.shot_measures import COMPARED, DRIFTS, DYNAMICS, FLOOR, GATES, PACE, apart, class_of
from evals.metrics.consistency import Appearance, gated, over_distance
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from evals.sheets import shot_fact
from evals.world.looks import main_puppet, mean_colour, pace
from evals.world.pictures import timeline
from evals.world.scores import ClipJudgement, judge_actor, judge_scene
from evals.world.settings import SCORE
from evals.world.splits import Case as WorldCase
from evals.world.tracks import Scene, watch
from generators.world.words import HUES, KINDS

FEW = NotMeasured(reason="fewer than two shots to compare")
_LOOKS = [(hue, kind) for hue in HUES for kind in KINDS]


@dataclass(frozen=True, kw_only=True)
class SeenShot:
    """One shot as it was read; `look` and `colour` are of the puppet that fills most of it, None without one.

    It is held against its script as a whole clip, whose times the script tells. Frames that the shot before shows
    already (`Film.lead`) are left out of colour, motion and stage: by them alone, a shot that was given some would move
    less and look more like the one before.
    """

    own: Scene = field(repr=False)
    """What is seen in its own frames."""
    judged: ClipJudgement
    look: tuple[str, str | None] | None
    colour: NDArray[np.float32] | None = field(repr=False)
    pace: float | None
    dynamic: Outcome
    floor: float


READ: Mapping[str, tuple[Callable[[SeenShot], float | bool | None], str]] = {
    "completion": (lambda shot: shot.judged.completed, ""),
    "colour": (lambda shot: shot.judged.colour, ""),
    "kind": (lambda shot: shot.judged.kind, "no silhouette could be named"),
    "place": (lambda shot: shot.judged.place, ""),
    "identity within shots": (lambda shot: shot.judged.identity, "the promised puppet was not seen"),
    PACE: (lambda shot: shot.pace, "no puppet was seen for three frames, two of them neighbours"),
    FLOOR: (lambda shot: shot.floor, ""),
}
"""Means over the shots in which they can be read, how they are read, and why they may be missing."""


def see_shot(film: Film, *, shown: Case, case: WorldCase, other: WorldCase) -> SeenShot:
    """Read one clip against the script of its `case`; `other` is a shot whose script is wrong for it."""
    scene, frames = watch(film.frames, SCORE), film.frames[film.lead :]
    own = watch(frames, SCORE) if film.lead else scene
    named, mover = main_puppet(scene), main_puppet(own)
    return SeenShot(
        own=own,
        judged=judge_scene(scene, case.script),
        look=None if named is None else (named.hue, _kind(scene, named.hue, case)),
        colour=None if mover is None else mean_colour(own, frames, mover.hue),
        pace=None if mover is None else pace(own, mover),
        dynamic=DYNAMICS.measure(frames, film.fps, shown),
        floor=judge_scene(scene, other.script).completed,
    )


def _kind(scene: Scene, hue: str, case: WorldCase) -> str | None:
    wanted = case.script.actors[0]
    return judge_actor(scene, hue, wanted.kind, {wanted.hue}).kind


def means_of(seen: Sequence[SeenShot]) -> dict[str, Outcome]:
    """What single shots are measured by, over all of them."""
    found = {
        name: mean_of([read(shot) for shot in seen], NotMeasured(reason=why)) for name, (read, why) in READ.items()
    }
    return found | {DYNAMICS.name: mean_score([shot.dynamic for shot in seen])}


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
    return Appearance(shot=shot, embedding=embedding, fidelity=one.judged.completed_id)


def _one_hot(look: tuple[str, str | None]) -> NDArray[np.float64]:
    return np.array([float(look == one) for one in _LOOKS])


def mean_of(values: Sequence[float | bool | None], why: NotMeasured) -> Outcome:
    """The mean of what could be read, or why there is none."""
    known = [float(value) for value in values if value is not None]
    return Score(value=float(np.mean(known))) if known else why


def mean_score(outcomes: Sequence[Outcome]) -> Outcome:
    """The mean of those that were measured, or why the first was not."""
    known = [one.value for one in outcomes if isinstance(one, Score)]
    return Score(value=float(np.mean(known))) if known else outcomes[0]


def fact_of(shot: WorldCase, one: SeenShot) -> dict[str, Any]:
    """A shot for its row: its words and who was seen, and its event in time."""
    seen = "nobody" if one.look is None else f"{one.look[0]} {one.look[1] or 'shape'}"
    return shot_fact(f"{shot.caption.text} · seen: {seen}", shot.script.seconds, timeline(shot.script, one.judged))


def check_drawn(sizes: Sequence[int], known: Sequence[int], split: str) -> None:
    """Raise ValueError for sizes that nothing is drawn of, and for an unknown split."""
    if not sizes or not set(sizes) <= set(known):
        raise ValueError(
            f"sizes: expected some of {', '.join(map(str, known))} shots, got {', '.join(map(str, sizes)) or 'none'}"
        )
    if split not in APART:
        raise ValueError(f"split: expected test or tune, got {split!r}")


def units_of(drawn: Mapping[str, Sequence[WorldCase]]) -> list[Unit]:
    """A unit a set or chain, by name, with a case a shot."""
    return [
        Unit(
            name=name,
            cases=tuple(
                Case(name=shot.name, prompt=shot.caption.text, events=shot.caption.phrases, group=name, shot=number)
                for number, shot in enumerate(shots, 1)
            ),
            classes=(class_of(len(shots)),),
            shown=SHOWN * len(shots),
        )
        for name, shots in drawn.items()
    ]
