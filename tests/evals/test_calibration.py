"""Calibration: showings are true as they say, shares and thresholds are what they count, readings go on and repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.brains import EventVerdict, VerdictResult, Viewing
from agents.calibration import Calibration, belief_in
from agents.errors import ModelRefused, ModelUnavailable
from evals.calibration import (
    Calibrating,
    CalibrationSettings,
    Panel,
    Reading,
    agreement,
    calibration_of,
    choose,
    false_acceptance,
    precision,
    rate,
    recall,
    sweep,
)
from evals.calibration_showings import WRONG_CAPTIONS, keeps, showings
from evals.metrics.bootstrap import wilson
from evals.results import read_method
from evals.suite import finish, run
from evals.world.critic import WorldCritic
from evals.world.events import Promise, promised
from evals.world.splits import cases, partner


class Oracle:
    """A critic that knows right captions from wrong ones by their kind, and errs on command."""

    name = "oracle"

    def __init__(self, sure: float = 0.9, wrong: Sequence[str] = ()) -> None:
        self.sure, self.wrong = sure, wrong
        self.judged = 0

    def how(self) -> dict[str, str | int]:
        return {"sure": str(self.sure)}

    def digest(self) -> str:
        return "oracle"

    async def judge(self, viewing: Viewing) -> VerdictResult:
        self.judged += 1
        right = viewing.shot.startswith("right caption")
        done = True if viewing.shot in self.wrong else right
        events = tuple(
            EventVerdict(
                done=done, confidence=self.sure if right else 0.3, evidence="x",
                start=event.start if done else None, end=event.end if done else None,
            )
            for event in viewing.events
        )  # fmt: skip
        return VerdictResult(critic=self.name, events=events, identity=1.0, quality=1.0)


class Broken(Oracle):
    """Refuses wrong captions, and dies at a given showing."""

    def __init__(self, dies_at: int) -> None:
        super().__init__()
        self.dies_at = dies_at

    async def judge(self, viewing: Viewing) -> VerdictResult:
        if self.judged == self.dies_at:
            raise ModelUnavailable("gone")
        if viewing.shot == "another caption":
            self.judged += 1
            raise ModelRefused("no")
        return await super().judge(viewing)


def calibrated(critic: Any, out: Path, clips: int = 2, most_false: float = 0.05) -> Calibration:
    settings = CalibrationSettings(clips=clips, most_false=most_false)
    with closing(Panel(critic)) as panel:
        benchmark = Calibrating(settings, panel)
        table = finish(run(benchmark, benchmark.footage(), out))
        return calibration_of([row["facts"] for row in read_method(table.folder).rows], critic, settings, ())


def test_wilson_stays_open_where_all_flags_are_alike_and_meets_its_closed_form() -> None:
    assert wilson([True] * 10).high == 1.0
    assert wilson([True] * 10).low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)
    half = wilson([True, False] * 50)
    assert half.mean - half.low == pytest.approx(half.high - half.mean)
    assert half.low == pytest.approx(0.4038, abs=1e-3)
    with pytest.raises(ValueError, match="at least one flag"):
        wilson([])


def test_showings_say_what_each_promise_is_worth() -> None:
    case = cases("both", 2, 1, seed=3)[0]
    shown = {one.kind: one for one in showings(case, partner(case, 3))}
    assert len(shown) == 11
    assert all(len(one.kept) == len(one.viewing.events) for one in shown.values())
    assert shown["right caption"].kept == (True, True)
    assert set(shown["clip frozen"].kept) == set(shown["another verb"].kept) == {False}
    assert (shown["right caption"].ordered, shown["events swapped"].ordered) == (True, False)
    assert np.array_equal(shown["clip reversed"].viewing.frames, shown["right caption"].viewing.frames[::-1])
    assert shown["another puppet"].viewing.prompt != shown["right caption"].viewing.prompt
    assert all(event.phrase in one.viewing.prompt for one in shown.values() for event in one.viewing.events)


def test_a_clip_of_one_event_has_nothing_to_swap() -> None:
    case = cases("both", 1, 1)[0]
    assert "events swapped" not in [one.kind for one in showings(case, partner(case))]


def test_what_a_fair_judge_may_see_either_way_is_not_counted() -> None:
    script = next(c for c in cases("seen", 1, 16) if c.verbs == ("chase",)).script
    made = promised(script, script.events[0])
    assert keeps(script, made) is True
    assert keeps(script, Promise(verb="walk", hue=made.hue, side="left")) is None
    assert keeps(script, Promise(verb="spin", hue=made.hue)) is False


def test_shares_are_those_of_a_table_counted_by_hand() -> None:
    told = [("right caption", True, True, 0.9)] * 3 + [("right caption", True, False, 0.1)]
    told += [("another verb", False, True, 0.4)] + [("another verb", False, False, 0.0)] * 5
    readings = [Reading(kind=k, kept=kept, done=done, confidence=c) for k, kept, done, c in told]
    assert [rate(flags(readings, 0.0)).value for flags in (agreement, precision, recall, false_acceptance)] == [
        0.8, 0.75, 0.75, 0.1667,
    ]  # fmt: skip
    assert [rate(flags(readings, 0.5)).value for flags in (agreement, precision, recall, false_acceptance)] == [
        0.9, 1.0, 0.75, 0.0,
    ]  # fmt: skip


def test_the_threshold_is_the_lowest_of_the_best_that_keep_false_acceptance_down() -> None:
    readings = [Reading(kind="right caption", kept=True, done=True, confidence=0.8)] * 10
    readings += [Reading(kind="another verb", kept=False, done=True, confidence=0.4)] * 5
    readings += [Reading(kind="another verb", kept=False, done=False, confidence=0.0)] * 5
    row, trusted = choose(sweep(readings), 0.05)
    assert (row.threshold, trusted) == (0.45, True)


def test_a_critic_that_accepts_everything_is_not_to_be_trusted() -> None:
    readings = [Reading(kind=k, kept=k == "right", done=True, confidence=1.0) for k in ("right", "another verb")]
    row, trusted = choose(sweep(readings), 0.05)
    assert not trusted
    assert row.false_acceptance.value == row.recall.value == 1.0


def test_where_nothing_wrong_was_shown_nothing_is_trusted() -> None:
    readings = [Reading(kind="right caption", kept=True, done=True, confidence=1.0)]
    assert choose(sweep(readings), 0.05)[1] is False


def test_a_critic_that_errs_at_low_confidence_gets_a_threshold_that_ends_it(tmp_path: Path) -> None:
    found = calibrated(Oracle(wrong=WRONG_CAPTIONS), tmp_path)
    assert found.at(0.0).wrong_captions.value == 1.0
    assert (found.threshold, found.trusted) == (0.35, True)
    assert found.at(found.threshold).false_acceptance.value == 0.0
    assert {row.kind: row.recall.value for row in found.kinds}["right caption"] == 1.0


@pytest.mark.slow
def test_a_calibration_goes_on_where_a_model_was_lost_and_ends_with_the_same_file(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable):
        calibrated(Broken(dies_at=10), tmp_path / "a")
    resumed = Broken(dies_at=-1)
    found = calibrated(resumed, tmp_path / "a")
    assert resumed.judged == 11
    assert found == calibrated(Broken(dies_at=-1), tmp_path / "b")
    assert (found.clips, found.showings, found.unanswered) == (2, 21, 2)
    assert Counter(row.kind for row in found.kinds)["another caption"] == 0


def test_the_table_says_every_share_with_its_count(tmp_path: Path) -> None:
    with closing(Panel(Oracle())) as panel:
        benchmark = Calibrating(CalibrationSettings(clips=1), panel)
        lines = finish(run(benchmark, benchmark.footage(), tmp_path)).lines
    named = {(line.summary.metric, line.group): line.summary for line in lines}
    assert named["recall", "all"].mean == named["precision", "all"].mean == 1.0
    assert named["false acceptance", "wrong captions"].count == 4
    assert 0.4 < named["false acceptance", "wrong captions"].high < 0.8  # type: ignore[operator]


@pytest.mark.slow
def test_the_worlds_own_critic_ships_with_its_calibration_and_still_deserves_it(tmp_path: Path) -> None:
    shipped = belief_in("world-critic", WorldCritic().digest())
    assert isinstance(shipped, Calibration)
    assert shipped.trusted
    found = calibrated(WorldCritic(belief=replace_threshold(shipped)), tmp_path, clips=2)
    assert shipped.at(shipped.threshold).agreement.low is not None
    assert (found.at(0.0).agreement.value or 0.0) >= 0.9


def replace_threshold(shipped: Calibration) -> Calibration:
    """The same without a threshold, so that it can be found anew."""
    return shipped.model_copy(update={"threshold": 0.0})


@pytest.mark.parametrize(("changes", "said"), [({"clips": 0}, "clips"), ({"most_false": 1.0}, "most_false")])
def test_settings_that_measure_nothing_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(CalibrationSettings(), **changes)
