"""Films one caption of the puppet world under one policy, through the product's own graph, and counts the work.

Policies take turns at a caption and begin from the same noise, so a take that one of them has filmed is not denoised
again for the next: it is the same clip, and its work is counted again. Archives are temporary; what lasts is a row.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from agents import director
from agents.brains import Brains, Critic, VerdictResult, Viewing
from agents.graph import film_story
from agents.offline import OfflinePlanner
from agents.profile import Budget
from agents.reworder import RuleReworder
from agents.segmenter import RuleSegmenter
from agents.state import Crew, Job, brief_for
from agents.storyboard import Place, PlannedEvent, PlannedShot, Storyboard, Subject
from evals.benchmarks.protocol import Film
from evals.benchmarks.retry_policies import Policy
from evals.metrics.score import Case, NotMeasured
from evals.world.splits import Case as WorldCase
from generators.clip import Backend, Clip, Frames, OnProgress, ShotRequest
from generators.costs import measured
from generators.video import read_take
from storage.archive import Archive
from storage.records import TakeRecord
from storage.tables import TakeStatus

CaseOf = Callable[[str], tuple[WorldCase, int]]
"""A unit's name to its caption and its seed."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One take of a shot as the critic saw it."""

    frames: Frames = field(repr=False)
    remedy: str
    """What led to it; empty for the first."""
    reason: str
    work: float
    """In first takes of this caption."""
    seen: tuple[bool, ...]
    """The critic's flags, an event each."""
    sure: tuple[float, ...]
    identity: float
    quality: float


@dataclass(frozen=True, kw_only=True)
class FilmedShot(Film):
    """The best take, and all that were filmed on the way to it, in order."""

    policy: Policy
    attempts: tuple[Attempt, ...]


class CountingBackend:
    """Films through another backend, once a request, and keeps what each clip's work was.

    Work is floating-point operations where a network denoises, else frames: no clock takes part.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.weights, self.limits = backend.name, backend.weights, backend.limits
        self._clips: dict[str, Clip] = {}
        self.work: dict[str, float] = {}

    def shoot(
        self,
        requests: Sequence[ShotRequest],
        on_progress: OnProgress | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[Clip]:
        """One clip each, each filmed alone, so that its bits do not hang on its company."""
        return [self._clip(request, on_progress, cancelled) for request in requests]

    def close(self) -> None:
        """Forget; the backend within is its owner's."""
        self.forget()

    def forget(self) -> None:
        """Let go of the clips of a caption that is done."""
        self._clips.clear()
        self.work.clear()

    def _clip(self, request: ShotRequest, on_progress: OnProgress | None, cancelled: threading.Event | None) -> Clip:
        digest = request.digest()
        if digest not in self._clips:
            with measured() as meter:
                (clip,) = self._backend.shoot([request], on_progress, cancelled)
            self.work[digest] = float(meter.laps[-1].flops or request.frames)
            self._clips[digest] = clip
        return self._clips[digest]


class Unmoved:
    """A critic who keeps its verdicts to itself and is never content."""

    def __init__(self, critic: Critic) -> None:
        self._critic = critic
        self.verdicts: dict[int, VerdictResult] = {}

    @property
    def name(self) -> str:
        """The critic's own."""
        return self._critic.name

    async def judge(self, viewing: Viewing) -> VerdictResult:
        """Nothing was done."""
        verdict = await self._critic.judge(viewing)
        self.verdicts[viewing.take] = verdict
        return replace(verdict, events=tuple(replace(event, done=False) for event in verdict.events))


