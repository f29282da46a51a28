"""A clip that is wrong in one way loses the score that names it, and keeps the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evals.world import controls
from evals.world.scores import ClipJudgement, in_order, judge_clip
from evals.world.settings import CRITIC, SCORE, Setting
from evals.world.splits import cases
from generators.world.script import Actor, Script, ScriptEvent
from generators.world.words import VERBS

BOTH = pytest.mark.parametrize("setting", [CRITIC, SCORE], ids=lambda s: s.name)
JUMP = ScriptEvent(verb="jump", actor=0, start=0.5, end=1.9)
SPIN = ScriptEvent(verb="spin", actor=0, start=2.1, end=3.8)
TWO = Script(place="meadow", time="day", actors=(Actor(hue="red", kind="fox"),), events=(JUMP, SPIN))


def judged(frames: np.ndarray, script: Script, setting: Setting = SCORE) -> ClipJudgement:
    return judge_clip(frames, script, setting)


@BOTH
def test_time_reversed_keeps_symmetric_events_and_loses_their_order(setting: Setting) -> None:
    clip = judged(controls.reversed_in_time(controls.film(TWO)), TWO, setting)
    assert clip.completed == 1.0
    assert in_order(clip) is False
    assert (clip.identity, clip.colour, clip.place, clip.time) == (1.0, True, True, True)


@BOTH
def test_swapped_events_lose_only_the_order(setting: Setting) -> None:
    clip = judged(controls.film(controls.swapped_events(TWO)), TWO, setting)
    assert (clip.completed, clip.completed_id, clip.identity, clip.kind) == (1.0, 1.0, 1.0, 1.0)
    assert in_order(clip) is False


@BOTH
def test_a_frozen_frame_has_identity_and_no_events(setting: Setting) -> None:
    clip = judged(controls.frozen(controls.film(TWO)), TWO, setting)
    assert clip.completed == 0.0
    assert (clip.identity, clip.colour, clip.place) == (1.0, True, True)


@BOTH
def test_an_actor_that_changes_colour_midway_keeps_its_events_but_not_its_identity(setting: Setting) -> None:
    clip = judged(controls.recoloured(TWO, 0, "blue", 2.0), TWO, setting)
    assert clip.completed == 1.0
    assert [event.same_look for event in clip.events] == [True, False]
    assert clip.completed_id == 0.5
    assert clip.identity == 0.0


@BOTH
def test_another_place_loses_only_the_place(setting: Setting) -> None:
    clip = judged(controls.film(replace(TWO, place="city")), TWO, setting)
    assert not clip.place
    assert (clip.completed, clip.identity, clip.colour, clip.time, in_order(clip)) == (1.0, 1.0, True, True, True)


@BOTH
@pytest.mark.parametrize("index", [0, 1])
def test_a_dropped_event_is_the_one_that_was_not_seen(setting: Setting, index: int) -> None:
    clip = judged(controls.film(controls.without_event(TWO, index)), TWO, setting)
    assert [event.done for event in clip.events] == [index != 0, index != 1]
    assert (clip.identity, clip.place) == (1.0, True)


@pytest.mark.slow
def test_noise_blinds_the_detectors_little_by_little() -> None:
    truth = controls.film(TWO)
    misfits = [judged(controls.noisy(truth, spread), TWO).backdrop_misfit for spread in (0.0, 10.0, 40.0, 120.0)]
    assert misfits == sorted(misfits)
    assert judged(controls.noisy(truth, 10.0), TWO).completed == 1.0
    assert not judged(controls.noisy(truth, 200.0), TWO).place


@pytest.mark.slow
def test_completion_falls_with_noise_over_every_verb() -> None:
    listed = cases("both", 1, len(VERBS), seed=8)
    curve = [
        np.mean([judged(controls.noisy(controls.film(c.script), spread), c.script).completed for c in listed])
        for spread in (0.0, 12.0, 30.0, 60.0, 120.0, 200.0)
    ]
    assert curve[0] == 1.0
    assert curve[1] >= 0.9
    assert curve[-1] <= 0.1
    assert all(later <= earlier + 0.07 for earlier, later in zip(curve[:-1], curve[1:], strict=True)), curve


@pytest.mark.slow
@BOTH
def test_a_frozen_frame_completes_no_verb(setting: Setting) -> None:
    listed = cases("both", 1, len(VERBS), seed=9)
    clips = [judged(controls.frozen(controls.film(case.script)), case.script, setting) for case in listed]
    assert [case.name for case, clip in zip(listed, clips, strict=True) if clip.completed > 0] == []


@pytest.mark.slow
@BOTH
def test_time_reversed_puts_almost_no_story_in_order(setting: Setting) -> None:
    listed = cases("both", 2, 24, seed=10)
    clips = [judged(controls.reversed_in_time(controls.film(case.script)), case.script, setting) for case in listed]
    assert np.mean([bool(in_order(clip)) for clip in clips]) <= 0.05


def test_only_two_events_can_be_swapped() -> None:
    with pytest.raises(ValueError, match="two events, got 1"):
        controls.swapped_events(controls.without_event(TWO, 0))
