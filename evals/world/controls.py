"""Clips that are wrong in one known way: each lowers the score that names its fault, and leaves the others alone.

Every control takes rendered frames (T, 64, 96, 3) or a script and gives frames back; the test beside them says what
must drop. Knows the renderer and the palette, no score.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evals.world.detectors import Frames
from generators.world.renderer import render
from generators.world.script import Script
from generators.world.words import FPS, HEIGHT, SHORT, WIDTH


def film(script: Script) -> Frames:
    """The script's own frames: what every control starts from."""
    frames: Frames = render([script])[0].permute(0, 2, 3, 1).contiguous().numpy()
    return frames


def reversed_in_time(frames: Frames) -> Frames:
    """The last frame first."""
    return np.ascontiguousarray(frames[::-1])


def frozen(frames: Frames) -> Frames:
    """The first frame for as long as the clip was."""
    return np.repeat(frames[:1], len(frames), axis=0)


def swapped_events(script: Script) -> Script:
    """The script with its two events in each other's time. Raises ValueError for another number of events."""
    if len(script.events) != 2:
        raise ValueError(f"swapped_events: expected a script of two events, got {len(script.events)}")
    first, second = sorted(script.events, key=lambda event: event.start)
    return replace(
        script,
        events=(
            replace(second, start=first.start, end=first.end),
            replace(first, start=second.start, end=second.end),
        ),
    )


def without_event(script: Script, index: int) -> Script:
    """The script in which one event (in order of start) does not happen. Raises IndexError when there is none."""
    events = sorted(script.events, key=lambda event: event.start)
    events.pop(index)
    return replace(script, events=tuple(events))


def recoloured(script: Script, actor: int, hue: str, at: float) -> Frames:
    """The script's clip in which an actor wears another hue from second `at` on."""
    actors = tuple(replace(one, hue=hue) if i == actor else one for i, one in enumerate(script.actors))
    cut = round(at * FPS)
    return np.concatenate([film(script)[:cut], film(replace(script, actors=actors))[cut:]])


def noisy(frames: Frames, spread: float, seed: int = 0) -> Frames:
    """Gaussian noise of so many grey levels on every pixel."""
    noise = np.random.default_rng(seed).normal(0.0, spread, frames.shape)
    return _pixels(frames + noise)


def pure_noise(frames: int = SHORT, seed: int = 0) -> Frames:
    """Nothing but noise: every level of every pixel as likely as any other."""
    return np.random.default_rng(seed).integers(0, 256, (frames, HEIGHT, WIDTH, 3), dtype=np.uint8)


def blurred(frames: Frames, spread: float) -> Frames:
    """A Gaussian blur of so many pixels in space, as a decoder leaves it."""
    reach = int(np.ceil(3 * spread))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread) ** 2)
    picture = frames.astype(np.float64)
    for axis in (1, 2):
        padded = np.pad(picture, [(reach, reach) if a == axis else (0, 0) for a in range(4)], mode="edge")
        shifts = [np.take(padded, range(i, i + frames.shape[axis]), axis) for i in range(2 * reach + 1)]
        picture = np.average(shifts, axis=0, weights=weights)
    return _pixels(picture)


def doubled(frames: Frames, right: int, down: int = 0) -> Frames:
    """The mean of two copies, so many pixels apart: every puppet has a ghost."""
    moved = np.roll(frames, (down, right), (1, 2)).astype(np.float64)
    return _pixels((frames + moved) / 2)


def smeared(frames: Frames, reach: int) -> Frames:
    """Every frame the mean of itself and `reach` frames on both sides."""
    padded = np.pad(frames.astype(np.float64), [(reach, reach), (0, 0), (0, 0), (0, 0)], mode="edge")
    return _pixels(np.mean([padded[i : i + len(frames)] for i in range(2 * reach + 1)], axis=0))


def _pixels(values: NDArray[np.float64]) -> Frames:
    return values.round().clip(0, 255).astype(np.uint8)
