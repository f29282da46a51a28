"""Whether a puppet is, frame by frame, something the renderer can draw: one opaque body of its hue, whole at its edges.

Detectors measure the middle and the extent of whatever wears a hue; a smear, a double or noise has those too. Knows
single frames, no verbs. Shares are of the puppet's own pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.world.backdrop import Backdrop, backdrop_pixels
from evals.world.detectors import Curve, Frames, Sighting, outline
from evals.world.settings import Setting
from evals.world.shapes import Shape
from generators.world.words import HUES, PROP_COLOURS

_FAINT, _STRONG = 0.2, 0.62
"""How much of its hue a half-transparent pixel shows: more than nothing, less than the palest large part of a body."""
_STRANGE = 0.25
"""Colour off the line from backdrop to hue, in parts of the hue, at which a pixel is something else."""
_BROWN = 26
"""Levels by which a box differs from its colour; brown is a dull orange and no ghost of it."""
_SMALL, _ALLOWED = 70.0, 0.15
"""A body of fewer pixels than _SMALL (edge on in a spin) is one of few lines: this much overlap is allowed for it."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """How far one hue is from a drawn puppet, a value a frame looked at; NaN where it is not seen."""

    spare: Curve
    """Pixels of its hue that stand away from it."""
    ghost: Curve
    """Half-transparent pixels of its hue that are no edge."""
    ragged: Curve
    """Length of its outline over the square root of what it encloses; about 6 to 10 when drawn."""
    fit: Curve
    """Overlap (IoU) with the best silhouette that can be drawn, more is allowed for where it is very small."""


def examine(frames: Frames, backdrop: Backdrop, one: Sighting, shape: Shape) -> Body:
    """Look at one hue in all frames (T, 64, 96, 3)."""
    seen = np.where(one.area > 0, 1.0, np.nan)
    own = np.maximum(one.area, 1)
    return Body(
        spare=one.clone / own * seen,
        ghost=_ghosts(frames, backdrop, one.hue) / own * seen,
        ragged=_outline_length(one.masks) / np.sqrt(np.maximum(outline(one.masks).sum((1, 2)), 1)) * seen,
        fit=(shape.drawable + np.where(one.area < _SMALL, _ALLOWED, 0.0)) * seen,
    )


def clean(body: Body, setting: Setting) -> NDArray[np.bool_]:
    """Frames in which the puppet is clean enough for this setting; one that is not seen is not clean."""
    return (
        (body.spare <= setting.spare)
        & (body.ghost <= setting.ghost)
        & (body.ragged <= setting.ragged)
        & (body.fit >= setting.fit)
    )


def _ghosts(frames: Frames, backdrop: Backdrop, hue: str) -> Curve:
    """Pixels of every 3 x 3 block between backdrop and hue that touches nothing opaque of that hue."""
    empty = {at: _opponent(backdrop_pixels(*at)) for at in set(zip(backdrop.places, backdrop.times, strict=True))}
    behind = np.stack([empty[at] for at in zip(backdrop.places, backdrop.times, strict=True)])
    apart = _opponent(frames) - behind
    wanted = _opponent(np.array(HUES[hue]))
    size = float((wanted**2).sum())
    share = apart @ wanted / size
    off = np.sqrt(np.maximum((apart**2).sum(-1) / size - share**2, 0))
    opaque = share >= _STRONG
    box = np.abs(frames.astype(np.int16) - np.array(PROP_COLOURS["box"])).max(-1) < _BROWN
    partial = (share > _FAINT) & ~opaque & (off < _STRANGE) & ~box & ~_grown(opaque)
    ghosts: Curve = _grown(~_grown(~partial)).sum((1, 2)).astype(float)
    return ghosts


def _opponent(rgb: NDArray[np.generic]) -> NDArray[np.float32]:
    """(..., 3) to red - green and green - blue: linear in how much of a hue is there, blind to grey."""
    red, green, blue = np.moveaxis(np.asarray(rgb, dtype=np.float32), -1, 0)
    return np.stack([red - green, green - blue], -1)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask (T, H, W) and its eight neighbours."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    rows = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    grown: NDArray[np.bool_] = rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]
    return grown


def _outline_length(masks: NDArray[np.bool_]) -> Curve:
    """Steps between inside and outside, inner holes included, pixels."""
    steps: Curve = (masks[:, 1:] != masks[:, :-1]).sum((1, 2)) + (masks[:, :, 1:] != masks[:, :, :-1]).sum((1, 2))
    return steps.astype(float)
