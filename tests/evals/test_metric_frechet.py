"""Distances between sets of videos, against closed forms and a slow root."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from evals.metrics.frechet import frechet, kernel, reduced


def sample(seed: int, count: int, width: int = 4, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (count, width))


def test_a_set_has_no_distance_from_itself() -> None:
    one = sample(0, 100)
    assert abs(frechet(one, one).value) < 1e-9
    assert frechet(one, one).warning == ""


def test_shifted_normals_are_apart_by_the_square_of_the_shift() -> None:
    one = sample(0, 200)
    moved = one + np.array([1.0, -2.0, 0.0, 0.5])
    assert frechet(one, moved).value == pytest.approx(1 + 4 + 0.25)


def test_scaled_normals_have_their_closed_form() -> None:
    one = sample(1, 300)
    one -= one.mean(0)
    expected = np.trace(np.cov(one, rowvar=False)) * (3 - 1) ** 2
    assert frechet(one, 3 * one).value == pytest.approx(expected)


def test_the_root_agrees_with_scipys() -> None:
    a, b = sample(2, 60), sample(3, 80) @ np.random.default_rng(4).normal(size=(4, 4))
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = a.mean(0) - b.mean(0)
    slow = gap @ gap + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))
    assert frechet(a, b).value == pytest.approx(slow)
    assert frechet(a, b).value == pytest.approx(frechet(b, a).value)


def test_too_few_videos_are_said_so() -> None:
    found = frechet(sample(0, 19), sample(1, 200))
    assert "19 videos are fewer than 5 x 4 features" in found.warning
    assert "read KVD instead" in str(found)
    assert frechet(sample(0, 20), sample(1, 200)).warning == ""
    with pytest.raises(ValueError, match="n >= 2"):
        frechet(sample(0, 1), sample(1, 5))


def test_the_kernel_distance_agrees_with_its_sums() -> None:
    a, b = sample(0, 5), sample(1, 7, shift=0.3)

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 4 + 1) ** 3)

    slow = (
        np.mean([k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
        + np.mean([k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
        - 2 * np.mean([k(x, y) for x in a for y in b])
    )
    assert kernel(a, b).value == pytest.approx(slow)


def test_the_kernel_distance_of_few_equals_is_zero_on_average_where_frechets_is_not() -> None:
    pairs = [(sample(2 * i, 8), sample(2 * i + 1, 8)) for i in range(300)]
    kernels, frechets = ([of(a, b).value for a, b in pairs] for of in (kernel, frechet))
    assert abs(np.mean(kernels)) < 3 * np.std(kernels) / np.sqrt(300)
    assert np.mean(frechets) > 1


def test_reduction_keeps_what_varies() -> None:
    wide = np.concatenate([sample(0, 50, 3) * 10, sample(1, 50, 20) * 0.01], axis=1)
    a, b = reduced(wide, wide + 1, 3)
    assert a.shape == b.shape == (50, 3)
    assert a.var(0).sum() == pytest.approx(wide.var(0).sum(), rel=1e-3)


def test_the_error_of_a_kernel_distance_is_the_jackknife_of_its_own_formula() -> None:
    rng = np.random.default_rng(5)
    real, made = rng.normal(size=(9, 4)), rng.normal(0.4, 1.2, size=(6, 4))
    found = kernel(real, made)
    spread = 0.0
    for side, other, swap in ((real, made, False), (made, real, True)):
        left = [np.delete(side, at, 0) for at in range(len(side))]
        values = np.array([kernel(*((other, one) if swap else (one, other))).value for one in left])
        spread += (len(side) - 1) / len(side) * ((values - values.mean()) ** 2).sum()
    assert found.error == pytest.approx(spread**0.5, rel=1e-9)
    assert "6 videos are few" in found.warning
    assert kernel(real[:2], made).error is None
    assert kernel(rng.normal(size=(50, 2)), rng.normal(size=(60, 2))).warning == ""


def test_the_error_of_a_kernel_distance_is_as_large_as_it_scatters() -> None:
    rng = np.random.default_rng(6)
    drawn = [kernel(rng.normal(size=(40, 3)), rng.normal(0.7, 1, size=(40, 3))) for _ in range(200)]
    scatter = np.std([one.value for one in drawn])
    assert np.mean([one.error for one in drawn]) == pytest.approx(scatter, rel=0.25)
