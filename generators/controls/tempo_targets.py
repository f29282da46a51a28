"""When a word should show: presence of each latent frame, from events, seconds, a curve, or a sound.

Numbers only: no torch, no model. Presence is in 0..1; a `Timeline` says which seconds a latent frame covers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from generators.clip import Event
from generators.controls.config import Mentions, Points, Word
from generators.errors import ControlRejected
from generators.timeline import Timeline
from generators.tokens import TextMap

Floats = NDArray[np.float64]

PRESENT = 0.7
"""A latent frame with more presence is one where the word should show, one with less where it should not."""


def presence(word: Word, timeline: Timeline) -> Floats:
    """Presence in each latent frame, (F,). Raises ControlRejected for a time that the clip does not have."""
    if word.latents:
        if len(word.latents) != timeline.latents:
            raise ControlRejected(
                f"Word.latents of {word.text!r}: expected one value for each of the clip's {timeline.latents} latent "
                f"frames, got {len(word.latents)}"
            )
        return np.array(word.latents, dtype=np.float64)
    if word.seconds:
        return coverage(word.seconds, timeline, word.text)
    if word.curve:
        return _per_latent(_moments(word.curve, timeline, word.text, "curve"), timeline)
    if word.sound:
        return loudness(word.sound, timeline, word.text)
    return np.ones(timeline.latents)


def coverage(seconds: Points, timeline: Timeline, text: str = "") -> Floats:
    """Share of each latent frame's pixel frames whose middle lies in one of the intervals, (F,).

    The best covered frame counts as 1: what happens in less than a latent frame happens there.
    """
    for start, _ in seconds:
        if start >= timeline.seconds:
            raise ControlRejected(
                f"Word.seconds of {text!r}: starts at {start} s, expected less than the clip's {timeline.seconds} s"
            )
    middles = (np.arange(timeline.frames) + 0.5) / timeline.fps
    inside = np.any([(middles >= start) & (middles < end) for start, end in seconds], axis=0)
    for start, _ in seconds:  # one that falls between the middles of two pixel frames
        inside[min(int(start * timeline.fps + 1e-6), timeline.frames - 1)] = True
    shares = _per_latent(inside.astype(np.float64), timeline)
    scaled: Floats = shares / shares.max()
    return scaled


def loudness(sound: Points, timeline: Timeline, text: str = "") -> Floats:
    """A target from an envelope, (F,): the loudest of each latent frame, in 0..1, all but the peaks smoothed.

    Values of 0.7 and more stay; the others are those of the same series through a Gaussian of two latent frames.
    """
    at = np.array([moment for moment, _ in sound])
    values = np.array([value for _, value in sound], dtype=np.float64)
    each = np.interp((np.arange(timeline.frames) + 0.5) / timeline.fps, at, values)
    peaks = np.empty(timeline.latents)
    for latent in range(timeline.latents):
        start, end = timeline.interval(latent)
        inside = values[(at >= start) & (at < end)]
        pixels = timeline.pixels(latent)
        peaks[latent] = inside.max() if len(inside) else each[pixels.start : pixels.stop].max()
    low, high = peaks.min(), peaks.max()
    if not high > low:
        raise ControlRejected(f"Word.sound of {text!r}: expected loudness that varies over the clip, got {low} alone")
    peaks = (peaks - low) / (high - low)
    smooth: Floats = np.where(peaks >= PRESENT, peaks, smoothed(peaks, 2.0))
    return smooth


def smoothed(series: Floats, sigma: float) -> Floats:
    """A series through a Gaussian cut at four sigma, mirrored at its ends."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(series, radius, mode="symmetric")
    return np.asarray(np.convolve(padded, weights / weights.sum(), mode="valid"), dtype=np.float64)


def onsets(wave: ArrayLike, rate: int, *, hop: float = 0.023) -> Points:
    """(second, strength) of the beginnings of sounds in a mono wave of `rate` samples a second, for `Word.sound`.

    Spectral flux: how much louder, in decibels, the frequencies became since the frame before, mean over frequencies.
    Raises ControlRejected for what is not a wave, or too short to have a beginning.
    """
    samples = np.asarray(wave, dtype=np.float64)
    step = max(round(hop * rate), 1)
    window = 4 * step
    if samples.ndim != 1 or rate < 1 or len(samples) < window:
        raise ControlRejected(
            f"wave: expected one channel of at least {window} samples, got an array of shape {samples.shape}"
        )
    padded = np.pad(samples, window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::step]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)) ** 2
    loud = 10 * np.log10(np.maximum(power, max(power.max() * 1e-8, 1e-20)))
    flux = np.maximum(np.diff(loud, axis=0), 0).mean(1)
    return tuple(((i + 1) * step / rate, float(value)) for i, value in enumerate(flux))


def words_of_events(events: Sequence[Event], text: TextMap, mentions: Mentions = "words") -> tuple[Word, ...]:
    """Every event's phrase in its time, and every subject all the time.

    A phrase is the place in the prompt that `TextMap.choose` gives it; events of one place are one word. Substrings are
    every place of their letters. Raises ControlRejected for a place that the prompt lacks.
    """
    phrases = [event.phrase for event in events]
    words: dict[str | tuple[int, ...], Word] = {}
    told = zip(events, _places(events, text, mentions), strict=True)
    for event, place in sorted(told, key=lambda pair: phrases.index(pair[0].phrase)):  # those of a phrase side by side
        phrase = event.phrase
        at = phrase if place is None else text.columns(phrase, occurrence=place, what="event")
        earlier = words[at].seconds if at in words else ()
        words[at] = Word(text=phrase, seconds=(*earlier, (event.start, event.end)), occurrence=place)
    subjects: dict[str, str] = {}
    for event in events:
        name = text.written(event.subject)
        subjects.setdefault(name if mentions == "substrings" else name.casefold(), name)
    return (*words.values(), *(Word(text=name) for name in subjects.values() if name))


def _places(events: Sequence[Event], text: TextMap, mentions: Mentions) -> Sequence[int | None]:
    """Which occurrence of its phrase each event is; None is all of them."""
    if mentions == "words":
        return text.choose([e.phrase for e in events], [e.occurrence for e in events], what="event")
    for event in events:
        if event.occurrence is not None:
            raise ControlRejected(
                f"TempoControl.mentions='substrings' reads every place of a word: expected no occurrence for event "
                f"{event.phrase!r}, got {event.occurrence}; use mentions='words'"
            )
    return [None] * len(events)


def _moments(points: Points, timeline: Timeline, text: str, name: str) -> Floats:
    """A curve at the middle of each pixel frame. Raises ControlRejected when it ends before the clip begins."""
    at = [moment for moment, _ in points]
    if at[0] >= timeline.seconds:
        raise ControlRejected(
            f"Word.{name} of {text!r}: begins at {at[0]} s, expected less than the clip's {timeline.seconds} s"
        )
    middles = (np.arange(timeline.frames) + 0.5) / timeline.fps
    return np.interp(middles, at, [value for _, value in points])


def _per_latent(pixels: Floats, timeline: Timeline) -> Floats:
    """Mean of the pixel frames that each latent frame packs."""
    return np.array(
        [pixels[timeline.pixels(i).start : timeline.pixels(i).stop].mean() for i in range(timeline.latents)]
    )
