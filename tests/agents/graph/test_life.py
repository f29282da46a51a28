"""A story's way through the graph, from text to film, and what a person may say on it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agents.brains import Brains
from agents.graph import approve, film_story
from agents.offline import OfflinePlanner
from agents.profile import Budget
from agents.progress import (
    AwaitingApproval,
    FilmDone,
    Judged,
    Note,
    Planned,
    ShotDone,
    Step,
    TakeDone,
    TakeStarted,
)
from agents.reworder import RuleReworder
from agents.scripted import ScriptedCritic, ScriptedPlanner
from agents.segmenter import RuleSegmenter
from agents.state import Crew, Job, brief_for
from agents.takespec import TakeSpec
from generators.backends.instant import InstantBackend
from generators.clip import Limits, ShotRequest
from generators.video import read_take
from storage.archive import Archive
from storage.tables import RunStatus
from tests.agents.graph.stage import TINY, Studio, board


@pytest.mark.slow
async def test_a_story_becomes_a_film_and_everything_is_told_on_the_way(studio: Studio) -> None:
    outcome = await studio.film()
    assert outcome.status == RunStatus.DONE
    assert outcome.all_seen
    assert outcome.film is not None
    assert (outcome.film.events_seen, outcome.film.events_promised) == (6, 6)
    assert (studio.folder / "film" / "film.mp4").stat().st_size > 0
    assert [len(studio.told(kind)) for kind in (Planned, TakeStarted, TakeDone, Judged, ShotDone, FilmDone)] == [
        1, 3, 3, 3, 3, 1,
    ]  # fmt: skip
    steps = [event for event in studio.told(Step) if isinstance(event, Step) and event.shot == "1"]
    assert [(step.step, step.of) for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.slow
async def test_a_second_run_films_judges_and_plans_nothing(studio: Studio) -> None:
    first = await studio.film()
    shots: list[ShotRequest] = []
    studio.backend = InstantBackend(limits=TINY, on_shoot=shots.append)
    studio.critic = judge = ScriptedCritic()
    studio.events.clear()
    second = await studio.film()
    assert (shots, judge.viewings, studio.planner.plans) == ([], [], 1)
    assert second.film == first.film
    assert studio.told(FilmDone) == []


@pytest.mark.slow
async def test_a_person_looks_at_the_storyboard_before_anything_is_filmed(studio: Studio) -> None:
    waiting = await studio.film(approve=True)
    assert waiting.status == RunStatus.APPROVAL
    assert waiting.film is None
    assert len(studio.told(AwaitingApproval)) == 1
    assert (await studio.film(approve=True)).status == RunStatus.APPROVAL
    approve(studio.crew(), studio.run_id, board(2))
    outcome = await studio.film(approve=True)
    assert outcome.status == RunStatus.DONE
    assert len(outcome.storyboard.shots) == 2
    assert studio.takes("3") == []


async def test_a_prompt_that_was_edited_without_its_synopsis_is_noted(studio: Studio) -> None:
    told = ("A fox sits.", "A fox jumps.")
    shots = [shot.model_copy(update={"synopsis": told}) for shot in board(3).shots]
    await studio.film(approve=True)
    approve(studio.crew(), studio.run_id, board(3).model_copy(update={"shots": tuple(shots)}))
    edited = [shot.model_copy(update={"prompt": f"{shot.prompt} It rains."}) for shot in shots]
    edited[2] = edited[2].model_copy(update={"synopsis": (*told, "It rains.")})
    again = board(3).model_copy(update={"shots": (shots[0], *edited[1:])})
    note = "shot 2: its prompt was changed and its synopsis was not, and its frames read the synopsis"
    for _ in range(2):
        approve(
            studio.crew(),
            studio.run_id,
            again.model_copy(update={"notes": tuple(studio.archive.run(studio.run_id).notes)}),
        )
        assert list(studio.archive.run(studio.run_id).notes) == [note]
    mended = edited[1].model_copy(update={"synopsis": (*told, "It rains.")})
    approve(studio.crew(), studio.run_id, again.model_copy(update={"shots": (shots[0], mended, edited[2])}))
    assert list(studio.archive.run(studio.run_id).notes) == []


async def test_a_plan_of_a_persons_own_takes_the_planners_place(studio: Studio) -> None:
    outcome = await studio.film(storyboard=board(1))
    assert studio.planner.plans == 0
    assert len(outcome.storyboard.shots) == 1


@pytest.mark.slow
async def test_a_shot_goes_on_from_the_frames_of_the_one_before(studio: Studio) -> None:
    studio.planner = ScriptedPlanner(board(3, continues=[2]))
    outcome = await studio.film()
    assert outcome.film is not None
    first, second, _ = (studio.archive.take(number) for number in outcome.film.takes)
    spec = TakeSpec.from_json(second.request)
    assert spec.kept[0].take == first.id
    paths = [studio.archive.take_file(take) for take in (first, second)]
    assert paths[0] is not None
    assert paths[1] is not None
    assert (read_take(paths[1])[0][:5] == read_take(paths[0])[0][-5:]).all()


async def test_a_backend_that_cannot_go_on_cuts_and_says_so(studio: Studio) -> None:
    studio.planner = ScriptedPlanner(board(2, continues=[2]))
    limits = Limits(width=16, height=16, fps=8, frame_counts=(33,), size_multiple=4)
    studio.backend = InstantBackend(limits=limits)
    assert (await studio.film()).all_seen
    notes = [event.text for event in studio.told(Note) if isinstance(event, Note)]
    assert notes == ["Shot 2 begins with a cut: this backend cannot go on from frames"]


@pytest.mark.slow
async def test_every_shot_has_one_take_before_any_has_two(studio: Studio) -> None:
    order: list[tuple[str, int]] = []
    studio.backend = InstantBackend(limits=TINY, seconds_per_step=0.01)
    studio.critic = ScriptedCritic({("1", 1): [False, False]})
    await studio.film()
    order = [(event.shot, event.take) for event in studio.told(TakeStarted) if isinstance(event, TakeStarted)]
    assert order == [("1", 1), ("2", 1), ("3", 1), ("1", 2)]


@pytest.mark.slow
async def test_without_a_critic_nothing_is_claimed_to_be_seen(studio: Studio) -> None:
    studio.critic = None
    outcome = await studio.film()
    assert outcome.status == RunStatus.DONE
    assert outcome.film is not None
    assert (outcome.film.events_seen, outcome.film.events_promised) == (0, 6)
    assert not outcome.all_seen


@pytest.mark.slow
async def test_rules_plan_time_and_reword_a_story_from_text_to_film(tmp_path: Path) -> None:
    with Archive(tmp_path / "media") as archive:
        story = "The red fox jumps and then walks to the left. A dragon vanishes at night."
        run = archive.open_run(story, "instant", {})
        brains = Brains(
            planner=OfflinePlanner(),
            segmenter=RuleSegmenter(),
            reworder=RuleReworder(),
            critic=ScriptedCritic(),
        )
        backend, budget = InstantBackend(limits=TINY), Budget()
        crew = Crew(archive=archive, backend=backend, brains=brains, budget=budget)
        job = Job(run_id=run.id, brief=brief_for(TINY, budget), folder=tmp_path / "film")
        outcome = await film_story(job, crew)
    assert outcome.all_seen
    assert any("no dragon" in note for note in outcome.storyboard.notes)
    first = outcome.storyboard.shots[0]
    assert [event.phrase for event in first.events] == ["jumps up", "walks to the left"]
    assert first.events[0].end == first.events[1].start


@pytest.mark.slow
async def test_thirty_two_shots_go_through_quickly(tmp_path: Path, blank: Path) -> None:
    """The bound is loose, machines are busy; `bench` measures it."""
    studio = Studio(folder=tmp_path, blank=blank, storyboard=board(32))
    begun = time.process_time()
    outcome = await studio.film()
    studio.archive.close()
    assert outcome.all_seen
    assert time.process_time() - begun < 20
