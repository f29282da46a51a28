"""The rows: everything fabula remembers. The nouns are design.md's; times are UTC; seconds are floats.

Only the archive writes them. JSON columns are always reassigned whole, never mutated in place.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import JSON, Column, Field, SQLModel


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Aware UTC datetimes on every engine; SQLite would drop the zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"Expected an aware datetime, got {value!r}")
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def now() -> datetime:
    """This moment, aware."""
    return datetime.now(UTC)


def by_value(kind: type[enum.Enum]) -> sa.Enum:
    """Store a str-enum by its value in a plain string column, so that migrations stay easy."""
    return sa.Enum(kind, values_callable=lambda e: [m.value for m in e], native_enum=False, length=32)


class RunStatus(enum.StrEnum):
    """Where a run stands; every state but `done` can be resumed."""

    PLANNING = "planning"
    APPROVAL = "approval"  # the storyboard waits for a person
    FILMING = "filming"
    DONE = "done"
    FAILED = "failed"


class TakeStatus(enum.StrEnum):
    """A take row is written before filming starts (`filming`) and settled after its file is on disk."""

    FILMING = "filming"
    DONE = "done"
    FAILED = "failed"


class CallStatus(enum.StrEnum):
    """A paid call has its row first; an answer that never came leaves it `unknown`."""

    SENT = "sent"
    ANSWERED = "answered"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Story(SQLModel, table=True):
    """The text a person wrote, with its digest: the same text is the same story."""

    id: int = Field(default=None, primary_key=True)
    digest: str = Field(index=True, unique=True, max_length=255)
    text: str
    created: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Run(SQLModel, table=True):
    """One story being filmed under one profile and budget. `key` is the digest of story, profile and options."""

    id: int = Field(default=None, primary_key=True)
    story_id: int = Field(foreign_key="story.id", index=True)
    key: str = Field(index=True, unique=True, max_length=255)
    profile: str
    options: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    asked: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """What may differ each time the run is taken up and is no part of its key: budget, folder of the film."""
    status: RunStatus = Field(default=RunStatus.PLANNING, sa_type=by_value(RunStatus))
    error: str | None = None
    title: str = ""
    style: str = ""
    cast: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    places: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    notes: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    seconds_spent: float = 0.0
    created: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    finished: datetime | None = Field(default=None, sa_type=UtcDateTime)
    owner: str | None = None
    """The process that films this run now; free when None or when `owner_until` has passed."""
    owner_until: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Shot(SQLModel, table=True):
    """One revision of one uncut clip. Numbers stay; a re-wording makes revision n + 1; `part` is empty so far."""

    __table_args__ = (sa.UniqueConstraint("run_id", "number", "part", "revision"),)

    id: int = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="run.id")
    number: int
    part: str = Field(default="", max_length=255)
    revision: int = 1
    prompt: str
    subjects: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    place: str | None = None
    camera: str = "static"
    seconds: float
    transition: str = "cut"
    motion_from: str | None = None
    """Whose motion it has: another shot of the run, the content of a kept clip, or a camera's move."""
    synopsis: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False, server_default="[]"))
    """Its states in order, a sentence each."""
    reason: str = ""
    """Why this revision exists; empty for the first."""
    error: str | None = None
    """What ended the work on this shot before all was done: an error, or a limit."""


class Event(SQLModel, table=True):
    """One promised event. Those of revision 1 are what verdicts judge (law 5); later ones say how it is filmed now."""

    __table_args__ = (sa.UniqueConstraint("shot_id", "number"),)

    id: int = Field(default=None, primary_key=True)
    shot_id: int = Field(foreign_key="shot.id")
    number: int
    subject: str
    phrase: str
    start: float
    end: float


class Take(SQLModel, table=True):
    """One rendering of a shot revision."""

    __table_args__ = (sa.UniqueConstraint("shot_id", "number"),)

    id: int = Field(default=None, primary_key=True)
    shot_id: int = Field(foreign_key="shot.id")
    number: int
    status: TakeStatus = Field(default=TakeStatus.FILMING, sa_type=by_value(TakeStatus))
    seed: int = Field(sa_type=sa.BigInteger)
    model: str
    weights: str | None = None
    """Digest of the weights that filmed it; None until it is filmed, and where there are none."""
    controls: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    request: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """Everything needed to ask for it again, given frames as (take id, first, last)."""
    request_digest: str
    composition: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    file: str | None = None
    """Path under the media folder."""
    sha256: str | None = None
    seam_jump: float | None = None
    notes: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    error: str | None = None
    seconds_spent: float = 0.0
    created: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Verdict(SQLModel, table=True):
    """What the critic saw in a take, for all events as first promised."""

    __table_args__ = (sa.UniqueConstraint("take_id"),)

    id: int = Field(default=None, primary_key=True)
    take_id: int = Field(foreign_key="take.id")
    critic: str
    events: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    """One per promised event: done, start, end, confidence, evidence."""
    identity: float
    quality: float
    notes: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    seconds_spent: float = 0.0
    created: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Remedy(SQLModel, table=True):
    """What the director changed before the next take, and why."""

    id: int = Field(default=None, primary_key=True)
    shot_id: int = Field(foreign_key="shot.id", index=True)
    after_take_id: int = Field(foreign_key="take.id", index=True, unique=True)
    kind: str
    changes: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    reason: str
    created: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class ModelCall(SQLModel, table=True):
    """One call to a language or vision model. The row stands before the call is made."""

    __table_args__ = (sa.Index("ix_modelcall_run_id_input_digest", "run_id", "input_digest"),)

    id: int = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="run.id")
    role: str
    model: str
    prompt_name: str
    prompt_digest: str
    input_digest: str = Field(max_length=255)
    status: CallStatus = Field(default=CallStatus.SENT, sa_type=by_value(CallStatus))
    answer: str | None = None
    error: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    created: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Film(SQLModel, table=True):
    """The edited result of a run."""

    __table_args__ = (sa.UniqueConstraint("run_id"),)

    id: int = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="run.id")
    takes: list[int] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    missing: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    folder: str
    files: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """File name under `folder` to sha256."""
    events_seen: int = 0
    events_promised: int = 0
    created: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Schedule(SQLModel, table=True):
    """A batch of stories that is due again and again."""

    id: int = Field(default=None, primary_key=True)
    name: str = Field(index=True, unique=True, max_length=255)
    cron: str
    batch: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    enabled: bool = True
    next_run: datetime = Field(sa_type=UtcDateTime)
    last_run: datetime | None = Field(default=None, sa_type=UtcDateTime)
    owner: str | None = None
    """The process that films what is due; as that of a run."""
    owner_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    created: datetime = Field(default_factory=now, sa_type=UtcDateTime)
