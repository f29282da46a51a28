"""The stage behind the puppets: the same whoever stands on it, another elsewhere, and nothing where nothing is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evals.world.controls import film
from evals.world.settings import SCORE
from evals.world.stages import Stage, empty_stage, stages_apart
from evals.world.tracks import watch
from generators.world.script import Actor, Script

SCRIPT = Script(place="meadow", time="day", actors=(Actor(hue="red", kind="fox", x=20.0),), events=())


def stage_of(script: Script) -> Stage:
    frames = film(script)
    return empty_stage(watch(frames, SCORE), frames)


def test_a_stage_is_the_same_wherever_its_puppet_stands_and_another_in_another_place() -> None:
    here = stage_of(SCRIPT)
    moved = stage_of(replace(SCRIPT, actors=(Actor(hue="blue", kind="rabbit", x=70.0),)))
    elsewhere = stage_of(replace(SCRIPT, place="snow"))
    assert np.isnan(here).any()  # where the fox stood all along
    assert (stages_apart(here, moved) or 0.0) < 1
    assert (stages_apart(here, elsewhere) or 0.0) > 10


def test_stages_that_show_no_pixel_in_common_are_not_compared() -> None:
    left, right = np.full((4, 6, 3), np.nan), np.full((4, 6, 3), np.nan)
    left[:, :3], right[:, 3:] = 10.0, 200.0
    assert stages_apart(left, right) is None
    right[:, 2] = 14.0
    assert stages_apart(left, right) == 4.0
