"""The storyboard file a person edits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.boardfile import board_text, parse_board, read_board
from agents.errors import PlanError, UsageError
from agents.storyboard import Place, PlannedEvent, PlannedShot, Storyboard, Subject

WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30).map(str.strip).filter(bool)


def board(title: str = "A dance", phrase: str = "dances happily", style: str = "") -> Storyboard:
    shot = PlannedShot(
        prompt=f"The blue cat {phrase}.",
        subjects=("cat",),
        place="beach",
        seconds=4.0,
        events=(PlannedEvent(subject="cat", phrase=phrase, start=0.5, end=3.5),),
    )
    return Storyboard(
        title=title,
        style=style,
        cast=(Subject(name="cat", description="the blue cat"),),
        places=(Place(name="beach", description="the beach"),),
        shots=(shot, shot.model_copy(update={"transition": "continues"})),
        notes=("a note: with a colon",),
    )


def test_how_shots_are_filmed_stands_above_them_and_above_nothing_else() -> None:
    text = board_text(board(), ["alone", "goes on"])
    assert [line for line in text.splitlines() if line in ("# alone", "# goes on")] == ["# alone", "# goes on"]
    assert "# \n" not in text
    assert text.endswith("notes:\n- 'a note: with a colon'\n")
    assert parse_board(text, "board") == board()


def test_control_characters_that_terminals_obey_are_left_out() -> None:
    text = board_text(board()).replace("A dance", r'"A \e[31mred\a dance"').replace("a note:", r"a \u009bnote:")
    assert parse_board(text, "board").title == "A [31mred dance"
    fox = Subject(name="fox", description="a red\x0cfox\r\n\tin\x85the snow")
    assert fox.description == "a red\nfox\n\tin\nthe snow"


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "board.yaml").write_text(board_text(board()), encoding="utf-8")
    assert read_board(tmp_path / "board.yaml") == board()


@settings(max_examples=50)
@given(title=WORDS, phrase=WORDS, style=WORDS)
def test_any_words_survive_the_file(title: str, phrase: str, style: str) -> None:
    whole = board(title, phrase, style)
    assert parse_board(board_text(whole), "the test") == whole


def test_every_problem_is_listed_with_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    path.write_text(board_text(board()).replace("- cat\n", "- walrus\n").replace("end: 3.5", "end: 9.5"))
    with pytest.raises(PlanError) as caught:
        read_board(path)
    assert all(words in str(caught.value) for words in ("board.yaml", "walrus", "9.5"))


def test_a_problem_is_told_by_shot_and_event_without_what_only_follows_from_it() -> None:
    text = board_text(board()).replace("seconds: 4.0\n  transition", "seconds: -2\n  transition", 1)
    with pytest.raises(PlanError) as caught:
        parse_board(text, "board.yaml")
    assert str(caught.value) == (
        "board.yaml is not a storyboard: shot 1: seconds: Input should be greater than 0, got '-2'"
    )
    text = "{title: '', cast: 7, shots: [{prompt: a, seconds: 4, colour: red, events: [{subject: cat, phrase: [b]}]}]}"
    with pytest.raises(PlanError) as caught:
        parse_board(text, "board.yaml")
    assert str(caught.value).removeprefix("board.yaml is not a storyboard: ").split("; ") == [
        "title: String should have at least 1 character, got ''",
        "cast: Input should be a valid tuple, got '7'",
        "shot 1: event 1: phrase: Input should be a valid string, got a list",
        "shot 1: event 1: start: it is missing",
        "shot 1: event 1: end: it is missing",
        "shot 1: colour: there is no such key",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "title: [",
        "",
        "17",
        "- a\n- b",
        "1: a",
        "!!python/object/apply:os.getcwd []",
        "[" * 5000,
        "title: 2026-99-99",
        "&a [*a]",
    ],
)
def test_what_is_no_storyboard_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="the test"):
        parse_board(text, "the test")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.yaml"):
        read_board(tmp_path / "nowhere.yaml")
