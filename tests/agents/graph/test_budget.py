"""The wall clock is a hard limit."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from agents.desk import FilmingDesk
from agents.errors import BudgetExhausted
from agents.profile import Budget
from agents.progress import (
    Note,
)
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
    notes = [event.text for event in studio.told(Note) if isinstance(event, Note)]
    assert all("budget.seconds" in note for note in notes)
    assert len(notes) == 2
    assert studio.archive.run(studio.run_id).seconds_spent >= 6.0


@pytest.mark.slow
async def test_time_that_is_up_before_the_first_take_is_told_and_no_success(studio: Studio) -> None:
    studio.budget = Budget(seconds=0.001)
    outcome = await studio.film()
    assert outcome.status == RunStatus.FAILED
    assert "no shot was filmed: budget.seconds" in str(studio.archive.run(studio.run_id).error)
    studio.budget = Budget()
    assert (await studio.film()).all_seen


async def test_a_take_that_would_not_fit_is_not_begun() -> None:
    clock = Clock(100.0, spent=40.0)
    async with FilmingDesk(InstantBackend(limits=TINY), clock, threading.Event(), pace=2.0) as desk:
        request = ShotRequest(prompt="a fox", frames=33, fps=8, width=16, height=16, seed=1)
        with pytest.raises(BudgetExhausted, match=r"40 of 100 s are spent.*about 66 s"):
            await desk.shoot(request, (1, 1), lambda: None, lambda _: None)
        short = replace(request, frames=17)
        assert (await desk.shoot(short, (1, 1), lambda: None, lambda _: None)).frames.shape[0] == 17
