"""Runs and the stories behind them: found or made by key, held by one process at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlmodel import Session, col, select

from storage.database import LARGEST, Database
from storage.errors import NotFound, RunBusy, StorageError, no_run
from storage.lease import holder, holds
from storage.tables import CallStatus, ModelCall, Run, RunStatus, Story, now

LOST = "the process ended before the answer came; it may have been carried out and paid"


class Runs:
    """The part of the archive that keeps stories and runs."""

    _db: Database

    def open_run(self, story_text: str, profile: str, options: Mapping[str, Any]) -> Run:
        """The run of this story under this profile and options (the seed is one of them): found, or made.

        Raises StorageError when the story cannot be stored as text or the options are not plain JSON.
        """
        story, key = _keys(story_text, profile, options)
        try:
            return self._find_or_make(story_text, story, key, profile, dict(options))
        except exc.IntegrityError:  # another process made it between our look and our write
            return self._find_or_make(story_text, story, key, profile, dict(options))

    def find_run(self, key: str) -> Run | None:
        """The run with this key (see `run_key`), None where there is none."""
        with self._db.read() as session:
            return session.exec(select(Run).where(Run.key == key)).first()

    def _find_or_make(self, text: str, story: str, key: str, profile: str, options: dict[str, Any]) -> Run:
        with self._db.write() as session:
            found = session.exec(select(Run).where(Run.key == key)).first()
            if found is not None:
                return found
            row = session.exec(select(Story).where(Story.digest == story)).first()
            if row is None:
                row = Story(digest=story, text=text)
                session.add(row)
                session.flush()
            run = Run(story_id=row.id, key=key, profile=profile, options=options)
            session.add(run)
        return run

    def ask(self, run_id: int, asked: Mapping[str, Any]) -> Run:
        """Keep how the run was asked for this time (budget, folder of the film), in the place of the last time."""
        with self._db.write() as session:
            run = _run(session, run_id)
            run.asked = dict(asked)
            session.add(run)
        return run

    def run(self, run_id: int) -> Run:
        """One run; NotFound when there is none with this number."""
        with self._db.read() as session:
            return _run(session, run_id)

    def runs(self) -> list[Run]:
        """Every run, newest first."""
        with self._db.read() as session:
            return list(session.exec(select(Run).order_by(col(Run.id).desc())))

    def newest(self) -> Run:
        """The run begun last; NotFound where there is none yet."""
        with self._db.read() as session:
            found = session.exec(select(Run).order_by(col(Run.id).desc())).first()
        if found is None:
            raise NotFound("There is no run in this archive yet; `run` films a story")
        return found

    def story(self, run_id: int) -> str:
        """The text the run films; NotFound when there is no such run."""
        with self._db.read() as session:
            found = session.exec(select(Story.text).join(Run).where(Run.id == run_id)).first()
        if found is None:
            raise no_run(run_id)
        return found

    def set_status(self, run_id: int, status: RunStatus, error: str | None = None) -> Run:
        """Say where the run stands; `done` and `failed` also set when it finished, anything else clears that."""
        with self._db.write() as session:
            run = _run(session, run_id)
            run.status, run.error = status, error
            run.finished = now() if status in (RunStatus.DONE, RunStatus.FAILED) else None
            session.add(run)
        return run

    def spend(self, run_id: int, seconds: float) -> None:
        """Add seconds of work to the run's account."""
        with self._db.write() as session:
            add_seconds(session, run_id, seconds)

    def claim(self, run_id: int, owner: str, seconds: float) -> Run:
        """Hold the run for `seconds`; `owner` comes from `storage.lease.new_owner()`.

        A holder whose process is dead, or whose time is up, loses it, and what it left behind is put in order: calls
        it had sent become `unknown`. Raises RunBusy when a living process holds the run, NotFound.
        """
        with self._db.write() as session:
            run = _run(session, run_id)
            if run.owner not in (None, owner) and holds(run.owner, run.owner_until):
                raise RunBusy(
                    f"Run {run_id} is being filmed by {holder(str(run.owner))}; wait for it, or end that process and "
                    f"resume (if that process is gone, the run is free at {run.owner_until:%H:%M:%S} UTC)"
                )
            seen = col(Run.owner).is_not_distinct_from(run.owner)
            until = now() + timedelta(seconds=seconds)
            swap = sa.update(Run).where(col(Run.id) == run_id, seen).values(owner=owner, owner_until=until)
            if _rows(session, swap) == 0:
                raise RunBusy(f"Run {run_id} was taken by another process at this very moment")
            if run.owner != owner:
                left = sa.update(ModelCall).where(
                    col(ModelCall.run_id) == run_id, col(ModelCall.status) == CallStatus.SENT
                )
                session.execute(left.values(status=CallStatus.UNKNOWN, error=LOST))
            session.refresh(run)
        return run

    @contextmanager
    def hold(self, run_id: int, owner: str, seconds: float) -> Iterator[None]:
        """The run is claimed inside the `with` block and let go after it. Raises as `claim`."""
        self.claim(run_id, owner, seconds)
        try:
            yield
        finally:
            self.release(run_id, owner)

    def renew(self, run_id: int, owner: str, seconds: float) -> None:
        """Hold on to a claimed run; RunBusy when somebody else has it by now."""
        mine = sa.update(Run).where(col(Run.id) == run_id, col(Run.owner) == owner)
        with self._db.write() as session:
            if _rows(session, mine.values(owner_until=now() + timedelta(seconds=seconds))) == 0:
                raise RunBusy(f"Run {run_id} is no longer held by {holder(owner)}; stop filming it")

    def release(self, run_id: int, owner: str) -> None:
        """Let go of the run; harmless when it is not held by `owner`."""
        mine = sa.update(Run).where(col(Run.id) == run_id, col(Run.owner) == owner)
        with self._db.write() as session:
            session.execute(mine.values(owner=None, owner_until=None))


_SPEND = (
    sa.update(Run)
    .where(col(Run.id) == sa.bindparam("run"))
    .values(seconds_spent=col(Run.seconds_spent) + sa.bindparam("seconds"))
    .execution_options(synchronize_session=False)
)


def add_seconds(session: Session, run_id: int, seconds: float) -> None:
    """Add seconds of work to the run's account in this transaction."""
    session.execute(_SPEND, {"run": run_id, "seconds": seconds})


def run_key(story_text: str, profile: str, options: Mapping[str, Any]) -> str:
    """The key of the run that `open_run` finds or makes. Raises as it does."""
    return _keys(story_text, profile, options)[1]


def _keys(story_text: str, profile: str, options: Mapping[str, Any]) -> tuple[str, str]:
    try:
        story = hashlib.sha256(story_text.encode()).hexdigest()
        key = json.dumps([story, profile, options], sort_keys=True, allow_nan=False)
    except UnicodeEncodeError as error:
        raise StorageError(f"The story holds a character that is no text at position {error.start}") from error
    except (TypeError, ValueError) as error:
        raise StorageError(f"Run options must be plain JSON values: {error}") from error
    return story, hashlib.sha256(key.encode()).hexdigest()


def _run(session: Session, run_id: int) -> Run:
    run = session.get(Run, run_id) if run_id <= LARGEST else None
    if run is None:
        raise no_run(run_id)
    return run


def _rows(session: Session, statement: Any) -> int:
    """How many rows an UPDATE changed."""
    return int(session.connection().execute(statement).rowcount)
