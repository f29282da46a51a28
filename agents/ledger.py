"""Remembers every model call: the intent row first, then the answer with its tokens, seconds and cost.

An answered question is never put twice in one run; a hard budget stops before the call that would break it. Stands
in front of any LanguageModel and is one itself.
"""

from __future__ import annotations

import time

from agents.brains import LanguageModel, Question, Reply
from agents.errors import BudgetExhausted, ModelUnavailable, StoryError
from agents.profile import Budget
from storage.archive import Archive


class Ledger:
    """A language model whose calls are kept with their run and counted against its budget."""

    def __init__(self, model: LanguageModel, archive: Archive, run_id: int, budget: Budget) -> None:
        self.model = model
        self.archive = archive
        self.run_id = run_id
        self.budget = budget

    @property
    def name(self) -> str:
        """The model's own name."""
        return self.model.name

    async def complete(self, question: Question) -> Reply:
        """The answer kept, or a new one. Raises BudgetExhausted instead of calling; or the model's error."""
        digest = question.digest(self.model.name)
        kept = self.archive.answered(self.run_id, digest)
        if kept is not None:
            return Reply(text=kept.answer or "", tokens_in=kept.tokens_in, tokens_out=kept.tokens_out)
        self._within_budget()
        call = self.archive.begin_call(
            self.run_id,
            role=question.role,
            model=self.model.name,
            prompt_name=question.prompt.name,
            prompt_digest=question.prompt.digest,
            input_digest=digest,
        )
        started = time.monotonic()
        try:
            reply = await self.model.complete(question)
        except BaseException as error:
            # cancelled or unreachable: it may have been carried out and paid
            unknown = isinstance(error, ModelUnavailable) or not isinstance(error, StoryError)
            self.archive.fail_call(
                call.id,
                str(error) or type(error).__name__,
                seconds=time.monotonic() - started,
                unknown=unknown,
            )
            raise
        self.archive.finish_call(
            call.id,
            reply.text,
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            cost=reply.cost,
            seconds=time.monotonic() - started,
        )
        return reply

    def reject(self, question: Question, reason: str) -> None:
        """The answer was of no use: it stays on record and is paid, but is not given again."""
        kept = self.archive.answered(self.run_id, question.digest(self.model.name))
        if kept is not None:
            self.archive.fail_call(kept.id, reason, seconds=kept.seconds)

    def _within_budget(self) -> None:
        spent = self.archive.costs(self.run_id)
        for name, used, limit in (
            ("calls", spent.calls, self.budget.calls),
            ("tokens", spent.tokens_in + spent.tokens_out, self.budget.tokens),
            ("money", spent.money, self.budget.money),
        ):
            if limit is not None and used >= limit:
                raise BudgetExhausted(
                    f"budget.{name}: {used:g} of {limit:g} are spent; raise it and resume, or take the film as it is"
                )
