"""Plots of the report, read back from their pixels: where a point stands, and where a seam is marked."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from evals import plots
from evals.plots import Point, heat, matrices, slices, trade_off
from generators.pictures import COLOURS


def pixels(png: bytes) -> NDArray[np.int16]:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"), np.int16)


def painted(picture: NDArray[np.int16], colour: str) -> NDArray[np.intp]:
    """Rows and columns (2, n) of the pixels of a colour."""
    apart = np.abs(picture - np.round(np.array(to_rgb(colour)) * 255)).max(-1)
    return np.array(np.nonzero(apart <= 2))


def test_a_trade_off_has_the_better_method_up_and_to_the_right() -> None:
    low = Point(mean=0.1, low=0.0, high=0.2), Point(mean=10.0, low=9.0, high=11.0)
    high = Point(mean=0.9), Point(mean=20.0)
    picture = pixels(trade_off("a against b", "b", "a", {"plain": low, "steered": high}))
    plain, steered = painted(picture, COLOURS[0]), painted(picture, COLOURS[1])
    assert plain[1].min() < steered[1].min()  # to the left; the names beside the plot are right of both
    assert plain[0].max() > steered[0].max()  # and below


def test_an_interval_is_drawn_in_both_directions() -> None:
    at = Point(mean=0.5), Point(mean=0.5)
    wide = Point(mean=0.5, low=0.3, high=0.7), Point(mean=0.5, low=0.1, high=0.9)
    alone, spread = (painted(pixels(trade_off("t", "b", "a", {"plain": one})), COLOURS[0]) for one in (at, wide))
    assert np.ptp(spread[0]) > np.ptp(alone[0])
    assert spread[1].min() < alone[1].min()


def test_a_seam_is_marked_where_the_pixels_step() -> None:
    strip = np.zeros((8, 40, 3), np.uint8)
    strip[:, 25:] = 255
    picture = pixels(slices("one", {"cut": (strip, [25])}))
    colourful = np.ptp(picture, axis=-1) > 100  # markers alone are
    assert colourful.any()
    rows = np.flatnonzero((picture.max(-1) < 10).sum(1) > picture.shape[1] / 3)  # those of the strip
    last_black = np.flatnonzero(picture[rows[len(rows) // 2]].max(-1) < 10).max()
    assert abs(float(np.nonzero(colourful)[1].mean()) - last_black) <= 3


def test_matrices_share_their_colours() -> None:
    """What is white-yellow in one panel is so in the other; each panel has a light and a dark half, or one of them."""
    half = np.array([[0.0, 1.0], [0.0, 1.0]])
    lightest, darkest = "#ffffe5", "#004529"
    alone = pixels(matrices("t", {"flat": np.zeros((2, 2))}))
    both = pixels(matrices("t", {"flat": np.zeros((2, 2)), "half": half}))
    assert painted(alone, lightest).shape[1] > 5 * painted(alone, darkest).shape[1]
    dark = painted(both, darkest)
    assert dark.shape[1] > 1000
    assert painted(both, lightest)[1].min() < dark[1].min()  # the first panel has none of it


def test_lines_of_a_map_bear_their_names() -> None:
    cells = np.zeros((2, 3))
    named, numbered = (pixels(heat("t", "a", "b", cells, names)) for names in (("1 of 2", "2 of 2"), ()))
    assert not np.array_equal(named, numbered)


@pytest.mark.filterwarnings("error")
def test_a_plot_of_nothing_is_drawn_without_a_word() -> None:
    nothing = Point(mean=None)
    for png in (plots.costs("cost", "completion", {"a": (1.0, nothing)}), plots.bars("by class", [], {})):
        assert png.startswith(b"\x89PNG")


def test_methods_that_share_a_colour_differ_in_their_marker() -> None:
    looks = [plots._look(number) for number in range(24)]
    assert len(set(looks)) == 24
    assert looks[0][0] == looks[6][0]
