"""Batches of stories that are due again and again. Knows times, not cron: the caller computes the next one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlmodel import col, select

from storage.database import Database
from storage.errors import NotFound
from storage.lease import holds
from storage.tables import Schedule, now


class Schedules:
    """The part of the archive that keeps schedules."""

    _db: Database

    def add_schedule(
        self,
        name: str,
        *,
        cron: str,
        batch: Sequence[dict[str, Any]],
        next_run: datetime,
        enabled: bool = True,
    ) -> Schedule:
        """Keep a schedule under its name; one of the same name is replaced."""
        with self._db.write() as session:
            row = session.exec(select(Schedule).where(Schedule.name == name)).first()
            row = row or Schedule(name=name, cron=cron, next_run=next_run)
            row.cron, row.batch, row.next_run, row.enabled = cron, list(batch), next_run, enabled
            row.owner = row.owner_until = None
            session.add(row)
        return row

    def schedules(self) -> list[Schedule]:
        """Every schedule by name."""
        with self._db.read() as session:
            return list(session.exec(select(Schedule).order_by(col(Schedule.name))))

    def remove_schedule(self, name: str) -> None:
        """Forget a schedule; NotFound when there is none of this name."""
        with self._db.write() as session:
            row = session.exec(select(Schedule).where(Schedule.name == name)).first()
            if row is None:
                raise NotFound(f"No schedule named {name!r} in this archive; `schedules` lists those there are")
            session.delete(row)

    def due(self, moment: datetime) -> list[Schedule]:
        """Enabled schedules whose time has come and which nobody films; those begun longest ago, or never, first.

        So one that fails each time keeps no other waiting.
        """
        ripe = (col(Schedule.enabled).is_(True), col(Schedule.next_run) <= moment)
        order = (col(Schedule.last_run).is_not(None), col(Schedule.last_run), col(Schedule.next_run))
        with self._db.read() as session:
            rows = session.exec(select(Schedule).where(*ripe).order_by(*order))
            return [row for row in rows if not holds(row.owner, row.owner_until)]

    def claim_due(self, schedule: Schedule, owner: str, seconds: float, moment: datetime) -> bool:
        """Hold a due schedule for `seconds`, filming begins at `moment`; False when another holds it or has done it.

        It stays due until `finish_due`, so that what was interrupted is gone on with.
        """
        with self._db.write() as session:
            row = session.get(Schedule, schedule.id)
            if row is None or not row.enabled or row.next_run != schedule.next_run:
                return False
            if holds(row.owner, row.owner_until):
                return False
            seen = col(Schedule.owner).is_not_distinct_from(row.owner)
            mine = sa.update(Schedule).where(col(Schedule.id) == row.id, seen)
            held = mine.values(owner=owner, owner_until=now() + timedelta(seconds=seconds), last_run=moment)
            return bool(session.connection().execute(held).rowcount)

    def renew_due(self, schedule: Schedule, owner: str, seconds: float) -> bool:
        """Hold on to a claimed schedule; False when it is no longer `owner`'s."""
        return self._change(schedule, owner, owner_until=now() + timedelta(seconds=seconds))

    def leave_due(self, schedule: Schedule, owner: str) -> None:
        """Let go of a claimed schedule, done or not; harmless when it is not held by `owner`."""
        self._change(schedule, owner, owner_until=None)

    def finish_due(self, schedule: Schedule, owner: str, next_run: datetime) -> None:
        """What was due is filmed: move on to `next_run`; harmless when it is not held by `owner`."""
        self._change(schedule, owner, next_run=next_run)

    def _change(self, schedule: Schedule, owner: str, **values: Any) -> bool:
        held = sa.update(Schedule).where(col(Schedule.id) == schedule.id, col(Schedule.owner) == owner)
        with self._db.write() as session:
            return bool(session.connection().execute(held.values(**values)).rowcount)
