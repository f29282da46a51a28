"""Storyboards and the shots in them, revision by revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from storage.database import Database
from storage.errors import AlreadyKept, NotFound, no_run
from storage.records import EventPlan, ShotPlan, ShotRecord
from storage.tables import Event, Run, Shot, Take


class Shots:
    """The part of the archive that keeps storyboards."""

    _db: Database

    def save_storyboard(
        self,
        run_id: int,
        *,
        title: str,
        shots: Sequence[ShotPlan],
        style: str = "",
        cast: Sequence[dict[str, Any]] = (),
        places: Sequence[dict[str, Any]] = (),
        notes: Sequence[str] = (),
        replace: bool = False,
    ) -> list[ShotRecord]:
        """Keep a whole storyboard in one transaction; saving the same one again changes nothing.

        `replace` puts it in the place of another one, as long as nothing was filmed. Raises AlreadyKept otherwise,
        NotFound for an unknown run.
        """
        head = {
            "title": title,
            "style": style,
            "cast": list(cast),
            "places": list(places),
            "notes": list(notes),
        }
        with self._db.write() as session:
            run = session.get(Run, run_id)
            if run is None:
                raise no_run(run_id)
            there = _records(session, run_id)
            same = [r.plan for r in there] == list(shots) and {k: getattr(run, k) for k in head} == head
            if there and same:
                return there
            if there:
                _make_room(session, run_id, replace)
            for name, value in head.items():
                setattr(run, name, value)
            session.add(run)
            return _add(session, [(Shot(run_id=run_id, number=n, **_columns(p)), p) for n, p in enumerate(shots, 1)])

    def shots(self, run_id: int) -> list[ShotRecord]:
        """Every shot as it stands now, in the order of the film; two queries for any number of shots."""
        with self._db.read() as session:
            return _records(session, run_id)

    def revise_shot(self, shot_id: int, plan: ShotPlan, reason: str) -> ShotRecord:
        """Add a revision to the shot that `shot_id` is a revision of, and say why.

        Its events stand for the promised ones one by one, so their count stays: ValueError otherwise. Adding the
        revision that is already the newest changes nothing.
        """
        with self._db.write() as session:
            return add_revision(session, shot_id, plan, reason)

    def fail_shot(self, shot_id: int, error: str | None) -> None:
        """Say what ended the work on the shot before all was done; None takes it back."""
        with self._db.write() as session:
            session.execute(sa.update(Shot).where(col(Shot.id) == shot_id).values(error=error))


def add_revision(session: Session, shot_id: int, plan: ShotPlan, reason: str) -> ShotRecord:
    """The newest revision of a shot after this one was added to it."""
    shot = session.get(Shot, shot_id)
    if shot is None:
        raise NotFound(f"No shot with id {shot_id} in this archive")
    standing = next(r for r in _records(session, shot.run_id, shot.number) if r.shot.part == shot.part)
    if len(plan.events) != len(standing.promised):
        raise ValueError(
            f"Shot {standing.label} promised {len(standing.promised)} events, its revision has {len(plan.events)}; "
            "expected one for each"
        )
    if standing.plan == plan:
        return standing
    newest = standing.shot
    row = Shot(run_id=newest.run_id, number=newest.number, part=newest.part, **_columns(plan))
    row.revision, row.reason = newest.revision + 1, reason
    return replace(_add(session, [(row, plan)])[0], first=standing.first, promised=standing.promised)


def _columns(plan: ShotPlan) -> dict[str, Any]:
    names = ("prompt", "seconds", "place", "camera", "transition", "motion_from")
    return {name: getattr(plan, name) for name in names} | {
        "subjects": list(plan.subjects),
        "synopsis": list(plan.synopsis),
    }


def _add(session: Session, rows: list[tuple[Shot, ShotPlan]]) -> list[ShotRecord]:
    """Insert shots with their events: one flush for all shots, one for all events."""
    session.add_all([shot for shot, _ in rows])
    session.flush()
    records = []
    for shot, plan in rows:
        events = tuple(_event(shot, number, event) for number, event in enumerate(plan.events, 1))
        session.add_all(events)
        records.append(ShotRecord(shot=shot, events=events, first=shot, promised=events))
    session.flush()
    return records


def _event(shot: Shot, number: int, plan: EventPlan) -> Event:
    return Event(
        shot_id=shot.id,
        number=number,
        subject=plan.subject,
        phrase=plan.phrase,
        start=plan.start,
        end=plan.end,
    )


def _records(session: Session, run_id: int, number: int | None = None) -> list[ShotRecord]:
    mine = [col(Shot.run_id) == run_id] + ([] if number is None else [col(Shot.number) == number])
    order = (col(Shot.number), col(Shot.part), col(Shot.revision))
    shots = session.exec(select(Shot).where(*mine).order_by(*order)).all()
    events: dict[int, list[Event]] = {shot.id: [] for shot in shots}
    for event in session.exec(select(Event).join(Shot).where(*mine).order_by(col(Event.shot_id), col(Event.number))):
        events[event.shot_id].append(event)
    first: dict[tuple[int, str], Shot] = {}
    newest: dict[tuple[int, str], Shot] = {}
    for shot in shots:
        first.setdefault((shot.number, shot.part), shot)
        newest[(shot.number, shot.part)] = shot
    return [
        ShotRecord(shot=shot, events=tuple(events[shot.id]), first=first[key], promised=tuple(events[first[key].id]))
        for key, shot in newest.items()
    ]


def _make_room(session: Session, run_id: int, replace: bool) -> None:
    """Take an unfilmed storyboard away, or say why it stays."""
    ids = select(Shot.id).where(Shot.run_id == run_id)
    filmed = session.exec(select(Take.id).where(col(Take.shot_id).in_(ids)).limit(1)).first() is not None
    if filmed or not replace:
        why = (
            "takes of it were filmed; start another run" if filmed else "pass replace=True to put another in its place"
        )
        raise AlreadyKept(f"Run {run_id} has another storyboard, and {why}")
    session.execute(sa.delete(Event).where(col(Event.shot_id).in_(ids)))
    session.execute(sa.delete(Shot).where(col(Shot.run_id) == run_id))
