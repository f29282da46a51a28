"""The filming desk: what fits into the time that is left, and who is asked for a set."""

from __future__ import annotations

import threading

import pytest

from agents.desk import FilmingDesk
from agents.state import Clock
from generators.backends.instant import InstantBackend
from generators.clip import ShotRequest, ShotSet
from generators.errors import RequestRejected


def shots() -> ShotSet:
    one = ShotRequest(prompt="A red fox runs.", frames=9, fps=8, width=16, height=16, seed=1)
    return ShotSet(requests=(one, one.with_seed(2)), subjects=("fox", "fox"), anchors=2, wanted=(0, 1))


def desk(limit: float, pace: float | None) -> FilmingDesk:
    return FilmingDesk(InstantBackend(), Clock(limit, 0.0), threading.Event(), pace)


def test_a_set_takes_at_most_four_plain_clips_a_shot_and_fits_only_where_those_do() -> None:
    assert shots().work == 2 * 4 * 9
    assert desk(100.0, 1.0).fits(shots().work)
    assert not desk(50.0, 1.0).fits(shots().work)
    assert desk(50.0, 1.0).fits(9)
    assert desk(50.0, None).fits(shots().work)


async def test_a_backend_that_films_one_by_one_is_not_asked_for_a_set() -> None:
    class OneByOne:
        name = "one by one"
        weights = None
        limits = InstantBackend().limits
        shoot = InstantBackend.shoot
        close = InstantBackend.close

    async with FilmingDesk(OneByOne(), Clock(None, 0.0), threading.Event()) as made:
        with pytest.raises(RequestRejected, match="one by one films shots one by one"):
            await made.shoot_set(shots(), (1, 1), lambda: None, lambda progress: None)
