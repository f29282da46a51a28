"""A subject is cut out of its frame: its own pixels in the middle of a grey square, whatever stands around it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from evals.metrics.embedders import Weights
from evals.metrics.score import NotMeasured
from evals.metrics.subjects import GREY, SIDE, HeatMaps, cut_out, open_heat, subject_crops
from generators.clip import Frames
from tests.generators.test_segmenters import tiny_clipseg


def slow(frame: Frames, mask: np.ndarray) -> Frames:
    """Pixel by pixel."""
    on = [(y, x) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if mask[y, x]]
    top, left = min(y for y, _ in on), min(x for _, x in on)
    high, wide = max(y for y, _ in on) - top + 1, max(x for _, x in on) - left + 1
    side = -(-11 * max(high, wide) // 10)
    square = np.full((side, side, 3), GREY, np.uint8)
    for y, x in on:
        square[y - top + (side - high) // 2, x - left + (side - wide) // 2] = frame[y, x]
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_a_crop_is_the_masked_pixels_on_grey(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    mask = np.zeros((30, 40), bool)
    top, left = rng.integers(0, 10, 2)
    mask[top : top + 20, left : left + rng.integers(5, 30)] = rng.random((20, 1)) > 0.3
    np.testing.assert_array_equal(cut_out(frame, mask), slow(frame, mask))


def test_a_subject_at_the_edge_is_still_in_the_middle() -> None:
    frame = np.zeros((20, 20, 3), np.uint8)
    frame[:10, :10] = 250
    crop = cut_out(frame, frame[..., 0] > 0)
    bright = np.argwhere(crop[..., 0] > 200)
    np.testing.assert_allclose(bright.mean(0), (SIDE - 1) / 2, atol=SIDE / 11)
    assert (crop[0, -1] == GREY).all()
    with pytest.raises(ValueError, match="somewhere on"):
        cut_out(frame, np.zeros((20, 20), bool))


class Told:
    """Heat maps that it was told."""

    name = "told"

    def __init__(self, maps: np.ndarray) -> None:
        self.maps = maps

    def heat(self, frames: Frames, subject: str) -> np.ndarray:
        return self.maps


def test_frames_whose_map_is_unclear_or_whose_subject_is_tiny_are_left_out() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)
    maps = np.full((4, 40, 40), 0.1)
    maps[0, 5:15, 5:15] = 0.9
    maps[1, 0, 0] = 0.9  # 1 of 1,600 pixels is under half a per cent
    maps[2] = 0.5  # one level
    maps[3, :, :39] = 0.9  # all but a rim
    maps_of = Told(maps)
    assert isinstance(maps_of, HeatMaps)
    found = subject_crops(maps_of, frames, "a fox")
    assert len(found) == 1
    np.testing.assert_array_equal(found[0], cut_out(frames[0], maps[0] > 0.5))
    assert subject_crops(Told(maps[2:]), frames[2:], "a fox").shape == (0, SIDE, SIDE, 3)


@pytest.mark.slow
def test_clipseg_is_opened_from_the_folder_of_weights(tmp_path: Path) -> None:
    assert open_heat(Weights()) == NotMeasured(reason="missing weights clipseg: no folder of weights was named")
    tiny_clipseg(tmp_path / "clipseg", seed=0)
    maps = open_heat(Weights(folder=tmp_path))
    assert not isinstance(maps, NotMeasured)
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
    heat = maps.heat(frames, "a fox")
    assert heat.shape == (2, 40, 48)
    assert 0 <= heat.min() < heat.max() <= 1
    assert maps.name.startswith("clipseg ")
