"""What a run used, in parts that add up: the one source of such numbers for the terminal, for JSON and for the report.

Sums are of the parts as they are told, rounded, so that printed parts give their printed sum. Knows rows and no words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # these take a while to import, and asking for help must not
    from storage.records import RunRecord
    from storage.tables import ModelCall

MONEY_DIGITS = 6
"""Behind the point; one call may cost a hundredth of a cent."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The calls of one role to one model."""

    role: str
    model: str
    calls: int
    failed: int
    """Calls that were refused, answered uselessly, or never answered."""
    tokens_in: int
    tokens_out: int
    money: float
    seconds: float
    """Waited for answers; several calls wait at once, and beside the filming."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a run has used, over all its resumptions, up to the cut of its film."""

    seconds: float
    """Work in all, by the clock: `filming` and `rest`."""
    filming: float
    """All takes'."""
    rest: float
    """Everything else: planning, judging, takes that came to nothing, cutting."""
    judging: float
    """Looking at takes. Some of it goes on while the next take is filmed, so it is no part of the sum."""
    calls: int
    tokens: int
    money: float
    unanswered: int = 0
    """Calls whose answer never came: they may have been paid, and count at the most they can have come to."""
    asked: tuple[Asked, ...] = ()
    """The calls by role and model; they add up to `calls`, `tokens` and `money`."""


def account(record: RunRecord) -> Spent:
    """The run's account as it stands."""
    costs, asked = record.costs, _asked(record.calls)
    filming = told_seconds(sum(told_seconds(take.take.seconds_spent) for take in record.takes))
    seconds = max(told_seconds(costs.seconds), filming)  # a run that was killed may have lost some of its clock
    return Spent(
        seconds=seconds,
        filming=filming,
        rest=told_seconds(seconds - filming),
        judging=told_seconds(sum(take.verdict.seconds_spent for take in record.takes if take.verdict)),
        calls=costs.calls,
        tokens=costs.tokens_in + costs.tokens_out,
        money=_told_money(sum(one.money for one in asked)),
        unanswered=costs.unknown_calls,
        asked=asked,
    )


def told_seconds(seconds: float) -> float:
    """Seconds as they are told: tenths."""
    return round(float(seconds), 1)


def _told_money(money: float) -> float:
    return round(float(money), MONEY_DIGITS)


def _asked(calls: Sequence[ModelCall]) -> tuple[Asked, ...]:
    groups: dict[tuple[str, str], list[ModelCall]] = {}
    for call in calls:
        groups.setdefault((call.role, call.model), []).append(call)
    return tuple(_asked_of(role, model, group) for (role, model), group in sorted(groups.items()))


def _asked_of(role: str, model: str, calls: Sequence[ModelCall]) -> Asked:
    settled = [call for call in calls if call.status != "sent"]  # as the costs of a record count
    return Asked(
        role=role,
        model=model,
        calls=len(calls),
        failed=sum(call.status in ("failed", "unknown") for call in calls),
        tokens_in=sum(call.tokens_in for call in settled),
        tokens_out=sum(call.tokens_out for call in settled),
        money=_told_money(sum(call.cost for call in settled)),
        seconds=told_seconds(sum(call.seconds for call in settled)),
    )
