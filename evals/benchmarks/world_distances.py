"""How far films of the puppet world are from its rendered truth as two crowds, and from their own frames over time.

Fréchet and kernel distance between states that the detectors read (where the promised puppets stand, how big, how
clean), and similarity over intervals of time on small pixels. Published encoders have their own benchmark, `distance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from evals.benchmarks.protocol import ALL, Line, crowd_line
from evals.metrics.curves import INTERVALS, interval_counts, interval_curve, shared_area, similarity
from evals.metrics.frechet import frechet, kernel, reduced
from evals.metrics.score import NOTHING, Case, Metric, NotMeasured, Outcome, Score, together
from evals.metrics.video_embedders import VideoEmbedder
from evals.world.detectors import Frames
from evals.world.tracks import Scene
from generators.world.motion import TALL
from generators.world.script import Script
from generators.world.words import HEIGHT, WIDTH

NEAR = "similarities"
"""The name of the facts that interval curves are made of, …"""
READ = "features"
"""… and of those that a network made of film and truth."""
PIXELS = "24x16 pixels"
MOMENTS = 8
"""Times, spread over a clip, at which states are read."""
CAST = 2
AXES = 16
"""Principal axes that the Fréchet distance is taken on, so that some hundred films are enough."""


def small(frames: Frames) -> np.ndarray:
    """Frames as vectors: 24 x 16 pixels by area, (T, 1152)."""
    shrunk = [cv2.resize(frame, (24, 16), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(shrunk).reshape(len(frames), -1).astype(np.float64) + 1.0


def near_counts(frames: Frames) -> dict[str, list[int]]:
    """How many pairs of frames have which similarity, by interval."""
    matrix = similarity(small(frames))
    return {str(d): interval_counts([matrix], d).astype(int).tolist() for d in INTERVALS if d < len(frames)}


@dataclass(frozen=True, kw_only=True)
class NearFar:
    """What an interval curve says of one clip: `band` is near minus far similarity, else its fall a doubling."""

    band: bool
    higher_is_better: bool | None = None

    @property
    def name(self) -> str:
        """Names the vectors."""
        return f"similarity {'near minus far' if self.band else 'slope'} ({PIXELS})"

    def measure(self, frames: Frames, fps: float, case: Case) -> Outcome:
        """The mean similarity at each interval stands in the details."""
        if len(frames) < 2:
            return NotMeasured(reason="the clip has one frame")
        curve = interval_curve([similarity(small(frames))])
        value = curve.band if self.band else curve.slope
        if value is None:
            return NotMeasured(reason="the clip is too short for it")
        details = {f"interval {d}": mean for d, mean in zip(curve.intervals, curve.means, strict=True)}
        return Score(value=value, details=details)


def near_metrics() -> tuple[Metric, ...]:
    """Both readings of the curve."""
    return NearFar(band=False), NearFar(band=True)


def states(scene: Scene, script: Script) -> list[float]:
    """Each promised puppet at 8 moments: seen, x, foot, height, width, glow; 0 where it is not seen (96 numbers)."""
    at = np.rint(np.linspace(0, len(scene.times) - 1, MOMENTS)).astype(int)
    found: list[float] = []
    for index in range(CAST):
        track = scene.tracks.get(script.actors[index].hue) if index < len(script.actors) else None
        if track is None:
            found += [0.0] * 6 * MOMENTS
            continue
        seen = track.seen[at].astype(float)
        curves = (track.x / WIDTH, track.foot / HEIGHT, track.tall / TALL, track.wide / TALL, track.glow)
        found += [*seen, *(float(v) for curve in curves for v in np.nan_to_num(curve[at]) * seen)]
    return [round(value, 4) for value in found]


def distance_lines(
    facts: Sequence[Mapping[str, Any]], reader: VideoEmbedder | NotMeasured, absent: Mapping[str, int] = NOTHING
) -> list[Line]:
    """FVD-SW and KVD-SW over all films, and how far their interval histograms overlap the truth's.

    `absent` counts the films that there are not, by reason.
    """
    if len(facts) < 2:
        few = NotMeasured(reason="a distance needs at least two films")
        return [Line(group=ALL, summary=together("FVD-SW and KVD-SW", few, len(facts), absent=absent))]
    found = _crowd(facts, "states", "detector states", absent)
    if isinstance(reader, NotMeasured):
        found.append(Line(group=ALL, summary=together("FVD-SW (3-D network)", reader, len(facts), absent=absent)))
    else:
        found += _crowd(facts, READ, reader.name, absent)
    return found + _overlaps(facts, absent)


def _crowd(facts: Sequence[Mapping[str, Any]], vectors: str, said: str, absent: Mapping[str, int]) -> list[Line]:
    """Both distances between films and their truth, by these vectors."""
    real, made = (np.array([one[vectors][which] for one in facts]) for which in ("truth", "film"))
    axes = min(AXES, len(facts) - 1)
    return [
        crowd_line(f"FVD-SW ({said}, {axes} axes)", frechet(*reduced(real, made, axes)), absent=absent),
        crowd_line(f"KVD-SW ({said})", kernel(real, made), absent=absent),
    ]


def _overlaps(facts: Sequence[Mapping[str, Any]], absent: Mapping[str, int]) -> list[Line]:
    found = []
    for interval in map(str, INTERVALS):
        pairs = [(one[NEAR]["truth"], one[NEAR]["film"]) for one in facts]
        both = [(np.array(t[interval]), np.array(f[interval])) for t, f in pairs if interval in t and interval in f]
        if both:
            truth, film = (np.sum(counts, axis=0) for counts in zip(*both, strict=True))
            area, name = Score(value=shared_area(truth, film)), f"overlap with truth at interval {interval} ({PIXELS})"
            found.append(Line(group=ALL, summary=together(name, area, len(both), absent=absent)))
    return found
