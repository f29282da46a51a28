"""Parts of a run's account add up, to the digit that is printed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.account import account
from storage.records import RunRecord, TakeRecord
from storage.tables import CallStatus, ModelCall, Run, Shot, Take

SECONDS = st.floats(0, 500)
ROLES = ("planner", "critic")


def record(clock: float, takes: list[float], calls: tuple[ModelCall, ...] = ()) -> RunRecord:
    shot = Shot(id=1, run_id=1, number=1, prompt="", seconds=4.0)
    rows = [Take(id=n, shot_id=1, number=n, seconds_spent=spent) for n, spent in enumerate(takes, 1)]
    kept = tuple(TakeRecord(take=take, shot=shot, verdict=None, remedy=None) for take in rows)
    return RunRecord(run=Run(id=1, seconds_spent=clock), story="", shots=(), takes=kept, calls=calls, film=None)


def call(role: str, cost: float = 0.0, seconds: float = 0.0, **more: object) -> ModelCall:
    values = {"status": CallStatus.ANSWERED, "tokens_in": 10, "tokens_out": 3} | more
    return ModelCall(role=role, model="m", cost=cost, seconds=seconds, **values)


@given(st.lists(SECONDS, max_size=12), SECONDS)
def test_seconds_of_work_are_those_of_the_takes_and_of_the_rest_as_printed(takes: list[float], rest: float) -> None:
    spent = account(record(sum(takes) + rest, takes))
    assert f"{spent.filming:.1f}" == f"{sum(float(f'{take:.1f}') for take in takes):.1f}"
    assert f"{spent.seconds:.1f}" == f"{float(f'{spent.filming:.1f}') + float(f'{spent.rest:.1f}'):.1f}"
    assert spent.rest >= 0


@given(st.lists(st.tuples(st.sampled_from(ROLES), st.floats(0, 3)), max_size=12))
def test_calls_tokens_and_money_of_the_roles_are_those_of_the_run(costs: list[tuple[str, float]]) -> None:
    spent = account(record(1.0, [], tuple(call(role, cost) for role, cost in costs)))
    assert sum(one.calls for one in spent.asked) == spent.calls == len(costs)
    assert sum(one.tokens_in + one.tokens_out for one in spent.asked) == spent.tokens == 13 * len(costs)
    assert f"{sum(float(f'{one.money:.6f}') for one in spent.asked):.6f}" == f"{spent.money:.6f}"


def test_a_call_under_way_counts_the_same_in_its_role_and_in_all() -> None:
    spent = account(record(1.0, [], (call("critic", 0.5), call("critic", 0.25, status=CallStatus.SENT))))
    (critic,) = spent.asked
    assert (critic.calls, critic.tokens_in, critic.money) == (2, 10, 0.5)
    assert (spent.calls, spent.tokens, spent.money) == (2, 13, 0.5)
