"""Clips that are wrong in one known way: each lowers the score that names its fault, and leaves the others alone.

Every control takes rendered frames (T, 64, 96, 3) or a script and gives frames back; the test beside them says what
must drop. Knows the renderer and the palette, no score.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from evals.world.detectors import Frames
from generators.world.motion import LEFT_MOST, RIGHT_MOST, play
from generators.world.renderer import draw, render
from generators.world.script import Script
from generators.world.words import FPS, HEIGHT, SHORT, WIDTH

_LEAP = 36.0
"""Pixels, one and a half puppet heights: from the middle there is room for that on either side."""


def film(script: Script) -> Frames:
    """The script's own frames: what every control starts from."""
    return _frames(render([script]))


def _frames(drawn: Tensor) -> Frames:
    """The first clip of (B, T, 3, H, W)."""
    frames: Frames = drawn[0].permute(0, 2, 3, 1).contiguous().numpy()
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


def leaping(script: Script, actor: int, at: float) -> Frames:
    """The script's clip in which an actor is somewhere else at once, second `at`, and goes on from there."""
    stage, cut = play(script), round(at * FPS)
    moved = [stage.puppets[actor].x[cut:] + way for way in (-_LEAP, _LEAP)]
    stage.puppets[actor].x[cut:] = max(moved, key=lambda x: int(((x > LEFT_MOST) & (x < RIGHT_MOST)).sum()))
    return _frames(draw([script], [stage]))


def with_twin(script: Script, actor: int) -> Frames:
    """The script's clip in which another puppet of an actor's hue and kind stands about, as far off as may be."""
    bare = replace(script, actors=(), events=(), props=())
    away = [float(np.abs(play(script).puppets[actor].x - x).min()) for x in (LEFT_MOST, WIDTH / 2, RIGHT_MOST)]
    x = (LEFT_MOST, WIDTH / 2, RIGHT_MOST)[int(np.argmax(away))]
    twin = film(replace(bare, actors=(replace(script.actors[actor], x=x),)))
    return np.where((twin != film(bare)).any(-1, keepdims=True), twin, film(script))


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
