"""Seeded lists of cases to film and judge: a script, and the caption that asks for it.

Held out are combinations (a kind that never did this, a colour it never wore) and sentence templates, alone and
together; every single word was seen in training. Longer stories have more events than any clip of the training has.
The set `stories` has StoryEval's shape: 423 prompts of two to four events.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from generators.world.captions import Caption, write_caption
from generators.world.grammar import Split, clip_frames, held_out_act, held_out_look, sample_script
from generators.world.script import Script
from generators.world.words import KINDS, VERBS

SplitName = Literal["seen", "combinations", "acts", "looks", "templates", "both", "longer", "stories"]
SPLITS: dict[SplitName, tuple[Split, Split]] = {
    "seen": ("train", "train"),
    "combinations": ("heldout", "train"),
    "acts": ("heldout", "train"),
    "looks": ("heldout", "train"),
    "templates": ("train", "heldout"),
    "both": ("heldout", "heldout"),
    "longer": ("train", "train"),
    "stories": ("heldout", "heldout"),
}
"""Which scripts and which sentences: (combinations, templates)."""
NOT_HELD_BACK = {
    "unseen verb bigrams": "training holds no pair of verbs back",
    "unseen (kind, place)": "training holds no place back from a kind",
    "unseen durations": "training films events of every length that fits a clip",
}
"""Splits that one would want and that nothing was kept from training for."""
EVENTS: dict[SplitName, tuple[int, ...]] = {"longer": (4, 5)}
"""How many events the clips of a split have in turn; one and two where nothing is said."""
STORY_SHAPE = {2: 133, 3: 262, 4: 28}
"""StoryEval: how many of its 423 prompts have so many events."""
_ONLY: dict[SplitName, Callable[[Script], bool]] = {
    "acts": lambda script: not any(held_out_look(actor.hue, actor.kind) for actor in script.actors),
    "looks": lambda script: not any(held_out_act(script.actors[e.actor].kind, e.verb) for e in script.events),
}
"""What else must be true of a script, where one kind of combination is wanted and not the other."""
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


def mixed(split: SplitName, count: int, seed: int = 0) -> list[Case]:
    """So many cases of a split, its numbers of events in turn; the first cases of a longer list.

    Those of `stories` come in the proportions of `STORY_SHAPE`, so that the first few are like all 423.
    """
    numbers = _story_events() if split == "stories" else _in_turn(EVENTS.get(split, (1, 2)))
    used: dict[int, int] = {}
    found = []
    for events, _ in zip(numbers, range(count), strict=False):
        found.append(_case(split, events, used.get(events, 0), seed))
        used[events] = used.get(events, 0) + 1
    return found


def partner(case: Case, seed: int = 0) -> Case:
    """Another case of the split with as many events, to lend a script that is wrong; always the same one."""
    return _case(case.split, len(case.script.events), case.number + 1, seed)


def _in_turn(numbers: tuple[int, ...]) -> Iterator[int]:
    while True:
        yield from numbers


def _story_events() -> Iterator[int]:
    """Numbers of events, each in its place in proportion: the number that lags most behind its share comes next."""
    total, used = sum(STORY_SHAPE.values()), dict.fromkeys(STORY_SHAPE, 0)
    for made in range(1, total + 1):
        behind = {events: share * made / total - used[events] for events, share in STORY_SHAPE.items()}
        chosen = max(behind, key=lambda events: behind[events])
        used[chosen] += 1
        yield chosen


@functools.cache
def _case(split: SplitName, events: int, number: int, seed: int) -> Case:
    combinations, templates = SPLITS[split]
    rng = np.random.default_rng([seed, events, number, zlib.crc32(split.encode())])
    verbs = [verb for verb in VERBS if split != "acts" or any(held_out_act(kind, verb) for kind in KINDS)]
    first = verbs[number % len(verbs)]
    script = _script(rng, events, combinations, first, _ONLY.get(split, lambda _: True))
    caption = write_caption(script, rng, templates)
    return Case(name=f"{split}-{events}-{number:04d}", split=split, number=number, script=script, caption=caption)


def _script(
    rng: np.random.Generator, events: int, combinations: Split, first: str, wanted: Callable[[Script], bool]
) -> Script:
    """Long stories rarely fit behind some first verbs (floating ends an actor's part), so they are drawn again."""
    for _ in range(_TRIES):
        try:
            script = sample_script(rng, frames=clip_frames(events), events=events, split=combinations, verb=first)
        except ValueError:
            continue
        if wanted(script):
            return script
    raise ValueError(f"cases: found no {combinations} script with {events} events that begins with {first!r}")
