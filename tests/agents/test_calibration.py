"""A calibration file is what its critic goes by: threshold, warning, and nothing for another way of looking."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from agents.brains import EventVerdict, VerdictResult
from agents.calibration import (
    Calibration,
    HeldOut,
    Rate,
    SweepRow,
    Uncalibrated,
    belief_in,
    believed,
    read_calibration,
    warning_of,
    write_calibration,
)
from agents.checkup import look
from agents.critic import CriticOptions, Description, EventScore, ModelCritic, Scores
from agents.errors import UsageError
from agents.scripted import ScriptedModel
from tests.agents.test_critic import viewing

SURE, UNSURE = Rate(value=0.0, low=0.0, high=0.1, count=40), Rate(value=0.4, low=0.3, high=0.5, count=40)


def calibration(threshold: float = 0.6, *, false: Rate = SURE, digest: str = "d", critic: str = "m") -> Calibration:
    row = SweepRow(
        threshold=threshold, agreement=SURE, precision=SURE, recall=SURE, false_acceptance=SURE, wrong_captions=SURE
    )
    held = HeldOut(
        thresholds=(threshold, threshold), agreement=SURE, precision=SURE, recall=SURE, false_acceptance=false,
        wrong_captions=false,
    )  # fmt: skip
    return Calibration(
        critic=critic, digest=digest, how={"votes": 3}, threshold=threshold, most_false=0.05,
        trusted=false is SURE, clips=4, showings=30, unanswered=0, seed=0, order=SURE, kinds=(), sweep=(row,),
        held_out=held,
    )  # fmt: skip


def verdict(*confidences: float) -> VerdictResult:
    events = tuple(EventVerdict(done=True, confidence=one, evidence="seen", start=0.0, end=1.0) for one in confidences)
    return VerdictResult(critic="m", events=events, identity=1.0, quality=1.0)


def test_a_done_event_below_the_threshold_is_not_done_and_says_why() -> None:
    held = believed(verdict(0.9, 0.5), calibration(0.6))
    assert [event.done for event in held.events] == [True, False]
    assert held.events[1].start is None
    assert "below the calibrated 0.6" in held.events[1].evidence
    assert held.notes == ()


def test_an_uncalibrated_critic_keeps_its_verdict_and_warns_beside_it() -> None:
    held = believed(verdict(0.1), Uncalibrated(reason="critic m was never calibrated"))
    assert held.events[0].done
    assert held.notes == ("critic m was never calibrated",)


def test_a_critic_that_failed_its_calibration_says_how_often_it_is_wrong() -> None:
    """By the clips that its threshold was not chosen by."""
    said = warning_of(calibration(false=UNSURE))
    assert said == "critic m sees 0 % of kept promises and takes 40 % (at most 50 %) of broken ones for kept"
    nothing = Rate(value=None, low=None, high=None, count=0)
    assert "takes an unknown share of broken ones" in warning_of(calibration(false=nothing))


def test_a_file_reads_back_as_it_was_and_has_the_same_bytes_twice(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "m.json", tmp_path / "m.json"
    write_calibration(first, calibration())
    write_calibration(second, read_calibration(first))
    assert read_calibration(second) == calibration()
    assert first.read_bytes() == second.read_bytes()


def test_a_file_counts_only_for_the_way_of_looking_it_was_made_with(tmp_path: Path) -> None:
    write_calibration(tmp_path / "m.json", calibration(digest="old"))
    assert belief_in("m", "old", tmp_path) == calibration(digest="old")
    other, stranger = belief_in("m", "new", tmp_path), belief_in("n", "old", tmp_path)
    assert isinstance(other, Uncalibrated)
    assert "other wordings" in other.reason
    assert isinstance(stranger, Uncalibrated)
    assert "never calibrated" in stranger.reason


def test_a_broken_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(UsageError, match=r"m\.json cannot be read .*eval calibrate"):
        belief_in("m", "d", tmp_path)


def test_the_digest_of_a_vision_critic_follows_wordings_votes_and_frames() -> None:
    model = ScriptedModel([])
    digests = {ModelCritic(model, CriticOptions(votes=v, most_frames=f)).digest() for v in (1, 3) for f in (16, 32)}
    assert len(digests) == 4
    assert set(CriticOptions().how()) >= {"describe", "score", "votes", "frames"}


def answers(confidence: float) -> list[Description | Scores]:
    events = [
        EventScore(event=n, evidence="seen", start=0.0, end=1.0, confidence=confidence, done=True) for n in (1, 2)
    ]
    return [Description(description="x"), Scores(events=events, identity=1, quality=1)]


async def test_a_vision_model_that_was_not_calibrated_warns_once_on_the_log(caplog: pytest.LogCaptureFixture) -> None:
    critic = ModelCritic(ScriptedModel([*answers(0.2), *answers(0.2)]), CriticOptions(votes=1))
    with caplog.at_level(logging.WARNING):
        found = [await critic.judge(viewing()) for _ in range(2)]
    assert [record.message for record in caplog.records] == list(found[0].notes)
    assert "scripted was never calibrated" in found[1].notes[0]
    assert found[0].failed == ()


async def test_a_vision_model_goes_by_its_threshold() -> None:
    critic = ModelCritic(ScriptedModel(list(answers(0.5))), CriticOptions(votes=1), calibration(0.6))
    assert (await critic.judge(viewing())).failed == (0, 1)


def test_doctor_says_what_critics_are_worth_and_which_were_never_calibrated(tmp_path: Path) -> None:
    said = {finding.name: finding for finding in look(tmp_path, {}).critics}
    assert said["world-critic"].fine
    assert "never calibrated" in said["wan"].says
