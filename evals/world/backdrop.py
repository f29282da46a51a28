"""Which of the twelve backdrops stands behind the puppets, frame by frame.

The time of day is a matter of brightness, the place one of its pattern: decoders shift and fade colours, most of all
at night, where the places differ by less than that. Knows single frames, no scripts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.world.detectors import Curve, Frames
from evals.world.palette import NOTHING, label
from generators.world.places import backdrops
from generators.world.words import PLACES, TIMES

_FAR = 96
"""Levels at which a pixel is as wrong as can be: something else stands there."""
_FLAT = 1e-3
"""Weighted squares less than this are rounding."""
_PLACE, _TIME = (np.array(axis).ravel() for axis in np.indices((len(PLACES), len(TIMES))))


@dataclass(frozen=True, kw_only=True)
class Backdrop:
    """The likeliest of the twelve backdrops in every frame."""

    places: tuple[str, ...]
    times: tuple[str, ...]
    misfit: Curve
    """Mean RGB difference to it, 0..255."""


def sight_backdrop(frames: Frames) -> Backdrop:
    """Compare frames (T, 64, 96, 3) with the twelve backdrops outside everything that wears a body hue."""
    free = (label(frames) == NOTHING)[..., None].astype(np.float32)
    weight = _halved(free)
    seen = (_halved(frames.astype(np.float32) * free) / np.maximum(weight, 1e-6)).astype(np.float32)
    apart = np.subtract(seen, _known()[:, None])
    np.minimum(np.abs(apart, out=apart), _FAR, out=apart)
    error = np.einsum("nthwc,thw->nt", apart, weight[..., 0]) / (3 * weight.sum((1, 2, 3)) + 1e-9)
    alike = likeness(seen, _known(), weight[..., 0])
    alike[_TIME[:, None] != _TIME[error.argmin(0)]] = -np.inf
    best = alike.argmax(0)
    return Backdrop(
        places=tuple(PLACES[_PLACE[i]] for i in best),
        times=tuple(TIMES[_TIME[i]] for i in best),
        misfit=error[best, np.arange(len(frames))].astype(float),
    )


def likeness(seen: NDArray[np.float32], known: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, T) correlations over pixels and channels of frames (T, H, W, 3) and pictures (N, H, W, 3), -1..1.

    0 where one of them is of a single colour. Both are taken less their mean under `weight` (T, H, W), and weighted.
    The products are multiplied out, so that every sum over pixels is one product of matrices.
    """
    pixels, pictures, (frames, *_) = _flat(seen), _flat(known), weight.shape
    share = np.repeat(weight.reshape(frames, -1), 3, axis=1).astype(np.float64)
    square, total = share**2, np.maximum(share.sum(1), 1e-6)
    one, other = (pixels * share).sum(1) / total, pictures @ share.T / total
    weighted, whole = pixels * square, square.sum(1)
    both = pictures @ weighted.T - other * weighted.sum(1) - one * (pictures @ square.T) + one * other * whole
    size_one = (pixels * weighted).sum(1) - 2 * one * weighted.sum(1) + one**2 * whole
    size_other = pictures**2 @ square.T - 2 * other * (pictures @ square.T) + other**2 * whole
    size = np.sqrt(np.maximum(size_one * size_other, 0))
    alike: NDArray[np.float64] = np.where(size > _FLAT, both / np.maximum(size, _FLAT), 0.0)
    return alike


def _flat(pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    return pictures.reshape(len(pictures), -1).astype(np.float64)


@functools.cache
def _known() -> NDArray[np.float32]:
    """(12, HEIGHT / 2, WIDTH / 2, 3): the empty stages, by place and time of day."""
    return np.concatenate([_halved(backdrop_pixels(place, time)[None]) for place in PLACES for time in TIMES])


def _halved(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 2 x 2 blocks of (T, H, W, C)."""
    rows = pixels[:, ::2] + pixels[:, 1::2]
    means: NDArray[np.float32] = np.multiply(rows[:, :, ::2] + rows[:, :, 1::2], 0.25, dtype=np.float32)
    return means


@functools.cache
def backdrop_pixels(place: str, time: str) -> NDArray[np.float32]:
    """(HEIGHT, WIDTH, 3) of an empty stage, 0..255."""
    picture = backdrops()[PLACES.index(place), TIMES.index(time)].transpose(1, 2, 0) * 255
    return np.ascontiguousarray(picture).astype(np.float32)
