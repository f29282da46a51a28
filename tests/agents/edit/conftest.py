"""A run as it stands after filming: real rows and take files, a shot that failed, a hostile story."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from agents.editor import Cut, EditOptions, FilmPlan
from agents.takespec import TakeSpec
from generators.clip import Frames
from generators.video import write_take
from storage.archive import Archive
from storage.records import EventPlan, ShotPlan

FPS = 8
HOSTILE = "<script>alert('fox')</script> & \"quoted\" --> {b}"


def puppet(count: int, seed: int) -> Frames:
    """A disc that crosses a gradient, in a colour of its own."""
    rows, columns = np.mgrid[0:64, 0:96]
    colour = [(222, 38, 38), (44, 82, 222), (250, 224, 40), (34, 160, 60)][seed % 4]
    frames = np.zeros((count, 64, 96, 3), np.uint8)
    frames[..., 2] = 120 + rows
    frames[..., 1] = 150
    for index, frame in enumerate(frames):
        inside = (rows - 40) ** 2 + (columns - 10 - 76 * index / max(1, count - 1)) ** 2 < 90
        frame[inside] = colour
    return frames


def event(subject: str, phrase: str, start: float, end: float) -> EventPlan:
    return EventPlan(subject=subject, phrase=phrase, start=start, end=end)


SHOTS = (
    ShotPlan(
        prompt="On a meadow by day the red fox walks to the right, then the red fox jumps high.",
        seconds=2.125,
        subjects=("Rena",),
        place="meadow",
        events=(
            event("Rena", "the red fox walks to the right", 0.0, 1.0),
            event("Rena", "the red fox jumps high", 1.1, 2.0),
        ),
    ),
    ShotPlan(
        prompt="The red fox spins.",
        seconds=2.125,
        subjects=("Rena",),
        transition="continues",
        events=(event("Rena", "the red fox spins", 0.5, 2.0),),
    ),
    ShotPlan(
        prompt=f"The blue cat {HOSTILE} vanishes.",
        seconds=2.125,
        subjects=("Cat",),
        events=(event("Cat", f"{HOSTILE} vanishes", 0.0, 2.0),),
    ),
    ShotPlan(prompt="The blue cat sleeps.", seconds=1.0, subjects=("Cat",), events=(event("Cat", "sleeps", 0, 1),)),
)


class FilmedRun:
    """The archive with its one run, and plans to cut it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = Archive(folder / "media")
        run = self.archive.open_run(f"Once there was a fox. {HOSTILE}", "bundled", {"seed": 7})
        self.run_id = run.id
        self.archive.save_storyboard(
            run.id,
            title=f"The fox and the cat {HOSTILE}",
            style="a paper puppet theatre",
            cast=[
                {"name": "Rena", "description": "a red fox"},
                {"name": "Cat", "description": f"a blue cat {HOSTILE}"},
            ],
            places=[{"name": "meadow", "description": "a green meadow"}],
            notes=["no dragon in the world: a bird stands for it", HOSTILE],
            shots=SHOTS,
        )
        self.cuts = [
            Cut(shot="1", take_id=self.film(0, 2, [(True, 0.1, 0.9), (False, None, None)])),
            Cut(shot="2", take_id=self.film(1, 2, [(True, 0.6, 1.9)]), drop=5),
        ]
        retake = self.film(2, 0, [(False, None, None)])
        self.archive.save_remedy(
            retake, kind="new_seed", changes={"seed": 99}, reason=f"event 3.1 was not seen {HOSTILE}"
        )
        self.cuts.append(Cut(shot="3", take_id=self.film(2, 1, [(True, 0.2, 1.8)], seed=99)))
        self.archive.fail_shot(self.archive.shots(run.id)[3].shot.id, f"out of memory {HOSTILE}")
        call = self.archive.begin_call(
            run.id,
            role="planner",
            model=f"tiny {HOSTILE}",
            prompt_name="plan",
            prompt_digest="p",
            input_digest="i",
        )
        self.archive.finish_call(call.id, "{}", tokens_in=1200, tokens_out=340, cost=0.0021, seconds=3.2)
        self.archive.spend(run.id, 90.14)

    def plan(self, options: EditOptions | None = None, out: str = "film") -> FilmPlan:
        return FilmPlan(
            record=self.archive.record(self.run_id),
            cuts=tuple(self.cuts),
            media=self.archive.media.folder,
            folder=self.folder / out,
            options=options or EditOptions(scale=2),
        )

    def film(self, index: int, colour: int, seen: list[tuple[bool, float | None, float | None]], seed: int = 7) -> int:
        shot = self.archive.shots(self.run_id)[index]
        spec = TakeSpec(prompt=shot.shot.prompt, frames=17, fps=FPS, width=96, height=64, seed=seed)
        take = self.archive.begin_take(
            shot.shot.id,
            seed=seed,
            model="bundled",
            controls=[{"name": "TSAttn", "steps": 0.2}],
            request=spec.to_json(),
            digest=f"{index}-{seed}",
        )
        frames, evidence = puppet(17, colour), f"moved 0.31 widths {HOSTILE}"
        self.archive.finish_take(take.id, partial(write_take, frames=frames, fps=FPS), notes=[HOSTILE], seconds=20.5)
        self.archive.save_verdict(
            take.id,
            critic="pixels",
            events=[
                {"done": done, "start": start, "end": end, "confidence": 0.93, "evidence": evidence}
                for done, start, end in seen
            ],
            identity=0.97,
            quality=0.88,
            seconds=0.4,
        )
        return take.id


@pytest.fixture
def filmed(tmp_path: Path) -> Iterator[FilmedRun]:
    run = FilmedRun(tmp_path)
    yield run
    run.archive.close()


@pytest.fixture
def make_puppet() -> Callable[[int, int], Frames]:
    return puppet


@pytest.fixture
def hostile() -> str:
    return HOSTILE
