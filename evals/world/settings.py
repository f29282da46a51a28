"""The two ways of looking: one decides on retries, the other reports results.

They see disjoint frames and draw their lines elsewhere, so that filming again until the critic is content does not
collect exactly those takes whose faults the score cannot see. Heights are nominal puppet heights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

READINGS = 2
"""Goes up when detectors or scores read the same pixels otherwise: kept rows of another number are not read."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Which frames are looked at, and how much of a verb is enough."""

    name: str
    first: int
    """Index of the first frame looked at."""
    step: int = 2
    rise: float
    """Heights a jump, a flight or a hop must reach."""
    stride: float
    """Heights that something must travel."""
    grown: float
    """How much taller a puppet must become; a shrinking one must fall below 1 / `shrunk`."""
    shrunk: float
    thin: float
    """A spin shows the puppet at most this share of its width."""
    lean: float
    """Radians from upright that count as lying."""
    sway: float
    """Heights from side to side in a dance."""
    lifted: float
    """Heights a lifted prop must rise."""
    near: float
    """Heights between two puppets' middles that count as together."""
    spare: float
    """A clean puppet has at most this share of its pixels standing elsewhere, …"""
    ghost: float
    """… this share of half-transparent pixels that are no edge, …"""
    ragged: float
    """… an outline of this many square roots of its area, …"""
    fit: float
    """… and at least this overlap with a puppet that can be drawn."""
    clean: float
    """Share of an event's frames in which its puppet must be clean."""
    speed: float
    """Heights a second up to which a puppet moves; one that is elsewhere sooner is another."""
    doubled: float
    """Share of an event's frames that may show a second body of its hue."""
    kind_fit: float = 0.5
    """Silhouette overlap below which a kind is not named."""

    def __post_init__(self) -> None:
        if self.first < 0 or self.step < 1:
            raise ValueError(f"Setting {self.name!r}: expected first >= 0 and step >= 1, got {self.first}, {self.step}")


CRITIC = Setting(
    name="critic", first=2, rise=0.46, stride=0.62, grown=1.22, shrunk=1.26, thin=0.7, lean=1.1, sway=0.22,
    lifted=0.45, near=0.805, spare=0.35, ghost=0.28, ragged=12.5, fit=0.55, clean=0.5,
    speed=4.2, doubled=0.1,
)  # fmt: skip
"""Even frames but the first, which a continuation was given."""
SCORE = Setting(
    name="score", first=1, rise=0.42, stride=0.58, grown=1.25, shrunk=1.3, thin=0.74, lean=1.0, sway=0.24,
    lifted=0.49, near=0.8, spare=0.3, ghost=0.3, ragged=12.0, fit=0.56, clean=0.45,
    speed=4.0, doubled=0.12,
)  # fmt: skip
"""Odd frames."""


def read_by() -> Mapping[str, Any]:
    """How results are read from pixels, for the settings of a benchmark: equal ones read the same pixels alike."""
    return {"readings": READINGS, "setting": asdict(SCORE)}
