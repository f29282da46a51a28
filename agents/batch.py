"""Batches: a file of stories with their options, when a stored batch is due, and its films one after the other.

Knows no studio: what films a story is handed in. Batch files are untrusted input: unknown keys are refused with their
entry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml
from croniter import CroniterBadDateError, CroniterError, croniter
from pydantic import BaseModel, Field, ValidationError, model_validator

from agents.errors import BatchError, RunStopped, StoryError, UsageError
from agents.exits import exit_code, in_words
from agents.heartbeat import LEASE, heartbeat
from agents.order import Caps, Order, size_of
from agents.outcome import BatchLine, BatchResult, FilmResult
from agents.progress import OnEvent, RunEvent
from agents.storyboard import Shape
from agents.titles import opening
from storage.errors import RunBusy, StorageError
from storage.lease import new_owner

if TYPE_CHECKING:  # rows take a while to import, and a batch file is checked without them
    from storage.archive import Archive

MOST_BYTES = 20_000_000
_AT_RANDOM = re.compile(r"\b[hr]\b", re.IGNORECASE)
"""Fields that croniter draws anew each time."""
_COMES_BACK = (exit_code(RunBusy()), exit_code(RunStopped()))
"""Ends of a story that somebody else films, or that was stopped."""


class BatchStory(Shape):
    """One story of a batch. `story` names a file beside the batch file, `text` is the story itself: one of them."""

    story: str | None = None
    text: str | None = None
    title: str | None = None
    profile: str | None = None
    model: str | None = None
    seed: int = 0
    seconds: float | None = Field(default=None, gt=0)
    size: str | None = Field(default=None, pattern=r"^\d+x\d+$")
    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance: float | None = Field(default=None, ge=0, le=100)
    first_frame: str | None = None
    """A picture's file, beside the batch file."""
    lora: tuple[str, ...] = ()
    """As `--lora`; files lie beside the batch file."""
    motion_from: tuple[str, ...] = ()
    """As `--motion-from`; files lie beside the batch file."""
    motion_share: float | None = Field(default=None, gt=0, le=1)
    style: str = ""
    out: str | None = None
    sets: bool | None = None
    scenes: bool = False
    attention: bool = False
    budget: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_text(self) -> BatchStory:
        if (self.story is None) == (self.text is None):
            raise ValueError("expected either `story` (a file) or `text` (the story itself)")
        return self

    def order(self) -> Order:
        """This story as an order of its own; its file is read when it is filmed. Raises UsageError."""
        known = set(vars(Caps()))
        if unknown := sorted(set(self.budget) - known):
            raise UsageError(f"{self.name}: unknown budget {unknown}; expected some of {sorted(known)}")
        if broken := {n: v for n, v in self.budget.items() if n not in ("seconds", "money") and not v.is_integer()}:
            raise UsageError(f"{self.name}: budget {broken}: expected whole numbers")
        whole = {n: v if n in ("seconds", "money") else int(v) for n, v in self.budget.items()}
        return Order(
            story=self.text if self.story is None else Path(self.story),
            profile=self.profile,
            model=self.model,
            seed=self.seed,
            seconds=self.seconds,
            size=size_of(self.size),
            steps=self.steps,
            guidance=self.guidance,
            first_frame=Path(self.first_frame) if self.first_frame else None,
            lora=self.lora,
            motion_from=self.motion_from,
            motion_share=self.motion_share,
            sets=self.sets,
            scenes=self.scenes,
            attention=self.attention,
            style=self.style,
            films=Path(self.out) if self.out else None,
            name=self.name,
            budget=Caps(**whole),  # type: ignore[arg-type]
        )

    def beside(self, folder: Path) -> BatchStory:
        """The same story from wherever it is filmed: files are named from this folder on. Raises UsageError."""

        def there(name: str) -> str:
            return str((folder / name).resolve())

        named = {"story": self.story, "first_frame": self.first_frame, "out": self.out}
        update: dict[str, Any] = {key: there(name) for key, name in named.items() if name}
        if self.profile is not None and self.profile.endswith(".toml"):
            update["profile"] = there(self.profile)
        if self.model is not None and Path(there(self.model)).is_dir():
            update["model"] = there(self.model)
        if self.lora:
            update["lora"] = tuple(map(there, self.lora))
        if self.motion_from:
            from agents.motion import beside  # reads videos, which most batches have none of

            update["motion_from"] = beside(self.motion_from, folder)
        return self.model_copy(update=update)

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        if self.title:
            return self.title
        return Path(self.story).stem if self.story else opening(str(self.text), 40)


class BatchFile(Shape):
    """A batch that is no bare list. Keys of `defaults` stand in every story that does not say otherwise."""

    defaults: dict[str, Any] | None = None
    stories: list[Any] | None = None


