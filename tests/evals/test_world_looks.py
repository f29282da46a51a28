"""What a puppet looks like and how far it gets, read from rendered clips whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evals.world.controls import film, frozen
from evals.world.looks import main_puppet, mean_colour, pace, usual_size
from evals.world.settings import SCORE
from evals.world.tracks import Scene, watch
from generators.world.motion import play
from generators.world.script import Actor, Script, ScriptEvent

WALK = ScriptEvent(verb="walk", actor=0, start=0.5, end=3.5, side="right")
SCRIPT = Script(place="meadow", time="day", actors=(Actor(hue="red", kind="fox", x=20.0),), events=(WALK,))
FRAMES = film(SCRIPT)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return watch(FRAMES, SCORE)


def test_a_walking_puppet_is_the_main_one_and_its_pace_is_its_way_and_its_bobbing_over_the_time(scene: Scene) -> None:
    track = main_puppet(scene)
    assert track is not None
    assert track.hue == "red"
    way = float(track.x.max() - track.x.min())
    assert way / scene.seconds < (pace(scene, track) or 0.0) < 1.5 * way / scene.seconds


def test_a_still_puppet_goes_nowhere_and_an_empty_stage_has_nobody() -> None:
    still = watch(frozen(FRAMES), SCORE)
    track = main_puppet(still)
    assert track is not None
    assert pace(still, track) == 0.0
    empty = np.zeros_like(FRAMES)
    assert main_puppet(watch(empty, SCORE)) is None


def test_colour_is_that_of_its_own_pixels(scene: Scene) -> None:
    lightness, red_green, _ = mean_colour(scene, FRAMES, "red")
    assert 30 < lightness < 70
    assert red_green > 40  # CIELAB: red is far up the a axis


@pytest.mark.parametrize("verb", ["grow", "shrink"])
def test_a_puppet_that_is_drawn_larger_is_larger_by_as_much(scene: Scene, verb: str) -> None:
    change = ScriptEvent(verb=verb, actor=0, start=0.1, end=0.6)
    script = replace(SCRIPT, events=(change,))
    drawn = float(np.median(play(script).puppets[0].scale))
    changed = watch(film(script), SCORE)
    assert (drawn > 1) == (verb == "grow")
    assert usual_size(changed, "red") / usual_size(scene, "red") == pytest.approx(drawn, rel=0.1)
