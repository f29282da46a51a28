"""What a run came to, as plain frozen values for people and programs; read from the archive's record, never kept.

Knows rows; knows nothing of terminals, models or files' contents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # these take a while to import, and asking for help must not
    from agents.profile import Profile
    from agents.storyboard import PlannedShot, Storyboard
    from storage.records import Costs, RunRecord, ShotRecord, TakeRecord
    from storage.tables import Run, Schedule


@dataclass(frozen=True, kw_only=True)
class EventOutcome:
    """One promised event and what was seen of it in the take that stands for its shot. Seconds of the shot."""

    shot: str
    number: int
    subject: str
    phrase: str
    start: float
    end: float
    seen: bool | None
    """None when no take of the shot was judged."""
    seen_start: float | None = None
    seen_end: float | None = None
    confidence: float | None = None
    evidence: str = ""

    @property
    def label(self) -> str:
        """Shot and number, as `retry --event` takes it."""
        return f"{self.shot}.{self.number}"


@dataclass(frozen=True, kw_only=True)
class TakeOutcome:
    """One rendering of a shot, and what was changed after it."""

    number: int
    seed: int
    status: str
    seen: int | None
    """Promised events seen in it; None when it was not judged."""
    identity: float | None
    quality: float | None
    seconds: float
    in_film: bool
    remedy: str = ""
    reason: str = ""
    error: str = ""
    weights: str | None = None
    """Digest of the weights that filmed it; None where there are none."""
    staged: str = ""
    """How it was filmed and why: in a set, going on from another shot, or alone."""
    seam_jump: float | None = None
    """Largest jump where it meets finished frames, over its median frame difference."""


@dataclass(frozen=True, kw_only=True)
class ShotOutcome:
    """One shot: what was promised, what was tried."""

    label: str
    prompt: str
    seconds: float
    continues: bool
    events: tuple[EventOutcome, ...]
    takes: tuple[TakeOutcome, ...]
    error: str = ""
    staged: str = ""
    """How it will be filmed, while it is only planned."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a run has used, over all its resumptions."""

    seconds: float
    calls: int
    tokens: int
    money: float
    unanswered: int = 0
    """Calls whose answer never came: they may have been paid, and count at the most they can have come to."""


@dataclass(frozen=True, kw_only=True)
class FilmResult:
    """A run as it stands. `film` is None when not one shot has a take, or when the run is not done."""

    run: int
    title: str
    profile: str
    status: str
    error: str
    notes: tuple[str, ...]
    folder: Path | None
    film: Path | None
    report: Path | None
    shots: tuple[ShotOutcome, ...]
    missing: tuple[str, ...]
    spent: Spent
    created: datetime
    storyboard: Path | None = None
    """The file a person edits while the run waits for approval."""

    @property
    def events(self) -> tuple[EventOutcome, ...]:
        """Every promised event, in the order of the film."""
        return tuple(event for shot in self.shots for event in shot.events)

    @property
    def unseen(self) -> tuple[EventOutcome, ...]:
        """Promised events that no standing take shows."""
        return tuple(event for event in self.events if not event.seen)

    @property
    def judged(self) -> bool:
        """Whether a critic saw any of it."""
        return any(event.seen is not None for event in self.events)

    @property
    def complete(self) -> bool:
        """Whether the film is cut, holds every shot and shows every promised event."""
        return self.film is not None and not self.missing and not self.unseen

    @property
    def exit_code(self) -> int:
        """0 complete, 3 a film with something unseen, 5 waiting for a person, 4 or 1 no film (docs/exit-codes.md)."""
        if self.status == "approval":
            return 5
        if self.film is None:
            return 4 if self.status == "done" else 1  # nothing failed, so the budget ended it
        return 0 if self.complete else 3


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """One run in a list of runs."""

    run: int
    title: str
    profile: str
    status: str
    created: datetime
    seconds: float
    story: str
    """Its first words."""


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """A storyboard as it would be filmed."""

    run: int | None
    """None when nothing was kept, in a dry run."""
    title: str
    style: str
    cast: tuple[str, ...]
    shots: tuple[ShotOutcome, ...]
    notes: tuple[str, ...]
    file: Path | None = None

    @property
    def seconds(self) -> float:
        """Length of all shots."""
        return sum(shot.seconds for shot in self.shots)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What filming would take. `plan` is None when only a paid model could write it."""

    plan: PlanResult | None
    profile: str
    most_takes: int
    take_seconds: float | None
    """Median of what takes by this model took before; None when none was ever filmed here."""
    most_seconds: float | None
    most_calls: int | None
    most_tokens: int | None
    most_money: float | None
    asks: str
    """Which models would be asked."""

    @property
    def seconds(self) -> float | None:
        """Filming time when every shot succeeds at once; None when nothing was measured yet."""
        if self.plan is None or self.take_seconds is None:
            return None
        return self.take_seconds * len(self.plan.shots)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every line of the estimate."""
        shots = len(self.plan.shots) if self.plan else None
        return [
            ("profile", self.profile),
            ("shots", "known after planning, which would ask a model" if shots is None else str(shots)),
            ("takes", f"at most {self.most_takes}" if shots is None else f"{shots} to {self.most_takes}"),
            ("filming", "not measured yet" if self.seconds is None else f"{self.seconds:.0f} s, when all goes well"),
            ("wall clock", _limit(self.most_seconds, "s")),
            ("models asked", self.asks),
            ("calls", _limit(self.most_calls, "")),
            ("tokens", _limit(self.most_tokens, "")),
            ("money", _limit(self.most_money, "")),
        ]


