"""A place to film in, whose parts tests put in order: file SQLite, the instant backend, scripted brains."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agents.brains import Brains, Critic, Reworder
from agents.graph import Outcome, film_story
from agents.profile import Budget
from agents.progress import (
    RunEvent,
)
from agents.reworder import RuleReworder
from agents.scripted import ScriptedCritic, ScriptedPlanner, ScriptedSegmenter
from agents.state import Crew, Job, brief_for
from agents.storyboard import Place, PlannedEvent, PlannedShot, Storyboard, Subject
from generators.backends.instant import InstantBackend
from generators.clip import Limits
from storage.archive import DATABASE, Archive
from storage.tables import TakeStatus

TINY = Limits(width=16, height=16, fps=8, frame_counts=(33,), size_multiple=4, extends=True)


def board(count: int = 3, *, continues: Sequence[int] = ()) -> Storyboard:
    shots = tuple(
        PlannedShot(
            prompt=f"In the meadow by day, the red fox jumps up. Then the red fox spins {n} times.",
            subjects=("Pim",),
            place="meadow",
            seconds=4.0,
            transition="continues" if n in continues else "cut",
            events=(
                PlannedEvent(subject="Pim", phrase="jumps up", start=0, end=2),
                PlannedEvent(subject="Pim", phrase=f"spins {n} times", start=2, end=4),
            ),
        )
        for n in range(1, count + 1)
    )
    return Storyboard(
        title="Pim",
        cast=(Subject(name="Pim", description="the red fox"),),
        places=(Place(name="meadow", description="a meadow"),),
        shots=shots,
    )


@dataclass(kw_only=True)
class Studio:
    """A place to film in, whose parts tests put in order."""

    folder: Path
    blank: Path
    """A fresh database to be copied: making one takes longer than filming in it."""
    storyboard: Storyboard = field(default_factory=board)
    critic: Critic | None = field(default_factory=ScriptedCritic)
    reworder: Reworder = field(default_factory=RuleReworder)
    backend: InstantBackend = field(default_factory=lambda: InstantBackend(limits=TINY))
    budget: Budget = Budget(takes_per_shot=4)
    events: list[RunEvent] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        (self.folder / "media").mkdir(parents=True)
        shutil.copy(self.blank, self.folder / "media" / DATABASE)
        self.archive = Archive(self.folder / "media")
        self.run_id = self.archive.open_run("A story.", "instant", {}).id
        self.planner = ScriptedPlanner(self.storyboard)

    def crew(self) -> Crew:
        brains = Brains(planner=self.planner, segmenter=ScriptedSegmenter(), reworder=self.reworder, critic=self.critic)
        return Crew(
            archive=self.archive,
            backend=self.backend,
            brains=brains,
            budget=self.budget,
            on_event=self.events.append,
            cancelled=self.cancelled,
        )

    def job(self, **changes: object) -> Job:
        options = {
            "run_id": self.run_id,
            "brief": brief_for(TINY, self.budget),
            "folder": self.folder / "film",
        }
        return Job(**options | changes)  # type: ignore[arg-type]

    async def film(self, **changes: object) -> Outcome:
        return await film_story(self.job(**changes), self.crew())

    def told(self, kind: type[RunEvent]) -> list[RunEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    def takes(self, shot: str) -> list[tuple[int, TakeStatus, str | None]]:
        records = self.archive.takes(self.run_id)
        return [(r.take.number, r.take.status, r.remedy.kind if r.remedy else None) for r in records if r.label == shot]
