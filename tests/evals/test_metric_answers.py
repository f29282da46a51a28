"""Published rules over stored answers: closed forms, gates on both sides, and what cannot be read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.metrics.answers import (
    TEMPORAL,
    Composite,
    attribute_binding,
    complex_plot,
    motion_order,
    narrlv,
)
from evals.metrics.score import NotMeasured, Outcome, Score

DATA = Path(os.environ.get("FABULA_EVAL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def yes(*shares: float, of: int = 10) -> list[list[bool]]:
    """A question each, answered yes so often out of ten."""
    return [[number < round(share * of) for number in range(of)] for share in shares]


def value(outcome: Outcome) -> float:
    assert isinstance(outcome, Score), outcome
    return outcome.value


def read(name: str, answers: dict[str, Any]) -> Outcome:
    return narrlv(answers)[f"NarrLV {name} (no Q-Align)"]


def film(**changes: Any) -> dict[str, Any]:
    """Answers about one film of three atoms; `changes` go by key without its blanks."""
    answers: dict[str, Any] = {
        "Scene Type": yes(0.8),
        "Main Target Category": yes(1.0, 0.4),
        "Initial Scene Attributes": None,
        "Main Target Layout": yes(0.6),
        "Main Target Action Evolution_0": yes(0.9, 0.5, 0.4),
        "Main Target Action Evolution_1": yes(0.7, 0.3),
        "Scene Attribute Evolution_0": None,
        "Scene Anomaly Detection": yes(0.1),
        "Main Target Anomaly Detection": yes(0.3, 0.5),
    }
    named = {key.replace(" ", ""): key for key in answers}
    return answers | {named.get(key, key): change for key, change in changes.items()}


def test_fidelity_is_the_mean_of_what_was_asked_and_anomaly_counts_against_it() -> None:
    parts = (0.8, (1.0 + 0.4) / 2, 0.6, 1 - (0.1 + 0.3 + 0.5) / 3)
    assert value(read("fidelity", film())) == pytest.approx(np.mean(parts))
    asked = value(read("fidelity", film(InitialSceneAttributes=yes(0.2))))
    assert asked == pytest.approx(np.mean([*parts, 0.2]))


@pytest.mark.parametrize("key", ["SceneType", "MainTargetCategory"])
def test_layout_is_nothing_where_scene_or_figures_are_below_three_in_ten(key: str) -> None:
    for share, layout in ((0.3, 0.6), (0.2, 0.0)):
        found = read("fidelity", film(**{key: yes(share)}))
        assert isinstance(found, Score)
        assert found.details["layout"] == pytest.approx(layout)


def test_coverage_is_the_mean_over_atoms_of_all_factors() -> None:
    assert value(read("coverage", film())) == pytest.approx((0.9 + 0.5 + 0.4) / 3)
    both = film(SceneAttributeEvolution_0=yes(0.1))
    assert value(read("coverage", both)) == pytest.approx((0.9 + 0.5 + 0.4 + 0.1) / 4)


@pytest.mark.parametrize(
    ("atoms", "transitions", "expected"),
    [
        ((0.9, 0.5, 0.4), (0.7, 0.3), ((0.7 + 0.3) / 2 + 1) / 2),
        ((0.9, 0.3, 0.4), (0.7, 0.3), ((0.7 + 0.3) / 2 + 1) / 2),
        ((0.9, 0.5, 0.2), (0.7, 0.3), ((0.7 + 0.0) / 2 + 2 / 3) / 2),
        ((0.2, 0.5, 0.9), (0.7, 0.3), ((0.0 + 0.3) / 2 + 2 / 3) / 2),
        ((0.9, 0.1, 0.9), (1.0, 1.0), (0.0 + 2 / 3) / 2),
    ],
    ids=["all there", "just there", "last missing", "first missing", "middle missing"],
)
def test_a_transition_counts_only_between_atoms_that_are_there(
    atoms: Sequence[float], transitions: Sequence[float], expected: float
) -> None:
    told = film(MainTargetActionEvolution_0=yes(*atoms), MainTargetActionEvolution_1=yes(*transitions))
    assert value(read("coherence", told)) == pytest.approx(expected)


def test_what_has_no_answer_of_use_is_not_measured_and_takes_nothing_else_with_it() -> None:
    told = film(MainTargetActionEvolution_1=[[None] * 5, [True] * 5])
    assert read("coherence", told) == NotMeasured(reason="no answer of use on an atom or a transition")
    assert value(read("coverage", told)) == pytest.approx(0.6)
    some = film(SceneType=[[None, True, True, False, None]])
    assert value(read("fidelity", some)) == pytest.approx(np.mean([2 / 3, 0.7, 0.6, 0.7]))
    assert read("fidelity", film(MainTargetLayout=[[None]])) == NotMeasured(reason="no answer of use on layout")


def test_what_was_not_asked_is_not_measured() -> None:
    one = film(MainTargetActionEvolution_0=yes(0.9), MainTargetActionEvolution_1=None)
    assert read("coherence", one) == NotMeasured(reason="no transition was asked about")
    odd = film(MainTargetActionEvolution_1=yes(0.9))
    assert read("coherence", odd) == NotMeasured(reason="1 transitions were asked about 3 atoms")
    assert all(isinstance(found, NotMeasured) for found in narrlv({}).values())


def test_a_film_that_keeps_every_promise_of_the_released_lists_has_full_marks() -> None:
    folder = DATA / "narrlv"
    if not folder.is_dir():
        pytest.skip("the released question lists are not here; FABULA_EVAL_DATA names their folder")
    measured = 0
    for path in sorted(folder.glob("*.json")):
        for prompt in chain.from_iterable(json.loads(path.read_text()).values()):
            asked = prompt["auto_gen_question"]
            told = {
                key: None if questions is None else [["Anomaly" not in key] * 5 for _ in questions]
                for key, questions in asked.items()
            }
            found = narrlv(told)
            assert value(found["NarrLV coverage (no Q-Align)"]) == 1
            marks = [one.value for one in found.values() if isinstance(one, Score)]
            assert marks == [1.0] * len(marks)
            measured += len(marks)
    assert measured > 900


def test_a_plot_is_told_as_far_as_its_first_miss() -> None:
    assert [complex_plot(told) for told in ([True] * 4, [True, True, False, True], [False, True])] == [1, 0.5, 0]
    with pytest.raises(ValueError, match="a flag a plot point"):
        complex_plot([])


def test_motion_order_leaves_out_what_could_not_be_read_up_to_nine_in_ten() -> None:
    assert value(motion_order([1, 0, 1, -1])) == pytest.approx(2 / 3)
    assert value(motion_order([1] + [-1] * 9)) == 1  # exactly nine in ten
    assert value(motion_order([1] + [-1] * 10)) == 0
    assert value(motion_order([-1])) == 0
    assert motion_order([]) == NotMeasured(reason="no film was judged")
    with pytest.raises(ValueError, match="got 2"):
        motion_order([1, 2])


def test_attribute_binding_is_its_closed_form() -> None:
    whole = [0] * 7 + [1] * 7
    assert value(attribute_binding((5, 1), (1, 5), whole)) == pytest.approx(0.8)
    assert value(attribute_binding((4, 2), (3, 5), whole)) == pytest.approx((0.8 * 0.6 + 0.4 * 1.0) / 2)
    assert value(attribute_binding((1, 5), (5, 1), whole)) == 0
    assert value(attribute_binding((5, 5), (1, 5), whole)) == pytest.approx(0.4)  # only the end is right


def test_twelve_of_fourteen_frames_must_show_one_of_the_states() -> None:
    for shown, factor in ((12, 1), (11, 0)):
        middle = [0] * (shown - 5) + [1] * 5 + [None] * (14 - shown)
        assert value(attribute_binding((5, 1), (1, 5), middle)) == pytest.approx(0.8 * factor)


def test_a_grade_that_could_not_be_read_is_not_the_last_films() -> None:
    assert attribute_binding((5, None), (1, 5), [0] * 14) == NotMeasured(reason="a grade could not be read")
    with pytest.raises(ValueError, match="grades of 1 to 5"):
        attribute_binding((6, 1), (1, 5), [0] * 14)
    with pytest.raises(ValueError, match="14 frames"):
        attribute_binding((5, 1), (1, 5), [0] * 16)


def test_the_temporal_composite_is_its_regression() -> None:
    names = ("CLIP temporal consistency", "1 - warping error", "face consistency")
    assert TEMPORAL.of(dict.fromkeys(names, 1.0)) == pytest.approx(500 * (2.925 + 0.455 + 0.176 - 3.423))
    told = dict(zip(names, (0.998, 0.99, 0.97), strict=True))
    assert TEMPORAL.of(told) == pytest.approx(500 * (2.925 * 0.998 + 0.455 * 0.99 + 0.176 * 0.97 - 3.423))
    with pytest.raises(ValueError, match="got face consistency"):
        TEMPORAL.of({"face consistency": 1.0})


def test_the_forgotten_factor_is_that_of_the_intercept_alone() -> None:
    whole, forgotten = (Composite(weights={"x": 0.5}, intercept=0.1, whole=one).of({"x": 1.0}) for one in (True, False))
    assert [whole, forgotten] == pytest.approx([300, 260])
