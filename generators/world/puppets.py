"""How puppets and props look: paper cut-outs, drawn once as textures.

A texture has three premultiplied planes: `tint` (how much of the body's hue), `grey` (what is added to it) and
`alpha`. A pixel shows `tint * hue + grey + (1 - alpha) * background`, so one texture serves every hue.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from generators.world.words import KINDS, PROP_COLOURS, PROPS

TEXTURE = 40
"""Side of a texture in texels; it covers BOX pixels on the canvas at scale 1."""
BOX = 28.0
_OVER = 4
Mask = NDArray[np.float64]
Shape = Callable[[Mask, Mask], Mask]
"""(x, y) in pixels, feet at y = 0 pointing up, to a signed distance (negative inside)."""


def ellipse(cx: float, cy: float, rx: float, ry: float) -> Shape:
    """An ellipse; the distance is exact for circles and good enough for an edge otherwise."""
    return lambda x, y: (np.hypot((x - cx) / rx, (y - cy) / ry) - 1) * min(rx, ry)


def polygon(*points: tuple[float, float]) -> Shape:
    """A convex polygon, corners in either order."""
    corners = np.array(points)
    centre = corners.mean(0)

    def distance(x: Mask, y: Mask) -> Mask:
        edges: list[Mask] = []
        for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
            normal = np.array([b[1] - a[1], a[0] - b[0]]) / np.hypot(*(b - a))
            normal = normal if normal @ (centre - a) < 0 else -normal
            edges.append((x - a[0]) * normal[0] + (y - a[1]) * normal[1])
        farthest: Mask = np.maximum.reduce(edges)
        return farthest

    return distance


def box(cx: float, cy: float, width: float, height: float) -> Shape:
    """An upright rectangle."""
    return lambda x, y: np.maximum(np.abs(x - cx) - width / 2, np.abs(y - cy) - height / 2)


@dataclass
class Sheet:
    """A cut-out under the scissors: shapes are glued on in order."""

    tint: Mask = field(default_factory=lambda: np.zeros((TEXTURE * _OVER,) * 2))
    grey: Mask = field(default_factory=lambda: np.zeros((3, TEXTURE * _OVER, TEXTURE * _OVER)))
    alpha: Mask = field(default_factory=lambda: np.zeros((TEXTURE * _OVER,) * 2))

    def glue(self, *shapes: Shape, tint: float = 0.0, grey: float | tuple[float, float, float] = 0.0) -> Sheet:
        """Put shapes on top: `tint` parts of the hue plus `grey`."""
        side = TEXTURE * _OVER
        axis = (np.arange(side) + 0.5) / side * BOX
        x, y = np.meshgrid(axis - BOX / 2, BOX - 2 - axis)
        for shape in shapes:
            inside = (shape(x, y) <= 0).astype(float)
            self.tint += (tint - self.tint) * inside
            self.grey += (np.reshape(grey if isinstance(grey, tuple) else (grey,) * 3, (3, 1, 1)) - self.grey) * inside
            self.alpha += (1 - self.alpha) * inside
        return self

    def texture(self) -> NDArray[np.float32]:
        """(5, TEXTURE, TEXTURE): tint, grey RGB, alpha."""
        planes = np.concatenate([self.tint[None], self.grey, self.alpha[None]])
        blocks = planes.reshape(5, TEXTURE, _OVER, TEXTURE, _OVER)
        return np.asarray(blocks.mean((2, 4)), dtype=np.float32)


BODY, SHADE = 1.0, 0.72
WHITE, DARK = 0.96, 0.08


def _legs(sheet: Sheet, apart: float, step: int, tint: float = SHADE, width: float = 3.0) -> Sheet:
    lift = (0.0, 2.2) if step else (0.0, 0.0)
    return sheet.glue(
        box(-apart, 2.5 + lift[0], width, 5.0), box(apart, 2.5 + lift[1], width, 5.0), tint=tint, grey=0.0
    )


def _eyes(sheet: Sheet, y: float, apart: float, size: float = 1.15) -> Sheet:
    """Looking right: both eyes sit a little to the right of the middle."""
    return sheet.glue(ellipse(0.9 - apart, y, size, size), ellipse(0.9 + apart, y, size, size), grey=DARK)


def _fox(step: int) -> Sheet:
    sheet = Sheet()
    sheet.glue(ellipse(-8.4, 8.5, 4.2, 2.8), tint=BODY).glue(ellipse(-11.0, 9.8, 1.9, 1.6), grey=WHITE)
    _legs(sheet, 3.4, step)
    sheet.glue(ellipse(0, 8.2, 6.0, 5.2), tint=BODY)
    sheet.glue(
        polygon((-6.2, 17), (-5.8, 24.2), (-0.8, 19.5)),
        polygon((6.2, 17), (5.8, 24.2), (0.8, 19.5)),
        tint=BODY,
    )
    sheet.glue(polygon((-7.4, 17.2), (7.4, 17.2), (1.2, 9.4)), ellipse(0, 17, 7.2, 3.8), tint=BODY)
    sheet.glue(polygon((-2.6, 13.2), (4.6, 13.2), (1.2, 9.4)), grey=WHITE)
    return _eyes(sheet, 16.2, 2.9).glue(ellipse(1.2, 10.2, 1.0, 0.9), grey=DARK)


def _cat(step: int) -> Sheet:
    sheet = Sheet()
    sheet.glue(box(-7.6, 10.5, 2.4, 9.0), ellipse(-7.0, 15.2, 1.9, 1.9), ellipse(-6.4, 6.0, 2.4, 2.0), tint=SHADE)
    _legs(sheet, 3.2, step)
    sheet.glue(ellipse(0, 8.0, 5.8, 5.0), tint=BODY).glue(ellipse(0.6, 7.4, 2.8, 3.2), grey=WHITE)
    sheet.glue(polygon((-6.4, 17), (-6.2, 23.6), (-1.4, 20)), polygon((6.4, 17), (6.2, 23.6), (1.4, 20)), tint=BODY)
    sheet.glue(ellipse(0, 16.2, 6.8, 5.0), tint=BODY)
    sheet.glue(box(0, 20.0, 1.2, 2.6), box(-2.6, 19.8, 1.1, 2.0), box(2.6, 19.8, 1.1, 2.0), tint=0.5)
    return _eyes(sheet, 16.4, 2.7).glue(ellipse(0.9, 14.0, 0.9, 0.7), grey=DARK)


def _rabbit(step: int) -> Sheet:
    sheet = Sheet()
    sheet.glue(ellipse(-6.2, 6.0, 2.4, 2.4), grey=WHITE)
    _legs(sheet, 3.4, step, width=4.0)
    sheet.glue(ellipse(0, 7.0, 5.8, 5.2), tint=BODY).glue(ellipse(0.8, 6.4, 3.0, 3.4), grey=WHITE)
    sheet.glue(ellipse(-2.6, 20.4, 1.9, 5.4), ellipse(2.6, 20.4, 1.9, 5.4), tint=BODY)
    sheet.glue(ellipse(-2.6, 20.4, 0.8, 3.8), ellipse(2.6, 20.4, 0.8, 3.8), tint=0.45, grey=0.5)
    sheet.glue(ellipse(0, 13.4, 5.4, 4.4), tint=BODY)
    return _eyes(sheet, 14.0, 2.3).glue(box(0.9, 11.0, 1.6, 1.6), grey=WHITE)


def _bird(step: int) -> Sheet:
    sheet = Sheet()
    lift = 1.6 if step else 0.0
    sheet.glue(box(-2.0, 2.0, 1.2, 4.4), box(2.0, 2.0 + lift, 1.2, 4.4), grey=(0.35, 0.3, 0.25))
    sheet.glue(polygon((-5.0, 8), (-11.0, 14.5), (-10.4, 7.0)), tint=SHADE)
    sheet.glue(ellipse(0, 10.4, 7.4, 7.2), tint=BODY).glue(ellipse(2.6, 8.4, 3.4, 3.8), grey=WHITE)
    sheet.glue(ellipse(-3.2, 10.0 + lift, 3.0, 4.6), tint=0.6)
    sheet.glue(ellipse(2.4, 18.0, 5.0, 4.4), tint=BODY)
    sheet.glue(polygon((-1.0, 22.0), (0.6, 24.6), (2.8, 21.6)), tint=SHADE)
    sheet.glue(polygon((6.6, 19.2), (6.6, 15.8), (11.4, 17.2)), grey=(0.36, 0.34, 0.32))
    return sheet.glue(ellipse(3.6, 18.6, 1.4, 1.4), grey=DARK)


def _robot(step: int) -> Sheet:
    sheet = _legs(Sheet(), 3.6, step, tint=0.0, width=3.0)
    sheet.glue(box(-3.6, 2.5, 3.0, 5.0), box(3.6, 2.5 + (2.2 if step else 0), 3.0, 5.0), grey=0.34)
    sheet.glue(box(-8.2, 9.0, 2.4, 6.4), box(8.2, 9.0, 2.4, 6.4), grey=0.46)
    sheet.glue(box(0, 9.0, 13.0, 9.0), tint=BODY).glue(box(0, 9.4, 6.0, 3.6), grey=0.30)
    sheet.glue(ellipse(-1.6, 9.4, 1.0, 1.0), ellipse(1.6, 9.4, 1.0, 1.0), grey=WHITE)
    sheet.glue(box(0, 22.6, 1.2, 3.0), grey=0.34).glue(ellipse(0, 24.2, 1.7, 1.5), tint=BODY)
    sheet.glue(box(0, 17.4, 11.4, 7.4), tint=BODY).glue(box(0.8, 17.6, 8.2, 3.6), grey=WHITE)
    return _eyes(sheet, 17.6, 2.1, 1.2)


def _child(step: int) -> Sheet:
    skin = (0.90, 0.78, 0.70)
    lift = 2.0 if step else 0.0
    sheet = Sheet()
    sheet.glue(box(-2.2, 2.0, 2.6, 4.4), box(2.2, 2.0 + lift, 2.6, 4.4), grey=(0.30, 0.30, 0.34))
    sheet.glue(ellipse(-6.6, 9.6, 1.8, 1.8), ellipse(6.6, 9.6 + lift, 1.8, 1.8), grey=skin)
    sheet.glue(polygon((-6.8, 4.0), (6.8, 4.0), (3.0, 13.4), (-3.0, 13.4)), tint=BODY)
    sheet.glue(polygon((-3.2, 13.4), (-7.2, 9.2), (-5.2, 8.4), (-2.0, 11.0)), tint=BODY)
    sheet.glue(polygon((3.2, 13.4), (7.2, 9.2), (5.2, 8.4), (2.0, 11.0)), tint=BODY)
    sheet.glue(ellipse(0, 17.4, 5.2, 5.0), grey=skin)
    sheet.glue(polygon((-6.0, 17.8), (6.0, 17.8), (4.2, 22.6), (-4.2, 22.6)), ellipse(0, 20.4, 5.8, 3.0), tint=BODY)
    return _eyes(sheet, 16.4, 2.0, 1.0)


def _paint(prop: str, share: float = 1.0) -> tuple[float, float, float]:
    """A share of a prop's colour, in 0..1."""
    red, green, blue = PROP_COLOURS[prop]
    return red / 255 * share, green / 255 * share, blue / 255 * share


def _ball() -> Sheet:
    return Sheet().glue(ellipse(0, 4.6, 4.6, 4.6), grey=0.12).glue(ellipse(0, 4.6, 3.9, 3.9), grey=_paint("ball"))


def _box() -> Sheet:
    return Sheet().glue(box(0, 4.6, 9.6, 9.2), grey=_paint("box", 0.55)).glue(box(0, 4.6, 8.2, 7.8), grey=_paint("box"))


_CUT: dict[str, Callable[[int], Sheet]] = {
    "fox": _fox, "cat": _cat, "rabbit": _rabbit, "bird": _bird, "robot": _robot, "child": _child,
}  # fmt: skip
_MADE: dict[str, Callable[[], Sheet]] = {"ball": _ball, "box": _box}


@functools.cache
def textures() -> NDArray[np.float32]:
    """(2 * kinds + props, 5, TEXTURE, TEXTURE): each kind standing and stepping, then the props."""
    puppets = [_CUT[kind](step).texture() for kind in KINDS for step in (0, 1)]
    return np.stack(puppets + [_MADE[prop]().texture() for prop in PROPS])
