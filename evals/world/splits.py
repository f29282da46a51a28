"""Seeded lists of cases to film and judge: a script, and the caption that asks for it.

Held out are combinations (a kind that never did this, a colour it never wore) and sentence templates, alone and
together; every single word was seen in training.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from generators.world.captions import Caption, write_caption
from generators.world.grammar import Split, clip_frames, sample_script
from generators.world.script import Script
from generators.world.words import VERBS

SplitName = Literal["seen", "combinations", "templates", "both"]
SPLITS: dict[SplitName, tuple[Split, Split]] = {
    "seen": ("train", "train"),
    "combinations": ("heldout", "train"),
    "templates": ("train", "heldout"),
    "both": ("heldout", "heldout"),
}
"""Which scripts and which sentences: (combinations, templates)."""


_TRIES = 50


@dataclass(frozen=True, kw_only=True)
class Case:
    """One clip to film. `number` seeds its noise."""

    name: str
    split: SplitName
    number: int
    script: Script
    caption: Caption

    @property
    def verbs(self) -> tuple[str, ...]:
        """Verbs in the order they are promised."""
        return tuple(event.verb for event in sorted(self.script.events, key=lambda e: e.start))


def cases(split: SplitName, events: int, count: int, seed: int = 0) -> list[Case]:
    """So many cases of one split, verbs in turn, the same for the same arguments; the first cases of a longer list.

    Raises ValueError for a split that does not exist or for more events than a clip holds.
    """
    if split not in SPLITS:
        raise ValueError(f"cases: expected a split of {', '.join(SPLITS)}; got {split!r}")
    return [_case(split, events, number, seed) for number in range(count)]


def _case(split: SplitName, events: int, number: int, seed: int) -> Case:
    combinations, templates = SPLITS[split]
    rng = np.random.default_rng([seed, events, number, zlib.crc32(split.encode())])
    first = tuple(VERBS)[number % len(VERBS)]
    script = _script(rng, events, combinations, first)
    caption = write_caption(script, rng, templates)
    return Case(name=f"{split}-{events}-{number:04d}", split=split, number=number, script=script, caption=caption)


def _script(rng: np.random.Generator, events: int, combinations: Split, first: str) -> Script:
    """Long stories rarely fit behind some first verbs (floating ends an actor's part), so they are drawn again."""
    for _ in range(_TRIES):
        try:
            return sample_script(rng, frames=clip_frames(events), events=events, split=combinations, verb=first)
        except ValueError:
            continue
    raise ValueError(f"cases: found no {combinations} script with {events} events that begins with {first!r}")
