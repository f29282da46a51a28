"""What a silhouette is and how far it leans, by comparing it with the six puppets turned through every angle.

Fragile below about 25 dB: ask `detectors.sharpness` before trusting a kind. Size does not matter, colour is not seen.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from evals.world.detectors import Curve, Sighting
from generators.world.puppets import BOX, textures
from generators.world.words import HEIGHT, KINDS, WIDTH

GRID = 36
"""Silhouettes are compared on GRID x GRID points, scaled so that every puppet covers the same area."""
_AREA = 330.0
"""Points a silhouette covers on that grid."""
ANGLES = np.deg2rad(np.arange(-105, 106, 15.0))
_STEPS, _MIRRORS = 2, 2


@dataclass(frozen=True, kw_only=True)
class Shape:
    """`fits` (T, kinds) is the best overlap (IoU, 0..1) with each kind; `tilts` (T, kinds) the lean at that best."""

    fits: NDArray[np.float64]
    tilts: NDArray[np.float64]


def compare(sighting: Sighting) -> Shape:
    """Hold every frame's silhouette against every kind, angle, step and mirror image; NaN where nothing was seen."""
    points = _normalised(sighting)
    bank = _bank()
    covered = points.sum(1)[:, None] + bank.sum(1)[None]
    both = points @ bank.T
    overlap = (both / np.maximum(covered - both, 1)).reshape(len(points), len(KINDS), -1, len(ANGLES))
    by_angle = overlap.max(2)
    fits, tilts = by_angle.max(2), _peak(by_angle)
    gone = sighting.area <= 0
    fits[gone], tilts[gone] = np.nan, np.nan
    return Shape(fits=fits, tilts=tilts)


def kind_of(shape: Shape, clean: NDArray[np.bool_]) -> tuple[str | None, float, float]:
    """The kind that fits best over clean frames, its overlap and its lead over the next; None without a clean frame."""
    if not clean.any():
        return None, 0.0, 0.0
    mean = np.nanmean(shape.fits[clean], 0)
    order = np.argsort(mean)
    return KINDS[order[-1]], float(mean[order[-1]]), float(mean[order[-1]] - mean[order[-2]])


def tilt_of(shape: Shape, kind: str | None) -> Curve:
    """How far the puppet leans in every frame, radians, clockwise positive."""
    best = shape.tilts if kind is None else shape.tilts[:, [KINDS.index(kind)]]
    lean: Curve = np.nan_to_num(best.mean(1))
    return lean


def _peak(by_angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """The angle of best overlap, refined by a parabola through its neighbours."""
    at = by_angle.argmax(-1)
    inner = np.clip(at, 1, len(ANGLES) - 2)
    low, mid, high = (np.take_along_axis(by_angle, (inner + d)[..., None], -1)[..., 0] for d in (-1, 0, 1))
    curve = low - 2 * mid + high
    shift = np.where(curve < -1e-6, 0.5 * (low - high) / np.where(curve < -1e-6, curve, -1.0), 0.0)
    step = ANGLES[1] - ANGLES[0]
    found: NDArray[np.float64] = np.where(at == inner, ANGLES[inner] + np.clip(shift, -0.5, 0.5) * step, ANGLES[at])
    return found


def _normalised(sighting: Sighting) -> NDArray[np.float32]:
    """(T, GRID * GRID): each mask seen from its own centre at its own scale."""
    scale = np.sqrt(np.maximum(sighting.area, 1) / _AREA)
    axis = np.arange(GRID) - (GRID - 1) / 2
    columns = np.nan_to_num(sighting.x)[:, None] + axis * scale[:, None]
    rows = np.nan_to_num(sighting.y)[:, None] + axis * scale[:, None]
    inside = ((rows >= 0) & (rows < HEIGHT))[:, :, None] & ((columns >= 0) & (columns < WIDTH))[:, None, :]
    row = np.clip(rows, 0, HEIGHT - 1).astype(int)
    column = np.clip(columns, 0, WIDTH - 1).astype(int)
    frame = np.arange(len(row))[:, None, None]
    picked = sighting.masks[frame, row[:, :, None], column[:, None, :]] & inside
    flat: NDArray[np.float32] = picked.reshape(len(row), -1).astype(np.float32)
    return flat


@functools.cache
def _bank() -> NDArray[np.float32]:
    """(kinds * steps * mirrors * angles, GRID * GRID) silhouettes."""
    tint = torch.from_numpy(textures()[: 2 * len(KINDS), 0] > 0.4).float()
    rows = [_turned(one, mirror, angle) for one in tint for mirror in (1, -1) for angle in ANGLES]
    return np.stack(rows)


def _turned(tint: torch.Tensor, mirror: int, angle: float) -> NDArray[np.float32]:
    side = tint.shape[-1]
    middle = (torch.arange(side) + 0.5) * 2 / side - 1
    mass = tint.sum()
    cx, cy = float((tint.sum(0) * middle).sum() / mass), float((tint.sum(1) * middle).sum() / mass)
    area = float(mass) * (BOX / side) ** 2
    reach = GRID * float(np.sqrt(area / _AREA)) / BOX
    cos, sin = float(np.cos(angle)) * reach, float(np.sin(angle)) * reach
    theta = torch.tensor([[[cos * mirror, sin * mirror, cx], [-sin, cos, cy]]])
    grid = F.affine_grid(theta, [1, 1, GRID, GRID], align_corners=False)
    drawn = F.grid_sample(tint[None, None], grid, align_corners=False)
    flat: NDArray[np.float32] = (drawn > 0.5).float().numpy().reshape(-1)
    return flat
