"""Remembers every model call: the intent row first, then the answer with its tokens, seconds and cost.

An answered question is never put twice in one run. None goes out once the budget is spent, or while those that are out
may spend what is left of it: whatever runs at the same time, one call alone can end beyond its limit. A call whose
answer never came cannot be asked after at a chat endpoint: it counts as spent, at the most it can have come to, and is
put once more only while the budget allows (docs/decisions/0021). Stands in front of any LanguageModel and is one
itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from agents.brains import InProcess, LanguageModel, Priced, Question, Reply
from agents.errors import BudgetExhausted, ModelUnavailable, StoryError
from agents.profile import Budget
from storage.archive import Archive
from storage.records import NOTHING, Costs
from storage.tables import ModelCall

LOST = "no answer came; it may have been carried out and paid"
FREE = Reply(text="")


class UnderWay:
    """What is out of one run and not settled, with the most that it can come to. One event loop alone uses it."""

    def __init__(self) -> None:
        self._out: dict[object, Reply] = {}
        self._settled = asyncio.Event()

    @property
    def tokens(self) -> int:
        """Tokens that may still be used."""
        return sum(most.tokens_in + most.tokens_out for most in self._out.values())

    @property
    def money(self) -> float:
        """Money that may still be spent."""
        return sum(most.cost for most in self._out.values())

    async def until(self, fits: Callable[[], bool]) -> None:
        """Wait, settlement by settlement, until it fits or nothing is out. Raises what `fits` raises."""
        while not fits() and self._out:
            await self._settled.wait()

    @contextmanager
    def holding(self, most: Reply) -> Iterator[None]:
        """Keep so much free for a call that is out."""
        call = object()
        self._out[call] = most
        try:
            yield
        finally:
            del self._out[call]
            self._settled.set()
            self._settled = asyncio.Event()


class Ledger:
    """A language model whose calls are kept with their run and counted against its budget."""

    def __init__(
        self,
        model: LanguageModel,
        archive: Archive,
        run_id: int,
        budget: Budget,
        before: Costs = NOTHING,
        out: UnderWay | None = None,
    ) -> None:
        self.model = model
        self.archive = archive
        self.run_id = run_id
        self.budget = budget
        self.before = before
        """What the run had used when this budget began."""
        self.out = out or UnderWay()
        """Shared by all ledgers of a run: they share its budget."""
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Two who put the same question at the same time pay for one answer."""

    @property
    def name(self) -> str:
        """The model's own name."""
        return self.model.name

    async def complete(self, question: Question) -> Reply:
        """The answer kept, or a new one. Raises BudgetExhausted instead of calling; or the model's error."""
        digest = question.digest(self.model.name)
        async with self._turns[digest]:
            kept = self.archive.answered(self.run_id, digest)
            if kept is not None:
                return Reply(text=kept.answer or "", tokens_in=kept.tokens_in, tokens_out=kept.tokens_out)
            most = self.model.at_most(question) if isinstance(self.model, Priced) else FREE
            again = self.archive.unknown(self.run_id, digest) is not None
            await self.out.until(lambda: self._sends(most, again=again) != 0)
            sends = self._sends(most, again=again)
            with self.out.holding(most):
                return await self._asked(replace(question, sends=sends), digest, most)

    async def _asked(self, question: Question, digest: str, most: Reply) -> Reply:
        call = self._intend(question, digest, most)
        started = time.monotonic()
        try:
            reply = await self.model.complete(question)
        except BaseException as error:
            lost = 0 if isinstance(self.model, InProcess) else _unanswered(error)
            reason = str(error) or type(error).__name__
            self.archive.fail_call(call.id, reason, seconds=time.monotonic() - started, unknown=lost > 0)
            self._lose(question, digest, most, lost - 1)
            raise
        self.archive.finish_call(
            call.id,
            reply.text,
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            cost=reply.cost,
            seconds=time.monotonic() - started,
        )
        self._lose(question, digest, most, reply.unanswered)
        return reply

    def _intend(self, question: Question, digest: str, most: Reply) -> ModelCall:
        """The call's row, with the most it can come to."""
        return self.archive.begin_call(
            self.run_id,
            role=question.role,
            model=self.model.name,
            prompt_name=question.prompt.name,
            prompt_digest=question.prompt.digest,
            input_digest=digest,
            tokens_in=most.tokens_in,
            tokens_out=most.tokens_out,
            cost=most.cost,
        )

    def _lose(self, question: Question, digest: str, most: Reply, times: int) -> None:
        """Keep the attempts of one call that went out and were never answered, each as a call of its own."""
        for _ in range(times):
            self.archive.fail_call(self._intend(question, digest, most).id, LOST, unknown=True)

    def reject(self, question: Question, reason: str) -> None:
        """The answer was of no use: it stays on record and is paid, but is not given again."""
        kept = self.archive.answered(self.run_id, question.digest(self.model.name))
        if kept is not None:
            self.archive.fail_call(kept.id, reason, seconds=kept.seconds)

    def _sends(self, most: Reply, *, again: bool) -> int | None:
        """How often a call of at `most` may go out unanswered before the budget is spent; None: no limit is set.

        0 while those that are out may spend it. Raises BudgetExhausted when it is spent.
        """
        spent, sends = self.archive.costs(self.run_id).since(self.before), []
        lost = f"; {spent.unknown_calls} without an answer are counted at their most" if spent.unknown_calls else ""
        lost += "; what was spent before this retry does not count" if self.before.calls else ""
        put = ", and the question that was never answered is not put again" if again else ""
        tokens = spent.tokens_in + spent.tokens_out
        for name, used, out, limit, each in (
            ("calls", spent.calls, 0, self.budget.calls, 1),  # those that are out are counted already
            ("tokens", tokens, self.out.tokens, self.budget.tokens, most.tokens_in + most.tokens_out),
            ("money", spent.money, self.out.money, self.budget.money, most.cost),
        ):
            if limit is None:
                continue
            if used >= limit:
                raise BudgetExhausted(
                    f"budget.{name}: {used:g} of {limit:g} are spent{lost}{put}; raise it and resume, or take the film "
                    "as it is"
                )
            if used + out >= limit:
                return 0
            if each > 0:
                sends.append(math.ceil((limit - used - out) / each))
        return min(sends, default=None)


def _unanswered(error: BaseException) -> int:
    """How many times a request went out without an answer: known of an endpoint, once when it was cancelled."""
    if isinstance(error, ModelUnavailable):
        return error.unanswered
    return 0 if isinstance(error, StoryError) else 1
