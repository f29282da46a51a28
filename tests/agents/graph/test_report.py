"""What the report says of a run is what became of it, and what `show` says too."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from agents.errors import BudgetExhausted, ModelUnavailable
from agents.outcome import FilmResult, Tally, result
from agents.profile import Budget
from agents.progress import FilmDone, ShotDone
from agents.scripted import ScriptedCritic, ScriptedPlanner
from generators.backends.instant import InstantBackend
from generators.clip import ShotRequest
from generators.errors import OutOfMemory
from screen import film_tree
from storage.tables import RunStatus
from tests.agents.graph.stage import TINY, Studio, board
from tests.agents.page import Page


def fails_on_shot_2(request: ShotRequest) -> None:
    if "spins 2" in request.prompt:
        raise OutOfMemory("too big for this device")


def shown(studio: Studio) -> FilmResult:
    return result(studio.archive.record(studio.run_id))


def page(studio: Studio) -> str:
    return Page((studio.folder / "film" / "report.html").read_text()).text


def work(text: str) -> str:
    (told,) = re.findall(r"Work (\S+) s", text)
    (again,) = re.findall(r"(\S+) s of work in all", text)
    assert told == again
    return str(told)


@pytest.mark.slow
async def test_judged_filmed_and_unfilmed_shots_are_told_apart_each_with_its_reason(studio: Studio) -> None:
    studio.backend = InstantBackend(limits=TINY, on_shoot=fails_on_shot_2)
    studio.critic = ScriptedCritic({("1", 1): [True, False], ("3", 1): ModelUnavailable("the critic is busy")})
    studio.budget = Budget(takes_per_shot=1)
    await studio.film()
    states = [(shot.state, shot.why) for shot in shown(studio).shots]
    assert states == [
        ("judged", ""),
        ("not filmed", "too big for this device"),
        ("not judged", "the critic is busy"),
    ]
    assert shown(studio).tally == Tally(promised=6, seen=1, unjudged=2, unfilmed=2)
    text = page(studio)
    assert "1 of 6 promised events seen (2 not judged, 2 not filmed)" in text
    assert "Shot 2 was not filmed: too big for this device Shot 3 was not judged: the critic is busy" in text
    for number, became in (("1.2", "not seen"), ("2.1", "not filmed"), ("3.1", "not judged")):
        assert re.search(rf"{re.escape(number)} Pim \D[^·]*promised \S+ s · {became}", text), number


@pytest.mark.slow
async def test_a_shot_that_an_earlier_process_judged_is_not_called_unjudged(studio: Studio) -> None:
    studio.planner = ScriptedPlanner(board(2))
    studio.backend = InstantBackend(limits=TINY, on_shoot=fails_on_shot_2)
    studio.critic = ScriptedCritic({("1", 1): [False, False]})
    studio.budget = Budget(takes_per_shot=1)
    await studio.film()
    studio.events.clear()
    await studio.film()
    told = {event.shot: event for event in studio.events if isinstance(event, ShotDone)}
    assert (told["1"].state, told["1"].seen, told["1"].why) == ("judged", 0, "")
    assert (told["2"].state, told["2"].why) == ("not filmed", "too big for this device")
    (film,) = (event for event in studio.events if isinstance(event, FilmDone))
    assert film.tally.said == "0 of 4 promised events seen (2 not filmed)"


@pytest.mark.slow
async def test_without_a_critic_that_is_the_reason_and_it_is_said_once(studio: Studio) -> None:
    studio.critic = None
    await studio.film()
    assert shown(studio).tally.said == "6 promised events, not judged"
    text = page(studio)
    assert "6 promised events, not judged" in text
    assert "What is missing No shot was judged: the profile has no critic Storyboard" in text


@pytest.mark.slow
async def test_a_limit_that_left_shots_out_is_their_reason_also_when_the_run_is_taken_up_again(studio: Studio) -> None:
    class Tired(ScriptedCritic):
        async def judge(self, viewing):  # type: ignore[no-untyped-def]
            if viewing.shot != "1":
                raise BudgetExhausted("budget.calls: 1 of 1 are spent")
            return await super().judge(viewing)

    studio.critic = Tired()
    outcome = await studio.film()
    assert outcome.status == RunStatus.DONE
    first, text = shown(studio), page(studio)
    assert [(shot.state, shot.why) for shot in first.shots[1:]] == [
        ("not judged", "budget.calls: 1 of 1 are spent")
    ] * 2
    assert "Shot 2 was not judged: budget.calls: 1 of 1 are spent" in text
    studio.critic = ScriptedCritic({("2", 1): [False, False], ("3", 1): [False, False]})
    studio.budget = Budget(takes_per_shot=1)
    await studio.film()
    assert [(shot.state, shot.why) for shot in shown(studio).shots] == [("judged", "")] * 3
    assert "2 of 6 promised events seen" in page(studio)
    assert "(not seen)" in (studio.folder / "film" / "film.srt").read_text()


@pytest.mark.slow
async def test_the_report_tells_every_second_that_show_tells(studio: Studio) -> None:
    studio.backend = InstantBackend(limits=TINY, seconds_per_step=0.05, on_shoot=fails_on_shot_2)
    await studio.film()
    spent, text = shown(studio).spent, page(studio)
    assert work(text) == f"{spent.seconds:.1f}"
    assert f"{spent.filming:.1f} s to film 2 takes, {spent.rest:.1f} s for everything else" in text
    parts = [float(seconds) for seconds in re.findall(r"(\d+\.\d) s to film(?! \d)", text)]
    assert len(parts) == 2
    assert f"{sum(parts):.1f}" == f"{spent.filming:.1f}"
    await studio.film()
    again = shown(studio).spent
    assert again.seconds > spent.seconds
    assert work(page(studio)) == f"{again.seconds:.1f}"


@pytest.mark.slow
async def test_looking_at_a_finished_run_costs_it_nothing(studio: Studio) -> None:
    await studio.film()
    before, report = shown(studio), (studio.folder / "film" / "report.html").read_bytes()
    await studio.film()
    assert shown(studio) == before
    assert (studio.folder / "film" / "report.html").read_bytes() == report


@pytest.mark.slow
async def test_what_was_lost_and_is_made_again_is_on_the_account(studio: Studio) -> None:
    await studio.film()
    before = studio.archive.run(studio.run_id).seconds_spent
    file: Path = studio.archive.media.folder / str(studio.archive.takes(studio.run_id)[0].take.file)
    file.unlink()
    await studio.film()
    assert studio.archive.run(studio.run_id).seconds_spent > before


async def test_a_take_that_was_never_finished_is_no_take_of_the_film(studio: Studio) -> None:
    studio.planner = ScriptedPlanner(board(1))
    studio.budget = Budget(seconds=0.001)
    with pytest.raises(BudgetExhausted):
        await studio.film()
    (shot,) = shown(studio).shots
    assert (shot.state, shot.takes[0].status) == ("not filmed", "filming")
    assert "budget.seconds" in shot.why
    assert "Takes 0 of 1" in page(studio)
    assert "Take 1 , left unfinished" in page(studio)


@pytest.mark.slow
async def test_a_take_says_of_how_many_events_its_critic_could_not_tell(studio: Studio) -> None:
    studio.planner = ScriptedPlanner(board(1))
    studio.critic = ScriptedCritic({("1", 1): [True, None]})
    await studio.film()
    (take,) = shown(studio).shots[0].takes
    assert (take.seen, take.unjudged) == (1, 1)
    printed = io.StringIO()
    Console(file=printed, width=200).print(film_tree(shown(studio), takes=True))
    assert "take 1: done, 1/2 seen, 1 not judged" in printed.getvalue()
