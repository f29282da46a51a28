"""Stopped or damaged at any moment, a run goes on to the same film."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from agents.errors import RunStopped
from agents.graph import film_story
from agents.progress import (
    Judged,
    RemedyChosen,
    RunEvent,
    TakeStarted,
)
from agents.scripted import ScriptedCritic
from generators.backends.instant import InstantBackend
from generators.clip import ShotRequest
from storage.tables import TakeStatus
from tests.agents.graph.stage import TINY, Studio


@pytest.mark.slow
async def test_stopping_between_two_steps_loses_nothing_but_the_running_take(studio: Studio) -> None:
    studio.backend = InstantBackend(limits=TINY, seconds_per_step=0.2)

    def stop(event: RunEvent) -> None:
        studio.events.append(event)
        if isinstance(event, TakeStarted) and event.shot == "2":
            studio.cancelled.set()

    crew = studio.crew()
    crew.on_event = stop
    with pytest.raises(RunStopped, match="resume"):
        await film_story(studio.job(), crew)
    assert studio.archive.run(studio.run_id).owner is None
    done = [t for t in ("1", "2", "3") if studio.takes(t) and studio.takes(t)[0][1] == TakeStatus.DONE]
    assert done == ["1"]
    studio.cancelled.clear()
    shots: list[ShotRequest] = []
    studio.backend = InstantBackend(limits=TINY, on_shoot=shots.append)
    assert (await studio.film()).all_seen
    assert len(shots) == 2


@pytest.mark.slow
async def test_a_cancelled_task_stops_the_worker_and_can_be_resumed(studio: Studio) -> None:
    studio.backend = InstantBackend(limits=TINY, seconds_per_step=0.3)
    task = asyncio.create_task(studio.film())
    while not studio.told(TakeStarted):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("filming")]
    studio.cancelled = threading.Event()
    studio.backend = InstantBackend(limits=TINY)
    assert (await studio.film()).all_seen


@pytest.mark.slow
async def test_the_film_after_an_interruption_is_the_film_without_one(
    studio: Studio, tmp_path: Path, blank: Path
) -> None:
    critic = {("2", 1): [True, False]}
    studio.critic = ScriptedCritic(critic)
    whole = await studio.film()
    other = Studio(folder=tmp_path / "other", blank=blank, critic=ScriptedCritic(critic))
    stops = 0
    for stop_at in (TakeStarted, Judged, RemedyChosen):
        crew = other.crew()

        def stop(event: RunEvent, kind: type[RunEvent] = stop_at) -> None:
            if isinstance(event, kind):
                other.cancelled.set()

        crew.on_event = stop
        try:
            await film_story(other.job(), crew)
        except RunStopped:
            stops += 1
        other.cancelled.clear()
    resumed = await other.film()
    other.archive.close()
    assert stops >= 2
    assert whole.film is not None
    assert resumed.film is not None
    assert resumed.film.files["film.mp4"] == whole.film.files["film.mp4"]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "cut", "altered"])
async def test_a_take_file_that_is_not_whole_is_found_and_made_again(studio: Studio, damage: str) -> None:
    first = await studio.film()
    assert first.film is not None
    path = studio.archive.take_file(studio.archive.take(first.film.takes[1]))
    assert path is not None
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:100] if damage == "cut" else whole[:-1] + b"?")
    studio.critic = judge = ScriptedCritic()
    second = await studio.film()
    assert path.read_bytes() == whole
    assert judge.viewings == []
    assert second.film is not None
    changed = {name for name, sha256 in second.film.files.items() if first.film.files[name] != sha256}
    assert changed <= {"report.html"}, "it tells what making the take again took"
