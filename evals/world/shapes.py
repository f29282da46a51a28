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
WIDTHS = (0.75, 0.5, 0.3, 0.18)
"""Shares of its width that a spinning puppet shows."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """`fits` (T, kinds) is the best overlap (IoU, 0..1) with each kind; `tilts` (T, kinds) the lean at that best.

    `drawable` (T,) is the best overlap with any puppet, those that turn edge on in a spin included; `asides`
    (T, kinds) how many pixels the middle of its colour stands right of the middle of that kind.
    """

    fits: NDArray[np.float64]
    tilts: NDArray[np.float64]
    drawable: Curve
    asides: NDArray[np.float64]


def compare(sighting: Sighting) -> Shape:
    """Hold every frame's silhouette against every kind, angle, step and mirror image; NaN where nothing was seen."""
    points = _normalised(sighting)
    overlap = _overlap(points, _bank()).reshape(len(points), len(KINDS), -1, len(ANGLES))
    by_angle = overlap.max(2)
    fits, tilts = by_angle.max(2), _peak(by_angle)
    asides = _asides(overlap.max(3).argmax(2), tilts, sighting.area)
    drawable = np.maximum(fits.max(1), _overlap(points, _turning_bank()).max(1))
    gone = sighting.area <= 0
    fits[gone], tilts[gone], drawable[gone] = np.nan, np.nan, np.nan
    return Shape(fits=fits, tilts=tilts, drawable=drawable, asides=asides)


def _asides(way: NDArray[np.intp], tilts: NDArray[np.float64], area: Curve) -> NDArray[np.float64]:
    """A tail or a wing pulls the middle of the colour to its side; `way` (T, kinds) counts steps and mirror images."""
    middles, areas = _middles()
    kind = np.arange(len(KINDS))
    scale = np.clip(np.sqrt(area[:, None] / areas[kind, way]), 0.5, 1.6)
    asides: NDArray[np.float64] = middles[kind, way] * np.cos(tilts) * scale
    return asides


def _overlap(points: NDArray[np.float32], bank: NDArray[np.float32]) -> NDArray[np.float64]:
    """(T, silhouettes) intersections over unions."""
    covered = points.sum(1)[:, None] + bank.sum(1)[None]
    both = points @ bank.T
    share: NDArray[np.float64] = (both / np.maximum(covered - both, 1)).astype(np.float64)
    return share


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


def aside_of(shape: Shape, kind: str | None) -> Curve:
    """Pixels by which the middle of the colour is off the puppet's own, right positive; 0 where no kind is known."""
    aside: Curve = np.zeros(len(shape.asides)) if kind is None else shape.asides[:, KINDS.index(kind)]
    return aside


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


@functools.cache
def _middles() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(kinds, steps * mirrors): pixels from a puppet's middle to that of its colour, and pixels of it, at scale 1."""
    tint = textures()[: 2 * len(KINDS), 0] > 0.4
    pixel = BOX / tint.shape[-1]
    across = (np.arange(tint.shape[-1]) + 0.5) * pixel - BOX / 2
    area = tint.sum((1, 2)) * pixel**2
    aside = (tint.sum(1) * across).sum(1) / tint.sum((1, 2))
    both = np.stack([aside, -aside], 1)
    return both.reshape(len(KINDS), -1), np.repeat(area, 2).reshape(len(KINDS), -1)


@functools.cache
def _turning_bank() -> NDArray[np.float32]:
    """(kinds * steps * mirrors * widths, GRID * GRID) upright silhouettes on their way round."""
    tint = torch.from_numpy(textures()[: 2 * len(KINDS), 0] > 0.4).float()
    rows = [_turned(one, mirror, 0.0, width) for one in tint for mirror in (1, -1) for width in WIDTHS]
    return np.stack(rows)


def _turned(tint: torch.Tensor, mirror: int, angle: float, width: float = 1.0) -> NDArray[np.float32]:
    side = tint.shape[-1]
    middle = (torch.arange(side) + 0.5) * 2 / side - 1
    mass = tint.sum()
    cx, cy = float((tint.sum(0) * middle).sum() / mass), float((tint.sum(1) * middle).sum() / mass)
    area = float(mass) * (BOX / side) ** 2 * width
    reach = GRID * float(np.sqrt(area / _AREA)) / BOX
    cos, sin = float(np.cos(angle)) * reach, float(np.sin(angle)) * reach
    theta = torch.tensor([[[cos * mirror / width, sin * mirror / width, cx], [-sin, cos, cy]]])
    grid = F.affine_grid(theta, [1, 1, GRID, GRID], align_corners=False)
    drawn = F.grid_sample(tint[None, None], grid, align_corners=False)
    flat: NDArray[np.float32] = (drawn > 0.5).float().numpy().reshape(-1)
    return flat
