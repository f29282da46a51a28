"""Paid calls to language and vision models: the row stands before the call is made, so no answer is bought twice."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlmodel import col, select

from storage.database import Database
from storage.errors import no_run
from storage.records import Costs
from storage.tables import CallStatus, ModelCall, Run


class Calls:
    """The part of the archive that keeps model calls."""

    _db: Database

    def begin_call(
        self,
        run_id: int,
        *,
        role: str,
        model: str,
        prompt_name: str,
        prompt_digest: str,
        input_digest: str,
        tokens_in: int = 0,
        tokens_out: int = 0,
        cost: float = 0.0,
    ) -> ModelCall:
        """Write the intent; call the model only after this returned.

        Tokens and cost are the most it can come to: they stand, and count, only if no answer ever comes.
        """
        call = ModelCall(
            run_id=run_id,
            role=role,
            model=model,
            prompt_name=prompt_name,
            prompt_digest=prompt_digest,
            input_digest=input_digest,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost=cost,
        )
        with self._db.write() as session:
            session.add(call)
        return call

    def finish_call(
        self,
        call_id: int,
        answer: str,
        *,
        tokens_in: int = 0,
        tokens_out: int = 0,
        cost: float = 0.0,
        seconds: float = 0.0,
    ) -> None:
        """Keep the answer and what it cost."""
        values = {
            "status": CallStatus.ANSWERED,
            "answer": answer,
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
        }
        self._settle(call_id, values | {"cost": cost, "seconds": seconds})

    def fail_call(self, call_id: int, error: str, *, seconds: float = 0.0, unknown: bool = False) -> None:
        """The call was refused, or (`unknown`) it may have been carried out and paid, but no answer came.

        An unknown call goes on to count at the most it can have come to; an answer that is failed keeps what it cost.
        """
        values: dict[str, object] = {
            "status": CallStatus.UNKNOWN if unknown else CallStatus.FAILED,
            "error": error,
            "seconds": seconds,
        }
        if not unknown:
            open_still = col(ModelCall.status) == CallStatus.SENT
            for name in ("tokens_in", "tokens_out", "cost"):
                values[name] = sa.case((open_still, 0), else_=getattr(ModelCall, name))
        self._settle(call_id, values)

    def answered(self, run_id: int, input_digest: str) -> ModelCall | None:
        """The call of this run with this very input, when it was answered: never make it again."""
        return self._newest(run_id, input_digest, CallStatus.ANSWERED)

    def unknown(self, run_id: int, input_digest: str) -> ModelCall | None:
        """The call of this run with this very input that may have been paid but whose answer never came."""
        return self._newest(run_id, input_digest, CallStatus.UNKNOWN)

    def calls(self, run_id: int) -> list[ModelCall]:
        """Every call of the run, oldest first."""
        with self._db.read() as session:
            mine = select(ModelCall).where(ModelCall.run_id == run_id).order_by(col(ModelCall.id))
            return list(session.exec(mine))

    def costs(self, run_id: int) -> Costs:
        """What the run has used so far, summed in the database; NotFound for an unknown run.

        A call under way counts as a call and not yet in tokens and money; an unknown one at its most.
        """
        total = sa.func.coalesce
        settled = col(ModelCall.status) != CallStatus.SENT
        sums = sa.select(
            sa.func.count(col(ModelCall.id)),
            total(sa.func.sum(sa.case((col(ModelCall.status) == CallStatus.UNKNOWN, 1), else_=0)), 0),
            total(sa.func.sum(sa.case((settled, col(ModelCall.tokens_in)), else_=0)), 0),
            total(sa.func.sum(sa.case((settled, col(ModelCall.tokens_out)), else_=0)), 0),
            total(sa.func.sum(sa.case((settled, col(ModelCall.cost)), else_=0.0)), 0.0),
        ).where(col(ModelCall.run_id) == run_id)
        with self._db.read() as session:
            run = session.get(Run, run_id)
            if run is None:
                raise no_run(run_id)
            calls, unknown, tokens_in, tokens_out, money = session.execute(sums).one()
        return Costs(
            seconds=run.seconds_spent,
            calls=calls,
            unknown_calls=int(unknown),  # MySQL sums whole numbers as Decimal
            tokens_in=int(tokens_in),
            tokens_out=int(tokens_out),
            money=float(money),
        )

    def _newest(self, run_id: int, input_digest: str, status: CallStatus) -> ModelCall | None:
        where = (
            ModelCall.run_id == run_id,
            ModelCall.input_digest == input_digest,
            ModelCall.status == status,
        )
        with self._db.read() as session:
            return session.exec(select(ModelCall).where(*where).order_by(col(ModelCall.id).desc())).first()

    def _settle(self, call_id: int, values: Mapping[str, object]) -> None:
        with self._db.write() as session:
            session.execute(sa.update(ModelCall).where(col(ModelCall.id) == call_id).values(dict(values)))
