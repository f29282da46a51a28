"""The stage without its puppets, as a clip shows it, and how far two such stages are apart. Knows no script."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from evals.world.detectors import Frames
from evals.world.tracks import Scene

Stage = NDArray[np.float64]
"""(H, W, 3) levels, NaN where something stood most of the time."""


def empty_stage(scene: Scene, frames: Frames) -> Stage:
    """The median picture without what stood in front of it in most frames; `frames` are those of the whole clip."""
    setting = scene.setting
    looked = frames[setting.first :: setting.step].astype(np.float64)
    masks = [sighting.masks for sighting in scene.sightings.values()]
    covered = np.any(masks, axis=0) if masks else np.zeros(looked.shape[:3], bool)
    grown = np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) for mask in covered]) > 0
    looked[grown] = np.nan
    hidden = grown.mean(0) > 0.5
    looked[:, hidden] = 0.0  # a median of nothing but NaN would warn
    stage: Stage = np.nanmedian(looked, axis=0)
    stage[hidden] = np.nan
    return stage


def stages_apart(first: Stage, second: Stage) -> float | None:
    """Mean difference in levels, 0..255, where both are seen; None where they are nowhere."""
    both = ~np.isnan(first) & ~np.isnan(second)
    return float(np.abs(first - second)[both].mean()) if both.any() else None
