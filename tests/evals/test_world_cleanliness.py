"""What a puppet does counts only while it is one clean puppet: smears, doubles, leaps and noise do nothing."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from evals.world import controls
from evals.world.backdrop import sight_backdrop
from evals.world.cleanliness import examine
from evals.world.curves import eased
from evals.world.detectors import sight
from evals.world.events import BODILY, every_promise, judge_event, promised
from evals.world.settings import CRITIC, SCORE, Setting
from evals.world.shapes import compare
from evals.world.splits import Case, cases
from evals.world.tracks import watch
from generators.clip import Frames
from generators.world.words import HUES, VERBS

BOTH = pytest.mark.parametrize("setting", [CRITIC, SCORE], ids=lambda s: s.name)
MOVING = ("jump", "spin", "dance")
"""Verbs so fast that their puppet smears when two seconds are averaged; the others are slow enough to stay clean."""


@functools.cache
def bodily() -> tuple[tuple[Case, Frames], ...]:
    listed = cases("both", 1, len(VERBS), seed=5)
    return tuple((case, controls.film(case.script)) for case in listed if case.verbs[0] in BODILY)


def seen(case: Case, frames: Frames, setting: Setting) -> bool:
    return judge_event(watch(frames, setting), promised(case.script, case.script.events[0])).done


@pytest.mark.slow
@BOTH
def test_bodily_events_survive_the_blur_and_noise_of_a_good_decoder(setting: Setting) -> None:
    lost = [
        case.verbs[0]
        for case, frames in bodily()
        if not seen(case, controls.noisy(controls.blurred(frames, 0.8), 6.0), setting)
    ]
    assert lost == []


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("apart", [(8, 0), (10, 0), (8, 6)], ids=str)
def test_a_puppet_with_a_ghost_does_nothing(apart: tuple[int, int], setting: Setting) -> None:
    taken = [case.verbs[0] for case, frames in bodily() if seen(case, controls.doubled(frames, *apart), setting)]
    assert taken == []


@pytest.mark.slow
@BOTH
def test_a_puppet_under_strong_noise_does_nothing(setting: Setting) -> None:
    taken = [case.verbs[0] for case, frames in bodily() if seen(case, controls.noisy(frames, 50.0), setting)]
    assert taken == []


@BOTH
def test_a_puppet_smeared_over_time_does_nothing_fast(setting: Setting) -> None:
    some = [(case, controls.smeared(frames, 8)) for case, frames in bodily() if case.verbs[0] in MOVING]
    assert [case.verbs[0] for case, frames in some if seen(case, frames, setting)] == []


@pytest.mark.slow
@BOTH
def test_nobody_does_anything_in_pure_noise(setting: Setting) -> None:
    for seed in range(2):
        scene = watch(controls.pure_noise(seed=seed), setting)
        taken = [p for verb in VERBS for p in every_promise(verb, tuple(HUES)) if judge_event(scene, p).done]
        assert taken == []


@functools.cache
def any_verb() -> tuple[Case, ...]:
    return tuple(cases("both", 1, len(VERBS), seed=5))


@pytest.mark.slow
@BOTH
def test_a_puppet_that_is_somewhere_else_at_once_does_nothing(setting: Setting) -> None:
    """But come in, spin or dance: a sliver, an edge or a sway hides part of a leap of one and a half heights."""
    taken = []
    for case in any_verb():
        event = case.script.events[0]
        frames = controls.leaping(case.script, event.actor, 0.6 * event.start + 0.4 * event.end)
        if seen(case, frames, setting):
            taken.append(event.verb)
    assert set(taken) <= {"enter", "spin", "dance"}


@pytest.mark.slow
@BOTH
def test_a_puppet_that_is_there_twice_does_nothing(setting: Setting) -> None:
    taken = [
        case.verbs[0]
        for case in any_verb()
        if seen(case, controls.with_twin(case.script, case.script.events[0].actor), setting)
    ]
    assert taken == []


@BOTH
def test_whoever_an_event_is_done_to_must_be_one_too(setting: Setting) -> None:
    case = next(one for one in any_verb() if one.verbs == ("approach",))
    event = case.script.events[0]
    assert event.other is not None
    frames = controls.with_twin(case.script, event.other)
    answer = judge_event(watch(frames, setting), promised(case.script, event))
    assert not answer.done
    assert f"the {case.script.actors[event.other].hue} puppet is there twice" in answer.evidence


def test_a_ghost_a_rag_and_a_stranger_are_told_from_a_drawn_puppet() -> None:
    case, frames = next(one for one in bodily() if one[0].verbs == ("grow",))
    hue = case.script.actors[0].hue

    def measured(shown: Frames) -> tuple[float, float, float]:
        few = shown[:8]
        one = sight(few)[hue]
        body = examine(few, sight_backdrop(few), one, compare(one))
        return float(np.median(body.ghost)), float(np.median(body.ragged)), float(np.median(body.fit))

    drawn, double, rough = (
        measured(shown) for shown in (frames, controls.doubled(frames, 10), controls.noisy(frames, 50.0))
    )
    assert double[0] > drawn[0] + 0.5
    assert rough[1] > 1.3 * drawn[1]
    assert min(drawn[2] - double[2], drawn[2] - rough[2]) > 0.15


def test_the_two_settings_draw_their_lines_elsewhere() -> None:
    for name in ("spare", "ghost", "ragged", "fit", "clean", "speed", "doubled"):
        assert getattr(CRITIC, name) != getattr(SCORE, name)


def test_a_movement_of_one_sample_has_that_sample_for_start_and_end() -> None:
    times = np.arange(4) / 8
    assert eased(times, np.zeros(4), 3, 3, 0.0, 1.0) == (0.375, 0.375)
