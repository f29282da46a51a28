"""Seconds, pixel frames and latent frames of one clip, in one place.

A causal video VAE packs frames: latent 0 is pixel frame 0, latent l >= 1 is pixel frames `stride*(l-1)+1 .. stride*l`.
Knows time only: nothing of pixels' content, models or text. Intervals are half open, in seconds from the clip's start.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from generators.errors import RequestRejected


class Interval(NamedTuple):
    """From `start` up to, not including, `end`; seconds."""

    start: float
    end: float

    def distance(self, moment: float) -> float:
        """Seconds between the moment and the interval; 0 inside."""
        return max(self.start - moment, moment - self.end, 0.0)


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The three clocks of a clip of `frames` pixel frames at `fps`; `stride` pixel frames make one latent frame.

    Raises RequestRejected when `frames` is not `stride * k + 1`.
    """

    frames: int
    fps: int
    stride: int = 4

    def __post_init__(self) -> None:
        if self.fps < 1:
            raise RequestRejected(f"fps: expected at least 1, got {self.fps}")
        if self.frames < 1 or (self.frames - 1) % self.stride:
            low = max(self.frames - 1, 0) // self.stride * self.stride + 1
            raise RequestRejected(
                f"frames: expected {self.stride}k + 1 (such as {low} or {low + self.stride}), got {self.frames}"
            )

    @property
    def latents(self) -> int:
        """Number of latent frames."""
        return (self.frames - 1) // self.stride + 1

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return self.frames / self.fps

    def pixels(self, latent: int) -> range:
        """Pixel frames packed into a latent frame."""
        return range(1) if latent == 0 else range(self.stride * (latent - 1) + 1, self.stride * latent + 1)

    def latent(self, pixel: int) -> int:
        """Latent frame that holds a pixel frame."""
        return (pixel + self.stride - 1) // self.stride

    def interval(self, latent: int) -> Interval:
        """Seconds that a latent frame covers."""
        pixels = self.pixels(latent)
        return Interval(pixels.start / self.fps, pixels.stop / self.fps)

    def centre(self, latent: int) -> float:
        """Middle of a latent frame, in seconds."""
        start, end = self.interval(latent)
        return (start + end) / 2

    def pixel(self, moment: float) -> int:
        """Pixel frame that is shown at a moment; the last one from the clip's end on."""
        return min(int(moment * self.fps + 1e-9), self.frames - 1)

    def seconds_of(self, frames: range) -> Interval:
        """When a run of pixel frames is shown. Raises RequestRejected for frames that the clip has not."""
        if not 0 <= frames.start < frames.stop <= self.frames or frames.step != 1:
            raise RequestRejected(f"frames: expected a run within 0 to {self.frames}, got {frames}")
        return Interval(frames.start / self.fps, frames.stop / self.fps)

    def frames_of(self, interval: Interval) -> range:
        """Pixel frames whose middle is in the interval; empty for one that is shorter than a frame and misses all."""
        first = math.ceil(interval.start * self.fps - 0.5 - 1e-9)
        stop = math.ceil(interval.end * self.fps - 0.5 - 1e-9)
        return range(max(first, 0), max(min(stop, self.frames), max(first, 0)))

    def divided(self, shares: Sequence[float]) -> list[Interval]:
        """The clip's seconds, divided by shares (which are scaled to add up to 1), one after the other."""
        edges = [self.seconds * sum(shares[:i]) / sum(shares) for i in range(len(shares) + 1)]
        return [Interval(a, b) for a, b in pairwise(edges)]

    def divided_latents(self, shares: Sequence[float]) -> list[int]:
        """For each latent frame, the share that owns it: edges at round(sum of shares so far * latent frames).

        Every share owns at least one frame. Raises RequestRejected when there are more shares than frames, or none.
        """
        self._check_count(len(shares))
        edges = [round(self.latents * sum(shares[:i]) / sum(shares)) for i in range(len(shares) + 1)]
        for i in range(1, len(edges)):
            edges[i] = max(edges[i], edges[i - 1] + 1)
        edges[-1] = self.latents
        for i in range(len(edges) - 1, 0, -1):
            edges[i - 1] = min(edges[i - 1], edges[i] - 1)
        return [i for i, (a, b) in enumerate(pairwise(edges)) for _ in range(a, b)]

    def active(self, intervals: Sequence[Interval]) -> list[frozenset[int]]:
        """For each latent frame, every interval that holds its centre: overlaps share, gaps are empty."""
        centres = [self.centre(latent) for latent in range(self.latents)]
        return [frozenset(i for i, (a, b) in enumerate(intervals) if a <= c < b) for c in centres]

    def owners(self, intervals: Sequence[Interval]) -> list[int]:
        """For each latent frame, the one interval that owns it; every interval owns at least one frame.

        A frame goes to the interval that holds its centre (of several, the one that starts last), in a gap to the
        nearest. An interval left without a frame gets one that its owner can spare; those between move up in order.
        Raises RequestRejected when there are more intervals than latent frames, or none.
        """
        self._check_count(len(intervals))
        owner = [self._nearest(intervals, self.centre(latent)) for latent in range(self.latents)]
        for i in range(len(intervals)):
            if i not in owner:
                del owner[self._spare_frame(owner, intervals[i])]
                owner.insert(self._place(owner, intervals, i), i)
        return owner

    def _check_count(self, events: int) -> None:
        if not 0 < events <= self.latents:
            raise RequestRejected(f"events: expected 1 to {self.latents} (the clip's latent frames), got {events}")

    def _nearest(self, intervals: Sequence[Interval], moment: float) -> int:
        return min(
            range(len(intervals)),
            key=lambda i: (intervals[i].distance(moment), moment >= intervals[i].end, -intervals[i].start),
        )

    def _spare_frame(self, owner: list[int], interval: Interval) -> int:
        middle = (interval.start + interval.end) / 2
        spare = [latent for latent, i in enumerate(owner) if owner.count(i) > 1]
        return min(spare, key=lambda latent: abs(self.centre(latent) - middle))

    def _place(self, owner: list[int], intervals: Sequence[Interval], i: int) -> int:
        """Where a frame of interval `i` comes between those of the others: in order of time, then nearest."""
        middles = [(one.start + one.end) / 2 for one in intervals]

        def wrong(place: int) -> tuple[int, float]:
            before, after = owner[:place], owner[place:]
            behind = sum(middles[o] > middles[i] for o in before) + sum(middles[o] < middles[i] for o in after)
            return behind, abs(self.centre(place) - middles[i])

        return min(range(len(owner) + 1), key=wrong)

    def held(self, given: Iterable[range]) -> list[bool]:
        """For each latent frame, whether all its pixel frames are among the given ones."""
        known = {pixel for block in given for pixel in block}
        return [all(pixel in known for pixel in self.pixels(latent)) for latent in range(self.latents)]

    def window(self, start: float, end: float) -> range:
        """The fewest whole latent frames that cover `start..end` seconds, as pixel frames.

        What to film again when the event in that interval failed: everything outside can be given.
        """
        if not 0 <= start < end:
            raise RequestRejected(f"window: expected 0 <= start < end, got {start} and {end}")
        first = self.latent(min(int(start * self.fps + 1e-6), self.frames - 1))
        last = self.latent(min(max(int(-(-end * self.fps // 1)) - 1, 0), self.frames - 1))
        return range(self.pixels(first).start, self.pixels(last).stop)

    def prefix(self, seconds: float) -> range:
        """The longest run of whole latent frames from 0 that fits into `seconds`, at least one, as pixel frames."""
        fitting = [latent for latent in range(self.latents) if self.interval(latent).end <= seconds + 1e-6]
        return range(self.pixels(fitting[-1] if fitting else 0).stop)
