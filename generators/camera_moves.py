"""What a camera can do, by name: read by those who have no use for pixels."""

from __future__ import annotations

from typing import Literal, get_args

CameraMove = Literal["pan left", "pan right", "tilt up", "tilt down", "zoom in", "zoom out"]
MOVES: tuple[CameraMove, ...] = get_args(CameraMove)
