"""What a retry says of every shot: whether its new takes are better, and which take stays."""

from __future__ import annotations

from datetime import UTC, datetime

from agents.account import Spent
from agents.outcome import FilmResult, ShotOutcome, TakeOutcome, tally
from agents.retries import Retried, compare


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


def take(number: int, seen: int | None, *, in_film: bool = False, status: str = "done") -> TakeOutcome:
    return TakeOutcome(
        number=number,
        seed=number,
        status=status,
        seen=seen,
        unjudged=0,
        identity=None,
        quality=None,
        seconds=1.0,
        in_film=in_film,
    )


def film(*takes: TakeOutcome) -> FilmResult:
    """A film of one shot, number 2."""
    shots = (ShotOutcome(label="2", prompt="x", seconds=4.0, continues=False, events=(), takes=takes),)
    spent = Spent(seconds=0, filming=0, rest=0, judging=0, calls=0, tokens=0, money=0)
    return FilmResult(
        run=1,
        title="",
        profile="",
        status="done",
        error="",
        notes=(),
        folder=None,
        film=None,
        report=None,
        shots=shots,
        missing=(),
        tally=tally(shots),
        spent=spent,
        created=datetime.now(UTC),
    )


def test_only_takes_that_the_retry_finished_are_new() -> None:
    before = film(take(1, 1, in_film=True), take(2, None, status="failed"))
    after = film(take(1, 1, in_film=True), take(2, None, status="failed"), take(3, 0), take(4, None, status="failed"))
    (found,) = compare(before, after, {2})
    assert (found.new, found.best, found.best_seen, found.stands) == ((3,), 3, 0, 1)
    assert compare(before, after, {1}) == ()


def test_a_kept_take_that_is_judged_in_the_retry_is_told_with_what_was_seen() -> None:
    before = film(take(1, None, in_film=True))
    (found,) = compare(before, film(take(1, 2, in_film=True), take(2, 1)), {2})
    assert (found.stood, found.stood_seen, found.best_seen, found.stands) == (1, 2, 1, 1)
