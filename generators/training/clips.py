"""Where training clips come from: the puppet world, drawn fresh. Knows scripts and pixels, no net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from generators.world.captions import write_caption
from generators.world.grammar import Split, sample_script
from generators.world.renderer import render
from generators.world.script import Script
from generators.world.words import LONG, SHORT, VERBS

EVENT_SHARES: dict[int, tuple[tuple[int, float], ...]] = {
    SHORT: ((1, 0.7), (2, 0.3)),
    LONG: ((1, 0.2), (2, 0.6), (3, 0.2)),
}
"""How many events clips of a length tell, and how often."""


@dataclass(frozen=True, kw_only=True)
class DrawnClips:
    """B clips with several paraphrases each."""

    frames: Tensor
    """uint8 (B, T, 3, H, W)."""
    captions: tuple[tuple[str, ...], ...]
    verbs: tuple[str, ...] = ()
    """What happens first in each clip; empty where the source does not know."""


class ClipSource(Protocol):
    """Anything that draws captioned clips from a random generator."""

    def draw(self, rng: np.random.Generator, *, clips: int, frames: int, captions: int) -> DrawnClips:
        """Draw clips of so many frames, each told in `captions` ways."""
        ...


@dataclass(frozen=True, kw_only=True)
class WorldClips:
    """Clips of the puppet world; `train` never shows held-out combinations or sentences."""

    device: str = "cpu"
    split: Split = "train"
    often: Mapping[str, float] = field(default_factory=dict)
    """How often a clip begins with a verb; 1 where none is named."""

    def draw(self, rng: np.random.Generator, *, clips: int, frames: int, captions: int) -> DrawnClips:
        """Sample scripts, render them on the device, tell each of them `captions` times."""
        scripts = [draw_script(rng, frames, self.split, self.often) for _ in range(clips)]
        told = tuple(tuple(write_caption(script, rng, self.split).text for _ in range(captions)) for script in scripts)
        with torch.no_grad():
            frames_BTCHW = render(scripts, self.device)
        firsts = tuple(min(script.events, key=lambda event: event.start).verb for script in scripts)
        return DrawnClips(frames=frames_BTCHW, captions=told, verbs=firsts)


def draw_script(rng: np.random.Generator, frames: int, split: Split, often: Mapping[str, float]) -> Script:
    """A script of this length, its number of events as `EVENT_SHARES` says, its first verb as `often` says."""
    counts, shares = zip(*EVENT_SHARES[frames], strict=True)
    events = int(rng.choice(counts, p=shares))
    return sample_script(rng, frames=frames, events=events, split=split, verb=draw_verb(rng, often) if often else None)


def draw_verb(rng: np.random.Generator, often: Mapping[str, float]) -> str:
    """A verb, as often as `often` says; 1 where none is named."""
    weights = np.array([often.get(verb, 1.0) for verb in VERBS])
    return str(rng.choice(list(VERBS), p=weights / weights.sum()))


def to_signal(frames: Tensor) -> Tensor:
    """uint8 (B, T, 3, H, W) to float32 (B, 3, T, H, W) in -1..1, as the autoencoder wants it."""
    return frames.transpose(1, 2).float() / 127.5 - 1


def to_pixels(signal: Tensor) -> Tensor:
    """float (B, 3, T, H, W) in -1..1 to uint8 (B, T, 3, H, W)."""
    return ((signal.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).transpose(1, 2)
