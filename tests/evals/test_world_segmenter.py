"""The puppet world's segmenter finds one puppet, whatever else is on the stage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evals.world import controls
from evals.world.segmenter import WorldSegmenter
from generators.errors import RequestRejected
from generators.segmenters import Segmenter
from generators.world.script import Actor, Script, ScriptEvent

FOX, CAT = Actor(hue="red", kind="fox", x=30.0), Actor(hue="blue", kind="cat", x=70.0)
SCRIPT = Script(
    place="meadow", time="day", actors=(CAT, FOX), events=(ScriptEvent(verb="jump", actor=1, start=0.4, end=1.9),)
)


def test_a_mask_is_where_the_puppet_was_drawn() -> None:
    frames = controls.film(SCRIPT)
    drawn = (frames != controls.film(replace(SCRIPT, actors=(CAT,), events=()))).any(-1)
    made = WorldSegmenter()(frames, "the red fox")
    assert made.shape == drawn.shape
    assert (made & drawn).sum() / (made | drawn).sum() > 0.7


def test_another_puppet_is_not_in_it() -> None:
    fox, cat = (WorldSegmenter()(controls.film(SCRIPT), words) for words in ("red fox", "blue cat"))
    assert fox.any()
    assert cat.any()
    assert (fox & cat).sum() < 0.05 * cat.sum()


def test_who_is_not_there_has_an_empty_mask_and_who_has_no_colour_is_refused() -> None:
    segmenter = WorldSegmenter()
    assert isinstance(segmenter, Segmenter)
    assert not segmenter(controls.film(SCRIPT), "green bird").any()
    with pytest.raises(RequestRejected, match="not one colour"):
        segmenter(controls.film(SCRIPT), "a fox")
    assert np.array_equal(segmenter(controls.film(SCRIPT), "red fox"), segmenter(controls.film(SCRIPT), "red fox"))
