"""The same from Python: sync, async, as a stream of events."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fabula
from agents.errors import EditError
from fabula import Caps, FilmResult, Order, Studio, UsageError, progress
from generators.backends.lazy import LazyBackend
from generators.clip import Backend

STORY = "A red fox jumps high up in the meadow. A blue cat dances on the beach. The fox spins around."


@pytest.mark.slow
def test_a_story_is_filmed_and_its_result_is_a_frozen_value(desk: Path) -> None:
    with Studio() as studio:
        film = studio.run(STORY, seed=7, out=desk / "tale")
        assert film == studio.show(film.run)
        assert studio.run(STORY, seed=7) == film
        assert [line.run for line in studio.runs()] == [film.run]
    assert film.complete
    assert film.film == desk / "tale" / "film.mp4"
    assert [event.label for event in film.events] == ["1.1", "2.1", "3.1"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        film.title = "another"  # type: ignore[misc]


@pytest.mark.slow
async def test_the_async_twin_films_the_same(desk: Path) -> None:
    with Studio() as studio:
        film = await studio.arun(STORY)
        again = await studio.aresume(film.run)
    assert again == film


@pytest.mark.slow
async def test_a_stream_gives_events_in_order_and_the_result_last(desk: Path) -> None:
    with Studio() as studio:
        events = [event async for event in studio.stream(STORY)]
    kinds = [type(event) for event in events]
    assert kinds[0] is progress.RunStarted
    assert kinds[-1] is FilmResult
    assert kinds.count(progress.Judged) == 3
    assert kinds.index(progress.Planned) < kinds.index(progress.TakeStarted) < kinds.index(progress.FilmDone)
    steps = [event.step for event in events if isinstance(event, progress.Step) and event.shot == "1"]
    assert steps == [1, 2, 3, 4]


@pytest.mark.slow
async def test_leaving_a_stream_stops_the_run_and_it_goes_on_later(desk: Path) -> None:
    with Studio() as studio:
        stream = studio.stream(STORY)
        async for event in stream:
            if isinstance(event, progress.TakeDone):
                break
        await stream.aclose()
        (line,) = studio.runs()
        assert line.status == "stopped"
        film = await studio.aresume(line.run)
    assert film.complete


async def test_an_error_leaves_a_stream_as_itself(desk: Path) -> None:
    with Studio() as studio, pytest.raises(UsageError, match="empty"):
        async for _ in studio.stream("  "):
            pass


async def test_a_sync_method_inside_an_event_loop_names_its_twin(desk: Path) -> None:
    with Studio() as studio, pytest.raises(UsageError, match=r"await studio\.arun"):
        studio.run(STORY)


@pytest.mark.slow
def test_many_studios_work_side_by_side(desk: Path) -> None:
    async def both() -> list[FilmResult]:
        with Studio() as one, Studio() as two:
            return await asyncio.gather(one.arun(STORY), two.arun(STORY + " The cat jumps."))

    assert [film.complete for film in asyncio.run(both())] == [True, True]


@pytest.mark.slow
def test_an_order_holds_everything_a_film_is_asked_for_with(desk: Path) -> None:
    order = Order(story=STORY, seed=3, style="", budget=Caps(takes=1, seconds=60))
    with Studio() as studio:
        film = studio.run(order)
        assert studio.archive.run(film.run).asked["budget"]["takes_per_shot"] == 1
        other = studio.run(order, seed=4)
    assert other.run != film.run


@pytest.mark.parametrize(
    "wrong",
    [{}, {"story": "a", "from_plan": Path("b")}, {"story": "a", "seconds": -1.0}, {"story": "a", "size": (1, 1)}],
)
def test_an_order_that_cannot_work_is_refused_when_it_is_made(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Order(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_budget_changes_no_run_and_is_kept_for_the_next_time(desk: Path) -> None:
    with Studio() as studio:
        one = studio.run(STORY, budget=Caps(takes=1))
        two = studio.resume(one.run, budget=Caps(seconds=500))
        asked = studio.archive.run(one.run).asked["budget"]
    assert one.run == two.run
    assert (asked["takes_per_shot"], asked["seconds"]) == (1, 500)


@pytest.mark.slow
def test_without_a_critic_nothing_counts_as_seen(desk: Path) -> None:
    with Studio("instant") as studio:
        film = studio.run(STORY)
    assert film.film is not None
    assert not film.judged
    assert film.exit_code == 3


def test_a_film_is_cut_again_from_its_manifest(desk: Path) -> None:
    with Studio("instant") as studio:
        film = studio.run(STORY, out=desk / "film")
        assert film.film is not None
        again = studio.recut(desk / "film" / "manifest.json")
        assert (again.parent.name, again.read_bytes()) == ("again", film.film.read_bytes())
        next(studio.home.glob("run-*/*.mkv")).write_bytes(b"torn")
        with pytest.raises(EditError, match="was altered: resume the run, it will be filmed again"):
            studio.recut(desk / "film" / "manifest.json")


def test_exit_codes_follow_from_errors() -> None:
    from agents.errors import BudgetExhausted, ModelUnavailable, PlanError, RunStopped
    from storage.errors import DiskError, NotFound, RunBusy

    codes = [
        fabula.exit_code(error)
        for error in (
            UsageError(),
            NotFound(),
            PlanError(),
            ModelUnavailable("gone"),
            DiskError(),
            BudgetExhausted(),
            RunBusy(),
            RunStopped(),
            KeyboardInterrupt(),
        )
    ]
    assert codes == [2, 2, 1, 1, 1, 4, 6, 130, 130]


@pytest.mark.slow
def test_a_retry_says_which_take_stays_and_when_there_was_nothing_to_film(desk: Path) -> None:
    with Studio() as studio:
        film = studio.run(STORY)
        assert studio.retry(film.run).retried == (), "everything was seen"
        assert studio.show(film.run).retried is None
        (one,) = studio.retry(film.run, shot="2").retried or ()
    assert (one.shot, one.new, one.best_seen, one.stood, one.stood_seen, one.stands) == ("2", (2,), 1, 1, 1, 1)


@pytest.mark.slow
def test_a_retry_that_does_not_fit_its_budget_tells_its_own_seconds(desk: Path) -> None:
    with Studio() as studio:
        film = studio.run(STORY, budget=Caps(seconds=500))
        studio.archive.spend(film.run, 490)
        again = studio.retry(film.run, shot="2", budget=Caps(seconds=100))
        assert again.retried is not None
        assert again.retried[0].new == (2,), "what was spent before does not count"
        refused = studio.retry(film.run, shot="2", budget=Caps(seconds=0.001))
    assert refused.retried is not None
    assert refused.retried[0].said == "Shot 2: no new take was finished, take 1 stays"
    told = re.match(
        r"budget\.seconds: (\d+\.\d) of 0\.001 s of work are spent \(the 49\d\.\d s before", refused.shots[1].why
    )
    assert told is not None, refused.shots[1].why
    assert float(told[1]) < 60, "the seconds of before are not among them"


@pytest.mark.slow
def test_a_run_is_held_while_its_model_is_loaded(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    class Watching(LazyBackend):
        def open(self) -> Backend:
            with Studio() as other:
                found = other.show(1)
            seen.append((found.status, found.holder))
            return super().open()

    monkeypatch.setattr("generators.backends.lazy.LazyBackend", Watching)
    with Studio() as studio:
        film = studio.run(STORY)
    (status, holder), *_ = seen
    assert (status, holder.split(" on ")[0]) == ("planning", f"process {os.getpid()}")
    assert (film.status, film.holder) == ("done", "")


def test_the_public_names_are_there() -> None:
    assert all(hasattr(fabula, name) for name in fabula.__all__)
    assert fabula.progress.__name__ == "agents.progress"
    with pytest.raises(AttributeError, match="nonesuch"):
        fabula.nonesuch  # noqa: B018


@pytest.mark.slow
def test_the_example_script_runs_from_a_clone(checkout: Path, desk: Path) -> None:
    script, story = checkout / "examples" / "film_a_story.py", checkout / "examples" / "the-robot-on-the-beach.txt"
    done = subprocess.run([sys.executable, script, story], cwd=desk, capture_output=True, text=True, check=True)
    assert "The Robot on the Beach: " in done.stdout
    assert "take 1: filmed in" in done.stdout
