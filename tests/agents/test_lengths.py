"""A storyboard tells the length that is filmed, not one that no clip comes near to."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from agents.brains import Brief
from agents.lengths import fit_lengths, note_length
from agents.storyboard import PlannedEvent, PlannedShot, Storyboard, Subject
from generators.clip import Limits

LIMITS = Limits(width=96, height=64, fps=8, frame_counts=(33, 65), size_multiple=16)


def board(seconds: float, *spans: tuple[float, float]) -> Storyboard:
    phrases = ("the fox jumps", "the fox spins")[: len(spans)]
    events = tuple(
        PlannedEvent(subject="fox", phrase=phrase, start=a, end=b)
        for phrase, (a, b) in zip(phrases, spans, strict=True)
    )
    prompt = "First the fox jumps, then the fox spins."
    shot = PlannedShot(prompt=prompt, subjects=("fox",), seconds=seconds, events=events)
    return Storyboard(title="x", cast=(Subject(name="fox", description="a red fox"),), shots=(shot,), notes=("kept",))


@pytest.mark.parametrize("seconds", [3.7, 4.0, 4.125, 4.6, 8.0])
def test_a_length_near_a_clip_stays_as_it_was_written(seconds: float) -> None:
    written = board(seconds, (0.5, 2.0))
    assert fit_lengths(written, LIMITS) == written


@pytest.mark.parametrize(
    ("seconds", "filmed"), [(20.0, 8.125), (1.0, 4.125), (6.0, 4.125), (6.2, 8.125), (3600.0, 8.125)]
)
def test_another_length_becomes_the_nearest_clip_and_a_note_says_so(seconds: float, filmed: float) -> None:
    told = fit_lengths(board(seconds, (0.0, seconds / 4), (seconds / 2, seconds)), LIMITS)
    (shot,) = told.shots
    assert shot.seconds == filmed
    assert [(event.start, event.end) for event in shot.events] == [
        (0.0, pytest.approx(filmed / 4)),
        (pytest.approx(filmed / 2), filmed),
    ]
    assert told.notes == (
        "kept",
        f"shot 1: {seconds:g} s were planned and {filmed:.1f} s are filmed, which is what this backend films best; "
        "its events are fitted into that",
    )
    assert Storyboard.model_validate(told.model_dump()) == told


@pytest.mark.parametrize("seconds", [0.0, -2.0, 1e9, float("inf"), float("nan")])
def test_a_length_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValidationError, match="seconds"):
        board(seconds)


@pytest.mark.parametrize(("asked", "said"), [(None, False), (8.0, False), (6.0, False), (3600.0, True), (0.001, False)])
def test_a_film_far_from_the_length_asked_for_says_so(asked: float | None, said: bool) -> None:
    """A film is at least one shot long; that alone is no news."""
    brief = Brief(shot_seconds=(4.0, 8.0), max_shots=8, seconds=asked)
    told = note_length(board(4.0, (0.0, 4.0)), brief)
    wanted = (f"a film of {asked:g} s was asked for; what can be filmed of the story takes 4.0 s",) if said else ()
    assert told.notes == ("kept", *wanted)
