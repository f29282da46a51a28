"""Motion fidelity has the properties it must have, and points are followed where they go."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.metrics.score import Case, NotMeasured, Score
from evals.metrics.tracks import (
    FLOOR,
    Tracks,
    TracksKept,
    correlations,
    fidelity,
    fidelity_paper,
    fidelity_released,
    lk_tracks,
)


def walks(seed: int, count: int = 5, frames: int = 9) -> np.ndarray:
    """Tracks that always move."""
    steps = np.random.default_rng(seed).normal(0, 3, (count, frames, 2))
    return np.cumsum(steps, axis=1).astype(np.float32)


def textures() -> np.ndarray:
    """Two smooth random pictures that have nothing in common."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    soft = np.stack([cv2.GaussianBlur(one, (0, 0), 3).astype(np.float32) for one in noise])
    return ((soft - soft.min()) / (soft.max() - soft.min()) * 255).astype(np.uint8)


def ours(source: np.ndarray, output: np.ndarray) -> float:
    found = fidelity(Tracks.exact(source), Tracks.exact(output))
    assert isinstance(found, Score)
    return found.value


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_correlation_agrees_with_the_formula(seed: int) -> None:
    a, b = walks(seed, 3), walks(seed + 1, 4)
    slow = np.zeros((3, 4))
    for i in range(3):
        for j in range(4):
            for k in range(8):
                v, w = (p[k + 1].astype(float) - p[k] for p in (a[i], b[j]))
                slow[i, j] += v @ w / (np.linalg.norm(v) * np.linalg.norm(w)) / 8
    np.testing.assert_allclose(correlations(a, b), slow, atol=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.5, 4), st.floats(-50, 50))
def test_a_motion_is_itself_wherever_it_is_and_however_large(seed: int, scale: float, shift: float) -> None:
    tracks = walks(seed) + np.sign(walks(seed)) * 0.5
    assert ours(tracks, tracks) == pytest.approx(1, abs=1e-6)
    assert ours(tracks, (tracks * scale + shift).astype(np.float32)) == pytest.approx(1, abs=1e-3)


def test_constant_motion_reversed_is_the_opposite() -> None:
    along = np.stack([np.stack([np.arange(9.0), np.zeros(9)], -1)] * 3).astype(np.float32)
    assert ours(along, along[:, ::-1].copy()) == pytest.approx(-1)


def test_the_printed_form_sums_both_ways_and_the_released_one_looks_one_way() -> None:
    a, b = walks(3), walks(4)
    corr = correlations(a, b)
    there = np.mean([max(corr[i, j] for i in range(5)) for j in range(5)])
    back = np.mean([max(corr[i, j] for j in range(5)) for i in range(5)])
    assert fidelity_paper(a, b) == pytest.approx(there + back)
    assert ours(a, b) == pytest.approx((there + back) / 2, abs=1e-6)
    lowered = [[corr[i, j] - (i == j) for i in range(5)] for j in range(5)]
    assert fidelity_released(a, b) == pytest.approx(np.mean([max(row) for row in lowered]))
    assert fidelity_paper(a, a) == pytest.approx(2, abs=1e-6)
    assert fidelity_released(a, a) < 1  # equal grid places are lowered by 1


def test_a_track_that_stands_still_gives_nan_as_published_and_nothing_in_ours() -> None:
    still = np.zeros((5, 9, 2), np.float32)
    moving = walks(1)
    assert np.isnan(fidelity_paper(moving, still))
    assert np.isnan(fidelity_released(moving, still))
    found = fidelity(Tracks.exact(moving), Tracks.exact(still))
    assert isinstance(found, Score)
    assert (found.value, found.details) == (0.0, {})


def test_ours_keeps_a_floor_under_short_steps() -> None:
    assert np.isfinite(correlations(np.zeros((1, 3, 2), np.float32), walks(1, 1, 3), FLOOR)).all()


def test_tracks_seen_too_seldom_are_dropped() -> None:
    a, b = walks(5), walks(5)
    b[0] = -b[0]
    hidden = np.ones((5, 9), bool)
    hidden[0, :6] = False
    found = fidelity(Tracks(points=a, visible=hidden), Tracks(points=b, visible=hidden))
    assert isinstance(found, Score)
    assert found.value == pytest.approx(1, abs=1e-6)
    gone = Tracks(points=a, visible=np.zeros((5, 9), bool))
    assert isinstance(fidelity(gone, gone), NotMeasured)


def test_clips_of_other_lengths_are_resampled_by_index() -> None:
    line = np.stack([np.stack([np.arange(17.0), np.arange(17.0)], -1)]).astype(np.float32)
    assert ours(line[:, ::2], line) == pytest.approx(1)


def test_points_are_followed_and_lost_where_the_picture_changes() -> None:

    soft = textures()
    found = lk_tracks(np.stack([np.roll(soft[0], 2 * i, axis=1) for i in range(5)]), side=6)
    inner = found.visible[:, -1] & (found.points[:, -1, 0] < 80)
    moved = (found.points[:, -1] - found.points[:, 0])[inner]
    assert inner.sum() > 15
    np.testing.assert_allclose(np.median(moved, axis=0), [8, 0], atol=0.3)
    cut = lk_tracks(soft, side=6)
    assert cut.visible[:, -1].mean() < 0.5


def test_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many frames"):
        correlations(walks(1, frames=4), walks(1, frames=5))
    with pytest.raises(ValueError, match="equally many tracks"):
        fidelity_released(walks(1, 3), walks(1, 4))
    with pytest.raises(ValueError, match="expected"):
        Tracks(points=walks(1), visible=np.ones((2, 2), bool))


def test_a_picture_that_stands_still_keeps_every_track_and_one_that_is_cut_away_none() -> None:
    first, second = textures()
    case, metric = Case(name="a", prompt=""), TracksKept()
    still = metric.measure(np.stack([first] * 4), 8, case)
    assert isinstance(still, Score)
    assert (still.value, still.details["moving"]) == (1.0, 0.0)
    assert still.details["px"] == pytest.approx(0, abs=1e-6)
    cut = metric.measure(np.stack([first, first, second, second]), 8, case)
    assert isinstance(cut, Score)
    assert cut.value < 0.1
    assert isinstance(metric.measure(first[None], 8, case), NotMeasured)


def test_tracks_kept_is_the_share_that_is_seen_to_the_end_and_says_how_fast_it_goes() -> None:
    """The left half slides by two pixels a frame, the right half is new in every frame."""
    rng = np.random.default_rng(1)
    clip = np.stack([np.roll(textures()[0], 2 * number, axis=1) for number in range(4)])
    clip[:, :, 48:] = rng.integers(0, 256, (4, 64, 48, 3), dtype=np.uint8)
    found = TracksKept().measure(clip, 8, Case(name="a", prompt=""))
    assert isinstance(found, Score)
    tracks = lk_tracks(clip)
    seen = [i for i in range(256) if all(tracks.visible[i])]
    assert found.value == len(seen) / 256
    assert 0.3 < found.value < 0.6
    steps = [np.linalg.norm(tracks.points[i, k + 1] - tracks.points[i, k]) for i in seen for k in range(3)]
    assert found.details["px"] == pytest.approx(np.mean(steps), abs=1e-5)
    assert found.details["moving"] > 0.9
