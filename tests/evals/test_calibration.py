"""Calibration: showings are true as they say, shares and thresholds are what they count, readings go on and repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
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
    halves,
    held_out,
    keeps_its_word,
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
        facts = {row["unit"]: row["facts"] for row in read_method(table.folder).rows}
        return calibration_of(facts, critic, settings, ())


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
    found = calibrated(Oracle(wrong=WRONG_CAPTIONS), tmp_path, clips=4)
    assert found.at(0.0).wrong_captions.value == 1.0
    assert found.threshold == 0.35
    assert found.at(found.threshold).false_acceptance.value == 0.0
    assert (found.held_out.thresholds, found.held_out.false_acceptance.value) == ((0.35, 0.35), 0.0)
    assert found.held_out.recall == found.at(found.threshold).recall
    assert not found.trusted, "none of so few broken promises says little"
    assert {row.kind: row.recall.value for row in found.kinds}["right caption"] == 1.0


def told(*counts: tuple[bool, float, int], kind: str = "another verb") -> list[Reading]:
    """So many readings of each (kept, confidence), all taken for done."""
    return [
        Reading(kind="right caption" if kept else kind, kept=kept, done=True, confidence=sure)
        for kept, sure, count in counts
        for _ in range(count)
    ]


def test_each_half_of_the_clips_is_judged_at_the_threshold_of_the_other() -> None:
    first = told((True, 0.9, 10), (False, 0.3, 100))
    second = told((True, 0.9, 6), (True, 0.5, 4), (False, 0.3, 95), (False, 0.8, 5))
    found = held_out((first, second), 0.05)
    assert found.thresholds == (0.35, 0.35)
    assert (found.recall.value, found.recall.count) == (1.0, 20)
    assert (found.false_acceptance.value, found.false_acceptance.count) == (0.025, 200)
    strict = held_out((first, second), 0.02)
    assert strict.thresholds == (0.35, 0.85)
    assert strict.recall.value == pytest.approx((10 + 10) / 20)
    assert strict.false_acceptance.value == pytest.approx((0 + 5) / 200)
    swapped = held_out((second, first), 0.02)
    assert swapped.thresholds == (0.85, 0.35)
    assert swapped.false_acceptance == strict.false_acceptance


def test_a_threshold_that_only_its_own_clips_like_is_not_trusted() -> None:
    lucky = told((True, 0.9, 50), (False, 0.3, 100))
    unlucky = told((True, 0.9, 50), (False, 0.8, 100))
    row, passed = choose(sweep([*lucky, *unlucky]), 0.05)
    assert (row.threshold, passed) == (0.85, True)
    found = held_out((lucky, unlucky), 0.05)
    assert (found.thresholds, found.false_acceptance.value) == ((0.35, 0.85), 0.5)
    assert not keeps_its_word(found, 0.05)


@pytest.mark.parametrize(("broken", "trusted"), [(72, False), (73, True)])
def test_the_upper_bound_must_pass_not_the_share_alone(broken: int, trusted: bool) -> None:
    """Wilson's upper bound of none in n is z² / (n + z²): below 5 % from 73."""
    first, second = told((True, 0.9, 50), (False, 0.1, 30)), told((True, 0.9, 50), (False, 0.1, broken - 30))
    found = held_out((first, second), 0.05)
    assert (found.false_acceptance.value, found.false_acceptance.count) == (0.0, broken)
    assert keeps_its_word(found, 0.05) is trusted


def test_wrong_captions_must_pass_on_their_own() -> None:
    """100 of another kind are no wrong captions: of those there are too few."""
    half = [*told((True, 0.9, 50), (False, 0.1, 10)), *told((False, 0.1, 100), kind="clip reversed")]
    found = held_out((half, half), 0.05)
    assert (found.false_acceptance.count, found.wrong_captions.count) == (220, 20)
    assert not keeps_its_word(found, 0.05)


def test_a_critic_that_sees_too_little_on_clips_held_out_is_not_trusted() -> None:
    half = told((True, 0.9, 50), (False, 0.1, 100))
    found = held_out((half, half), 0.05)
    for seen, trusted in ((50, True), (49, False)):
        recall_of = rate([True] * seen + [False] * (100 - seen))
        assert keeps_its_word(found.model_copy(update={"recall": recall_of}), 0.05) is trusted


def test_one_clip_of_each_length_cannot_be_cut_in_halves() -> None:
    found = held_out((told((True, 0.9, 9), (False, 0.1, 200)), []), 0.05)
    assert (found.thresholds, found.recall.count, keeps_its_word(found, 0.05)) == ((), 0, False)


def test_halves_hold_clips_of_both_lengths() -> None:
    settings = CalibrationSettings(clips=8)
    names = [f"both-{events}-{number:04d}" for number in range(4) for events in (1, 2)]
    facts = {name: {"readings": [asdict(one) for one in told((True, 0.5, 1))]} for name in names}
    for name, found in facts.items():
        found["readings"][0]["kind"] = name
    even, odd = ([one.kind for one in half] for half in halves(facts, settings))
    assert even == [name for name in names if name.endswith(("0000", "0002"))]
    assert odd == [name for name in names if name.endswith(("0001", "0003"))]


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
    assert named["recall, held out", "all"].unmeasured == {"too few clips for two halves": 0}
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
