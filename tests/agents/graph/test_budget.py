"""Seconds of work are a hard limit, and what is said of them is what was counted."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from agents.desk import FilmingDesk
from agents.errors import BudgetExhausted
from agents.graph import film_story
from agents.profile import Budget
from agents.progress import ShotDone
from agents.state import Clock
from generators.backends.instant import InstantBackend
from generators.clip import Clip, ShotRequest
from storage.tables import RunStatus
from tests.agents.graph.stage import TINY, Studio


@pytest.mark.slow
async def test_the_wall_clock_is_hard_and_the_film_is_cut_from_what_exists(studio: Studio) -> None:
    class Slows(InstantBackend):
        def shoot(self, *arguments: Any, **named: Any) -> list[Clip]:
            clips = super().shoot(*arguments, **named)
            self.seconds_per_step = 100.0  # every take after the first would last for minutes
            return clips

    studio.backend = Slows(limits=TINY)
    studio.budget = Budget(takes_per_shot=4, seconds=6.0)
    begun = time.monotonic()
    outcome = await studio.film()
    assert time.monotonic() - begun < 60
    assert outcome.film is not None
    assert outcome.film.missing == ["2", "3"]
    assert outcome.status == RunStatus.DONE
    notes = {e.shot: e.why.partition(":")[0] for e in studio.told(ShotDone) if isinstance(e, ShotDone)}
    assert notes == {"1": "", "2": "budget.seconds", "3": "budget.seconds"}
    assert studio.archive.run(studio.run_id).seconds_spent >= 5.8, "what is kept for the cut is not filmed away"


@pytest.mark.slow
async def test_time_that_is_up_before_the_first_take_is_told_and_no_success(studio: Studio) -> None:
    studio.budget = Budget(seconds=0.001)
    with pytest.raises(BudgetExhausted, match="no shot was filmed: budget.seconds"):
        await studio.film()
    assert studio.archive.run(studio.run_id).status == RunStatus.FAILED
    assert "no shot was filmed: budget.seconds" in str(studio.archive.run(studio.run_id).error)
    studio.budget = Budget()
    assert (await studio.film()).all_seen


async def test_a_take_that_would_not_fit_is_not_begun() -> None:
    clock = Clock(100.0, spent=40.0)
    async with FilmingDesk(InstantBackend(limits=TINY), clock, threading.Event(), pace=2.0) as desk:
        request = ShotRequest(prompt="a fox", frames=33, fps=8, width=16, height=16, seed=1)
        with pytest.raises(BudgetExhausted, match=r"40\.\d of 100 s of work are spent, 3\.0 s are .*about 66\.0 s"):
            await desk.shoot(request, (1, 1), lambda: None, lambda _: None)
        short = replace(request, frames=17)
        assert (await desk.shoot(short, (1, 1), lambda: None, lambda _: None)).frames.shape[0] == 17


def test_a_retry_counts_its_own_seconds_and_says_which_it_does_not_count() -> None:
    clock = Clock(20.0, spent=0.0, before=57.3)
    clock.check(needed=10.0)
    with pytest.raises(BudgetExhausted) as told:
        clock.check(needed=19.5)
    assert str(told.value) == (
        "budget.seconds: 0.0 of 20 s of work are spent (the 57.3 s before this retry do not count), "
        "0.6 s are kept to cut the film, the next step takes about 19.5 s"
    )


@pytest.mark.slow
async def test_what_the_run_took_before_its_budget_began_is_not_counted(studio: Studio) -> None:
    studio.archive.spend(studio.run_id, 57.3)
    studio.budget = Budget(seconds=50.0)
    crew = studio.crew()
    crew.before = studio.archive.costs(studio.run_id)
    assert (await film_story(studio.job(), crew)).all_seen
