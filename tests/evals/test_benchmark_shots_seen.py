"""Shots as they are read: why a measure is missing, and what a shot that was given frames is measured by."""

from __future__ import annotations

import numpy as np
import pytest

from evals.benchmarks.cast_draw import draw_set
from evals.benchmarks.protocol import Film
from evals.benchmarks.shot_measures import DYNAMICS, FLOOR, PACE
from evals.benchmarks.shots_seen import FEW, SeenShot, check_drawn, kept, mean_of, mean_score, means_of, see_shot
from evals.metrics.score import Case, NotMeasured, Score
from evals.world.controls import film
from generators.clip import Frames
from generators.world.words import FPS

SHOT, NEXT = draw_set(2, 0)
SHOWN = Case(name=SHOT.name, prompt=SHOT.caption.text)


def seen(frames: Frames, fps: float = FPS, lead: int = 0) -> SeenShot:
    return see_shot(Film(frames=frames, fps=fps, lead=lead), shown=SHOWN, case=SHOT, other=NEXT)


def test_every_reason_says_what_really_was_missing() -> None:
    found = means_of([seen(np.zeros_like(film(SHOT.script)), fps=200.0)])
    reasons = {name: one.reason for name, one in found.items() if isinstance(one, NotMeasured)}
    assert reasons == {
        "kind": "no silhouette could be named",
        "identity within shots": "the promised puppet was not seen",
        PACE: "no puppet was seen for three frames, two of them neighbours",
        DYNAMICS.name: "fewer than 3 frames at 8 frames a second",
    }
    assert found["completion"] == found[FLOOR] == Score(value=0.0)


def test_a_mean_is_over_what_could_be_read() -> None:
    why, other = NotMeasured(reason="too dark"), NotMeasured(reason="too short")
    assert mean_of([True, None, 0.0], why) == Score(value=0.5)
    assert mean_of([None, None], why) == why
    assert mean_score([why, Score(value=1.0), Score(value=0.0)]) == Score(value=0.5)
    assert mean_score([why, other]) == why


def test_one_shot_has_nothing_to_be_compared_with() -> None:
    alone = kept([seen(film(SHOT.script))])
    assert {one for one in alone.values() if isinstance(one, NotMeasured)} == {FEW}


def test_a_puppet_that_is_seen_in_handed_over_frames_alone_has_no_pace() -> None:
    frames = film(SHOT.script).copy()
    frames[12:] = 0
    shot = seen(frames, lead=12)
    assert shot.look is not None
    assert (shot.pace, shot.colour) == (None, None)


def test_sizes_and_splits_that_there_are_not_name_those_that_there_are() -> None:
    check_drawn((2, 3), (2, 3, 4), "tune")
    with pytest.raises(ValueError, match="expected some of 2, 3 shots, got none"):
        check_drawn((), (2, 3), "test")
    with pytest.raises(ValueError, match="expected some of 2, 3 shots, got 4"):
        check_drawn((4,), (2, 3), "test")
    with pytest.raises(ValueError, match="expected test or tune, got 'train'"):
        check_drawn((2,), (2, 3), "train")