class Stage:
    """Where captions are filmed: one backend, one critic, and an archive for the caption at hand. Use in a `with`."""

    def __init__(
        self, backend: Backend, critic: Critic, unmoved: Critic, case_of: CaseOf, takes: int, steps: int | None = None
    ) -> None:
        self.backend = CountingBackend(backend)
        self.critic = critic
        self.unmoved = unmoved
        """The same critic without its threshold, for policies that its content does not end."""
        self.steps = steps
        self.case_of = case_of
        self.takes = takes
        self._case = ""
        self._folder: TemporaryDirectory[str] | None = None
        self._archive: Archive | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._strike()

    def film(self, policy: Policy, name: str) -> FilmedShot | NotMeasured:
        """All takes of one caption under one policy. A shot that cannot be filmed is not measured."""
        if name != self._case:
            self._strike()
            self._case = name
        case, seed = self.case_of(name)
        archive, folder = self._opened()
        run = archive.open_run(case.caption.text, "retry bench", {"policy": policy.name, "seed": seed})
        critic = self.critic if policy.content else Unmoved(self.unmoved)
        budget = Budget(takes_per_shot=policy.takes or self.takes)
        crew = Crew(archive=archive, backend=self.backend, brains=_brains(critic), budget=budget)
        job = Job(
            run_id=run.id,
            brief=brief_for(self.backend.limits, budget),
            seed=seed,
            storyboard=board_of(case),
            repairs=policy.repairs,
            steps=self.steps,
            folder=folder / f"film-{policy.name}",
        )
        outcome = asyncio.run(film_story(job, crew))
        takes = [record for record in archive.takes(run.id) if record.take.status == TakeStatus.DONE]
        if not takes or outcome.errors:
            return NotMeasured(reason=f"not filmed: {'; '.join(outcome.errors) or 'no take'}")
        attempts = self._attempts(archive, takes, critic)
        best = director.best_take(takes)
        shown = attempts[takes.index(best)] if best is not None else attempts[-1]
        seconds = sum(record.take.seconds_spent for record in takes)
        return FilmedShot(
            frames=shown.frames, fps=float(self.backend.limits.fps), seconds=seconds, policy=policy, attempts=attempts
        )

    def _attempts(self, archive: Archive, takes: Sequence[TakeRecord], critic: Critic) -> tuple[Attempt, ...]:
        first = self._work(takes[0])
        before: list[TakeRecord | None] = [None, *takes[:-1]]
        told = critic.verdicts if isinstance(critic, Unmoved) else {}
        return tuple(
            _attempt(archive, record, led, self._work(record) / first, told.get(record.take.number))
            for record, led in zip(takes, before, strict=True)
        )

    def _work(self, record: TakeRecord) -> float:
        return sum(self.backend.work[digest] for digest in record.take.composition)

    def _opened(self) -> tuple[Archive, Path]:
        if self._folder is None or self._archive is None:
            self._folder = TemporaryDirectory(prefix="retry-bench-")
            self._archive = Archive(Path(self._folder.name))
        return self._archive, Path(self._folder.name)

    def _strike(self) -> None:
        self.backend.forget()
        if self._archive is not None:
            self._archive.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._archive, self._folder = None, None


@dataclass(frozen=True, kw_only=True)
class PolicyFootage:
    """Shots filmed under one policy."""

    stage: Stage
    policy: Policy
    source: str = "file"

    @property
    def name(self) -> str:
        """The policy's."""
        return self.policy.name

    def digest(self, case: Case, seed: int) -> str:
        """Settings and source say it all."""
        return ""

    def film(self, case: Case, seed: int) -> FilmedShot | NotMeasured:
        """All takes; the noise hangs on the caption alone."""
        return self.stage.film(self.policy, case.name)


def _attempt(
    archive: Archive, record: TakeRecord, led: TakeRecord | None, work: float, told: VerdictResult | None
) -> Attempt:
    path = archive.take_file(record.take)
    verdict = record.verdict
    if path is None or verdict is None:
        raise RuntimeError(f"Take {record.take.number} of the retry bench lost its file or its verdict")
    remedy = None if led is None else led.remedy
    events = [asdict(event) for event in told.events] if told else verdict.events
    if any(event["done"] is None for event in events):
        raise RuntimeError(f"Take {record.take.number} of the retry bench promises what its judge cannot read")
    flags = [(bool(event["done"]), float(event["confidence"])) for event in events]
    return Attempt(
        frames=read_take(path)[0],
        remedy=remedy.kind if remedy else "",
        reason=remedy.reason if remedy else "",
        work=work,
        seen=tuple(done for done, _ in flags),
        sure=tuple(sure for _, sure in flags),
        identity=verdict.identity,
        quality=verdict.quality,
    )


def _brains(critic: Critic) -> Brains:
    """Those of the bundled profile, with this critic."""
    return Brains(planner=OfflinePlanner(), segmenter=RuleSegmenter(), reworder=RuleReworder(), critic=critic)


def board_of(case: WorldCase) -> Storyboard:
    """The caption as a story of one shot; its events are still to be timed."""
    script, caption = case.script, case.caption
    cast = tuple(dict.fromkeys(actor.words for actor in script.actors))
    shot = PlannedShot(
        prompt=caption.text,
        subjects=cast,
        place=script.place,
        seconds=script.seconds,
        events=tuple(
            PlannedEvent(subject=subject, phrase=phrase, start=0.0, end=script.seconds)
            for subject, phrase in zip(caption.subjects, caption.phrases, strict=True)
        ),
    )
    return Storyboard(
        title=case.name,
        cast=tuple(Subject(name=words, description=f"the {words}") for words in cast),
        places=(Place(name=script.place, description=f"the {script.place}"),),
        shots=(shot,),
    )
