"""What a puppet looks like over a clip, and how far it gets: colour, size, pace.

Reads a scene that was watched already. Knows no script and no promise.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from evals.world.detectors import Frames
from evals.world.movement import STILL
from evals.world.tracks import Scene, Track


def mean_colour(scene: Scene, frames: Frames, hue: str) -> NDArray[np.float32]:
    """Mean CIELAB of the puppet's own pixels; `frames` are those of the whole clip."""
    masks = scene.sightings[hue].masks
    looked = frames[scene.setting.first :: scene.setting.step]
    pixels = looked[masks].astype(np.float32).reshape(1, -1, 3) / 255
    mean: NDArray[np.float32] = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).reshape(-1, 3).mean(0)
    return mean


def usual_size(scene: Scene, hue: str) -> float:
    """Root of its median area while it is seen, pixels."""
    area = scene.sightings[hue].area
    return float(np.sqrt(np.median(area[area > 0])))


def main_puppet(scene: Scene) -> Track | None:
    """The puppet that fills most of the clip; None where nobody is seen for three frames."""
    seen = [track for track in scene.tracks.values() if track.seen.sum() >= 3]
    return max(seen, key=lambda track: float(track.area.sum()), default=None)


def pace(scene: Scene, track: Track) -> float | None:
    """Pixels a second that its feet travel while it is seen; steps that are rest count as none.

    None where no two frames in a row show it.
    """
    both = track.seen[1:] & track.seen[:-1]
    if not both.any():
        return None
    steps = np.hypot(np.diff(track.x), np.diff(track.foot))[both]
    return float(steps[steps >= STILL].sum() / np.diff(scene.times)[both].sum())
