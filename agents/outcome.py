"""What a run came to, as plain frozen values for people and programs; read from the archive's record, never kept.

Knows rows; knows nothing of terminals, models or files' contents.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agents.account import Spent, account, told_seconds
from agents.retries import Retried
from agents.titles import opening
from storage.lease import holder, holds

if TYPE_CHECKING:  # these take a while to import, and asking for help must not
    from storage.records import RunRecord, ShotRecord, TakeRecord
    from storage.tables import Run, Schedule

ShotState = Literal["judged", "not judged", "not filmed"]
"""What became of a shot: judged, filmed but judged by nobody, or without a finished take."""
NO_CRITIC = "the profile has no critic"


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
    """None when nobody judged it; the state of its shot says whether it was filmed at all."""
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
    unjudged: int
    """Promised events of which its critic could not tell; 0 when it was not judged."""
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
    prompt: str = ""
    """The words it was filmed with."""
    seam_jump: float | None = None
    """Largest jump where it meets finished frames, over its median frame difference."""


@dataclass(frozen=True, kw_only=True)
class ShotOutcome:
    """One shot: what was promised, what was tried."""

    label: str
    prompt: str
    """As the story was first told; what a take was filmed with is the take's."""
    seconds: float
    continues: bool
    events: tuple[EventOutcome, ...]
    takes: tuple[TakeOutcome, ...]
    state: ShotState = "not filmed"
    why: str = ""
    """Why it was not filmed or judged; of a judged one, what ended the work on it early. Empty while it goes on."""
    staged: str = ""
    """How it will be filmed, while it is only planned."""

    @property
    def wants_more(self) -> bool:
        """Whether another take could show more: nobody looked at one, or something was looked for and not seen."""
        return self.state != "judged" or any(event.seen is False for event in self.events)


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How many promised events were seen, and why the others may not have been."""

    promised: int
    seen: int
    unjudged: int = 0
    """Filmed, and judged by nobody, or of a kind that the critic cannot judge."""
    unfilmed: int = 0
    """Of shots without a finished take."""

    @property
    def judged(self) -> int:
        """Events that a critic looked for."""
        return self.promised - self.unjudged - self.unfilmed

    @property
    def wanting(self) -> bool:
        """Whether a critic looked and something was not there, a whole shot perhaps."""
        return self.seen < self.judged or (self.judged > 0 and self.unfilmed > 0)

    @property
    def brief(self) -> str:
        """Of one judged shot."""
        return f"{self.seen} of {self.promised} seen" + (f", {self.unjudged} not judged" if self.unjudged else "")

    @property
    def said(self) -> str:
        """In one line; nothing is called unseen where nobody looked."""
        events = f"{self.promised} promised event{'' if self.promised == 1 else 's'}"
        open_ones = {"not judged": self.unjudged, "not filmed": self.unfilmed}
        counted = [f"{count} {state}" for state, count in open_ones.items() if count]
        if self.judged or not self.promised:
            return f"{self.seen} of {events} seen" + (f" ({', '.join(counted)})" if counted else "")
        if len(counted) == 1:
            return f"{events}, {counted[0].partition(' ')[2]}"
        return f"{events}: {', '.join(counted)}"


@dataclass(frozen=True, kw_only=True)
class FilmResult:
    """A run as it stands. `film` is None when not one shot has a take, the run is not done, or its file is lost."""

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
    tally: Tally
    spent: Spent
    created: datetime
    storyboard: Path | None = None
    """The file a person edits while the run waits for approval."""
    holder: str = ""
    """Who plans or films it at this moment, in words; empty when nobody does."""
    retried: tuple[Retried, ...] | None = None
    """Of a retry: what came of every shot that it filmed again."""
    lost: tuple[Path, ...] = ()
    """Files of the film that are gone or were altered since it was cut; resuming the run cuts it again."""

    @property
    def events(self) -> tuple[EventOutcome, ...]:
        """Every promised event, in the order of the film."""
        return tuple(event for shot in self.shots for event in shot.events)

    @property
    def unseen(self) -> tuple[EventOutcome, ...]:
        """Promised events that no critic saw in a standing take, for whatever reason."""
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
        """0 complete, 3 a film with something unseen, 5 waiting for a person, 1 no film (docs/exit-codes.md)."""
        if self.status == "approval":
            return 5
        if self.film is None:
            return 1
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
class BatchLine:
    """What one story of a batch came to."""

    name: str
    run: int | None
    exit_code: int
    tally: Tally | None = None
    """None where there is no run to count in."""
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


def result(record: RunRecord) -> FilmResult:
    """Everything a person asks about one run."""
    run, film = record.run, record.film
    shots = shot_outcomes(record, film.takes if film else (), ended=run.status.value in ("done", "failed"))
    folder = Path(film.folder) if film else None
    files = film.files if film else {}
    return FilmResult(
        run=run.id,
        title=run.title,
        profile=run.profile,
        status=_status(run),
        error=run.error or "",
        notes=tuple(run.notes),
        folder=folder,
        film=_file(folder, files, ".mp4"),
        report=_file(folder, files, ".html"),
        shots=shots,
        missing=tuple(film.missing) if film else (),
        tally=tally(shots),
        spent=account(record),
        created=run.created,
        holder=holder(str(run.owner)) if holds(run.owner, run.owner_until) else "",
    )


def _status(run: Run) -> str:
    """Where the run stands: `stopped` when it was being planned or filmed and nobody does any more."""
    held, status = holds(run.owner, run.owner_until), run.status.value
    if status in ("planning", "filming"):
        return status if held else "stopped"
    return "filming" if held and status in ("done", "failed") else status


def run_line(run: Run, story: str) -> RunLine:
    """One run in a list."""
    return RunLine(
        run=run.id,
        title=run.title,
        profile=run.profile,
        status=_status(run),
        created=run.created,
        seconds=told_seconds(run.seconds_spent),
        story=opening(story, 60),
    )


def schedule_result(row: Schedule) -> ScheduleResult:
    """A stored batch as people read it."""
    return ScheduleResult(name=row.name, cron=row.cron, stories=len(row.batch), next_run=row.next_run)


def shot_outcomes(record: RunRecord, standing: Collection[int], *, ended: bool) -> tuple[ShotOutcome, ...]:
    """Every shot as it stands. `standing` are the takes of the film; `ended` says that nobody works on the run now."""
    return tuple(_shot(record, shot, standing, ended) for shot in record.shots)


def tally(shots: Iterable[ShotOutcome]) -> Tally:
    """The promised events of these shots, counted."""
    events = [(event.seen, shot.state) for shot in shots for event in shot.events]
    return Tally(
        promised=len(events),
        seen=sum(bool(seen) for seen, _ in events),
        unjudged=sum(seen is None and state != "not filmed" for seen, state in events),
        unfilmed=sum(state == "not filmed" for _, state in events),
    )


def _shot(record: RunRecord, shot: ShotRecord, standing: Collection[int], ended: bool) -> ShotOutcome:
    mine = [take for take in record.takes if take.label == shot.label]
    filmed = [take for take in mine if take.take.status == "done"]
    best = next((take for take in filmed if take.take.id in standing), None) or max(
        filmed, key=lambda take: take.rank, default=None
    )
    state = state_of(best)
    verdicts: list[dict[str, Any]] = list(best.verdict.events) if best and best.verdict else []
    return ShotOutcome(
        label=shot.label,
        prompt=shot.first.prompt,
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
        state=state,
        why=_why(record, shot, mine, state) if ended else "",
    )


def state_of(standing: TakeRecord | None) -> ShotState:
    """What became of the shot for which this take stands."""
    if standing is None:
        return "not filmed"
    return "judged" if standing.verdict else "not judged"


def _why(record: RunRecord, shot: ShotRecord, takes: Sequence[TakeRecord], state: ShotState) -> str:
    """The reason kept with the shot, else the nearest one that the rows tell."""
    if shot.shot.error or state == "judged":
        return shot.shot.error or ""
    if state == "not judged" and not any(take.verdict for take in record.takes) and not record.run.error:
        return NO_CRITIC
    failed = [take.take.error for take in takes if take.take.error]
    missing = "no take of it was finished" if state == "not filmed" else "no critic has watched it"
    return (failed[-1] if failed and state == "not filmed" else "") or record.run.error or missing


def _seen(verdicts: list[dict[str, Any]], index: int) -> dict[str, Any]:
    if index >= len(verdicts):
        return {"seen": None}
    verdict = verdicts[index]
    return {
        "seen": verdict["done"],
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
        unjudged=sum(event["done"] is None for event in verdict.events) if verdict else 0,
        identity=verdict.identity if verdict else None,
        quality=verdict.quality if verdict else None,
        seconds=told_seconds(take.take.seconds_spent),
        in_film=in_film,
        remedy=remedy.kind if remedy else "",
        reason=remedy.reason if remedy else "",
        error=take.take.error or "",
        weights=take.take.weights,
        staged=str(take.take.request.get("staged", "")),
        prompt=take.shot.prompt,
        seam_jump=take.take.seam_jump,
    )


def _file(folder: Path | None, files: dict[str, str], suffix: str) -> Path | None:
    name = next((name for name in files if name.endswith(suffix)), None)
    return folder / name if folder and name else None
