"""Similarity over intervals of time tells frozen, drifting and unrelated frames apart."""

from __future__ import annotations

import numpy as np
import pytest

from evals.metrics.curves import (
    interval_curve,
    jointly_normalised,
    matrix_distance,
    mean_matrix,
    overlap,
    similarity,
)


def drifting(frames: int, radians: float = 0.05) -> np.ndarray:
    """Vectors on a circle: cosines depend on the distance in time alone."""
    at = np.arange(frames) * radians
    return np.stack([np.cos(at), np.sin(at)], -1)


def test_similarity_is_one_minus_dreamsims_distance() -> None:
    rows = np.random.default_rng(0).normal(size=(4, 6))
    found = similarity(rows)
    centred = [row - row.mean() for row in rows]
    for i in range(4):
        for j in range(4):
            slow = centred[i] @ centred[j] / np.linalg.norm(centred[i]) / np.linalg.norm(centred[j])
            assert found[i, j] == pytest.approx(slow)


def test_the_curve_of_a_steady_drift_has_its_closed_form() -> None:
    curve = interval_curve([similarity(drifting(40), centred=False)] * 2)
    assert curve.intervals == (1, 2, 4, 8, 16, 32)
    assert curve.means == pytest.approx([np.cos(0.05 * d) for d in curve.intervals])
    assert curve.slope == pytest.approx((np.cos(0.05) - np.cos(1.6)) / 5)


def test_the_band_is_near_minus_far() -> None:
    s = similarity(drifting(12), centred=False)
    near = [s[i, j] for i in range(12) for j in range(12) if abs(i - j) <= 2]
    far = [s[i, j] for i in range(12) for j in range(12) if abs(i - j) >= 6]
    assert interval_curve([s]).band == pytest.approx(np.mean(near) - np.mean(far))
    frozen = interval_curve([np.ones((12, 12))])
    assert (frozen.band, frozen.slope) == (pytest.approx(0), pytest.approx(0))


def test_short_clips_use_the_intervals_they_have() -> None:
    assert interval_curve([np.ones((2, 2))]).intervals == (1,)
    assert interval_curve([np.ones((2, 2))]).slope is None
    with pytest.raises(ValueError, match="one length"):
        interval_curve([np.ones((2, 2)), np.ones((3, 3))])


def test_overlap_is_one_for_the_same_films_and_zero_for_unlike_ones() -> None:
    same, other = np.full((8, 8), 0.91), np.full((8, 8), 0.11)
    assert overlap([same], [same], 1) == pytest.approx(1)
    assert overlap([same], [other], 1) == 0
    assert overlap([same, other], [same], 2) == pytest.approx(0.5)


def test_matrices_of_other_lengths_compare_at_one_size() -> None:
    short, long = (similarity(drifting(n, 1.5 / (n - 1)), centred=False) for n in (20, 60))
    assert mean_matrix([short]).shape == (32, 32)
    assert matrix_distance([short], [long]) < 0.005
    assert matrix_distance([short], [np.ones((5, 5))]) > 0.2


def test_methods_are_normalised_together() -> None:
    found = jointly_normalised([[np.array([[0.0, 1.0]])], [np.array([[0.5, 3.0]])]])
    np.testing.assert_allclose(found[0][0], [[0, 1 / 3]])
    np.testing.assert_allclose(found[1][0], [[1 / 6, 1]])
