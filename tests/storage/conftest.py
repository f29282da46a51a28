"""A fresh archive on file SQLite, and shots to keep in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.archive import Archive
from storage.records import EventPlan, ShotPlan


def shot_plan(prompt: str = "the fox walks then jumps", events: int = 2) -> ShotPlan:
    return ShotPlan(
        prompt=prompt,
        seconds=4.0,
        subjects=("fox",),
        place="meadow",
        events=tuple(
            EventPlan(subject="fox", phrase=f"phrase {n}", start=float(n), end=n + 1.0) for n in range(events)
        ),
        synopsis=("The fox sits.", "The fox runs."),
    )


@pytest.fixture
def plan() -> ShotPlan:
    return shot_plan()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "media") as opened:
        yield opened


@pytest.fixture
def run_id(archive: Archive, plan: ShotPlan) -> int:
    """A run with two shots."""
    run = archive.open_run("Once there was a fox.", "bundled", {"seed": 1})
    archive.save_storyboard(run.id, title="The fox", shots=[plan, plan])
    return run.id
