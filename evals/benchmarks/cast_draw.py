"""Sets of shots to film: one puppet in all of them, every shot in another place and with another thing to do.

Seeded and held out twice: the puppet wears the colour that its kind never wore in training, and every sentence is of
the half that training never had. Knows no model and no measure.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evals.world.splits import Case
from generators.world.captions import write_caption
from generators.world.grammar import held_out_look, sample_script
from generators.world.words import HUES, KINDS, PLACES, TIMES, VERBS

SIZES = (2, 3, 4, 5, 6)
"""How many shots a set may have: there are six places."""
LOOKS = tuple((hue, kind) for kind in KINDS for hue in HUES if held_out_look(hue, kind))
"""Colours and kinds that training kept apart."""
ALONE = tuple(verb.name for verb in VERBS.values() if verb.slot != "other")
"""What a puppet can do without a second one."""
_DRAW = 11
"""Keeps these draws apart from those of other benches with the same seed."""


def draw_set(size: int, number: int, seed: int = 0) -> tuple[Case, ...]:
    """The shots of one set, one event and 4 seconds each. Raises ValueError for a size that there is not."""
    if size not in SIZES:
        raise ValueError(f"draw_set: expected {SIZES[0]} to {SIZES[-1]} shots, got {size}")
    rng = np.random.default_rng([seed, size, number, _DRAW])
    hue, kind = LOOKS[rng.integers(len(LOOKS))]
    verbs = [str(verb) for verb in rng.permutation(ALONE)[:size]]
    places = [str(place) for place in rng.permutation(PLACES)[:size]]
    return tuple(
        _shot(rng, f"cast-{size}-{number:04d}-{shot}", number * size + shot, (hue, kind), verb, place)
        for shot, (verb, place) in enumerate(zip(verbs, places, strict=True), 1)
    )


def _shot(rng: np.random.Generator, name: str, number: int, look: tuple[str, str], verb: str, place: str) -> Case:
    drawn = sample_script(rng, verb=verb)
    actor = replace(drawn.actors[0], hue=look[0], kind=look[1])
    script = replace(drawn, actors=(actor,), place=place, time=TIMES[rng.integers(len(TIMES))])
    return Case(name=name, split="both", number=number, script=script, caption=write_caption(script, rng, "heldout"))
