"""Presence over time, from everything a caller may know of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.clip import Event
from generators.controls.config import TempoControl, Word
from generators.controls.tempo_targets import loudness, onsets, presence, smoothed, words_of_events
from generators.errors import ControlRejected
from generators.timeline import Timeline
from generators.tokens import TextMap

INF = math.inf
CLIP = Timeline(frames=17, fps=8)
"""Latent frames 0 | 1-4 | 5-8 | 9-12 | 13-16."""


def test_seconds_become_the_share_of_each_latent_frame_that_they_cover() -> None:
    whole = Word(text="fox", seconds=((5 / 8, 13 / 8),))
    assert presence(whole, CLIP).tolist() == [0, 0, 1, 1, 0]
    half = Word(text="fox", seconds=((0, 1 / 8), (7 / 8, 13 / 8)))
    assert presence(half, CLIP).tolist() == [1, 0, 0.5, 1, 0]


def test_what_is_shorter_than_a_latent_frame_shows_in_the_one_it_falls_into() -> None:
    assert presence(Word(text="fox", seconds=((0.80, 0.81),)), CLIP).tolist() == [0, 0, 1, 0, 0]


@given(start=st.floats(0, 2.1), length=st.floats(0.001, 3))
def test_any_interval_in_the_clip_shows_somewhere(start: float, length: float) -> None:
    found = presence(Word(text="fox", seconds=((start, start + length),)), CLIP)
    assert found.max() == 1
    assert found.min() >= 0


def test_no_time_is_all_the_time_and_latents_are_taken_as_they_are() -> None:
    assert presence(Word(text="fox"), CLIP).tolist() == [1] * 5
    assert presence(Word(text="fox", latents=(0, 0.2, 0.4, 0.6, 1)), CLIP).tolist() == [0, 0.2, 0.4, 0.6, 1]
    with pytest.raises(ControlRejected, match="expected one value for each of the clip's 5 latent frames, got 2"):
        presence(Word(text="fox", latents=(0, 1)), CLIP)


def test_a_curve_is_straight_between_its_points_and_level_outside() -> None:
    found = presence(Word(text="fox", curve=((0.125, 0.0), (1.125, 1.0))), CLIP)
    # pixel frame p has its middle at (p + 0.5) / 8; frames 1-4 lie at 1/16 .. 7/16 of the slope, so 1/4 on average
    assert found.tolist() == pytest.approx([0, 0.25, 0.75, 1, 1])


def test_a_sound_keeps_its_peaks_and_smooths_the_rest() -> None:
    sound = tuple((i / 8 + 1 / 16, 3.0 + 10.0 * (i == 10) + (i % 2) * 0.5) for i in range(17))
    found = loudness(sound, CLIP)
    peaks = np.array([0.0, 0.05, 0.05, 1.0, 0.05])  # the loudest of each latent frame, from 3 (0) to 13 (1)
    assert found[3] == 1
    assert found[[0, 1, 2, 4]] == pytest.approx(smoothed(peaks, 2.0)[[0, 1, 2, 4]])
    with pytest.raises(ControlRejected, match="loudness that varies"):
        loudness(((0.0, 1.0), (2.0, 1.0)), CLIP)


@pytest.mark.parametrize("length", [5, 21])
def test_smoothing_is_a_gaussian_cut_at_four_sigma_that_mirrors_the_ends(length: int) -> None:
    series = np.random.default_rng(length).random(length)

    def mirrored(i: int) -> float:
        i %= 2 * length
        return float(series[min(i, 2 * length - 1 - i)])

    weight = {d: float(np.exp(-d * d / 8)) for d in range(-8, 9)}
    slow = [sum(w * mirrored(i + d) for d, w in weight.items()) / sum(weight.values()) for i in range(length)]
    assert smoothed(series, 2.0) == pytest.approx(slow)


def test_the_beginnings_of_sounds_are_found_in_a_wave() -> None:
    rate = 8000
    time = np.arange(2 * rate) / rate
    wave = 0.001 * np.random.default_rng(0).standard_normal(len(time))
    wave += np.sin(2 * np.pi * 440 * time) * (time % 1.0 > 0.6) * np.exp(-8 * (time % 1.0 - 0.6))
    found = onsets(wave, rate)
    strongest = sorted(found, key=lambda point: -point[1])[:2]
    assert sorted(moment for moment, _ in strongest) == pytest.approx([0.6, 1.6], abs=0.06)
    target = presence(Word(text="drum", sound=found), CLIP)
    assert target.argmax() in (CLIP.latent(int(0.6 * 8)), CLIP.latent(int(1.6 * 8)))
    with pytest.raises(ControlRejected, match="one channel"):
        onsets(np.zeros((2, 100)), rate)


def text(prompt: str) -> TextMap:
    return TextMap(prompt=prompt, offsets=tuple((i, i + 1) for i in range(len(prompt))), length=512)


def test_events_become_their_phrases_in_their_time_and_their_subjects_all_the_time() -> None:
    events = (
        Event(subject="fox", phrase="jumps", start=0, end=1),
        Event(subject="fox", phrase="sits", start=1, end=2),
        Event(subject="", phrase="it rains", start=0, end=2),
    )
    assert words_of_events(events, text("a fox jumps and sits while it rains")) == (
        Word(text="jumps", seconds=((0, 1),), occurrence=0),
        Word(text="sits", seconds=((1, 2),), occurrence=0),
        Word(text="it rains", seconds=((0, 2),), occurrence=0),
        Word(text="fox"),
    )


def test_events_of_one_phrase_are_its_mentions_or_share_the_one_there_is() -> None:
    events = tuple(Event(subject="", phrase="jumps", start=i, end=i + 0.5) for i in range(2))
    apart = words_of_events(events, text("it jumps and jumps"))
    assert [(word.occurrence, word.seconds) for word in apart] == [(0, ((0, 0.5),)), (1, ((1, 1.5),))]
    both = Word(text="jumps", seconds=((0, 0.5), (1, 1.5)), occurrence=0)
    assert words_of_events(events, text("it jumps")) == (both,)
    assert words_of_events((events[0], replace(events[1], phrase="Jumps")), text("it jumps")) == (
        replace(both, text="Jumps"),
    )


def test_an_events_own_place_is_its_words_and_one_that_is_not_there_is_refused() -> None:
    events = (
        Event(subject="", phrase="jumps", start=0, end=1, occurrence=1),
        Event(subject="", phrase="sits", start=1, end=2),
        Event(subject="", phrase="jumps", start=1, end=2),
    )
    found = words_of_events(events, text("it jumps, sits and jumps"))
    assert [(word.text, word.occurrence) for word in found] == [("jumps", 1), ("jumps", 0), ("sits", 0)]
    with pytest.raises(ControlRejected, match="event 'jumps': expected occurrence 0 to 1, got 7"):
        words_of_events((replace(events[0], occurrence=7),), text("it jumps and jumps"))


def test_a_phrase_inside_a_longer_one_keeps_to_a_place_of_its_own() -> None:
    events = (
        Event(subject="", phrase="walks", start=0, end=1),
        Event(subject="", phrase="walks home", start=1, end=2),
    )
    found = words_of_events(events, text("he walks home as she walks"))
    assert [(word.text, word.occurrence) for word in found] == [("walks", 1), ("walks home", 0)]


def test_subjects_that_differ_in_case_are_one_word_where_whole_words_are_looked_for() -> None:
    events = tuple(Event(subject=name, phrase="sits", start=0, end=1) for name in ("The fox", "the fox", "cat"))
    prompt = text("The fox sits, the fox and a cat")
    assert [word.text for word in words_of_events(events, prompt)] == ["sits", "The fox", "cat"]
    assert [word.text for word in words_of_events(events, prompt, "substrings")] == [
        "sits",
        "The fox",
        "the fox",
        "cat",
    ]


def test_substrings_are_every_place_so_one_phrase_is_one_word_and_has_no_occurrence() -> None:
    events = tuple(Event(subject="", phrase="jumps", start=i, end=i + 0.5) for i in range(2))
    prompt = text("it jumps and jumps")
    assert words_of_events(events, prompt, "substrings") == (Word(text="jumps", seconds=((0, 0.5), (1, 1.5))),)
    with pytest.raises(ControlRejected, match=r"'substrings' .* no occurrence for event 'jumps', got 1; use mentions"):
        words_of_events((replace(events[0], occurrence=1),), prompt, "substrings")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Word(text=" "), "Word.text is empty"),
        (lambda: Word(text="a", seconds=((1, 1),)), "expected 0 <= start < end"),
        (lambda: Word(text="a", curve=((1, 0), (0, 1))), "rising seconds"),
        (lambda: Word(text="a", curve=((0, 2),)), "presence in 0..1"),
        (lambda: Word(text="a", occurrence=-1), "Word.occurrence: expected a whole number of at least 0, got -1"),
        (lambda: Word(text="a", occurrence=True), "Word.occurrence: expected a whole number of at least 0, got True"),
        (lambda: Word(text="a", seconds=((0, INF),)), "Word.seconds of 'a': expected finite numbers, got inf"),
        (lambda: Word(text="a", sound=((0, 1), (1, math.nan))), "Word.sound of 'a': expected finite numbers, got nan"),
        (lambda: Word(text="a", seconds=((0, 1),), latents=(0, 1)), "one way to say when, got seconds and latents"),
        (lambda: TempoControl(steps=0), r"share in \(0, 1\]"),
        (lambda: TempoControl(steps=True), r"share in \(0, 1\]"),
        (lambda: TempoControl(iterations=0), "iterations: expected a whole number of at least 1, got 0"),
        (lambda: TempoControl(iterations=2.5), "iterations: expected a whole number of at least 1, got 2.5"),  # type: ignore[arg-type]
        (lambda: TempoControl(iterations=True), "iterations: expected a whole number of at least 1, got True"),
        (lambda: TempoControl(rate=INF), "rate: expected more than 0, got inf"),
        (lambda: TempoControl(focus=-1), "focus: expected at least 0"),
        (lambda: TempoControl(decay=INF), "decay: expected at least 0, got inf"),
        (lambda: TempoControl(layers=0), "layers: expected a whole number of at least 1, got 0"),
        (lambda: TempoControl(layers=True), "layers: expected a whole number of at least 1, got True"),
        (lambda: TempoControl(layers="some"), "layers: expected one of 'measured', 'all'"),  # type: ignore[arg-type]
        (lambda: TempoControl(enough=2), "correlation in -1..1"),
        (lambda: TempoControl.official((Word(text="a", occurrence=0),)), "no occurrence for word 'a', got 0"),
        (lambda: TempoControl.official((), task="dance"), "expected one of 'one object'"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_mean_nothing_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_a_time_after_the_clip_is_refused() -> None:
    for word in (Word(text="fox", seconds=((5, 6),)), Word(text="fox", curve=((5, 1.0),))):
        with pytest.raises(ControlRejected, match=r"at 5.* s, expected less than the clip's 2.125 s"):
            presence(word, CLIP)
