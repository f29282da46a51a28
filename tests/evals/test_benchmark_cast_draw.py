"""Sets of the cast bench: who is in them, what is held out, and which there are not."""

from __future__ import annotations

import pytest

from evals.benchmarks.cast_draw import SIZES, draw_set
from generators.world.grammar import is_held_out
from generators.world.words import SHORT


@pytest.mark.parametrize("size", SIZES)
def test_a_set_is_one_held_out_puppet_that_does_other_things_in_other_places(size: int) -> None:
    for number in range(4):
        shots = draw_set(size, number)
        assert len({shot.script.actors[0].words for shot in shots}) == 1
        assert len({shot.script.place for shot in shots}) == len({shot.verbs for shot in shots}) == size
        for shot in shots:
            assert is_held_out(shot.script)
            assert (len(shot.script.actors), len(shot.script.events), shot.script.frames) == (1, 1, SHORT)
            assert shot.caption.subjects == (shot.script.actors[0].words,)
            assert shot.caption.phrases[0] in shot.caption.text


def test_a_set_is_the_same_whenever_it_is_drawn_and_another_under_another_seed_or_number() -> None:
    assert draw_set(3, 1) == draw_set(3, 1)
    assert len({draw_set(3, 1)[0].caption.text, draw_set(3, 2)[0].caption.text, draw_set(3, 1, 9)[0].caption.text}) == 3
    assert [shot.name for shot in draw_set(2, 1)] == ["cast-2-0001-1", "cast-2-0001-2"]


def test_a_size_that_there_is_not_names_those_that_there_are() -> None:
    for size in (1, 7):
        with pytest.raises(ValueError, match=f"expected 2 to 6 shots, got {size}"):
            draw_set(size, 0)
