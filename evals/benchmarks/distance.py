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

from evals.benchmarks.protocol import (
    ALL,
    MATRICES,
    Film,
    Judged,
    Judgement,
    Line,
    Unit,
    absent_by_reason,
    crowd_line,
    lines_by_class,
)
from evals.benchmarks.quality import read_lines
from evals.footage import SUFFIXES
from evals.metrics.curves import (
    INTERVALS,
    Matrix,
    interval_counts,
    interval_curve,
    matrix_distance,
    mean_matrix,
    shared_area,
    similarity,
)
from evals.metrics.embedders import Embedder, Weights
from evals.metrics.frechet import Distance, frechet, kernel, reduced
from evals.metrics.score import NotMeasured, Outcome, Score, summarise, together
from evals.metrics.video_embedders import VideoEmbedder, open_dreamsim, open_video
from generators.clip import Frames
from generators.errors import MediaError
from generators.video import read_take

AXES = 64
"""Principal axes of the real videos for the Fréchet distance of few films."""
CLIPS = ("videomae_ssv2", "i3d_k400")
PICTURES = ("dreamsim", "dino_vitb16")
SLOPE, BAND = "similarity slope over intervals", "similarity near minus far"
NEAR, NEAR_REAL = "similarity of frames", "similarity of frames of real videos"
"""The curve m(D); its lines stand over the interval."""
APART = "similarity of frames away from real videos (RMS)"


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
            "real": {"videos": len(self._files), "digest": _digest(self._files)},
            "encoders": {n: None if isinstance(one, NotMeasured) else one.name for n, one in encoders.items()},
        }

    def units(self) -> Sequence[Unit]:
        """One prompt each."""
        return [Unit(name=case.name, cases=(case,)) for case in self._cases]

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """What the encoders see in one film; its own number is how fast it moves away from itself."""
        film = films[0]
        if isinstance(film, NotMeasured):
            names = [f"{what} ({known})" for known in self._pictures for what in (SLOPE, BAND)]
            return Judgement(outcomes=dict.fromkeys(names, film), facts={}, headline=f"{SLOPE} ({PICTURES[0]})")
        seen = self._see(film.frames)
        outcomes: dict[str, Outcome] = {}
        for known, one in self._pictures.items():
            absent = one if isinstance(one, NotMeasured) else NotMeasured(reason="the clip has too few frames")
            outcomes[f"{SLOPE} ({known})"] = _number(seen.looks[known].slope if known in seen.looks else None, absent)
            outcomes[f"{BAND} ({known})"] = _number(seen.looks[known].band if known in seen.looks else None, absent)
        facts = {
            "clips": {known: vector.tolist() for known, vector in seen.clips.items()},
            "near": {known: look.counts for known, look in seen.looks.items()},
            "means": {known: look.means for known, look in seen.looks.items()},
            MATRICES: {
                known: {"film": look.matrix, "real": self._usual.get(known, [])} for known, look in seen.looks.items()
            },
        }
        return Judgement(outcomes=outcomes, facts=facts, headline=f"{SLOPE} ({PICTURES[0]})")

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Slopes and bands of single films, and their curve; then the distances and overlaps of both crowds."""
        facts = [one.judgement.facts for one in judged if one.judgement.facts]
        absent = absent_by_reason(judged)
        found = lines_by_class(judged)
        for known, one in self._clips.items():
            found += _distances(known, one, [seen.clips for seen in self._real], facts, absent, len(self._files))
        for known, picture in self._pictures.items():
            if isinstance(picture, NotMeasured):
                found += [
                    _line(f"{name} ({known})", picture, len(facts), absent)
                    for name in (NEAR, APART, "overlap with real videos")
                ]
                continue
            real = [seen.looks[known] for seen in self._real if known in seen.looks]
            found += _curve(f"{NEAR} ({known})", [one["means"][known] for one in facts if known in one["means"]])
            found += _curve(f"{NEAR_REAL} ({known})", [look.means for look in real])
            found += _overlaps(
                known, [look.counts for look in real], [one["near"].get(known, {}) for one in facts], absent
            )
            matrices = [one[MATRICES][known] for one in facts if known in one[MATRICES]]
            found.append(_apart(known, real, matrices, absent))
        return found

    @functools.cached_property
    def _usual(self) -> dict[str, list[list[float]]]:
        """The mean matrix of the real videos by frame encoder."""
        known = dict.fromkeys(name for seen in self._real for name in seen.looks)
        looks = {
            name: [np.array(seen.looks[name].matrix) for seen in self._real if name in seen.looks] for name in known
        }
        return {name: _rounded(mean_matrix(matrices)) for name, matrices in looks.items()}

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
        pictures = {n: one for n, one in self._pictures.items() if not isinstance(one, NotMeasured)}
        looks = {n: _look(similarity(one.embed(frames))) for n, one in pictures.items() if len(frames) > 1}
        return _Seen(clips=clips, looks=looks)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """How alike the frames of one video are: histograms and means by interval, and the whole matrix at 32 x 32."""

    counts: dict[str, list[int]]
    means: dict[str, float]
    slope: float | None
    band: float | None
    matrix: list[list[float]]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One video: a vector a clip encoder, a look a frame encoder."""

    clips: dict[str, np.ndarray]
    looks: dict[str, _Look]