@dataclass(frozen=True, kw_only=True)
class BatchLine:
    """What one story of a batch came to."""

    name: str
    run: int | None
    exit_code: int
    seen: int = 0
    promised: int = 0
    film: Path | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """One summary of many stories."""

    lines: tuple[BatchLine, ...]

    @property
    def exit_code(self) -> int:
        """The worst that happened: 1 a failure, else 4, 3 or 0. See docs/exit-codes.md."""
        codes = {line.exit_code for line in self.lines}
        if codes - {0, 3, 4}:
            return 1
        return next((code for code in (4, 3) if code in codes), 0)


@dataclass(frozen=True, kw_only=True)
class ScheduleResult:
    """A stored batch."""

    name: str
    cron: str
    stories: int
    next_run: datetime


def board_result(
    board: Storyboard, *, run: int | None = None, file: Path | None = None, staged: Sequence[str] = ()
) -> PlanResult:
    """A storyboard as people read it; `staged` says how each shot will be filmed."""
    said = staged or [""] * len(board.shots)
    return PlanResult(
        run=run,
        title=board.title,
        style=board.style,
        cast=tuple(f"{subject.name}: {subject.description}" for subject in board.cast),
        shots=tuple(
            _planned(str(number), shot, how)
            for number, (shot, how) in enumerate(zip(board.shots, said, strict=True), 1)
        ),
        notes=board.notes,
        file=file,
    )


def estimate(profile: Profile, planned: PlanResult | None, take_seconds: float | None) -> Estimate:
    """What filming under this profile would take at most."""
    budget, models = profile.budget, profile.brains.models
    roles = ["planner", "segmenter", "reworder"] if profile.brains.kind == "endpoint" else []
    roles += ["critic"] if profile.critic.kind == "endpoint" else []
    asked = [f"{role}: {models.of(role)}" for role in roles if models.of(role)]
    return Estimate(
        plan=planned,
        profile=profile.name,
        most_takes=(len(planned.shots) if planned else budget.shots) * budget.takes_per_shot,
        take_seconds=take_seconds,
        most_seconds=budget.seconds,
        most_calls=budget.calls if asked else 0,
        most_tokens=budget.tokens if asked else 0,
        most_money=budget.money if asked else 0,
        asks=", ".join(asked) or "none, rules plan",
    )


def _planned(label: str, shot: PlannedShot, staged: str) -> ShotOutcome:
    return ShotOutcome(
        label=label,
        prompt=shot.prompt,
        seconds=shot.seconds,
        continues=shot.transition == "continues",
        events=tuple(
            EventOutcome(
                shot=label,
                number=number,
                subject=event.subject,
                phrase=event.phrase,
                start=event.start,
                end=event.end,
                seen=None,
            )
            for number, event in enumerate(shot.events, 1)
        ),
        takes=(),
        staged=staged,
    )


