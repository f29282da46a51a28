"""A paid call has its row first, and is never made twice."""

from __future__ import annotations

from typing import Any

from storage.archive import Archive
from storage.tables import CallStatus, ModelCall


def begin(archive: Archive, run_id: int, digest: str, role: str = "planner") -> ModelCall:
    more: dict[str, Any] = {"model": "m", "prompt_name": "plan", "prompt_digest": "p"}
    return archive.begin_call(run_id, role=role, input_digest=digest, **more)


def test_the_intent_stands_before_the_answer(archive: Archive, run_id: int) -> None:
    call = begin(archive, run_id, "i1")
    assert [c.status for c in archive.calls(run_id)] == [CallStatus.SENT]
    assert archive.answered(run_id, "i1") is None
    archive.finish_call(call.id, '{"title": "fox"}', tokens_in=10, tokens_out=5, cost=0.25, seconds=1.5)
    answered = archive.answered(run_id, "i1")
    assert answered is not None
    assert answered.answer == '{"title": "fox"}'


def test_an_answer_belongs_to_its_run_and_its_input(archive: Archive, run_id: int) -> None:
    archive.finish_call(begin(archive, run_id, "i1").id, "yes")
    other = archive.open_run("another", "p", {})
    assert archive.answered(other.id, "i1") is None
    assert archive.answered(run_id, "i2") is None


def test_a_refused_call_is_not_an_answer_and_a_lost_one_is_unknown(archive: Archive, run_id: int) -> None:
    archive.fail_call(begin(archive, run_id, "i1").id, "401: no such key")
    archive.fail_call(begin(archive, run_id, "i2").id, "connection lost", unknown=True)
    assert archive.answered(run_id, "i1") is None
    assert archive.unknown(run_id, "i1") is None
    lost = archive.unknown(run_id, "i2")
    assert lost is not None
    assert lost.error == "connection lost"


def test_costs_are_the_sums_that_the_record_shows(archive: Archive, run_id: int) -> None:
    for digest in ("a", "b"):
        archive.finish_call(begin(archive, run_id, digest).id, "yes", tokens_in=10, tokens_out=4, cost=0.25)
    archive.fail_call(begin(archive, run_id, "c").id, "lost", unknown=True)
    archive.spend(run_id, 7.5)
    costs = archive.costs(run_id)
    assert costs == archive.record(run_id).costs
    assert (costs.calls, costs.unknown_calls, costs.tokens_in, costs.tokens_out) == (3, 1, 20, 8)
    assert (costs.money, costs.seconds) == (0.5, 7.5)
