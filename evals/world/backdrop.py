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
    known = np.stack([_halved(backdrop_pixels(place, time)[None]) for place in PLACES for time in TIMES])
    apart = np.minimum(np.abs(seen - known), _FAR) * weight
    error = apart.sum((2, 3, 4)) / (3 * weight.sum((1, 2, 3)) + 1e-9)
    alike = _likeness(seen, known, weight)
    alike[_TIME[:, None] != _TIME[error.argmin(0)]] = -np.inf
    best = alike.argmax(0)
    return Backdrop(
        places=tuple(PLACES[_PLACE[i]] for i in best),
        times=tuple(TIMES[_TIME[i]] for i in best),
        misfit=error[best, np.arange(len(frames))].astype(float),
    )


def _likeness(
    seen: NDArray[np.float32], known: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(backdrops, T) weighted correlations over pixels and channels, -1..1."""
    one, other = _centred(seen[None], weight), _centred(known, weight)
    size = np.sqrt((one**2).sum((2, 3, 4)) * (other**2).sum((2, 3, 4)))
    alike: NDArray[np.float64] = ((one * other).sum((2, 3, 4)) / np.maximum(size, 1e-9)).astype(np.float64)
    return alike


def _centred(pixels: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, T, H, W, 3) less their weighted mean, weighted."""
    mean = (pixels * weight).sum((2, 3, 4), keepdims=True) / np.maximum(3 * weight.sum((1, 2, 3)), 1e-6)[
        :, None, None, None
    ]
    centred: NDArray[np.float32] = (pixels - mean) * weight
    return centred


def _halved(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 2 x 2 blocks of (T, H, W, C)."""
    blocks = pixels.reshape(len(pixels), pixels.shape[1] // 2, 2, pixels.shape[2] // 2, 2, -1)
    means: NDArray[np.float32] = blocks.mean((2, 4), dtype=np.float32)
    return means


@functools.cache
def backdrop_pixels(place: str, time: str) -> NDArray[np.float32]:
    """(HEIGHT, WIDTH, 3) of an empty stage, 0..255."""
    picture = backdrops()[PLACES.index(place), TIMES.index(time)].transpose(1, 2, 0) * 255
    return np.ascontiguousarray(picture).astype(np.float32)
