"""A story is called by its heading, or by words that are whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.titles import opening, split_title

WRAPPED = """Once upon a time there was a little fox who lived in
a deep forest. One day it met a cat.
"""


@pytest.mark.parametrize(
    ("story", "title"),
    [
        ("# The Fox\n\nIt jumps.", "The Fox"),
        ("The Fox and the Cat\nIn a meadow, a red fox jumps. It spins.", "The Fox and the Cat"),
        ("The fox jumps. It spins.", "The fox jumps"),
        (
            "A red fox jumps high up in the meadow. A blue cat dances on the beach.",
            "A red fox jumps high up in the meadow",
        ),
        ("Mr. Fox walks 3.5 miles. He spins.", "Mr. Fox walks 3.5 miles"),
        ('"Help!" cried the fox. It spins.', '"Help!" cried the fox'),
        ("Stop! The fox jumps.", "Stop!"),
        ("狐狸跳了起来。猫在跳舞。", "狐狸跳了起来"),
        ("...", "Untitled"),
    ],
)
def test_a_title_that_has_room_is_whole_and_has_no_dots(story: str, title: str) -> None:
    assert split_title(story)[0] == title


@pytest.mark.parametrize(
    ("story", "title"),
    [
        (
            "High above the snow, an old dragon flies up into the sky and looks for its friends.",
            "High above the snow, an old dragon flies up into the sky…",
        ),
        (
            "Once upon a time there was a little fox who lived in the deep dark wood beyond the hills.",
            "Once upon a time there was a little fox who lived…",
        ),
        (
            "In a meadow, a red fox comes in from the left, jumps high up and then lies down to sleep.",
            "In a meadow, a red fox comes in from the left…",
        ),
        ("word " * 100, " ".join(["word"] * 11) + " word…"),
    ],
)
def test_a_longer_one_ends_behind_a_clause_or_a_word_that_is_not_half_a_phrase(story: str, title: str) -> None:
    assert split_title(story)[0] == title


def test_a_heading_is_no_part_of_what_is_told() -> None:
    assert split_title("# The Fox\n\nIt jumps.")[1] == "\nIt jumps."


@pytest.mark.parametrize("story", [WRAPPED, WRAPPED.replace("lived in\na", "lived in\nA")])
def test_the_first_line_of_broken_prose_is_no_heading_and_its_words_are_told(story: str) -> None:
    title, told = split_title(story)
    assert told == story
    assert title == "Once upon a time there was a little fox who lived…"


@given(st.text(max_size=200), st.integers(2, 80))
def test_an_opening_fits_begins_as_the_text_and_has_dots_only_where_something_is_left_out(text: str, most: int) -> None:
    line, found = " ".join(text.split()), opening(text, most)
    assert len(found) <= most
    assert found == line or (found.endswith("…") and line.startswith(found[:-1]))
