"""Shots that share a cast filmed as one set: rows and files of their own, whatever goes wrong on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.errors import RunStopped
from agents.graph import film_story
from agents.progress import Note, RunEvent, TakeDone, TakeStarted
from agents.scripted import ScriptedCritic, ScriptedPlanner
from agents.takespec import TakeSpec
from generators.backends.instant import InstantBackend
from generators.clip import Clip, Frames, OnProgress, ShotRequest, ShotSet
from generators.errors import OutOfMemory
from generators.video import read_take
from storage.archive import Archive
from storage.tables import Take, TakeStatus
from tests.agents.graph.stage import TINY, Studio, board

SETS = replace(TINY, films_sets=True)


class Watched(InstantBackend):
    """An instant backend that remembers which sets it was asked for, and refuses what it is told to."""

    def __init__(self, *, refuses: str = "", seconds_per_step: float = 0.0) -> None:
        self.alone: list[ShotRequest] = []
        super().__init__(limits=SETS, seconds_per_step=seconds_per_step)
        self.refuses = refuses
        self.sets: list[ShotSet] = []

    def shoot(
        self,
        requests: Sequence[ShotRequest],
        on_progress: OnProgress | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[Clip]:
        self.alone += requests
        return super().shoot(requests, on_progress, cancelled)

    def shoot_set(
        self, shots: ShotSet, on_progress: OnProgress | None = None, cancelled: threading.Event | None = None
    ) -> list[Clip]:
        if self.refuses and any(self.refuses in request.prompt for request in shots.requests):
            raise OutOfMemory("too big for this device")
        self.sets.append(shots)
        return super().shoot_set(shots, on_progress, cancelled)


class Torn(Archive):
    """An archive whose process dies after the first take was kept."""

    def finish_take(self, take_id: int, *arguments: Any, **named: Any) -> Take:
        if take_id == 1:
            return super().finish_take(take_id, *arguments, **named)
        until = time.monotonic() + 60
        while self.take(1).status != TakeStatus.DONE and time.monotonic() < until:
            time.sleep(0.01)
        raise OSError("the process was killed here")


@pytest.fixture
def camera(studio: Studio) -> Watched:
    made = Watched()
    studio.backend = made
    return made


def told(studio: Studio, shot: str) -> list[str]:
    records = [r for r in studio.archive.takes(studio.run_id) if r.label == shot]
    return [TakeSpec.from_json(r.take.request).staged for r in records]


def frames(studio: Studio, shot: str) -> Frames:
    record = next(r for r in studio.archive.takes(studio.run_id) if r.label == shot and r.take.status == "done")
    path = studio.archive.take_file(record.take)
    assert path is not None
    return read_take(path)[0]


@pytest.mark.slow
async def test_a_set_is_one_piece_of_work_and_every_shot_has_its_own_take(studio: Studio, camera: Watched) -> None:
    outcome = await studio.film(sets=True)
    assert outcome.all_seen
    assert [(len(s.requests), s.anchors, s.wanted) for s in camera.sets] == [(3, 2, (0, 1, 2))]
    assert camera.alone == []
    assert camera.sets[0].subjects == ("red fox",) * 3
    assert told(studio, "2") == ["filmed as one set with shots 1, 3: share the red fox"]
    takes = [record.take for record in studio.archive.takes(studio.run_id)]
    assert [take.status for take in takes] == [TakeStatus.DONE] * 3
    assert len({take.sha256 for take in takes}) == 3
    assert {len(take.composition) for take in takes} == {6}
    assert [len(studio.told(kind)) for kind in (TakeStarted, TakeDone)] == [3, 3]


@pytest.mark.slow
async def test_shots_are_filmed_alone_unless_a_set_is_asked_for(studio: Studio, camera: Watched) -> None:
    await studio.film()
    assert camera.sets == []
    assert told(studio, "1") == ["filmed alone: shares the red fox with shots 2, 3, and sets are off (--sets)"]


@pytest.mark.slow
async def test_a_second_run_of_a_set_films_nothing(studio: Studio, camera: Watched) -> None:
    first = await studio.film(sets=True)
    studio.backend = again = Watched()
    assert (await studio.film(sets=True)).film == first.film
    assert again.sets == []


@pytest.mark.slow
async def test_a_set_that_is_stopped_is_filmed_whole_when_nothing_of_it_was_kept(studio: Studio) -> None:
    studio.backend = Watched(seconds_per_step=0.1)
    crew = studio.crew()

    def stop(event: RunEvent) -> None:
        if isinstance(event, TakeStarted):
            studio.cancelled.set()

    crew.on_event = stop
    with pytest.raises(RunStopped, match="resume"):
        await film_story(studio.job(sets=True), crew)
    assert [studio.takes(n)[0][1] for n in "123"] == [TakeStatus.FILMING] * 3
    studio.cancelled.clear()
    studio.backend = again = Watched()
    assert (await studio.film(sets=True)).all_seen
    assert [s.wanted for s in again.sets] == [(0, 1, 2)]
    assert [len(studio.takes(n)) for n in "123"] == [1, 1, 1]


@pytest.mark.slow
async def test_only_the_missing_takes_of_a_set_are_filmed_again_from_the_same_noise(
    studio: Studio, camera: Watched, tmp_path: Path, blank: Path
) -> None:
    whole = Studio(folder=tmp_path / "whole", blank=blank, backend=Watched())
    await whole.film(sets=True)
    studio.archive.close()
    studio.archive = Torn(studio.folder / "media")
    with pytest.raises(OSError, match="killed"):
        await studio.film(sets=True)
    studio.archive.close()
    studio.archive = Archive(studio.folder / "media")
    assert [studio.takes(number)[0][1] for number in "123"] == [TakeStatus.DONE, *[TakeStatus.FILMING] * 2]
    studio.backend = again = Watched()
    assert (await studio.film(sets=True)).all_seen
    assert [s.wanted for s in again.sets] == [(1, 2)]
    assert again.sets[0].requests == camera.sets[0].requests
    for number in "123":
        assert np.array_equal(frames(studio, number), frames(whole, number))
    whole.archive.close()


@pytest.mark.slow
async def test_a_set_that_cannot_be_filmed_is_filmed_shot_by_shot_and_says_so(studio: Studio) -> None:
    studio.backend = camera = Watched(refuses="spins 2")
    outcome = await studio.film(sets=True)
    assert outcome.all_seen
    assert (camera.sets, len(camera.alone)) == ([], 3)
    assert [status for _, status, _ in studio.takes("2")] == [TakeStatus.FAILED, TakeStatus.DONE]
    assert told(studio, "2")[1] == "filmed alone: the set could not be filmed (too big for this device)"
    assert len([e for e in studio.told(Note) if isinstance(e, Note) and "is filmed alone" in e.text]) == 3


@pytest.mark.slow
async def test_one_shot_that_cannot_be_filmed_at_all_takes_its_set_not_down(studio: Studio) -> None:
    def on_shoot(request: ShotRequest) -> None:
        if "spins 2" in request.prompt:
            raise OutOfMemory("too big for this device")

    studio.backend = InstantBackend(limits=SETS, on_shoot=on_shoot)
    outcome = await studio.film(sets=True)
    assert outcome.errors == ("shot 2: too big for this device",)
    assert outcome.film is not None
    assert outcome.film.missing == ["2"]


@pytest.mark.slow
async def test_a_remedy_films_its_shot_again_beside_the_sets_anchors(studio: Studio, camera: Watched) -> None:
    studio.critic = ScriptedCritic({("3", 1): [True, False], ("3", 2): [True, False]})
    outcome = await studio.film(sets=True)
    assert outcome.all_seen
    assert [(len(s.requests), s.wanted) for s in camera.sets] == [(3, (0, 1, 2)), (3, (2,)), (3, (2,))]
    assert camera.sets[1].requests[:2] == camera.sets[0].requests[:2]
    assert camera.sets[1].requests[2].seed != camera.sets[0].requests[2].seed
    assert told(studio, "3")[1] == "filmed again with the set's anchors, shots 1, 2"


@pytest.mark.slow
async def test_an_anchor_is_filmed_again_beside_what_it_was(studio: Studio, camera: Watched) -> None:
    studio.critic = ScriptedCritic({("1", 1): [True, False]})
    await studio.film(sets=True)
    assert [(len(s.requests), s.wanted) for s in camera.sets] == [(3, (0, 1, 2)), (3, (2,))]
    assert camera.sets[1].requests[:2] == camera.sets[0].requests[:2]
    assert len(studio.takes("1")) == 2


@pytest.mark.slow
async def test_a_window_and_a_split_are_filmed_alone_and_say_so(studio: Studio, camera: Watched) -> None:
    studio.budget = studio.budget.model_copy(update={"takes_per_shot": 8})
    studio.critic = ScriptedCritic({("1", n): [True, False] for n in range(1, 8)})
    await studio.film(sets=True)
    alone = [text for text in told(studio, "1") if "alone" in text]
    assert alone[:2] == [
        "only a window of it is filmed, alone: the frames around it keep the cast",
        "filmed in two parts, alone: the second goes on from the first",
    ]


@pytest.mark.slow
async def test_a_lost_take_of_a_set_is_filmed_in_the_batch_it_was_in(studio: Studio, camera: Watched) -> None:
    first = await studio.film(sets=True)
    assert first.film is not None
    path = studio.archive.take_file(studio.archive.take(first.film.takes[2]))
    assert path is not None
    whole = path.read_bytes()
    path.unlink()
    studio.backend = again = Watched()
    studio.critic = judge = ScriptedCritic()
    await studio.film(sets=True)
    assert [(s.requests, s.wanted) for s in again.sets] == [(camera.sets[0].requests, (2,))]
    assert path.read_bytes() == whole
    assert judge.viewings == []


@pytest.mark.slow
async def test_a_shot_that_goes_on_stays_out_of_the_set_and_says_from_which_take(
    studio: Studio, camera: Watched
) -> None:
    studio.planner = ScriptedPlanner(board(3, continues=[2]))
    await studio.film(sets=True)
    assert [len(s.requests) for s in camera.sets] == [2]
    assert len(camera.alone) == 1
    assert told(studio, "2") == ["continues shot 1 (take 1) from its last 5 frames"]
    assert told(studio, "3") == ["filmed as one set with shot 1: share the red fox"]


@pytest.mark.slow
async def test_the_report_says_how_each_take_was_filmed_and_whether_its_seam_holds(
    studio: Studio, camera: Watched
) -> None:
    studio.planner = ScriptedPlanner(board(3, continues=[2]))
    await studio.film(sets=True)
    page = next((studio.folder / "film").glob("*.html")).read_text()
    assert "filmed as one set with shot 3: share the red fox" in page
    assert "continues shot 1 (take 1) from its last 5 frames" in page
    assert "of at most 1.5 times the median frame difference" in page
