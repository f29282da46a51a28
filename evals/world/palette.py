"""Which colour means which puppet: a table from RGB to the nearest body hue, read in CIELAB.

Knows the world's colours and nothing of shapes or time. Cells of the table are 8 levels wide.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from generators.world.places import backdrops
from generators.world.words import HUES, PROP_COLOURS

NOTHING = len(HUES)
"""Label of a pixel that wears no body hue; hues are labelled by their place in `HUES`."""
REJECT = 36.0
"""A pixel further than this (CIE76) from every body colour is nobody's."""
_SHADES = (1.0, 0.86, 0.72, 0.6)
"""How dark a body colour gets on legs, tails and wings."""
_OTHERS = ((230, 199, 178), (92, 87, 82), (117, 117, 117), (245, 245, 245), (20, 20, 20), (67, 40, 19))
"""Skin, beak, metal, white, eyes, the box's edge: never a body."""
_BITS = 3


def lab(rgb: NDArray[np.floating]) -> NDArray[np.float64]:
    """CIELAB (D65) of sRGB colours: (..., 3) in 0..255 to (..., 3)."""
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


@functools.cache
def table() -> NDArray[np.uint8]:
    """(32, 32, 32): the label of every cell of the RGB cube."""
    levels = np.arange(0, 256, 1 << _BITS) + (1 << _BITS) / 2
    cells = lab(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1)).reshape(-1, 3)
    bodies = lab(np.array([_wears(np.array(rgb, dtype=float)) for rgb in HUES.values()]))
    to_body = _distance(cells, bodies.reshape(-1, 3)).reshape(len(cells), len(HUES), -1).min(-1)
    to_other = _distance(cells, lab(_other_colours())).min(-1)
    best = to_body.argmin(-1)
    near = to_body.min(-1)
    label = np.where((near < REJECT) & (near < to_other), best, NOTHING)
    return label.reshape(32, 32, 32).astype(np.uint8)


def _wears(hue: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """A body's shades, and the pale inside of a rabbit's ears."""
    return [*(hue * shade for shade in _SHADES), 0.45 * hue + 127.5]


def _other_colours() -> NDArray[np.float64]:
    seen = np.unique((backdrops().transpose(0, 1, 3, 4, 2).reshape(-1, 3) * 31).round().astype(int), axis=0)
    return np.concatenate([seen * 255 / 31, np.array([*_OTHERS, *PROP_COLOURS.values()], dtype=float)])


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    apart: NDArray[np.float64] = np.sqrt(np.maximum((a**2).sum(-1)[:, None] + (b**2).sum(-1)[None] - 2 * a @ b.T, 0))
    return apart


def label(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, H, W) labels of (T, H, W, 3) frames."""
    cells = frames >> _BITS
    answer: NDArray[np.uint8] = table()[cells[..., 0], cells[..., 1], cells[..., 2]]
    return answer
