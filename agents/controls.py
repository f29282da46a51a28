"""Controls as rows hold them: plain JSON by name, and a name where a control would carry pixels.

Knows settings; knows no shots, takes or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from generators.camera_moves import CameraMove
from generators.controls.config import VSTAR, ControlConfig, TempoControl, TSAttn


@dataclass(frozen=True, kw_only=True)
class MotionFrom(ControlConfig):
    """Motion by Queries with its clip named; `motion.shown` puts the pixels in and makes it `MotionQueries`."""

    clip: str
    """sha256 of a kept clip, or of a finished take's file; of a camera's picture, empty where it has none."""
    camera: CameraMove | None = None
    """The camera's move, where that is the motion."""
    prompt: str = ""
    """What the clip shows, where that is known."""
    steps: float | None = None
    """Share of the denoising steps that are steered; None: the family's, and a camera's own."""
    first: float = 0.0
    last: float = 1.0
    """The part of the shot that the take is, as shares of it: a split shot's halves share one clip."""

    def plain(self) -> dict[str, Any]:
        """The settings; those of a clip have no camera, as rows of earlier versions have none."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("camera", None)}

    def part(self, first: float, last: float) -> MotionFrom:
        """The same for a part of this take."""
        span = self.last - self.first
        return replace(self, first=round(self.first + first * span, 6), last=round(self.first + last * span, 6))


CONTROLS: dict[str, type[ControlConfig]] = {kind.__name__: kind for kind in (TSAttn, VSTAR, TempoControl, MotionFrom)}
"""Those that plain JSON can hold, and so a row; the others carry pixels or watch a single generation."""


def controls_json(controls: Sequence[ControlConfig]) -> list[dict[str, Any]]:
    """Controls as plain JSON values, each with its name."""
    return [{"name": type(control).__name__} | control.plain() for control in controls]


def read_controls(data: Sequence[dict[str, Any]]) -> tuple[ControlConfig, ...]:
    """The inverse of `controls_json`. Raises ValueError for a control this version does not know."""
    controls = []
    for entry in data:
        fields = {key: value for key, value in entry.items() if key != "name"}
        if entry["name"] not in CONTROLS:
            raise ValueError(f"Unknown control {entry['name']!r}; there are {', '.join(CONTROLS)}")
        controls.append(TypeAdapter(CONTROLS[entry["name"]]).validate_python(fields))
    return tuple(controls)


def motions(controls: Sequence[ControlConfig]) -> tuple[MotionFrom, ...]:
    """Those of a take that give it a clip's motion."""
    return tuple(control for control in controls if isinstance(control, MotionFrom))
