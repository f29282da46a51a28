"""What cannot be done is told, takes nothing else down, and can be gone on with."""

from __future__ import annotations

import pytest

from agents.director import Repairs
from agents.errors import ModelMisconfigured, ModelUnavailable, PlanError
from agents.reworder import RuleReworder
from agents.scripted import ScriptedCritic, ScriptedPlanner
from agents.storyboard import PlannedShot, Storyboard
from generators.backends.instant import InstantBackend
from generators.clip import ShotRequest
from generators.errors import BackendUnavailable, OutOfMemory
from storage.errors import RunBusy
from storage.lease import new_owner
from storage.tables import RunStatus, TakeStatus
from tests.agents.graph.stage import TINY, Studio, board


@pytest.mark.slow
async def test_a_shot_that_cannot_be_filmed_does_not_take_the_others_down(studio: Studio) -> None:
    def on_shoot(request: ShotRequest) -> None:
        if "spins 2" in request.prompt:
            raise OutOfMemory("too big for this device")

    studio.backend = InstantBackend(limits=TINY, on_shoot=on_shoot)
    outcome = await studio.film()
    assert outcome.status == RunStatus.FAILED
    assert outcome.errors == ("shot 2: too big for this device",)
    assert outcome.film is not None
    assert outcome.film.missing == ["2"]
    assert (studio.folder / "film" / "film.mp4").exists()
    studio.backend = InstantBackend(limits=TINY)
    again = await studio.film()
    assert again.status == RunStatus.DONE
    assert again.all_seen
    assert [status for _, status, _ in studio.takes("2")] == [TakeStatus.FAILED, TakeStatus.DONE]
    assert len(studio.takes("1")) == 1


@pytest.mark.slow
async def test_an_error_of_the_device_costs_its_take_and_no_other(studio: Studio) -> None:
    def on_shoot(request: ShotRequest) -> None:
        if "spins 2" in request.prompt:
            raise RuntimeError("CUDA error: unspecified launch failure")

    studio.backend = InstantBackend(limits=TINY, on_shoot=on_shoot)
    outcome = await studio.film()
    told = "RuntimeError: CUDA error: unspecified launch failure"
    assert (outcome.status, outcome.errors) == (RunStatus.FAILED, (f"shot 2: {told}",))
    assert outcome.film is not None
    assert outcome.film.missing == ["2"]
    assert (studio.folder / "film" / "film.mp4").exists()
    assert [status for _, status, _ in studio.takes("2")] == [TakeStatus.FAILED]
    studio.backend = InstantBackend(limits=TINY)
    assert (await studio.film()).all_seen
    assert len(studio.takes("1")) == len(studio.takes("3")) == 1


@pytest.mark.slow
async def test_a_critic_that_breaks_leaves_its_shot_unjudged_and_the_film_is_cut(studio: Studio) -> None:
    studio.critic = ScriptedCritic({("2", 1): ValueError("not enough values to unpack")})
    outcome = await studio.film()
    assert outcome.status == RunStatus.FAILED
    assert outcome.errors == ("shot 2: Critic 'scripted' failed: ValueError: not enough values to unpack",)
    assert outcome.film is not None
    assert (outcome.film.events_seen, outcome.film.missing) == (4, [])
    studio.critic = ScriptedCritic()
    assert (await studio.film()).all_seen


@pytest.mark.slow
async def test_a_reworder_that_breaks_costs_its_shot_and_no_other(studio: Studio) -> None:
    class Broken(RuleReworder):
        async def reword(self, shot: PlannedShot, event: int, evidence: str) -> PlannedShot | None:
            raise KeyError("phrase")

    studio.reworder = Broken()
    studio.critic = ScriptedCritic({("2", 1): [True, False]})
    outcome = await studio.film(repairs=Repairs(ladder=("reword",)))
    assert outcome.errors == ("shot 2: The reworder failed: KeyError: 'phrase'",)
    assert outcome.film is not None
    assert (outcome.film.events_seen, outcome.film.missing) == (5, [])


@pytest.mark.slow
async def test_a_critic_that_is_away_leaves_its_shot_unjudged_and_is_asked_again_on_resume(
    studio: Studio,
) -> None:
    studio.critic = ScriptedCritic({("3", 1): ModelUnavailable("busy")})
    first = await studio.film()
    assert first.status == RunStatus.FAILED
    assert first.film is not None
    assert (first.film.events_seen, first.film.missing) == (4, [])
    studio.critic = judge = ScriptedCritic()
    second = await studio.film()
    assert second.all_seen
    assert judge.viewings == [("3", 1)]
    assert len(studio.takes("3")) == 1


@pytest.mark.slow
async def test_a_refused_key_stops_the_run_at_once_and_the_run_goes_on_later(studio: Studio) -> None:
    studio.critic = ScriptedCritic({("1", 1): ModelMisconfigured("set THE_KEY")})
    with pytest.raises(ModelMisconfigured):
        await studio.film()
    run = studio.archive.run(studio.run_id)
    assert (run.status, run.error, run.owner) == (RunStatus.FAILED, "set THE_KEY", None)
    studio.critic = ScriptedCritic()
    assert (await studio.film()).all_seen


@pytest.mark.slow
async def test_a_plan_that_cannot_be_made_is_told_and_nothing_is_filmed(studio: Studio) -> None:
    class Lost(ScriptedPlanner):
        async def plan(self, story: str, brief: object) -> Storyboard:
            raise PlanError("nothing to show")

    studio.planner = Lost(board())
    with pytest.raises(PlanError):
        await studio.film()
    assert studio.archive.run(studio.run_id).error == "nothing to show"
    studio.planner = ScriptedPlanner(board())
    assert (await studio.film()).all_seen


async def test_a_planner_that_breaks_leaves_its_reason_with_the_run(studio: Studio) -> None:
    class Broken(ScriptedPlanner):
        async def plan(self, story: str, brief: object) -> Storyboard:
            raise IndexError("list index out of range")

    studio.planner = Broken(board())
    with pytest.raises(IndexError):
        await studio.film()
    run = studio.archive.run(studio.run_id)
    assert (run.status, run.error) == (RunStatus.FAILED, "IndexError: list index out of range")


async def test_a_run_that_a_living_process_holds_is_left_alone(studio: Studio) -> None:
    studio.archive.claim(studio.run_id, new_owner(), 60)
    with pytest.raises(RunBusy):
        await studio.film()


@pytest.mark.slow
async def test_nothing_to_film_with_leaves_a_report_and_a_run_to_resume(studio: Studio) -> None:
    def on_shoot(request: ShotRequest) -> None:
        raise BackendUnavailable("no weights; run train")

    studio.backend = InstantBackend(limits=TINY, on_shoot=on_shoot)
    outcome = await studio.film()
    assert outcome.status == RunStatus.FAILED
    assert "no weights" in outcome.errors[0]
    studio.backend = InstantBackend(limits=TINY)
    assert (await studio.film()).all_seen
