"""What a retry says of every shot: whether its new takes are better, and which take stays."""

from __future__ import annotations

from agents.retries import Retried


def said(
    *,
    new: tuple[int, ...],
    best_seen: int | None = None,
    stood: int | None = 1,
    stood_seen: int | None,
    stands: int | None,
) -> str:
    best = stands if stands in new else (new[0] if new else None)
    return Retried(
        shot="2", promised=2, new=new, best=best, best_seen=best_seen, stood=stood, stood_seen=stood_seen, stands=stands
    ).said


def test_a_new_take_that_is_worse_leaves_the_kept_one() -> None:
    told = said(new=(3,), best_seen=1, stood_seen=2, stands=1)
    assert told == "Shot 2: the new take 3 shows 1 of 2 events, the kept one 2 of 2: take 1 stays"


def test_a_new_take_that_is_as_good_leaves_the_kept_one() -> None:
    told = said(new=(3, 4), best_seen=1, stood_seen=1, stands=1)
    alike = "as the kept one does, and is not better otherwise"
    assert told == f"Shot 2: the best of 2 new takes, 3, shows 1 of 2 events, {alike}: take 1 stays"


def test_a_better_take_is_in_the_film_now() -> None:
    told = said(new=(3,), best_seen=2, stood_seen=1, stands=3)
    assert told == "Shot 2: the new take 3 shows 2 of 2 events, take 1 1 of 2: take 3 is in the film now"
    first = said(new=(3,), best_seen=2, stood=None, stood_seen=None, stands=3)
    assert first == "Shot 2: the new take 3 shows 2 of 2 events: take 3 is in the film now"


def test_a_retry_that_finished_no_take_says_so() -> None:
    assert said(new=(), stood_seen=1, stands=1) == "Shot 2: no new take was finished, take 1 stays"
    assert said(new=(), stood=None, stood_seen=None, stands=None) == "Shot 2: no new take was finished"


def test_where_nobody_judges_the_newest_take_stands() -> None:
    told = said(new=(2,), stood_seen=None, stands=2)
    assert told == "Shot 2: the new take 2 is in the film now: where nobody judges, the newest stands"
    assert said(new=(2,), stood_seen=1, stands=1) == "Shot 2: the new take 2 was not judged, take 1 stays"
