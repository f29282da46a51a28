"""Rendered truth passes every score; everything else does not: the controls of the puppet world's judges."""

from __future__ import annotations

import functools
from collections import Counter

import numpy as np
import pytest

from evals.world.events import every_promise, judge_event, promised
from evals.world.scores import MEASURES, SCORES, ClipJudgement, judge_clip, judge_scene, score
from evals.world.settings import CRITIC, SCORE, Setting
from evals.world.splits import Case, SplitName, cases
from evals.world.tracks import watch
from generators.clip import Frames
from generators.world.renderer import render
from generators.world.words import VERBS

BOTH = pytest.mark.parametrize("setting", [CRITIC, SCORE], ids=lambda s: s.name)


LEAST = {"Kendall tau": 0.995, "Allen relations": 0.99, "tIoU": 0.9, "Frame accuracy": 0.95}
MOST = {"Onset error (s)": 0.15, "Leak": 0.005, "Omissions": 0.005, "Clones": 0.005, "Intruders": 0.005}
"""What rendered truth must reach of the measures. Every other of eight frames a second is looked at, so that a begin
is known to a quarter of a second, and tIoU and frame accuracy cannot be whole."""


def film(case: Case) -> Frames:
    return render([case.script])[0].permute(0, 2, 3, 1).numpy()


def shortfalls(judged: list[ClipJudgement], wanted: float) -> dict[str, str]:
    """Scores below `wanted`, with their mean and count; unread ones are left out of the mean, not hidden."""
    scores = {name: score(name, [read(clip) for clip in judged]) for name, read in SCORES.items()}
    return {n: str(s.interval) for n, s in scores.items() if s.value is not None and s.value < wanted}


def strayed(judged: list[ClipJudgement]) -> dict[str, str]:
    """Measures on the wrong side of their bars."""
    found = {name: score(name, [MEASURES[name](clip) for clip in judged]) for name in (*LEAST, *MOST)}
    return {
        name: str(one.interval)
        for name, one in found.items()
        if one.value is None or one.value < LEAST.get(name, one.value) or one.value > MOST.get(name, one.value)
    }


@functools.cache
def one_of_each() -> tuple[Case, ...]:
    return tuple(cases("seen", 1, len(VERBS), seed=11))


@pytest.mark.slow
@BOTH
def test_rendered_truth_passes_every_score(setting: Setting) -> None:
    judged = [judge_clip(film(case), case.script, setting) for case in one_of_each()]
    assert shortfalls(judged, 1.0) == {}


@pytest.mark.slow
@BOTH
def test_a_clip_shows_nothing_but_its_own_event(setting: Setting) -> None:
    wrong = []
    for case in one_of_each():
        scene = watch(film(case), setting)
        true = promised(case.script, case.script.events[0])
        for verb in VERBS:
            for promise in every_promise(verb, [actor.hue for actor in case.script.actors]):
                if promise != true and judge_event(scene, promise).done:
                    wrong.append(f"{true} also looks like {promise}")
    assert wrong == []


def test_the_two_settings_look_at_different_frames() -> None:
    frames = film(one_of_each()[0])
    assert not set(watch(frames, CRITIC).times) & set(watch(frames, SCORE).times)


@pytest.mark.slow
@BOTH
def test_rendered_truth_reaches_995_in_a_thousand_on_every_score(setting: Setting) -> None:
    """On 256 clips; `eval world --control truth` takes as many as one likes."""
    splits: tuple[SplitName, ...] = ("seen", "both")
    drawn = [
        case
        for split in splits
        for events, count in ((1, 48), (2, 48), (3, 32))
        for case in cases(split, events, count, seed=5)
    ]
    judged = [judge_clip(film(case), case.script, setting) for case in drawn]
    assert shortfalls(judged, 0.995) == {}
    assert strayed(judged) == {}


def test_every_measure_of_the_truth_has_a_bar_but_sharpness_which_no_script_decides() -> None:
    assert {*LEAST, *MOST} == set(MEASURES) - {"Sharpness"}
    case = cases("both", 2, 1, seed=5)[0]
    assert set(strayed([judge_clip(np.repeat(film(case)[:1], 33, axis=0), case.script)])) >= {"Frame accuracy", "tIoU"}


@pytest.mark.slow
def test_wrong_captions_pass_at_chance() -> None:
    """A clip judged by the next case's script: hue, verb and place must all agree by accident."""
    listed = cases("both", 1, 96, seed=6)
    scenes = {s.name: [watch(film(case), s) for case in listed] for s in (CRITIC, SCORE)}
    for watched in scenes.values():
        judged = [judge_scene(one, other.script) for one, other in zip(watched, listed[1:] + listed[:1], strict=True)]
        assert np.mean([clip.completed for clip in judged]) <= 0.03
        assert np.mean([clip.colour for clip in judged]) <= 0.2


@pytest.mark.slow
@BOTH
def test_wrong_verbs_are_hardly_ever_accepted(setting: Setting) -> None:
    """The critic's own risk: the right cast, another verb."""
    asked, accepted = 0, Counter[str]()
    for case in cases("both", 1, 64, seed=7):
        scene = watch(film(case), setting)
        true = promised(case.script, case.script.events[0])
        for verb in VERBS:
            for promise in every_promise(verb, [actor.hue for actor in case.script.actors]):
                asked += 1
                accepted[verb] += promise != true and judge_event(scene, promise).done
    assert sum(accepted.values()) / asked <= 0.005, accepted
