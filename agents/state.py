"""What a run is given and what it works with; and the way between storyboards and their rows.

The graph's own state is a run's number and the numbers of shots: everything else is looked up in the archive (law 4).
"""

from __future__ import annotations

import operator
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Protocol, TypedDict

from agents.brains import Brains, Brief
from agents.director import WHOLE_LADDER, Repairs
from agents.editor import EditOptions
from agents.errors import BudgetExhausted
from agents.profile import Budget
from agents.progress import OnEvent, ignore
from agents.storyboard import Place, PlannedEvent, PlannedShot, Storyboard, Subject
from agents.takespec import Look
from generators.clip import Backend, Limits, ShotRequest
from storage.archive import Archive
from storage.records import NOTHING, Costs, EventPlan, ShotPlan, ShotRecord
from storage.tables import Run

RESERVE = 0.03
"""Share of the time that is kept for cutting the film, at most `MOST_RESERVE` seconds."""
MOST_RESERVE = 20.0


class StoryState(TypedDict, total=False):
    """The graph's state: ids only."""

    run_id: int
    filmed: Annotated[list[int], operator.add]


class ChainState(TypedDict):
    """What one branch of the fan-out gets: numbers of shots that continue one another."""

    chain: list[int]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run to be worked on; its story, rows and status are in the archive."""

    run_id: int
    brief: Brief
    seed: int = 0
    storyboard: Storyboard | None = None
    """A plan a person wrote or edited; takes the planner's place."""
    approve: bool = False
    """Stop after the storyboard for a person to look at it."""
    retries: Mapping[int, int | None] = field(default_factory=dict)
    """Shots to be filmed again though they are done; the value is an event's number, from 1, or None."""
    repairs: Repairs = WHOLE_LADDER
    """What the director may choose from when a take missed something."""
    folder: Path
    """Where the film goes."""
    edit: EditOptions = EditOptions()
    steps: int | None = None
    guidance: float | None = None
    guidance_2: float | None = None
    width: int | None = None
    height: int | None = None
    picture: str | None = None
    """sha256 of a kept picture from which every shot that begins with a cut starts."""
    motion: Mapping[int, str] = field(default_factory=dict)
    """Sources of motion asked for beside the storyboard, settled; 0 stands for all shots that name none."""
    motion_share: float | None = None
    sets: bool = False
    """Film shots that share a cast as one set, where the backend can."""


class Illustrator(Protocol):
    """Draws where the words of a request's events are attended to while it is filmed."""

    def draw(self, request: ShotRequest, cancelled: threading.Event) -> bytes:
        """A PNG. Raises GenerationError where there is nothing to look at, or the model cannot be looked into."""
        ...


