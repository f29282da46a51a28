"""What the machinery around the model costs: shots through the whole graph on instant frames and scripted brains.

Time and bytes are the graph's, the archive's and the editor's; not one pixel is denoised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.brains import Brains
from agents.graph import film_story
from agents.profile import Budget
from agents.scripted import ScriptedCritic, ScriptedPlanner, ScriptedSegmenter
from agents.state import Crew, Job, brief_for
from agents.storyboard import PlannedEvent, PlannedShot, Storyboard, Subject
from generators.backends.instant import SMALL, InstantBackend
from storage.archive import Archive


@dataclass(frozen=True, kw_only=True)
class GraphRow:
    """One run: seconds of the wall clock and of the processor, and bytes of the archive with its takes."""

    shots: int
    repeat: int
    seconds: float
    processor_seconds: float
    bytes: int

    @property
    def milliseconds_a_shot(self) -> float:
        """Wall clock."""
        return 1000 * self.seconds / self.shots


def measure(
    folder: Path,
    shots: Sequence[int] = (32, 100, 1000),
    repeats: int = 3,
    on_row: Callable[[GraphRow], None] | None = None,
) -> list[GraphRow]:
    """Film stories of so many shots, each on a new SQLite file under `folder`; sizes take turns."""
    asyncio.run(_film(folder / "warm-up", 2))  # the first run imports and compiles the graph
    rows = []
    for repeat in range(repeats):
        for count in shots:
            row = _row(folder / f"{count}-{repeat}", count, repeat)
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def story_of(shots: int) -> Storyboard:
    """A storyboard with one event a shot."""
    event = PlannedEvent(subject="fox", phrase="jumps up", start=0.0, end=1.0)
    return Storyboard(
        title="Many shots",
        cast=(Subject(name="fox", description="the red fox"),),
        shots=tuple(
            PlannedShot(prompt=f"Scene {n}: the red fox jumps up.", subjects=("fox",), seconds=1.0, events=(event,))
            for n in range(1, shots + 1)
        ),
    )


def _row(folder: Path, shots: int, repeat: int) -> GraphRow:
    clock, processor = time.perf_counter(), time.process_time()
    asyncio.run(_film(folder, shots))
    return GraphRow(
        shots=shots,
        repeat=repeat,
        seconds=time.perf_counter() - clock,
        processor_seconds=time.process_time() - processor,
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )


async def _film(folder: Path, shots: int) -> None:
    budget = Budget(shots=shots, takes_per_shot=1)
    brains = Brains(planner=ScriptedPlanner(story_of(shots)), segmenter=ScriptedSegmenter(), critic=ScriptedCritic())
    with Archive(folder) as archive:
        run = archive.open_run(f"a story of {shots} shots", "bench", {})
        crew = Crew(archive=archive, backend=InstantBackend(), brains=brains, budget=budget)
        job = Job(run_id=run.id, brief=brief_for(SMALL, budget), folder=folder / "film")
        await film_story(job, crew)
