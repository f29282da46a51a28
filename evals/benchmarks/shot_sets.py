"""Multi-shot set consistency: does a cast look the same in shots of one story, beside text alignment and motion.

Over whole frames and, as Motion by Queries has it, over the subject alone; also identity over the distance between
shots, and Mask2DiT's consistency of a sequence. Consistency alone is won by films that ignore their prompts or stand
still, so the three stand in one table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from evals.benchmarks.named_lists import read_named
from evals.benchmarks.protocol import Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.metrics.consistency import Vectors, across_shots, sequence_consistency, unit, within_shot
from evals.metrics.embedders import Embedder, TextEmbedder, Weights
from evals.metrics.flow import DynamicDegree
from evals.metrics.frame_indices import linspace_end, mid_segments
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from evals.metrics.subjects import HeatMaps, open_heat, subject_crops
from evals.metrics.vbench import TextAlignment
from evals.metrics.video_embedders import VideoEmbedder
from generators.clip import Frames

FRAMES = 8
"""Frames of a shot that are compared."""
MISSING = NotMeasured(reason="a shot of the set is missing")
WHOLE, SUBJECT = "whole frames", "subject"
"""What of a frame is compared."""
NO_MAPS = NotMeasured(reason="no heat maps were named")
VICLIP = NotMeasured(reason="missing weights viclip: its released file is a pickle, and only safetensors are read")
SEQUENCE = ("visual", "visual of adjacent scenes", "semantic", "sequence")
"""Mask2DiT's consistencies; which pairs of scenes it means is not published."""

_Looks = list[Vectors] | NotMeasured
"""Embeddings of every shot's frames."""


