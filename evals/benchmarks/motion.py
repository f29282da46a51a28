"""Motion against identity: how much of a clip's motion, and of its looks, comes over as more steps are injected.

Every source is a rendered clip of the puppet world; the caption asks for the same events by another cast in another
place. One arm a share of the steps, all from the same noise, so that arms are paired; the share 0 is a plain clip, and
the ceiling is the asked clip as rendered. Knows no model: a backend films.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evals.benchmarks.protocol import Film, Judged, Judgement, Line, Unit, lines_by_class, noise_of
from evals.benchmarks.world import Roundtrip
from evals.footage import BackendFootage
from evals.metrics.consistency import leak
from evals.metrics.embedders import Embedder
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from evals.metrics.tracks import Tracks, fidelity, lk_tracks, moving
from evals.world import splits
from evals.world.requests import request_of
from evals.world.scores import ClipJudgement, judge_scene
from evals.world.settings import SCORE, read_by
from evals.world.tracks import Scene, watch
from generators.clip import Backend, Frames, ShotRequest
from generators.controls.config import MotionQueries
from generators.world.captions import write_caption
from generators.world.renderer import render
from generators.world.script import Actor, Script
from generators.world.words import HEIGHT, HUES, KINDS, PLACES, WIDTH

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
CEILING = "rendered"
SAME, OTHER = "same kind", "other kind"
POINTS = "motion fidelity (grid points)"
PUPPETS = "motion fidelity (puppets)"
PRINTED, RELEASED = "motion fidelity (grid points, as printed)", "motion fidelity (grid points, as released)"
ELSEWHERE = "motion fidelity to another clip (puppets)"
LEAK = "identity leakage (colour or kind)"

ASKED: Mapping[str, Callable[[ClipJudgement], float | bool | None]] = {
    "completion": lambda clip: clip.completed,
    "colour": lambda clip: clip.colour,
    "kind": lambda clip: clip.kind,
    "place": lambda clip: clip.place,
}
"""Whether the clip shows what its caption asks for."""


@dataclass(frozen=True, kw_only=True)
class MotionSettings:
    """So many pairs of a source and a caption. `film` says what films: weights, steps, guidance."""

    cases: int = 48
    seed: int = 0
    film: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.cases < 1:
            raise ValueError(f"cases: expected at least 1, got {self.cases}")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A clip whose motion is wanted, and what is asked to move so."""

    source: splits.Case
    asked: splits.Case

    def frames(self) -> Frames:
        """The source, rendered."""
        return rendered(self.source.script)


class Motion:
    """The benchmark. Classes say whether the asked puppets are of the source's kinds: `encoder` sees identity too."""

    name = "motion"

    def __init__(self, settings: MotionSettings, encoder: Embedder | NotMeasured) -> None:
        self._settings = settings
        self._encoder = encoder
        listed = splits.cases("seen", 1, settings.cases + 1, settings.seed)
        self._pairs = {case.name: _pair(case, settings.seed) for case in listed}
        self._next = {one.name: other.name for one, other in zip(listed[:-1], listed[1:], strict=True)}

    def settings(self) -> Mapping[str, Any]:
        """Where pairs and noise come from, what films, and the encoder; not how many, and not the arm."""
        encoder = None if isinstance(self._encoder, NotMeasured) else self._encoder.name
        return {**read_by(), "seed": self._settings.seed, "film": dict(self._settings.film), "encoder": encoder}

    def units(self) -> Sequence[Unit]:
        """One pair each, kinds kept and changed in turn."""
        return [
            Unit(
                name=name,
                cases=(Case(name=name, prompt=self._pairs[name].asked.caption.text),),
                classes=(kept_kinds(self._pairs[name]),),
            )
            for name in self._next
        ]

    def pair(self, name: str) -> Pair:
        """Source and caption behind a unit."""
        return self._pairs[name]

    def noise(self, name: str) -> int:
        """The seed of a pair's noise: the same for every arm."""
        return noise_of(self.name, self._settings.seed, name)

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """Motion, looks of the source, and what was asked, of one clip."""
        film, pair = films[0], self._pairs[unit.name]
        if isinstance(film, NotMeasured):
            names = (PUPPETS, POINTS, PRINTED, RELEASED, ELSEWHERE, LEAK, *ASKED, self._encoded)
            return Judgement(outcomes=dict.fromkeys(names, film), headline=PUPPETS)
        source = pair.frames()
        scene, truth = watch(film.frames, SCORE), watch(source, SCORE)
        other = watch(self._pairs[self._next[unit.name]].frames(), SCORE)
        points = fidelity(lk_tracks(source), lk_tracks(film.frames))
        clip = judge_scene(scene, pair.asked.script)
        outcomes: dict[str, Outcome] = {
            PUPPETS: puppet_fidelity(truth, scene),
            POINTS: points,
            PRINTED: _form(points, "as printed"),
            RELEASED: _form(points, "as released"),
            ELSEWHERE: puppet_fidelity(other, scene),
            LEAK: leakage(clip, pair),
            self._encoded: self._leak(source, film.frames),
        }
        outcomes |= {name: _outcome(read(clip)) for name, read in ASKED.items()}
        return Judgement(outcomes=outcomes, facts={"intruders": list(clip.intruders)}, headline=PUPPETS)

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Over all, and by whether kinds were kept."""
        return lines_by_class(judged, [SAME, OTHER])

    @property
    def _encoded(self) -> str:
        return "identity leakage (dino_vitb16, whole frames)"

    def _leak(self, source: Frames, frames: Frames) -> Outcome:
        if isinstance(self._encoder, NotMeasured):
            return self._encoder
        found = leak(self._encoder.embed(source), self._encoder.embed(frames))
        return Score(value=found["all pairs"], details=found)


def _pair(case: splits.Case, seed: int) -> Pair:
    """The case, and the same events with other colours in another place; every other case keeps its kinds."""
    rng = np.random.default_rng([seed, case.number, 7])
    script = case.script
    spare = [hue for hue in HUES if hue not in {actor.hue for actor in script.actors}]
    hues = rng.permutation(spare)[: len(script.actors)]
    keeps = case.number % 2 == 0
    actors = tuple(
        replace(actor, hue=str(hue), kind=actor.kind if keeps else _other_kind(rng, script.actors))
        for actor, hue in zip(script.actors, hues, strict=True)
    )
    places = [place for place in PLACES if place != script.place]
    asked = replace(script, actors=actors, place=str(rng.choice(places)))
    caption = write_caption(asked, rng)
    return Pair(source=case, asked=replace(case, script=asked, caption=caption))


def _other_kind(rng: np.random.Generator, actors: Sequence[Actor]) -> str:
    return str(rng.choice([kind for kind in KINDS if kind not in {actor.kind for actor in actors}]))


def kept_kinds(pair: Pair) -> str:
    """The class of a pair."""
    same = [a.kind for a in pair.source.script.actors] == [a.kind for a in pair.asked.script.actors]
    return SAME if same else OTHER


def rendered(script: Script) -> Frames:
    """A script's clip (T, 64, 96, 3)."""
    frames: Frames = render([script])[0].permute(0, 2, 3, 1).numpy()
    return frames


