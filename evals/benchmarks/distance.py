"""Films against real videos as two crowds: Fréchet and kernel distance (FVD, KVD), and similarity over intervals.

All films together give one number, so there is no error of a mean; the counts, and a warning where they are too small,
stand beside it. Encoders come by folder; without one its numbers are not measured.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evals.benchmarks.protocol import ALL, Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.benchmarks.quality import read_lines
from evals.footage import SUFFIXES
from evals.metrics.curves import INTERVALS, Matrix, interval_counts, interval_curve, shared_area, similarity
from evals.metrics.embedders import Embedder, Weights
from evals.metrics.frechet import Distance, frechet, kernel, reduced
from evals.metrics.score import NotMeasured, Outcome, Score, together
from evals.metrics.video_embedders import VideoEmbedder, open_dreamsim, open_video
from generators.clip import Frames
from generators.errors import MediaError
from generators.video import read_take

AXES = 64
"""Principal axes of the real videos for the Fréchet distance of few films."""
CLIPS = ("videomae_ssv2", "i3d_k400")
PICTURES = ("dreamsim", "dino_vitb16")
SLOPE = "similarity slope over intervals"


@dataclass(frozen=True, kw_only=True)
class DistanceSettings:
    """A text file with a prompt a line, and a folder of real videos."""

    prompts: Path
    real: Path
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"DistanceSettings.limit: expected at least 1, got {self.limit}")


class VideoDistance:
    """The benchmark; `clips` embed whole films, `pictures` their frames."""

    name = "distance"

    def __init__(
        self,
        settings: DistanceSettings,
        clips: Mapping[str, VideoEmbedder | NotMeasured],
        pictures: Mapping[str, Embedder | NotMeasured],
    ) -> None:
        self._settings, self._clips, self._pictures = settings, clips, pictures
        self._cases = read_lines(settings.prompts)[: settings.limit]
        self._files = sorted(path for path in settings.real.iterdir() if path.suffix in SUFFIXES)
        if len(self._files) < 2:
            raise ValueError(f"{settings.real}: expected at least two real videos, got {len(self._files)}")

    @classmethod
    def with_weights(cls, settings: DistanceSettings, weights: Weights) -> VideoDistance:
        """With every encoder that is published for it; those without weights say so."""
        pictures = {known: open_dreamsim(weights) if known == "dreamsim" else weights.open(known) for known in PICTURES}
        return cls(settings, {known: open_video(weights, known) for known in CLIPS}, pictures)

    def settings(self) -> Mapping[str, Any]:
        """Prompts and real videos by digest, encoders by name."""
        encoders = {**self._clips, **self._pictures}
        return {
            "prompts": hashlib.sha256(self._settings.prompts.read_bytes()).hexdigest(),
            "real": {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in self._files},
            "encoders": {n: None if isinstance(one, NotMeasured) else one.name for n, one in encoders.items()},
        }

    def units(self) -> Sequence[Unit]:
        """One prompt each."""
        return [Unit(name=case.name, cases=(case,)) for case in self._cases]

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """What the encoders see in one film; its own number is how fast it moves away from itself."""
        film = films[0]
        outcomes: dict[str, Outcome] = {}
        for known, one in self._pictures.items():
            missing = film if isinstance(film, NotMeasured) else one if isinstance(one, NotMeasured) else None
            outcomes[f"{SLOPE} ({known})"] = missing or NotMeasured(reason="the clip has one frame")
        facts: dict[str, Any] = {}
        if isinstance(film, Film):
            seen = self._see(film.frames)
            facts = {"clips": {known: vector.tolist() for known, vector in seen.clips.items()}, "near": seen.near}
            outcomes |= {f"{SLOPE} ({known})": Score(value=slope) for known, slope in seen.slopes.items()}
        return Judgement(outcomes=outcomes, facts=facts, headline=f"{SLOPE} ({PICTURES[0]})")

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Slopes of single films; then the distances and overlaps of both crowds."""
        facts = [one.judgement.facts for one in judged if one.judgement.facts]
        found = lines_by_class(judged)
        for known, one in self._clips.items():
            found += _distances(known, one, [seen.clips for seen in self._real], facts)
        for known, picture in self._pictures.items():
            found += _overlaps(known, picture, [seen.near for seen in self._real], facts)
        return found

    @functools.cached_property
    def _real(self) -> list[_Seen]:
        found = []
        for path in self._files:
            try:
                found.append(self._see(read_take(path)[0]))
            except MediaError as error:
                raise ValueError(f"Real video {path} cannot be read: {error}") from error
        return found

    def _see(self, frames: Frames) -> _Seen:
        clips = {n: one.embed_clip(frames) for n, one in self._clips.items() if not isinstance(one, NotMeasured)}
        near: dict[str, dict[str, list[int]]] = {}
        slopes: dict[str, float] = {}
        for known, one in self._pictures.items():
            if isinstance(one, NotMeasured) or len(frames) < 2:
                continue
            matrix = similarity(one.embed(frames))
            near[known] = _counts(matrix)
            if (slope := interval_curve([matrix]).slope) is not None:
                slopes[known] = slope
        return _Seen(clips=clips, near=near, slopes=slopes)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One video: a vector a clip encoder; a histogram of similarities an interval, and their slope, a frame encoder."""

    clips: dict[str, np.ndarray]
    near: dict[str, dict[str, list[int]]]
    slopes: dict[str, float]


def _counts(matrix: Matrix) -> dict[str, list[int]]:
    return {str(d): interval_counts([matrix], d).tolist() for d in INTERVALS if d < len(matrix)}


def _distances(
    known: str,
    encoder: VideoEmbedder | NotMeasured,
    real: Sequence[Mapping[str, Any]],
    facts: Sequence[Mapping[str, Any]],
) -> list[Line]:
    names = (f"FVD ({known})", f"FVD ({known}, {AXES} axes)", f"KVD ({known})")
    if isinstance(encoder, NotMeasured):
        return [_line(name, encoder, len(facts)) for name in names]
    if len(facts) < 2:
        few = NotMeasured(reason="a distance needs at least two films")
        return [_line(name, few, len(facts)) for name in names]
    a, b = np.stack([one[known] for one in real]), np.array([one["clips"][known] for one in facts])
    found = (frechet(a, b), frechet(*reduced(a, b, min(AXES, len(a) - 1))), kernel(a, b))
    return [_line(name, one, len(facts)) for name, one in zip(names, found, strict=True)]


def _overlaps(
    known: str, encoder: Embedder | NotMeasured, real: Sequence[Mapping[str, Any]], facts: Sequence[Mapping[str, Any]]
) -> list[Line]:
    if isinstance(encoder, NotMeasured):
        return [_line(f"overlap with real videos ({known})", encoder, len(facts))]
    found = []
    for interval in map(str, INTERVALS):
        sides = [[one[known][interval] for one in side if interval in one.get(known, {})]
                 for side in (real, [one["near"] for one in facts])]  # fmt: skip
        if all(sides):
            ours, theirs = (np.sum(side, axis=0) for side in sides)
            area = Score(value=shared_area(ours, theirs))
            found.append(_line(f"overlap with real videos at interval {interval} ({known})", area, len(sides[1])))
    return found


def _line(metric: str, found: Distance | Outcome, count: int) -> Line:
    if not isinstance(found, Distance):
        return Line(group=ALL, summary=together(metric, found, count))
    said = f"{found.real} real videos" + (f"; {found.warning}" if found.warning else "")
    return Line(group=ALL, summary=together(metric, Score(value=found.value), count, said))