@runtime_checkable
class SceneEmbedder(VideoEmbedder, Protocol):
    """Turns a scene and its prompt into vectors of one space, as ViCLIP does."""

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, d) floats."""
        ...


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
    """Sets of at least two shots. Raises ValueError naming the entry that is none, or a name that two sets bear."""
    return read_named(path, "set", "name, subject and shots", _unit)


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
    """The benchmark: `embedder` sees identity (DINO), `text` reads prompts (CLIP), `maps` finds the subject (CLIPSeg),
    `scenes` sees whole shots (ViCLIP)."""

    name = "shot-sets"

    def __init__(
        self,
        settings: ShotSetsSettings,
        embedder: Embedder | NotMeasured,
        text: TextEmbedder | NotMeasured,
        maps: HeatMaps | NotMeasured = NO_MAPS,
        scenes: SceneEmbedder | NotMeasured = VICLIP,
    ) -> None:
        self._settings = settings
        self._embedder = embedder
        self._maps, self._scenes = maps, scenes
        self.consistency, self.of_subject = (f"set consistency ({settings.encoder}, {w})" for w in (WHOLE, SUBJECT))
        self.steadiness = f"subject consistency within shots ({settings.encoder}, {FRAMES} frames)"
        self.identity = {what: f"identity over shot distance ({settings.encoder}, {what})" for what in (WHOLE, SUBJECT)}
        self.sequence = tuple(f"Mask2DiT {kind} consistency (viclip)" for kind in SEQUENCE)
        self._alignment = TextAlignment(encoder="clip_vitb32", embedder=text)
        self._dynamics = DynamicDegree()
        self._units = read_sets(settings.sets)[: settings.limit]

    @classmethod
    def with_weights(cls, settings: ShotSetsSettings, weights: Weights) -> ShotSets:
        """With the encoders that are published for it; those without weights say so."""
        embedder, text = weights.open(settings.encoder), weights.open_text("clip_vitb32")
        return cls(settings, embedder, text, open_heat(weights))

    def settings(self) -> Mapping[str, Any]:
        """Sets by digest, encoders by name."""
        encoders = {"identity": self._embedder, "text": self._alignment.embedder, "subject": self._maps,
                    "scenes": self._scenes}  # fmt: skip
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
        """A set has no number at all as soon as one of its shots is missing: what is left is another set."""
        there = [film for film in films if isinstance(film, Film)]
        whole, subject = self._looks(unit, there) if len(there) == len(films) else (MISSING, MISSING)
        outcomes: dict[str, Outcome] = {
            self.consistency: _across(whole),
            self.of_subject: _across(subject),
            self.steadiness: whole if isinstance(whole, NotMeasured) else _steadiness(whole),
        }
        for metric in (self._alignment, self._dynamics):
            readings = [metric.measure(f.frames, f.fps, case) for case, f in zip(unit.cases, there, strict=False)]
            outcomes[metric.name] = _mean(readings) if len(there) == len(films) else MISSING
        outcomes |= self._sequence(unit, there)
        looks = {WHOLE: whole, SUBJECT: subject}
        distances = {w: {} if isinstance(one, NotMeasured) else shot_distances(one) for w, one in looks.items()}
        return Judgement(outcomes=outcomes, facts={"distances": distances}, headline=self.consistency)

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Every score over all sets, then identity by the distance of two shots."""
        found = lines_by_class(judged)
        for what, metric in self.identity.items():
            told = [(one.unit, one.judgement.facts["distances"][what]) for one in judged]
            for distance in range(1, max((int(d) for _, near in told for d in near), default=0) + 1):
                inside = [
                    Judged(unit=of, judgement=Judgement(outcomes={metric: Score(value=value)}))
                    for of, near in told
                    if (value := near.get(str(distance))) is not None
                ]
                found += [Line(group=f"distance {distance}", summary=line.summary) for line in lines_by_class(inside)]
        return found

    def _looks(self, unit: Unit, films: Sequence[Film]) -> tuple[_Looks, _Looks]:
        """Embeddings a shot, of whole frames and of the subject cut out of them."""
        embedder = self._embedder
        if isinstance(embedder, NotMeasured):
            return embedder, embedder
        shown = [_shown(film.frames) for film in films]
        whole, subject = [embedder.embed(frames) for frames in shown], unit.cases[0].subject
        if isinstance(self._maps, NotMeasured):
            return whole, self._maps
        if not subject.strip():
            return whole, NotMeasured(reason="the set names no subject")
        crops = [subject_crops(self._maps, frames, subject) for frames in shown]
        if not all(len(shot) for shot in crops):
            return whole, NotMeasured(reason="the subject was found in no frame of a shot")
        return whole, [embedder.embed(shot) for shot in crops]

    def _sequence(self, unit: Unit, films: Sequence[Film]) -> dict[str, Outcome]:
        """Mask2DiT's over the scenes of a set."""
        scenes = self._scenes
        if len(films) < len(unit.cases):
            return dict.fromkeys(self.sequence, MISSING)
        if isinstance(scenes, NotMeasured):
            return dict.fromkeys(self.sequence, scenes)
        seen = np.stack([scenes.embed_clip(f.frames[mid_segments(len(f.frames), FRAMES)]) for f in films])
        found = sequence_consistency(seen, scenes.embed_texts([case.prompt for case in unit.cases]))
        assert found is not None, "a set has at least two shots"
        values = (found.visual, found.visual_adjacent, found.semantic, found.sequence)
        return {name: Score(value=value) for name, value in zip(self.sequence, values, strict=True)}


def shot_distances(shots: Sequence[np.ndarray]) -> dict[str, float]:
    """Mean cosine of frames of two shots, by how many shots apart they are."""
    means = [unit(shot).mean(0) for shot in shots]  # the mean of all cosines is the product of the means
    found: dict[str, list[float]] = {}
    for (i, first), (j, second) in combinations(enumerate(means), 2):
        found.setdefault(str(j - i), []).append(100 * float(first @ second))
    return {distance: float(np.mean(values)) for distance, values in found.items()}


def _shown(frames: Frames) -> Frames:
    return frames[linspace_end(len(frames), min(FRAMES, len(frames)))]


def _across(shots: _Looks) -> Outcome:
    if isinstance(shots, NotMeasured):
        return shots
    value = across_shots(shots)
    return NotMeasured(reason="one shot only") if value is None else Score(value=100 * value)


def _steadiness(shots: Sequence[np.ndarray]) -> Outcome:
    values = [value for shot in shots if (value := within_shot(shot)) is not None]
    return Score(value=100 * float(np.mean(values))) if values else NotMeasured(reason="shots of one frame")


def _mean(readings: Sequence[Outcome]) -> Outcome:
    values = [one.value for one in readings if isinstance(one, Score)]
    why = next((one for one in readings if isinstance(one, NotMeasured)), None)
    return why or Score(value=float(np.mean(values)), details={"shots": float(len(values))})