@dataclass(kw_only=True)
class Crew:
    """Everybody a run needs: memory, device, brains, limits and who listens."""

    archive: Archive
    backend: Backend
    brains: Brains
    budget: Budget
    before: Costs = NOTHING
    """What the run had used when this budget began: a retry has its whole budget anew."""
    illustrator: Illustrator | None = None
    """Draws where the model looked, for the report; None leaves that out."""
    on_event: OnEvent = ignore
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set it, from any thread, to stop the run; it can be resumed."""


class Clock:
    """The run's seconds of work: what it spent of its budget so far, and what is left.

    `spent` were spent by earlier processes; `before` is what the run had taken when this budget began.
    """

    def __init__(self, limit: float | None, spent: float, before: float = 0.0) -> None:
        self.limit = limit
        self.spent = spent
        self.before = before
        self.counting = True
        """Whether the seconds that pass are the run's: not while a finished run is only looked at, nor once its report
        is written, which tells all of them."""
        self._begun = time.monotonic()
        self._told = 0.0
        self._telling = threading.Lock()

    @property
    def left(self) -> float:
        """Seconds left for everything; infinite without a limit."""
        return float("inf") if self.limit is None else self.limit - self.spent - self.elapsed

    @property
    def elapsed(self) -> float:
        """Seconds since this process took the run up."""
        return time.monotonic() - self._begun

    @property
    def reserve(self) -> float:
        """Seconds that are kept for cutting the film."""
        return 0.0 if self.limit is None else min(RESERVE * self.limit, MOST_RESERVE)

    @property
    def over(self) -> bool:
        """Whether only the film may still be cut."""
        return self.left <= self.reserve

    def untold(self) -> float:
        """Seconds since this was last asked, by whichever thread: what is still to be kept in the archive."""
        with self._telling:
            now = self.elapsed
            untold, self._told = now - self._told, now
        return untold

    def check(self, needed: float = 0.0) -> None:
        """Raise BudgetExhausted when `needed` seconds more cannot be had."""
        if self.left - self.reserve <= needed:
            raise self.exhausted(f"the next step takes about {needed:.1f} s" if needed else "")

    def exhausted(self, why: str) -> BudgetExhausted:
        """The account that ends the work, with what ended it."""
        told = f"budget.seconds: {self.spent + self.elapsed:.1f} of {self.limit:g} s of work are spent"
        told += f" (the {self.before:.1f} s before this retry do not count)" if self.before else ""
        kept = f"{self.reserve:.1f} s are kept to cut the film" if self.reserve >= 0.05 else ""
        return BudgetExhausted(", ".join(part for part in (told, kept, why) if part))


def brief_for(limits: Limits, budget: Budget, *, style: str = "", seconds: float | None = None) -> Brief:
    """What a planner must keep to with this backend and budget; shot lengths in half seconds."""
    lengths = sorted({max(0.5, round(count / limits.fps * 2) / 2) for count in limits.frame_counts})
    return Brief(shot_seconds=tuple(lengths), max_shots=budget.shots, style=style, seconds=seconds)


def look_for(job: Job, run: Run, limits: Limits) -> Look:
    """How this run's takes are filmed."""
    return Look(
        limits=limits,
        seed=job.seed,
        style=run.style,
        steps=job.steps,
        guidance=job.guidance,
        guidance_2=job.guidance_2,
        width=job.width,
        height=job.height,
        picture=job.picture,
        motion_share=job.motion_share,
    )


def storyboard_of(run: Run, shots: list[ShotRecord]) -> Storyboard:
    """The storyboard as it stands in the archive now."""
    return Storyboard(
        title=run.title or "Untitled",
        style=run.style,
        cast=tuple(Subject(**subject) for subject in run.cast),
        places=tuple(Place(**place) for place in run.places),
        shots=tuple(planned(shot.plan) for shot in shots),
        notes=tuple(run.notes),
    )


def save_storyboard(archive: Archive, run_id: int, board: Storyboard, *, replace: bool = False) -> list[ShotRecord]:
    """Keep a storyboard in the archive; see `Archive.save_storyboard`."""
    return archive.save_storyboard(
        run_id,
        title=board.title,
        style=board.style,
        cast=[subject.model_dump() for subject in board.cast],
        places=[place.model_dump() for place in board.places],
        notes=list(board.notes),
        shots=[plan_of(shot) for shot in board.shots],
        replace=replace,
    )


def planned(plan: ShotPlan) -> PlannedShot:
    """A kept shot as the agents think of it."""
    return PlannedShot(
        prompt=plan.prompt,
        subjects=plan.subjects,
        place=plan.place,
        camera=plan.camera,
        seconds=plan.seconds,
        transition="continues" if plan.transition == "continues" else "cut",
        motion_from=plan.motion_from,
        synopsis=plan.synopsis,
        events=tuple(PlannedEvent(subject=e.subject, phrase=e.phrase, start=e.start, end=e.end) for e in plan.events),
    )


def plan_of(shot: PlannedShot) -> ShotPlan:
    """A shot as the archive keeps it."""
    return ShotPlan(
        prompt=shot.prompt,
        seconds=shot.seconds,
        events=tuple(EventPlan(subject=e.subject, phrase=e.phrase, start=e.start, end=e.end) for e in shot.events),
        subjects=shot.subjects,
        place=shot.place,
        camera=shot.camera,
        transition=shot.transition,
        motion_from=shot.motion_from,
        synopsis=shot.synopsis,
    )


def chains_of(shots: list[ShotRecord]) -> list[list[int]]:
    """Shot numbers in runs that must be filmed in order: a shot that continues follows the one before it."""
    chains: list[list[int]] = []
    for shot in shots:
        if shot.shot.transition == "continues" and chains:
            chains[-1].append(shot.shot.number)
        else:
            chains.append([shot.shot.number])
    return chains
