"""A camera's move: which way the picture goes, how fast, and that it is the same move in parts and at any size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from generators.camera import PACE, camera_frames
from generators.camera_moves import MOVES, CameraMove


def spot(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Where a white spot on black stands, as shares of height and width."""
    weight = frame[..., 0].astype(np.float64)
    rows, columns = np.indices(weight.shape) + 0.5
    where: NDArray[np.float64] = np.array([(weight * rows).sum(), (weight * columns).sum()]) / weight.sum()
    return where / weight.shape


def night(row: float, column: float, size: tuple[int, int] = (480, 640)) -> NDArray[np.uint8]:
    """A picture with one white spot."""
    rows, columns = np.indices(size)
    near = np.exp(-((rows - row * size[0]) ** 2 + (columns - column * size[1]) ** 2) / (2 * 12.0**2))
    return np.repeat((255 * near).astype(np.uint8)[..., None], 3, axis=-1)


@pytest.mark.parametrize(
    ("move", "way"),
    [("pan left", (0, 1)), ("pan right", (0, -1)), ("tilt up", (1, 0)), ("tilt down", (-1, 0))],
)
def test_the_picture_goes_against_the_camera_at_an_even_pace(move: CameraMove, way: tuple[int, int]) -> None:
    frames = camera_frames(move, night(0.5, 0.5), count=33, fps=8, width=96, height=64)
    paths = np.diff([spot(frame) for frame in frames], axis=0) * 8
    np.testing.assert_allclose(paths, np.tile(np.array(way) * PACE, (32, 1)), atol=0.01)


def test_a_zoom_goes_on_at_one_rate_about_the_middle() -> None:
    frames = camera_frames("zoom in", night(0.5, 0.6), count=33, fps=8, width=96, height=64)
    off = np.array([spot(frame)[1] - 0.5 for frame in frames])
    np.testing.assert_allclose(np.diff(np.log(off)) * 8, PACE, atol=0.02)
    assert all(abs(spot(frame)[0] - 0.5) < 0.005 for frame in frames)


def test_zooming_out_is_zooming_in_backwards() -> None:
    into = camera_frames("zoom in", count=16, fps=8, width=48, height=32)
    out = camera_frames("zoom out", count=16, fps=8, width=48, height=32)
    assert np.array_equal(into[1:], out[1:][::-1])


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("size", [(480, 640), (100, 1600), (1600, 100)])
def test_no_edge_of_a_picture_is_ever_stretched_or_left(move: CameraMove, size: tuple[int, int]) -> None:
    ramp = np.zeros((*size, 3), dtype=np.uint8)
    ramp[..., 0] = np.linspace(0, 255, size[1])
    ramp[..., 1] = np.linspace(0, 255, size[0])[:, None]
    frames = camera_frames(move, ramp, count=9, fps=1, width=96, height=64).astype(np.float64)
    per_pixel = [np.diff(frames[..., 0], axis=2).mean() * size[1], np.diff(frames[..., 1], axis=1).mean() * size[0]]
    assert per_pixel[0] == pytest.approx(per_pixel[1], rel=0.1), "as wide as it is high"


def test_the_parts_of_a_move_are_the_move() -> None:
    whole = camera_frames("pan left", count=32, fps=8, width=96, height=64)
    parts = [
        camera_frames("pan left", count=16, fps=8, width=96, height=64, first=first, last=first + 0.5)
        for first in (0.0, 0.5)
    ]
    assert np.array_equal(np.concatenate(parts), whole)


def test_the_texture_has_the_spectrum_of_natural_pictures() -> None:
    (frame, *_) = camera_frames("zoom in", count=2, fps=8, width=640, height=640)
    power = np.abs(np.fft.fft2(frame.mean(-1) - frame.mean())) ** 2
    radius = np.hypot(np.fft.fftfreq(640)[:, None], np.fft.fftfreq(640)[None])
    bands = [(0.01, 0.02), (0.02, 0.04), (0.04, 0.08), (0.08, 0.16)]
    means = [power[(radius >= low) & (radius < high)].mean() for low, high in bands]
    np.testing.assert_allclose(np.diff(np.log2(means)), -2.0, atol=0.3)