def _limit(value: float | None, unit: str) -> str:
    return "no limit" if value is None else f"at most {value:g} {unit}".strip()


def result(record: RunRecord) -> FilmResult:
    """Everything a person asks about one run."""
    run, film = record.run, record.film
    standing = set(film.takes) if film else set()
    folder = Path(film.folder) if film else None
    files = film.files if film else {}
    return FilmResult(
        run=run.id,
        title=run.title,
        profile=run.profile,
        status=run.status.value,
        error=run.error or "",
        notes=tuple(run.notes),
        folder=folder,
        film=_file(folder, files, ".mp4"),
        report=_file(folder, files, ".html"),
        shots=tuple(_shot(shot, record.takes, standing) for shot in record.shots),
        missing=tuple(film.missing) if film else (),
        spent=_spent(record.costs),
        created=run.created,
    )


def run_line(run: Run, story: str) -> RunLine:
    """One run in a list."""
    words = " ".join(story.split())
    return RunLine(
        run=run.id,
        title=run.title,
        profile=run.profile,
        status=run.status.value,
        created=run.created,
        seconds=run.seconds_spent,
        story=words if len(words) <= 60 else words[:59] + "…",
    )


def schedule_result(row: Schedule) -> ScheduleResult:
    """A stored batch as people read it."""
    return ScheduleResult(name=row.name, cron=row.cron, stories=len(row.batch), next_run=row.next_run)


def _shot(shot: ShotRecord, takes: tuple[TakeRecord, ...], standing: set[int]) -> ShotOutcome:
    mine = [take for take in takes if take.label == shot.label]
    judged = [take for take in mine if take.verdict is not None]
    best = next((take for take in mine if take.take.id in standing), None) or max(
        judged, key=lambda take: take.rank, default=None
    )
    verdicts: list[dict[str, Any]] = list(best.verdict.events) if best and best.verdict else []
    return ShotOutcome(
        label=shot.label,
        prompt=shot.shot.prompt,
        seconds=shot.shot.seconds,
        continues=shot.shot.transition == "continues",
        events=tuple(
            EventOutcome(
                shot=shot.label,
                number=event.number,
                subject=event.subject,
                phrase=event.phrase,
                start=event.start,
                end=event.end,
                **_seen(verdicts, index),
            )
            for index, event in enumerate(shot.promised)
        ),
        takes=tuple(_take(take, take.take.id in standing) for take in mine),
        error=shot.shot.error or "",
    )


def _seen(verdicts: list[dict[str, Any]], index: int) -> dict[str, Any]:
    if index >= len(verdicts):
        return {"seen": None}
    verdict = verdicts[index]
    return {
        "seen": bool(verdict["done"]),
        "seen_start": verdict.get("start"),
        "seen_end": verdict.get("end"),
        "confidence": verdict.get("confidence"),
        "evidence": str(verdict.get("evidence", "")),
    }


def _take(take: TakeRecord, in_film: bool) -> TakeOutcome:
    verdict, remedy = take.verdict, take.remedy
    return TakeOutcome(
        number=take.take.number,
        seed=take.take.seed,
        status=take.take.status.value,
        seen=sum(bool(event["done"]) for event in verdict.events) if verdict else None,
        identity=verdict.identity if verdict else None,
        quality=verdict.quality if verdict else None,
        seconds=take.take.seconds_spent,
        in_film=in_film,
        remedy=remedy.kind if remedy else "",
        reason=remedy.reason if remedy else "",
        error=take.take.error or "",
        weights=take.take.weights,
        staged=str(take.take.request.get("staged", "")),
        seam_jump=take.take.seam_jump,
    )


def _spent(costs: Costs) -> Spent:
    return Spent(
        seconds=costs.seconds,
        calls=costs.calls,
        tokens=costs.tokens_in + costs.tokens_out,
        money=costs.money,
        unanswered=costs.unknown_calls,
    )


def _file(folder: Path | None, files: dict[str, str], suffix: str) -> Path | None:
    name = next((name for name in files if name.endswith(suffix)), None)
    return folder / name if folder and name else None
