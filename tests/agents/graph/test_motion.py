"""Shots that move as a clip or another shot does: filmed in order, found again, and made again bit for bit."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.controls import MotionFrom
from agents.motion import Settling
from agents.progress import TakeDone
from agents.scripted import ScriptedCritic
from agents.storyboard import Storyboard
from agents.takespec import TakeSpec
from generators.backends.instant import InstantBackend
from generators.clip import ShotRequest
from generators.controls.config import MotionQueries
from generators.errors import MediaError
from generators.video import read_take, write_take
from storage.records import TakeRecord
from tests.agents.graph.stage import TINY, Studio, board


def clip(folder: Path, frames: int = 40) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (frames, 16, 16, 3), dtype=np.uint8)
    write_take(folder / "horse.mkv", pixels, 8)
    return folder / "horse.mkv"


def moved(studio: Studio, *sources: str | None) -> Storyboard:
    plain = board(len(sources))
    shots = tuple(
        shot.model_copy(update={"motion_from": source}) for shot, source in zip(plain.shots, sources, strict=True)
    )
    here = Settling(archive=studio.archive, folder=studio.folder)
    return here.of_board(Storyboard.model_validate(plain.model_copy(update={"shots": shots}).model_dump()))


def watched(studio: Studio) -> list[ShotRequest]:
    """What the backend is asked from here on."""
    asked: list[ShotRequest] = []
    studio.backend = InstantBackend(limits=replace(TINY, moves=True), on_shoot=asked.append)
    return asked


def film(studio: Studio, **changes: Any) -> None:
    asyncio.run(studio.film(**changes))


def of(studio: Studio, shot: str) -> TakeRecord:
    return next(record for record in studio.archive.takes(studio.run_id) if record.label == shot)


def control(record: TakeRecord) -> MotionFrom:
    (found,) = (c for c in TakeSpec.from_json(record.take.request).controls if isinstance(c, MotionFrom))
    return found


def test_a_shot_is_filmed_with_the_clip_it_names(studio: Studio) -> None:
    asked = watched(studio)
    path = clip(studio.folder)
    film(studio, storyboard=moved(studio, "horse.mkv", None), motion_share=0.4)
    first, second = sorted(asked, key=lambda request: request.prompt)[:2]
    (motion,) = (c for c in first.controls if isinstance(c, MotionQueries))
    np.testing.assert_array_equal(motion.frames, read_take(path)[0][:33])
    assert motion.steps == 0.4
    assert first.controls[0] is motion
    assert not [c for c in second.controls if isinstance(c, MotionQueries)]


def test_a_shot_waits_for_the_one_it_moves_like(studio: Studio) -> None:
    watched(studio)
    film(studio, storyboard=moved(studio, "shot 2", None))
    assert control(of(studio, "1")).clip == of(studio, "2").take.sha256
    assert control(of(studio, "1")).prompt == of(studio, "2").take.request["prompt"]
    assert [event.shot for event in studio.told(TakeDone) if isinstance(event, TakeDone)][0] == "2"


def test_a_shot_whose_source_failed_says_so_and_the_others_are_filmed(studio: Studio) -> None:
    def fail(request: ShotRequest) -> None:
        if "spins 1 times" in request.prompt:
            raise MediaError("the disk is gone")

    studio.backend = InstantBackend(limits=replace(TINY, moves=True), on_shoot=fail)
    outcome = asyncio.run(studio.film(storyboard=moved(studio, None, "shot 1", None)))
    assert any("motion of shot 1, of which there is no take" in error for error in outcome.errors)
    assert outcome.film is not None
    assert outcome.film.missing == ["1", "2"]


def test_a_source_that_vanished_is_not_missed(studio: Studio) -> None:
    path = clip(studio.folder)
    plan = moved(studio, "horse.mkv")
    path.unlink()
    watched(studio)
    film(studio, storyboard=plan)
    take = of(studio, "1").take
    bits = (take.sha256, take.request_digest)
    file = studio.archive.take_file(take)
    assert file is not None
    file.unlink()
    film(studio, storyboard=plan)
    assert (of(studio, "1").take.sha256, of(studio, "1").take.request_digest) == bits


@pytest.mark.slow
def test_a_finished_film_asks_nothing_more(studio: Studio) -> None:
    clip(studio.folder)
    plan = moved(studio, "horse.mkv", "shot 1")
    watched(studio)
    film(studio, storyboard=plan)
    asked = watched(studio)
    film(studio, storyboard=plan)
    assert asked == []


@pytest.mark.slow
def test_motion_stays_with_a_shot_through_its_remedies(studio: Studio) -> None:
    clip(studio.folder)
    studio.critic = ScriptedCritic({("1", take): (True, False) for take in range(1, 9)})
    watched(studio)
    film(studio, storyboard=moved(studio, "horse.mkv"))
    takes = studio.archive.takes(studio.run_id)
    assert len(takes) == studio.budget.takes_per_shot
    assert len({control(record) for record in takes}) == 1


def test_the_manifest_names_the_clip(studio: Studio) -> None:
    clip(studio.folder)
    plan = moved(studio, "horse.mkv")
    watched(studio)
    film(studio, storyboard=plan)
    manifest = json.loads((studio.folder / "film" / "manifest.json").read_text())
    (told,) = (c for c in manifest["takes"][0]["controls"] if c["name"] == "MotionFrom")
    assert f"sha256:{told['clip']}" == plan.shots[0].motion_from
