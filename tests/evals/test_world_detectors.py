"""The detectors' sums over pixels, each against the plain one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evals.world.backdrop import likeness
from evals.world.detectors import prop_misfits, prop_picture
from generators.world.words import PROPS


def test_a_props_misfit_is_the_root_mean_square_over_what_no_puppet_covers() -> None:
    """At places picked by hand, against the plain sum over the window's pixels; the prop itself stands at one."""
    draw = torch.Generator().manual_seed(0)
    image = 255 * torch.rand(2, 3, 64, 96, generator=draw)
    free = (torch.rand(2, 1, 64, 96, generator=draw) > 0.2).float()
    free[1, :, 20:40, 30:60] = 0
    for index, kind in enumerate(PROPS):
        picture, cover = prop_picture(kind)
        image[0, :, 40:52, 7:19] = picture
        found = prop_misfits(image, free, PROPS)
        for frame, row, column in ((0, 0, 0), (0, 17, 80), (1, 52, 84), (1, 12, 24), (0, 40, 7)):
            window = (..., slice(row, row + 12), slice(column, column + 12))
            counts = cover * free[frame][window]
            square = (counts * (image[frame][window] - picture) ** 2).sum() / (3 * counts.sum())
            wanted = float(square.sqrt() + 30 * (1 - counts.sum() / cover.sum()))
            assert found[frame, index, row, column].item() == pytest.approx(wanted, rel=1e-4, abs=0.1)
        assert found[1, index, 24, 40] == 255, "a place that is mostly covered is no place"


def test_likeness_is_the_weighted_correlation() -> None:
    draw = np.random.default_rng(0)
    seen, known = (draw.uniform(0, 255, (n, 8, 6, 3)).astype(np.float32) for n in (4, 3))
    weight = draw.choice([0, 0.25, 1], (4, 8, 6)).astype(np.float32)
    found = likeness(seen, known, weight)
    for frame, shares in enumerate(weight):
        share = np.repeat(shares[..., None], 3, axis=2).astype(np.float64)
        for index, picture in enumerate(known):
            one, other = ((p - np.average(p, weights=share)) * share for p in (seen[frame], picture))
            wanted = (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())
            assert found[index, frame] == pytest.approx(wanted, abs=1e-9)
    assert likeness(seen, seen, np.ones_like(weight)).diagonal() == pytest.approx(1)


@pytest.mark.parametrize("level", [0.0, 127.0, 200.3])
def test_a_single_level_is_like_nothing(level: float) -> None:
    draw = np.random.default_rng(1)
    pictures = draw.uniform(0, 255, (2, 8, 6, 3)).astype(np.float32)
    weight = draw.choice([0.1, 0.3, 1], (2, 8, 6)).astype(np.float32)
    flat = np.full_like(pictures, level)
    assert (likeness(flat, pictures, weight) == 0).all()
    assert (likeness(pictures, flat, weight) == 0).all()
    assert (likeness(pictures, pictures, np.zeros_like(weight)) == 0).all(), "nothing is seen"
