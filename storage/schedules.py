"""Batches of stories that are due again and again. Knows times, not cron: the caller computes the next one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import col, select

from storage.database import Database
from storage.errors import NotFound
from storage.tables import Schedule


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
        """Enabled schedules whose time has come, longest due first."""
        ripe = (col(Schedule.enabled).is_(True), col(Schedule.next_run) <= moment)
        with self._db.read() as session:
            return list(session.exec(select(Schedule).where(*ripe).order_by(col(Schedule.next_run))))

    def claim_due(self, schedule: Schedule, moment: datetime, next_run: datetime) -> bool:
        """Take one due schedule for this process and move it on to `next_run`; False when another was faster."""
        mine = sa.update(Schedule).where(
            col(Schedule.id) == schedule.id,
            col(Schedule.next_run) == schedule.next_run,
            col(Schedule.enabled).is_(True),
        )
        with self._db.write() as session:
            moved = session.connection().execute(mine.values(last_run=moment, next_run=next_run))
            return bool(moved.rowcount)
