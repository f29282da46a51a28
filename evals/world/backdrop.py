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
_ROUNDING = 1e-10
"""Spread, as a share of the squares it is left of (or of one level), that is rounding."""
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
    wrong = (apart.sum(-1) * weight[..., 0]).sum((2, 3))
    error = wrong / (3 * weight.sum((1, 2, 3)) + 1e-9)
    alike = likeness(seen, _known(), weight[..., 0])
    alike[_TIME[:, None] != _TIME[error.argmin(0)]] = -np.inf
    best = alike.argmax(0)
    return Backdrop(
        places=tuple(PLACES[_PLACE[i]] for i in best),
        times=tuple(TIMES[_TIME[i]] for i in best),
        misfit=error[best, np.arange(len(frames))].astype(float),
    )


def likeness(seen: NDArray[np.float32], known: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, T) correlations over pixels and channels of frames p (T, H, W, 3) and pictures k (N, H, W, 3), -1..1.

    sum w² (p - m)(k - n) / sqrt(sum w² (p - m)² sum w² (k - n)²), with their means m and n under `weight` w (T, H, W),
    or 0 where either is a single level. Multiplied out, so that every sum over pixels is one product of matrices.
    """
    p, k = _centred(seen), _centred(known)  # moved near their means, which changes nothing and saves digits
    w = np.repeat(weight.reshape(len(weight), -1), 3, axis=1).astype(np.float64)
    w2 = w**2
    total, whole = np.maximum(w.sum(1), 1e-6), w2.sum(1)
    m, n = (p * w).sum(1) / total, k @ w.T / total
    p_sum, k_sum = (p * w2).sum(1), k @ w2.T
    p_square, k_square = (p**2 * w2).sum(1), k**2 @ w2.T
    shared = k @ (p * w2).T - n * p_sum - m * k_sum + m * n * whole
    spread = _spread(p_square, p_sum, m, whole) * _spread(k_square, k_sum, n, whole)
    alike: NDArray[np.float64] = np.where(spread > 0, shared / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)
    return alike


def _spread(
    square: NDArray[np.float64], total: NDArray[np.float64], mean: NDArray[np.float64], whole: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted squares around the mean, 0 where only rounding is left of them."""
    spread = square - 2 * mean * total + mean**2 * whole
    return np.where(spread > _ROUNDING * np.maximum(square, whole), spread, 0.0)


def _centred(pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, H, W, 3) as rows of numbers around 0."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float64)
    centred: NDArray[np.float64] = flat - flat.mean(1, keepdims=True)
    return centred


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
