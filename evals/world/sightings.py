"""What an automaton is shown and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evals.world.detectors import Curve
from evals.world.settings import Setting
from evals.world.tracks import PropTrack, Scene, Track
from generators.world.motion import TALL

UPRIGHT = 0.45
"""Radians of lean up to which a puppet stands: a dance leans by half of it, who lies by over three times as much."""
OPAQUE = 0.92
"""Glow above which a puppet is not fading."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen of an event. Times are seconds, None when it was not seen."""

    done: bool
    confidence: float
    evidence: str
    start: float | None = None
    end: float | None = None


def missed(evidence: str, share: float = 0.0) -> Seen:
    """Not done; `share` of what it takes was there."""
    return Seen(done=False, confidence=0.5 * float(np.clip(share, 0, 1)), evidence=evidence)


def kept(evidence: str, start: float, end: float, scene: Scene, *shares: float) -> Seen:
    """Done; `shares` are how many times over each requirement was met, the least decides the confidence."""
    start = float(np.clip(start, 0, scene.seconds))
    end = float(np.clip(end, start + 1e-3, max(scene.seconds, start + 1e-3)))
    sure = float(np.clip(min(shares), 1, 2)) / 2
    return Seen(done=True, confidence=sure, evidence=f"{evidence} ({start:.1f}-{end:.1f} s)", start=start, end=end)


@dataclass(frozen=True, kw_only=True)
class View:
    """A promised event's participants. Curves have a value a frame looked at."""

    scene: Scene
    me: Track
    other: Track | None
    prop: PropTrack | None
    side: str | None

    @property
    def setting(self) -> Setting:
        """How much is enough."""
        return self.scene.setting

    @property
    def times(self) -> Curve:
        """Seconds of the frames looked at."""
        return self.scene.times

    @property
    def first(self) -> int:
        """Index of the first frame that shows the actor."""
        return int(np.flatnonzero(self.me.seen)[0])

    @property
    def last(self) -> int:
        """Index of the last frame that shows the actor."""
        return int(np.flatnonzero(self.me.seen)[-1])

    @property
    def stays(self) -> bool:
        """Whether the actor is there at the end."""
        return self.last >= len(self.times) - 2

    @property
    def rise(self) -> Curve:
        """How high the actor's foot is above the ground, in heights."""
        return rise(self.me)


def rise(track: Track) -> Curve:
    """Height of a foot above the ground, in heights; the ground is its third lowest place while it stands."""
    standing = track.seen & (np.abs(track.tilt) < UPRIGHT)
    feet = np.sort(track.foot[standing if standing.sum() > 2 else track.seen])
    ground = float(feet[-3])
    return np.where(track.seen, (ground - track.foot) / TALL, 0.0)
