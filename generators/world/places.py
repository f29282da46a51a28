"""The six places by day and by night: pale, low-chroma backdrops, so that strong colour means puppet."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from generators.world.motion import GROUND
from generators.world.puppets import Shape, box, ellipse, polygon
from generators.world.words import HEIGHT, PLACES, TIMES, WIDTH

_OVER = 4
Colour = tuple[int, int, int]
Painter = Callable[[Shape, Colour], None]

_SKY: dict[str, Colour] = {
    "meadow": (198, 212, 218), "beach": (208, 216, 226), "forest": (182, 196, 192),
    "city": (206, 204, 212), "desert": (222, 212, 200), "snow": (190, 200, 214),
}  # fmt: skip
_EARTH: dict[str, Colour] = {
    "meadow": (158, 176, 146), "beach": (206, 196, 170), "forest": (128, 142, 122),
    "city": (142, 142, 148), "desert": (196, 176, 148), "snow": (200, 207, 216),
}  # fmt: skip


def _darker(colour: Colour) -> Colour:
    red, green, blue = (int(c * 0.94) for c in colour)
    return red, green, blue


def _landmarks(place: str, paint: Painter) -> None:
    if place == "meadow":
        paint(box(14, 27, 4, 20), (124, 112, 102))
        paint(ellipse(14, 42, 11, 9), (134, 156, 128))
        paint(ellipse(74, 14, 30, 8), (150, 168, 140))
    elif place == "beach":
        paint(box(48, 21, 96, 10), (160, 178, 190))
        paint(polygon((66, 26), (84, 26), (75, 46)), (226, 222, 216))
        paint(box(75, 25, 20, 3), (130, 124, 120))
    elif place == "forest":
        for x in (8, 30, 66, 88):
            paint(polygon((x - 9, 20), (x + 9, 20), (x, 54)), (108, 126, 110))
    elif place == "city":
        for x, top in ((10, 50), (28, 40), (68, 46), (86, 56)):
            paint(box(x, top / 2 + 8, 15, top - 16), (166, 164, 174))
            for row in range(24, top - 6, 8):
                paint(box(x - 3, row, 3, 4), (208, 206, 200))
                paint(box(x + 3, row, 3, 4), (208, 206, 200))
    elif place == "desert":
        paint(ellipse(70, 14, 36, 10), (206, 188, 162))
        paint(box(16, 28, 4, 24), (132, 144, 124))
        paint(box(11, 34, 3, 9), (132, 144, 124))
        paint(box(21, 31, 3, 9), (132, 144, 124))
        paint(box(13, 30.5, 6, 3), (132, 144, 124))
    else:
        paint(polygon((2, 20), (44, 20), (24, 54)), (160, 170, 184))
        paint(polygon((17, 42), (31, 42), (24, 54)), (228, 232, 236))
        paint(polygon((50, 20), (100, 20), (76, 44)), (168, 178, 190))


@functools.cache
def backdrops() -> NDArray[np.float32]:
    """(places, times, 3, HEIGHT, WIDTH) in 0..1."""
    return np.stack([np.stack([_paint(place, time) for time in TIMES]) for place in PLACES])


def _paint(place: str, time: str) -> NDArray[np.float32]:
    x = (np.arange(WIDTH * _OVER) + 0.5) / _OVER
    y = HEIGHT - (np.arange(HEIGHT * _OVER) + 0.5) / _OVER  # upwards from the bottom edge
    xs, ys = np.meshgrid(x, y)
    canvas = np.empty((*xs.shape, 3))
    canvas[:] = _SKY[place]

    def paint(shape: Shape, colour: Colour) -> None:
        canvas[shape(xs, ys) <= 0] = colour

    _landmarks(place, paint)
    paint(box(48, 9, 96, 22), _EARTH[place])
    paint(box(48, (HEIGHT - GROUND) / 2 - 1.5, 96, HEIGHT - GROUND - 1), _darker(_EARTH[place]))
    if time == "night":
        canvas *= np.array([0.36, 0.38, 0.46])
        paint(ellipse(54, 56, 4, 4), (206, 206, 190))
        for star_x, star_y in ((8, 58), (34, 60), (72, 59), (90, 60), (42, 52)):
            paint(ellipse(star_x, star_y, 0.9, 0.9), (188, 188, 190))
    else:
        paint(ellipse(54, 56, 5, 5), (238, 234, 214))
    small = canvas.reshape(HEIGHT, _OVER, WIDTH, _OVER, 3).mean((1, 3)) / 255
    return np.ascontiguousarray(small.transpose(2, 0, 1)).astype(np.float32)
