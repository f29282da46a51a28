"""Multi-shot set consistency: does a cast look the same in shots of one story, beside text alignment and motion.

Also identity over the distance between shots. Consistency alone is won by films that ignore their prompts or stand
still, so the three stand in one table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evals.benchmarks.protocol import Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.metrics.consistency import across_shots, unit, within_shot
from evals.metrics.embedders import Embedder, TextEmbedder
from evals.metrics.flow import DynamicDegree
from evals.metrics.frame_indices import linspace_end
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from evals.metrics.vbench import TextAlignment
from generators.clip import Frames

FRAMES = 8
"""Frames of a shot that are compared."""


@dataclass(frozen=True, kw_only=True)
class ShotSetsSettings:
    """Sets by path (YAML: name, subject, shots); every shot is filmed from its own prompt."""

    sets: Path
    encoder: str = "dino_vitb16"
    """Whose cosines the tables name; MbQ used this one, on subjects cut out by masks."""
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"ShotSetsSettings.limit: expected at least 1, got {self.limit}")


def read_sets(path: Path) -> tuple[Unit, ...]:
    """Sets of at least two shots. Raises ValueError naming the entry that is none."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(found, list) or not found:
        raise ValueError(f"{path}: expected a list of sets with name, subject and shots")
    return tuple(_unit(path, entry) for entry in found)


def _unit(path: Path, entry: Any) -> Unit:
    shots = entry.get("shots") if isinstance(entry, dict) else None
    if not isinstance(shots, list) or len(shots) < 2 or not entry.get("name"):
        raise ValueError(f"{path}: expected name, subject and at least two shots, got {entry!r:.120}")
    name, subject = str(entry["name"]), str(entry.get("subject", ""))
    cases = [
        Case(name=f"{name}-{number}", prompt=str(prompt), group=name, shot=number, subject=subject)
        for number, prompt in enumerate(shots, 1)
    ]
    return Unit(name=name, cases=tuple(cases))


class ShotSets:
    """The benchmark: `embedder` sees identity (DINO), `text` reads prompts (CLIP)."""

    name = "shot-sets"

    def __init__(
        self, settings: ShotSetsSettings, embedder: Embedder | NotMeasured, text: TextEmbedder | NotMeasured
    ) -> None:
        self._settings = settings
        self._embedder = embedder
        self.consistency = f"set consistency ({settings.encoder}, whole frames)"
        self.steadiness = f"subject consistency within shots ({settings.encoder}, {FRAMES} frames)"
        self.identity = f"identity over shot distance ({settings.encoder}, whole frames)"
        self._alignment = TextAlignment(encoder="clip_vitb32", embedder=text)
        self._dynamics = DynamicDegree()
        self._units = read_sets(settings.sets)[: settings.limit]

    def settings(self) -> Mapping[str, Any]:
        """Sets by digest, encoders by name."""
        encoders = {"identity": self._embedder, "text": self._alignment.embedder}
        return {
            "sets": hashlib.sha256(self._settings.sets.read_bytes()).hexdigest(),
            "frames": FRAMES,
            "encoder": self._settings.encoder,
            **{role: None if isinstance(one, NotMeasured) else one.name for role, one in encoders.items()},
        }

    def units(self) -> Sequence[Unit]:
        """One set each."""
        return self._units

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """A set lacks its numbers across shots as soon as one of its shots is missing."""
        there = [(case, film) for case, film in zip(unit.cases, films, strict=True) if isinstance(film, Film)]
        outcomes: dict[str, Outcome] = {}
        distances: dict[str, float] = {}
        if len(there) < len(films):
            outcomes[self.consistency] = outcomes[self.steadiness] = NotMeasured(reason="a shot of the set is missing")
        elif isinstance(self._embedder, NotMeasured):
            outcomes[self.consistency] = outcomes[self.steadiness] = self._embedder
        else:
            shots = [self._embedder.embed(_shown(film.frames)) for _, film in there]
            outcomes = {self.consistency: _across(shots), self.steadiness: _steadiness(shots)}
            distances = shot_distances(shots)
        for metric in (self._alignment, self._dynamics):
            readings = [metric.measure(film.frames, film.fps, case) for case, film in there]
            outcomes[metric.name] = _mean(readings)
        return Judgement(outcomes=outcomes, facts={"distances": distances}, headline=self.consistency)

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Every score over all sets, then identity by the distance of two shots."""
        found = lines_by_class(judged)
        far = max((int(d) for one in judged for d in one.judgement.facts["distances"]), default=0)
        for distance in range(1, far + 1):
            inside = [
                Judged(unit=one.unit, judgement=Judgement(outcomes={self.identity: Score(value=value)}))
                for one in judged
                if (value := one.judgement.facts["distances"].get(str(distance))) is not None
            ]
            found += [Line(group=f"distance {distance}", summary=line.summary) for line in lines_by_class(inside)]
        return found


def shot_distances(shots: Sequence[np.ndarray]) -> dict[str, float]:
    """Mean cosine of frames of two shots, by how many shots apart they are."""
    means = [unit(shot).mean(0) for shot in shots]  # the mean of all cosines is the product of the means
    found: dict[str, list[float]] = {}
    for (i, first), (j, second) in combinations(enumerate(means), 2):
        found.setdefault(str(j - i), []).append(100 * float(first @ second))
    return {distance: float(np.mean(values)) for distance, values in found.items()}


def _shown(frames: Frames) -> Frames:
    return frames[linspace_end(len(frames), min(FRAMES, len(frames)))]


def _across(shots: Sequence[np.ndarray]) -> Outcome:
    value = across_shots(shots)
    return NotMeasured(reason="one shot only") if value is None else Score(value=100 * value)


def _steadiness(shots: Sequence[np.ndarray]) -> Outcome:
    values = [value for shot in shots if (value := within_shot(shot)) is not None]
    return Score(value=100 * float(np.mean(values))) if values else NotMeasured(reason="shots of one frame")


def _mean(readings: Sequence[Outcome]) -> Outcome:
    values = [one.value for one in readings if isinstance(one, Score)]
    if values:
        return Score(value=float(np.mean(values)), details={"shots": float(len(values))})
    return next((one for one in readings if isinstance(one, NotMeasured)), NotMeasured(reason="no shot was filmed"))
