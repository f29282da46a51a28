"""ViStoryBench's counts and matching, and masks from heat maps."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.metrics.entities import character_scores, copy_paste, matched, occm, otsu, subject_mask

AXES = np.eye(4)


def test_character_counts_match_the_published_values() -> None:
    assert occm([2, 3], [2, 3]) == pytest.approx(100)
    assert occm([0], [3]) == pytest.approx(100 * np.exp(-1), abs=1e-3)
    assert occm([1, 0], [1, 1]) == pytest.approx((100 + 36.79) / 2, abs=0.01)
    with pytest.raises(ValueError, match="one count a shot"):
        occm([1], [])


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
def test_matching_finds_the_best_assignment(seed: int, boxes: int, characters: int) -> None:
    rng = np.random.default_rng(seed)
    b = rng.normal(size=(boxes, 5))
    references = {f"c{i}": rng.normal(size=(2, 5)) for i in range(characters)}

    def likeness(name: str, box: int) -> float:
        rows = references[name]
        return float(np.mean([r @ b[box] / np.linalg.norm(r) / np.linalg.norm(b[box]) for r in rows]))

    names, fewer = list(references), min(boxes, characters)
    slow = max(
        sum(likeness(name, box) for name, box in zip(chosen, order, strict=True))
        for chosen in permutations(names, fewer)
        for order in permutations(range(boxes), fewer)
    )
    found = matched(b, references)
    assert len(found) == fewer
    assert len(set(found.values())) == fewer
    assert sum(likeness(name, box) for name, box in found.items()) == pytest.approx(slow)


def test_no_box_matches_nobody() -> None:
    assert matched(np.zeros((0, 4)), {"fox": AXES[:1]}) == {}


def test_characters_are_held_against_references_and_themselves() -> None:
    found = character_scores(AXES[[0, 0, 1]], AXES[:1])
    assert found is not None
    assert (found.cross, found.own) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    alone = character_scores(AXES[:1], AXES[:1])
    assert alone is not None
    assert alone.own is None
    assert character_scores(np.zeros((0, 4)), AXES[:1]) is None


def test_copying_is_told_from_neutral() -> None:
    assert copy_paste((AXES[:1] + AXES[1:2]), AXES[0], AXES[1]) == pytest.approx(0.5)
    assert copy_paste(AXES[:1], AXES[0], AXES[1]) == pytest.approx(1)
    assert copy_paste(AXES[1:2], AXES[0], AXES[1]) == pytest.approx(0)


def test_otsu_splits_two_levels_and_explains_them_wholly() -> None:
    picture = np.full((10, 10), 40, np.uint8)
    picture[:3] = 200
    threshold, clear = otsu(picture)
    assert 40 <= threshold < 200
    assert clear == pytest.approx(1)
    assert otsu(np.full((4, 4), 9, np.uint8))[1] == 0


def test_otsu_agrees_with_a_slow_search() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)

    def between(t: int) -> float:
        low, high = picture[picture <= t], picture[picture > t]
        share = low.size / picture.size
        return share * (1 - share) * (low.mean() - high.mean()) ** 2 if low.size and high.size else 0.0

    threshold, clear = otsu(picture)
    assert between(threshold) == pytest.approx(max(map(between, range(256))))
    assert clear == pytest.approx(between(threshold) / picture.var())


def test_a_subject_is_masked_where_the_map_is_clear_and_its_size_likely() -> None:
    heat = np.full((20, 20), 0.1)
    heat[5:12, 5:12] = 0.9
    mask = subject_mask(heat)
    assert mask is not None
    assert mask.sum() == 49
    assert subject_mask(np.full((20, 20), 0.5)) is None
    tiny = np.full((40, 40), 0.1)
    tiny[3, 3] = 0.9
    assert subject_mask(tiny) is None