def read_batch(path: Path, check: Callable[[Order], object]) -> list[BatchStory]:
    """The stories of a YAML or JSON-lines file, files named in it made absolute.

    `check` is given each as an order and raises StoryError for one that can never be filmed. Raises BatchError with
    the number of the entry that is wrong.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BatchError(f"Batch {path} is larger than {MOST_BYTES // 1_000_000} MB; split it")
        text = path.read_text(encoding="utf-8-sig")
        entries = _json_lines(text) if path.suffix in (".jsonl", ".ndjson") else _yaml(text)
    except OSError as error:
        raise BatchError(
            f"Batch {path} cannot be read: {error.strerror}; expected a YAML or JSON-lines file"
        ) from error
    except RecursionError as error:
        raise BatchError(f"Batch {path} cannot be read: it is nested too deeply") from error
    except (ValueError, yaml.YAMLError) as error:
        raise BatchError(f"Batch {path} cannot be read: {error}") from error
    found = []
    for number, story in enumerate(stories(entries, str(path)), 1):
        try:
            found.append(story.beside(path.parent))
            check(found[-1].order())
        except (StoryError, ValueError) as error:  # a file's name with a null byte is a ValueError
            raise BatchError(f"{path}, story {number}: {error}") from error
    return found


def stories(entries: Sequence[Any], source: str) -> list[BatchStory]:
    """Checked stories of plain entries. Raises BatchError with the number of the entry that is wrong."""
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(BatchStory.model_validate(entry))
        except ValidationError as error:
            raise BatchError(f"{source}, story {number}: {_problems(error, BatchStory)}") from error
    if not found:
        raise BatchError(f"{source} holds no story")
    return found


def _problems(error: ValidationError, shape: type[BaseModel]) -> str:
    allowed = f"unknown; expected some of {', '.join(shape.model_fields)}"
    told = {
        ".".join(map(str, e["loc"])): allowed if e["type"] == "extra_forbidden" else e["msg"] for e in error.errors()
    }
    return "; ".join(f"{where}: {what}".lstrip(": ") for where, what in told.items())


def next_time(cron: str, after: datetime) -> datetime:
    """When `cron` is due next after a moment, by this machine's clock and zone; in UTC. Raises BatchError.

    A time that the clock skips comes as much later, one that it shows twice comes once.
    """
    try:
        if len(cron.split()) != 5 or _AT_RANDOM.search(cron):
            raise CroniterError(cron)
        here: Iterator[datetime] = croniter(cron, after.astimezone().replace(tzinfo=None)).all_next(datetime)
        # each by the offset of its own day, where croniter would keep that of `after`; astimezone() errs in the gap
        moments = (datetime.fromtimestamp(told.timestamp(), UTC) for told in here)
        return next(moment for moment in moments if moment > after)
    except CroniterBadDateError as error:
        raise BatchError(f"The cron fields {cron!r} name a day that never comes") from error
    except CroniterError as error:
        raise BatchError(
            "Expected five cron fields (minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7) such as "
            f"'0 2 * * *' (every night at two), got {cron!r}"
        ) from error


def _yaml(text: str) -> list[Any]:
    data = yaml.safe_load(text)
    if isinstance(data, Mapping):
        try:
            file = BatchFile.model_validate(data)
        except ValidationError as error:
            raise ValueError(_problems(error, BatchFile)) from error
        defaults = file.defaults or {}
        data = [{**defaults, **entry} if isinstance(entry, Mapping) else entry for entry in file.stories or []]
    if not isinstance(data, list):
        raise ValueError("expected a list of stories, or a mapping with `stories`")
    return data


def _json_lines(text: str) -> list[Any]:
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{error.msg} at line {number}, column {error.colno}") from error
    return entries


class Films(Protocol):
    """Films one order, such as `Studio.arun`."""

    def __call__(self, story: Order, *, on_event: OnEvent | None = None) -> Awaitable[FilmResult]:
        """What the run came to. Raises what a run raises."""
        ...


async def film_batch(
    stories: Sequence[BatchStory],
    film: Films,
    on_event: OnEvent | None,
    goes_on: Callable[[], bool] = lambda: True,
) -> BatchResult:
    """Film stories one after the other; one that fails is a line that says why, and the next is filmed.

    `goes_on` is asked before each of them.
    """
    lines: list[BatchLine] = []
    for story in stories:
        if not goes_on():
            break
        lines.append(await _line(story, film, on_event))
    return BatchResult(lines=tuple(lines))


async def film_due(archive: Archive, film: Films, on_event: OnEvent | None) -> BatchResult:
    """Film every stored batch that is due and that nobody films.

    One that is interrupted, or a story of which another process films, stays due: what is filmed costs nothing again.
    So does one that this version cannot read; its line says why.
    """
    owner, lines = new_owner(), list[BatchLine]()
    for schedule in archive.due(datetime.now(UTC)):
        moment = datetime.now(UTC)
        if not archive.claim_due(schedule, owner, LEASE, moment):
            continue
        held = partial(archive.renew_due, schedule, owner, LEASE)
        try:
            following = next_time(schedule.cron, moment)
            listed = stories(schedule.batch, f"schedule {schedule.name}")
            async with heartbeat(held):
                found = (await film_batch(listed, film, on_event, held)).lines
            lines += found
            if not any(line.exit_code in _COMES_BACK for line in found):
                archive.finish_due(schedule, owner, following)
        except BatchError as error:
            lines.append(BatchLine(name=schedule.name, run=None, exit_code=exit_code(error), error=str(error)))
        finally:
            with suppress(StorageError):  # the first error is the one to be told
                archive.leave_due(schedule, owner)
    return BatchResult(lines=tuple(lines))


async def _line(story: BatchStory, film: Films, on_event: OnEvent | None) -> BatchLine:
    run: int | None = None

    def listen(event: RunEvent) -> None:
        nonlocal run
        run = event.run_id
        if on_event is not None:
            on_event(event)

    try:
        made = await film(story.order(), on_event=listen)
    except Exception as error:  # whatever it is, the stories after it are filmed
        return BatchLine(name=story.name, run=run, exit_code=exit_code(error), error=in_words(error))
    return BatchLine(
        name=story.name,
        run=made.run,
        exit_code=made.exit_code,
        tally=made.tally,
        film=made.film,
        error=made.error,
    )