def _digest(files: Sequence[Path]) -> str:
    """Of all names and contents."""
    each = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join(each).encode()).hexdigest()[:16]


def _look(matrix: Matrix) -> _Look:
    curve = interval_curve([matrix])
    return _Look(
        counts={str(d): interval_counts([matrix], d).tolist() for d in curve.intervals},
        means={str(d): mean for d, mean in zip(curve.intervals, curve.means, strict=True)},
        slope=curve.slope,
        band=curve.band,
        matrix=_rounded(mean_matrix([matrix])),
    )


def _rounded(matrix: Matrix) -> list[list[float]]:
    found: list[list[float]] = matrix.round(4).tolist()
    return found


def _number(value: float | None, absent: NotMeasured) -> Outcome:
    return absent if value is None else Score(value=value)


def _distances(
    known: str,
    encoder: VideoEmbedder | NotMeasured,
    real: Sequence[Mapping[str, Any]],
    facts: Sequence[Mapping[str, Any]],
    absent: Mapping[str, int],
    files: int,
) -> list[Line]:
    few = NotMeasured(reason="a distance needs at least two films") if len(facts) < 2 else None
    if missing := encoder if isinstance(encoder, NotMeasured) else few:
        names = (f"FVD ({known})", f"FVD ({known}, {min(AXES, files - 1)} axes)", f"KVD ({known})")
        return [_line(name, missing, len(facts), absent) for name in names]
    a, b = np.stack([one[known] for one in real]), np.array([one["clips"][known] for one in facts])
    on_axes = reduced(a, b, min(AXES, len(a) - 1))
    axes = on_axes[0].shape[1]  # never more than features
    return [
        _crowd(f"FVD ({known})", frechet(a, b), absent),
        _crowd(f"FVD ({known}, {axes} axes)", frechet(*on_axes), absent),
        _crowd(f"KVD ({known})", kernel(a, b), absent),
    ]


def _curve(metric: str, means: Sequence[Mapping[str, float]]) -> list[Line]:
    """A line an interval, over the videos that are longer than it."""
    found = []
    for interval in map(str, INTERVALS):
        if at := [Score(value=one[interval]) for one in means if interval in one]:
            found.append(Line(group=f"interval {interval}", summary=summarise(metric, at)))
    return found


def _apart(known: str, real: Sequence[_Look], films: Sequence[Mapping[str, Any]], absent: Mapping[str, int]) -> Line:
    """How far the mean matrix of the films is from that of the real videos."""
    sides = [[np.array(look.matrix) for look in real], [np.array(one["film"]) for one in films]]
    few = NotMeasured(reason="no film, or no real video, has two frames")
    found = Score(value=matrix_distance(*sides)) if all(sides) else few
    return _line(f"{APART} ({known})", found, len(films), absent)


def _overlaps(
    known: str, real: Sequence[Mapping[str, Any]], films: Sequence[Mapping[str, Any]], absent: Mapping[str, int]
) -> list[Line]:
    found = []
    for interval in map(str, INTERVALS):
        sides = [[one[interval] for one in side if interval in one] for side in (real, films)]
        if all(sides):
            ours, theirs = (np.sum(side, axis=0) for side in sides)
            area = Score(value=shared_area(ours, theirs))
            named = f"overlap with real videos at interval {interval} ({known})"
            found.append(_line(named, area, len(sides[1]), absent))
    return found


def _line(metric: str, found: Outcome, count: int, absent: Mapping[str, int]) -> Line:
    return Line(group=ALL, summary=together(metric, found, count, absent=absent))


def _crowd(metric: str, found: Distance, absent: Mapping[str, int]) -> Line:
    return crowd_line(metric, found, f"{found.real} real videos", absent)