def puppet_fidelity(source: Scene, output: Scene) -> Outcome:
    """Motion fidelity of the puppets that travel; 0 where nothing does in the output.

    A frame in which a puppet rests agrees with nothing, so that even the source itself comes short of 1: read it
    beside the ceiling.
    """
    wanted, found = moving(puppet_tracks(source)), moving(puppet_tracks(output))
    if not len(wanted.points):
        return NotMeasured(reason="nothing travels in the source")
    return fidelity(wanted, found) if len(found.points) else Score(value=0.0)


def puppet_tracks(scene: Scene) -> Tracks:
    """Middle of its feet of every puppet seen, as tracks."""
    seen = [track for track in scene.tracks.values() if track.seen.any()]
    points = np.array([np.stack([track.x, track.foot], axis=-1) for track in seen], np.float32)
    visible = np.array([track.seen for track in seen], bool)
    count = len(scene.times)
    return Tracks(points=points.reshape(-1, count, 2), visible=visible.reshape(-1, count))


def leakage(clip: ClipJudgement, pair: Pair) -> Outcome:
    """Share of the asked puppets that wear the source's colour, or are of its kind where another was asked."""
    source, asked = pair.source.script.actors, pair.asked.script.actors
    leaked = [
        was.hue in clip.intruders or (was.kind != wanted.kind and seen.kind == was.kind)
        for was, wanted, seen in zip(source, asked, clip.actors, strict=True)
    ]
    if not any(actor.seen for actor in clip.actors) and not any(leaked):
        return NotMeasured(reason="no puppet was seen")
    return Score(value=sum(leaked) / len(leaked))


def _form(found: Outcome, form: str) -> Outcome:
    if isinstance(found, NotMeasured):
        return found
    value = found.details.get(form)
    return NotMeasured(reason="a point stood still: 0 / 0, as published") if value is None else Score(value=value)


def _outcome(value: float | bool | None) -> Outcome:
    return NotMeasured(reason="no silhouette could be named") if value is None else Score(value=float(value))


def arm_name(share: float) -> str:
    """What tables call an arm."""
    return f"share {share:g}" if share else "plain"


def share_footage(benchmark: Motion, backend: Backend, share: float) -> BackendFootage:
    """Clips with the source's motion in this share of the steps, layers and looks as published for the family.

    Raises ValueError for a share outside 0..1 and for a backend of another canvas.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected 0 to 1, got {share:g}")
    if (backend.limits.width, backend.limits.height) != (WIDTH, HEIGHT):
        raise ValueError(
            f"{backend.name} films {backend.limits.width}x{backend.limits.height}: expected the puppet world's "
            f"{WIDTH}x{HEIGHT}"
        )

    def ask(case: Case, _seed: int) -> ShotRequest:
        pair = benchmark.pair(case.name)
        request = request_of(pair.asked, benchmark.noise(case.name))
        if not share:
            return request
        moved = MotionQueries(frames=pair.frames(), prompt=pair.source.caption.text, steps=share)
        return replace(request, controls=(moved,))

    return BackendFootage(backend=backend, ask=ask, name=arm_name(share), source=f"array, {arm_name(share)}")


@dataclass(frozen=True, kw_only=True)
class AskedFootage:
    """The asked clip itself through the autoencoder: all of the motion and nothing of the looks."""

    benchmark: Motion
    roundtrip: Roundtrip = field(repr=False)
    name: str = CEILING
    source: str = "array, rendered"

    def digest(self, case: Case, seed: int) -> str:
        """Settings and source say it all."""
        return ""

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        """Rendered; nothing is denoised."""
        script = self.benchmark.pair(case.name).asked.script
        return Film(frames=self.roundtrip(rendered(script)), fps=script.frames / script.seconds)
