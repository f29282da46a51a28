"""Every model call is written down before it is made, never paid twice, and stopped by the budget."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from agents.answers import ask
from agents.brains import Question, Reply
from agents.errors import BudgetExhausted, ModelRefused, ModelUnavailable
from agents.ledger import Ledger, UnderWay
from agents.profile import Budget
from agents.scripted import ScriptedModel
from prompts.catalog import Rendered
from storage.archive import Archive
from storage.tables import CallStatus


class Colour(BaseModel):
    colour: str


def question(user: str = "Which?", vote: int = 0) -> Question:
    prompt = Rendered(name="colour", digest="d", system="s", user=user)
    return Question(role="planner", prompt=prompt, shape=Colour, vote=vote)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "media") as opened:
        yield opened


@pytest.fixture
def run_id(archive: Archive) -> int:
    return archive.open_run("story", "bundled", {}).id


async def test_an_answered_question_is_never_put_again(archive: Archive, run_id: int) -> None:
    model = ScriptedModel(["red", "blue", "green"])
    ledger = Ledger(model, archive, run_id, Budget())
    answers = [await ledger.complete(q) for q in (question(), question(), question(vote=1), question("Else?"))]
    assert [answer.text for answer in answers] == ["red", "red", "blue", "green"]
    assert len(model.asked) == 3
    calls = archive.calls(run_id)
    assert [call.status for call in calls] == [CallStatus.ANSWERED] * 3
    assert calls[0].tokens_out > 0
    assert (calls[0].role, calls[0].prompt_name, calls[0].prompt_digest) == ("planner", "colour", "d")


async def test_the_intent_stands_before_the_call_is_made(archive: Archive, run_id: int) -> None:
    seen: list[CallStatus] = []

    def say(_: Question) -> str:
        seen.append(archive.calls(run_id)[-1].status)
        return "red"

    await Ledger(ScriptedModel(say), archive, run_id, Budget()).complete(question())
    assert seen == [CallStatus.SENT]


@pytest.mark.parametrize(
    ("error", "status"),
    [(ModelUnavailable("gone"), CallStatus.UNKNOWN), (ModelRefused("no"), CallStatus.FAILED)],
)
async def test_a_call_without_answer_is_kept_as_what_it_is(
    archive: Archive, run_id: int, error: Exception, status: CallStatus
) -> None:
    with pytest.raises(type(error)):
        await Ledger(ScriptedModel([error]), archive, run_id, Budget()).complete(question())
    assert archive.calls(run_id)[0].status == status


async def test_a_cancelled_call_is_unknown(archive: Archive, run_id: int) -> None:
    class Slow:
        name = "slow"

        async def complete(self, question: Question) -> Reply:
            await asyncio.sleep(30)
            return Reply(text="late")

    task = asyncio.create_task(Ledger(Slow(), archive, run_id, Budget()).complete(question()))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert archive.calls(run_id)[0].status == CallStatus.UNKNOWN


async def test_answers_that_were_of_no_use_are_paid_but_not_read_again_on_resume(archive: Archive, run_id: int) -> None:
    model = ScriptedModel(["no", "nope", "never", '{"colour": "red"}'])
    ledger = Ledger(model, archive, run_id, Budget())
    with pytest.raises(ModelRefused):
        await ask(ledger, question(), Colour)
    assert (await ask(ledger, question(), Colour)).colour == "red"
    calls = archive.calls(run_id)
    assert [call.status for call in calls] == [CallStatus.FAILED] * 3 + [CallStatus.ANSWERED]
    assert calls[0].answer == "no"
    assert archive.costs(run_id).tokens_out > 3


async def test_what_was_asked_before_a_retry_does_not_count_against_its_budget(archive: Archive, run_id: int) -> None:
    model = ScriptedModel(["red", "blue", "green"])
    await Ledger(model, archive, run_id, Budget()).complete(question())
    again = Ledger(model, archive, run_id, Budget(calls=1), archive.costs(run_id))
    await again.complete(question("Else?"))
    with pytest.raises(
        BudgetExhausted, match=r"budget\.calls: 1 of 1 are spent; what was spent before this retry does"
    ):
        await again.complete(question("More?"))


@pytest.mark.parametrize("budget", [Budget(calls=1), Budget(tokens=1)])
async def test_the_budget_stops_before_the_call_that_would_break_it(
    archive: Archive, run_id: int, budget: Budget
) -> None:
    model = ScriptedModel(["red", "blue"])
    ledger = Ledger(model, archive, run_id, budget)
    await ledger.complete(question())
    with pytest.raises(BudgetExhausted, match=r"budget\.(calls|tokens)"):
        await ledger.complete(question("Else?"))
    assert len(model.asked) == 1
    assert (await ledger.complete(question())).text == "red"


class Dear:
    """A model that says what it may cost and then does not answer as often as it is told."""

    name = "dear"

    def __init__(self, *, lost_before: int = 0, fails: Exception | None = None) -> None:
        self.lost_before = lost_before
        self.fails = fails
        self.asked = 0
        self.sends: list[int | None] = []

    def at_most(self, question: Question) -> Reply:
        return Reply(text="", tokens_in=100, tokens_out=1000, cost=2.0)

    async def complete(self, question: Question) -> Reply:
        self.asked += 1
        self.sends.append(question.sends)
        await asyncio.sleep(0.01)
        if self.fails is not None:
            raise self.fails
        return Reply(text="red", tokens_in=10, tokens_out=1, cost=0.1, unanswered=self.lost_before)


@pytest.mark.parametrize(
    ("error", "unknown", "money"),
    [
        (ModelUnavailable("no answer"), 1, 2.0),
        (ModelUnavailable("no answer, three times", unanswered=3), 3, 6.0),
        (ModelUnavailable("429", unanswered=0), 0, 0.0),
        (ModelRefused("400"), 0, 0.0),
    ],
)
async def test_a_call_without_an_answer_counts_at_its_most_and_a_refused_one_not_at_all(
    archive: Archive, run_id: int, error: Exception, unknown: int, money: float
) -> None:
    with pytest.raises(type(error)):
        await Ledger(Dear(fails=error), archive, run_id, Budget()).complete(question())
    costs = archive.costs(run_id)
    assert (costs.unknown_calls, costs.money) == (unknown, money)
    assert costs == archive.record(run_id).costs


async def test_attempts_that_were_lost_before_the_answer_are_calls_of_their_own(archive: Archive, run_id: int) -> None:
    await Ledger(Dear(lost_before=2), archive, run_id, Budget()).complete(question())
    costs = archive.costs(run_id)
    assert (costs.calls, costs.unknown_calls, costs.money) == (3, 2, 4.1)


async def test_what_is_under_way_is_not_counted_before_it_is_settled(archive: Archive, run_id: int) -> None:
    model = Dear()
    ledger = Ledger(model, archive, run_id, Budget(money=1.0))
    await asyncio.gather(*(ledger.complete(question(vote=n)) for n in range(4)))
    assert archive.costs(run_id).money == pytest.approx(0.4)


@pytest.mark.parametrize("budget", [Budget(money=0.25), Budget(tokens=25)])
async def test_calls_of_one_run_side_by_side_end_beyond_the_budget_by_one_call_at_most(
    archive: Archive, run_id: int, budget: Budget
) -> None:
    """Three roles with a ledger each, as a run has them."""
    model, out = Dear(), UnderWay()
    ledgers = [Ledger(model, archive, run_id, budget, out=out) for _ in range(3)]
    asked = [ledgers[n % 3].complete(question(vote=n)) for n in range(9)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Reply] * 3 + [BudgetExhausted] * 6
    assert model.asked == 3
    assert archive.costs(run_id).money == pytest.approx(0.3)


async def test_what_the_budget_holds_many_times_over_goes_out_side_by_side(archive: Archive, run_id: int) -> None:
    class Watched(Dear):
        together, most = 0, 0

        async def complete(self, question: Question) -> Reply:
            self.together += 1
            self.most = max(self.most, self.together)
            try:
                return await super().complete(question)
            finally:
                self.together -= 1

    model = Watched()
    ledger = Ledger(model, archive, run_id, Budget(money=6.5))
    await asyncio.gather(*(ledger.complete(question(vote=n)) for n in range(8)))
    assert model.most == 4  # four of at most 2.0 each: the fourth begins with .5 left


async def test_a_call_that_fails_makes_room_for_those_that_wait(archive: Archive, run_id: int) -> None:
    model = Dear(fails=ModelRefused("400"))
    ledger = Ledger(model, archive, run_id, Budget(money=1.0))
    answers = await asyncio.gather(*(ledger.complete(question(vote=n)) for n in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ModelRefused] * 3


async def test_who_puts_the_same_question_at_the_same_time_shares_one_answer(archive: Archive, run_id: int) -> None:
    model = Dear()
    ledger = Ledger(model, archive, run_id, Budget())
    replies = await asyncio.gather(*(ledger.complete(question()) for _ in range(3)))
    assert {reply.text for reply in replies} == {"red"}
    assert model.asked == 1


async def test_an_unanswered_question_is_put_again_only_while_the_budget_allows(archive: Archive, run_id: int) -> None:
    with pytest.raises(ModelUnavailable):
        await Ledger(Dear(fails=ModelUnavailable("lost")), archive, run_id, Budget()).complete(question())
    poor, rich = Dear(), Dear()
    with pytest.raises(
        BudgetExhausted, match=r"budget\.money: 2 of 1\.5 are spent; 1 without an answer.*not put again"
    ):
        await Ledger(poor, archive, run_id, Budget(money=1.5)).complete(question())
    assert poor.asked == 0
    assert (await Ledger(rich, archive, run_id, Budget(money=2.5)).complete(question())).text == "red"


@pytest.mark.parametrize(
    ("budget", "sends"),
    [
        (Budget(), None),
        (Budget(calls=3), 3),
        (Budget(money=4.5), 3),
        (Budget(money=4.0, calls=5), 2),
        (Budget(tokens=500), 1),
    ],
)
async def test_a_question_is_told_how_often_it_may_go_unanswered_before_the_budget_is_spent(
    archive: Archive, run_id: int, budget: Budget, sends: int | None
) -> None:
    model = Dear()
    await Ledger(model, archive, run_id, budget).complete(question())
    assert model.sends == [sends]
