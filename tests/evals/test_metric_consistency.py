"""Consistency maths on embeddings, each against a loop over all pairs or a closed form."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.metrics.consistency import (
    Appearance,
    across_shots,
    consecutive,
    entity_consistency,
    frame_weighted,
    gap_decay,
    gram,
    leak,
    over_distance,
    sequence_consistency,
    style_consistency,
    transition,
    unit,
    within_shot,
)

AXES = np.eye(6)


def vectors(seed: int, count: int, width: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def entity(shots: list[int], rows: np.ndarray, fidelity: list[float] | None = None) -> list[Appearance]:
    marks = fidelity or [None] * len(shots)
    return [Appearance(shot=s, embedding=r, fidelity=f) for s, r, f in zip(shots, rows, marks, strict=True)]


def test_equal_frames_are_consistent_and_unrelated_ones_are_not() -> None:
    assert within_shot(np.ones((4, 3))) == pytest.approx(1)
    assert within_shot(AXES) == 0
    assert across_shots([np.ones((2, 3))] * 3) == pytest.approx(1)
    assert across_shots([AXES[:2], AXES[2:4], AXES[4:]]) == pytest.approx(0)


def test_nothing_to_compare_is_none_and_not_one() -> None:
    assert within_shot(np.ones((1, 3))) is None
    assert consecutive(np.ones((1, 3))) is None
    assert across_shots([np.ones((4, 3))]) is None
    assert style_consistency([gram(np.ones((2, 3)))]) is None
    assert entity_consistency({"a": entity([1], AXES[:1])}) is None
    assert sequence_consistency(np.ones((1, 3)), np.ones((1, 3))) is None


def test_an_empty_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="all zeros"):
        unit(np.zeros((2, 3)))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_within_a_shot_agrees_with_the_printed_formula(seed: int, count: int) -> None:
    f = vectors(seed, count)
    slow = [(max(0, cosine(f[i], f[i - 1])) + max(0, cosine(f[i], f[0]))) / 2 for i in range(1, count)]
    assert within_shot(f) == pytest.approx(np.mean(slow))
    assert consecutive(f) == pytest.approx(np.mean([cosine(f[i], f[i - 1]) for i in range(1, count)]))


def test_long_clips_weigh_more_only_where_frames_do() -> None:
    clips = [vectors(1, 9), vectors(2, 2), vectors(3, 4)]
    slow = [(max(0, cosine(f[i], f[i - 1])) + max(0, cosine(f[i], f[0]))) / 2 for f in clips for i in range(1, len(f))]
    told = [(value, len(clip) - 1) for clip in clips if (value := within_shot(clip)) is not None]
    assert frame_weighted(told) == pytest.approx(np.mean(slow))
    assert frame_weighted(told) != pytest.approx(np.mean([value for value, _ in told]))
    assert frame_weighted([]) is None


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_the_closed_form_across_shots_agrees_with_all_pairs(seed: int, sizes: list[int]) -> None:
    shots = [vectors(seed + i, size) for i, size in enumerate(sizes)]
    slow = [cosine(a, b) for one, other in combinations(shots, 2) for a in one for b in other]
    assert across_shots(shots) == pytest.approx(np.mean(slow))


def test_entities_are_held_against_their_own_centre() -> None:
    rows = vectors(3, 4)
    centre = unit(unit(rows).mean(0))
    slow = [cosine(row, centre) for row in rows]
    found = entity_consistency({"fox": entity([1, 2, 4, 7], rows), "once": entity([3], AXES[:1, :5])})
    assert found is not None
    assert found.mean == pytest.approx(np.mean(slow))
    assert (found.lowest, found.crops) == (pytest.approx(min(slow)), 4)
    assert found.outlier == ("fox", [1, 2, 4, 7][int(np.argmin(slow))])


def test_appearances_that_break_their_own_promise_are_not_compared() -> None:
    rows = np.stack([AXES[0], AXES[0], AXES[1]])
    found = entity_consistency({"fox": entity([1, 2, 3], rows, [0.9, 0.5, 0.49])})
    assert found is not None
    assert (found.mean, found.gated) == (pytest.approx(1), 1)
    assert over_distance({"fox": entity([1, 2, 3], rows, [0.9, 0.5, 0.49])}) == {1: [pytest.approx(1)]}


def test_identity_over_distance_takes_all_pairs_and_gap_decay_only_neighbours() -> None:
    rows = np.stack([AXES[0], AXES[0], AXES[1]])
    cast = {"fox": entity([5, 1, 2], rows[[2, 0, 1]])}
    assert over_distance(cast) == {1: [1.0], 3: [0.0], 4: [0.0]}
    assert gap_decay(cast) == {0: [1.0], 2: [0.0]}


def test_style_is_the_product_of_gram_matrices() -> None:
    patches = [vectors(i, 7, 4) for i in range(3)]
    grams = [gram(p) for p in patches]
    slow = []
    for a, b in combinations(patches, 2):
        x, y = a.T @ a, b.T @ b
        slow.append((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y))
    assert style_consistency(grams) == pytest.approx(np.mean(slow))
    assert style_consistency([grams[0], gram(patches[0][::-1] * 3)]) == pytest.approx(1)


def test_a_transition_pairs_the_last_frames_with_the_first() -> None:
    before, after = AXES[[0, 1, 2, 3]], AXES[[3, 2, 5]]
    assert transition(before, after) == pytest.approx(2 / 3)
    assert transition(before, after[:1]) == pytest.approx(1)


def test_leak_is_the_cosine_to_the_source() -> None:
    a, b = vectors(1, 3), vectors(2, 5)
    found = leak(a, b)
    assert found["all pairs"] == pytest.approx(np.mean([cosine(x, y) for x in a for y in b]))
    assert found["aligned"] == pytest.approx(np.mean([cosine(a[i], b[2 * i]) for i in range(3)]))


def test_sequence_consistency_averages_what_is_seen_and_what_was_asked() -> None:
    scenes, prompts = vectors(1, 3), vectors(2, 3)
    found = sequence_consistency(scenes, prompts)
    assert found is not None
    assert found.visual == pytest.approx(100 * np.mean([cosine(a, b) for a, b in combinations(scenes, 2)]))
    assert found.visual_adjacent == pytest.approx(100 * np.mean([cosine(scenes[i], scenes[i + 1]) for i in (0, 1)]))
    assert found.semantic == pytest.approx(100 * np.mean([cosine(a, b) for a, b in zip(scenes, prompts, strict=True)]))
    assert found.sequence == pytest.approx((found.visual + found.semantic) / 2)
