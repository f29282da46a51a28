"""Takes: what was filmed, what the critic saw in it, what was changed after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from storage.database import Database
from storage.errors import NotFound
from storage.media import Media, Writer
from storage.records import ShotPlan, TakeRecord
from storage.runs import add_seconds
from storage.shots import add_revision
from storage.tables import Remedy, Shot, Take, TakeStatus, Verdict

# Put together once: that takes as long as running them, and every take asks.
_LIVE = select(Take).where(
    Take.shot_id == sa.bindparam("shot"),
    Take.request_digest == sa.bindparam("digest"),
    Take.status != TakeStatus.FAILED,
)
_WITH_SHOT = select(Take, Shot).select_from(Take).join(Shot).where(Take.id == sa.bindparam("take"))
_VERDICT = select(Verdict).where(Verdict.take_id == sa.bindparam("take"))
_OF_RUN = (
    select(Take, Shot, Verdict, Remedy)
    .select_from(Take)
    .join(Shot)
    .outerjoin(Verdict, col(Verdict.take_id) == Take.id)
    .outerjoin(Remedy, col(Remedy.after_take_id) == Take.id)
    .where(Shot.run_id == sa.bindparam("run"))
    .order_by(col(Shot.number), col(Shot.part), col(Take.number))
)
_OF_SHOTS = _OF_RUN.where(col(Shot.number).in_(sa.bindparam("numbers", expanding=True)))
_REVISION = aliased(Shot)
_LAST_NUMBER = (
    select(sa.func.count(col(Shot.id)), sa.func.max(Take.number))
    .select_from(Shot)
    .join(
        _REVISION,
        (col(_REVISION.run_id) == Shot.run_id)
        & (col(_REVISION.number) == Shot.number)
        & (col(_REVISION.part) == Shot.part),
    )
    .outerjoin(Take, col(Take.shot_id) == _REVISION.id)
    .where(Shot.id == sa.bindparam("shot"))
)
"""Whether there is such a shot, and the highest number of a take of any of its revisions."""


class Takes:
    """The part of the archive that keeps takes, their files, verdicts and remedies."""

    _db: Database
    media: Media
    _apart: str = ""
    """Ends the names of folders of takes: empty, or the database's own where several may share the media folder."""

    def takes_folder(self, run_id: int) -> str:
        """Where new takes of a run are put, under the media folder."""
        return f"run-{run_id:06d}{self._apart}"

    def begin_take(
        self,
        shot_id: int,
        *,
        seed: int,
        model: str,
        controls: Sequence[dict[str, Any]],
        request: dict[str, Any],
        digest: str,
        composition: Sequence[str] = (),
    ) -> Take:
        """A take of this shot revision for this request: the one that stands (filming or done), or a new row.

        `composition` names the requests filmed in the same batch, so that a resumed take can film that batch again.
        Look at the status: a `done` take need not be filmed. A failed one is not taken up; it stays as it was.
        """
        with self._db.write() as session:
            found = session.exec(_LIVE, params={"shot": shot_id, "digest": digest}).first()
            if found is not None:
                return found
            take = Take(
                shot_id=shot_id,
                number=_next_number(session, shot_id),
                seed=seed,
                model=model,
                controls=list(controls),
                request=dict(request),
                request_digest=digest,
                composition=list(composition),
            )
            session.add(take)
        return take

    def finish_take(
        self,
        take_id: int,
        frames: Writer | bytes,
        *,
        suffix: str = ".mkv",
        composition: Sequence[str] = (),
        seam_jump: float | None = None,
        notes: Sequence[str] = (),
        seconds: float = 0.0,
        weights: str | None = None,
        spent: Callable[[], float] = lambda: 0.0,
    ) -> Take:
        """Put the file on disk, whole, then settle the row. `frames` is the file's bytes or writes it at a path.

        `spent` is asked last, for seconds of work to add to the run's account: no take takes longer than its run. A
        take that was lost and comes back with other bytes loses its verdict: nobody has judged these. Raises
        DiskError (the take stays `filming` and is taken up again), NotFound.
        """
        take, shot = self._take(take_id)
        folder = self.takes_folder(shot.run_id)
        name = f"{folder}/shot-{shot.number:03d}{shot.part}-take-{take.number:02d}{suffix}"
        sha256 = self.media.keep(name, frames)
        with self._db.write() as session:
            if take.sha256 not in (None, sha256):
                session.execute(sa.delete(Verdict).where(col(Verdict.take_id) == take_id))
            session.add(take)
            take.status, take.error = TakeStatus.DONE, None
            take.file, take.sha256 = name, sha256
            take.seam_jump, take.notes, take.weights = seam_jump, list(notes), weights
            take.composition = list(composition) or take.composition
            take.seconds_spent += seconds
            add_seconds(session, shot.run_id, spent())
        return take

    def fail_take(self, take_id: int, error: str, seconds: float = 0.0) -> None:
        """Say why nothing came of the take."""
        failed = sa.update(Take).where(col(Take.id) == take_id)
        values = {
            "status": TakeStatus.FAILED,
            "error": error,
            "seconds_spent": col(Take.seconds_spent) + seconds,
        }
        with self._db.write() as session:
            session.execute(failed.values(values))

    def lose_take(self, take_id: int, reason: str) -> None:
        """Its file is not there: the take counts as not filmed, and `begin_take` gives it out again."""
        lost = sa.update(Take).where(col(Take.id) == take_id)
        with self._db.write() as session:
            session.execute(lost.values(status=TakeStatus.FILMING, file=None, error=reason))

    def take_file(self, take: Take) -> Path | None:
        """The file of a finished take, read whole and checked by its sha256; None when it is altered, cut off or gone.

        None means: call `lose_take` and film it again.
        """
        return self.media.intact(take.file, take.sha256) if take.status == TakeStatus.DONE else None

    def takes(self, run_id: int, numbers: Sequence[int] | None = None) -> list[TakeRecord]:
        """Takes of all revisions with verdict and remedy, by shot and in the order they were begun; one query."""
        asked = {"run": run_id} if numbers is None else {"run": run_id, "numbers": list(numbers)}
        with self._db.read() as session:
            found = session.exec(_OF_RUN if numbers is None else _OF_SHOTS, params=asked).all()
        return [TakeRecord(take=t, shot=s, verdict=v, remedy=r) for t, s, v, r in found]

    def weights(self, run_id: int) -> str | None:
        """Digest of the weights that filmed the run's takes so far; None before there are any."""
        known = select(Take.weights).join(Shot).where(Shot.run_id == run_id, col(Take.weights).is_not(None))
        with self._db.read() as session:
            return session.exec(known.order_by(col(Take.id).desc())).first()

    def take(self, take_id: int) -> Take:
        """One take; NotFound when there is none with this id."""
        return self._take(take_id)[0]

    def take_with(self, sha256: str) -> Take | None:
        """A finished take whose file has this content; None when there is none."""
        mine = select(Take).where(Take.sha256 == sha256, Take.status == TakeStatus.DONE)
        with self._db.read() as session:
            return session.exec(mine.order_by(col(Take.id))).first()

    def save_verdict(
        self,
        take_id: int,
        *,
        critic: str,
        events: Sequence[dict[str, Any]],
        identity: float,
        quality: float,
        notes: Sequence[str] = (),
        seconds: float = 0.0,
    ) -> Verdict:
        """Keep what the critic saw, one dict a promised event (done, start, end, confidence, evidence).

        The first verdict on a take stays: saving another gives back the one that stands.
        """
        with self._db.write() as session:
            found = session.exec(_VERDICT, params={"take": take_id}).first()
            if found is not None:
                return found
            verdict = Verdict(
                take_id=take_id,
                critic=critic,
                events=list(events),
                identity=identity,
                quality=quality,
                notes=list(notes),
                seconds_spent=seconds,
            )
            session.add(verdict)
        return verdict

    def verdict(self, take_id: int) -> Verdict | None:
        """What the critic saw in the take, when it was judged."""
        with self._db.read() as session:
            return session.exec(_VERDICT, params={"take": take_id}).first()

    def save_remedy(
        self,
        after_take_id: int,
        *,
        kind: str,
        changes: dict[str, Any],
        reason: str,
        revision: ShotPlan | None = None,
    ) -> Remedy:
        """Keep what the director changes after a take, and the new revision of the shot where it needs one, at once.

        The first remedy after a take stays: saving another gives back the one that stands.
        """
        with self._db.write() as session:
            found = session.exec(select(Remedy).where(Remedy.after_take_id == after_take_id)).first()
            if found is not None:
                return found
            take = session.get(Take, after_take_id)
            if take is None:
                raise NotFound(f"No take with id {after_take_id} in this archive")
            remedy = Remedy(
                shot_id=take.shot_id, after_take_id=after_take_id, kind=kind, changes=changes, reason=reason
            )
            session.add(remedy)
            if revision is not None:
                add_revision(session, take.shot_id, revision, reason)
        return remedy

    def _take(self, take_id: int) -> tuple[Take, Shot]:
        with self._db.read() as session:
            found = session.exec(_WITH_SHOT, params={"take": take_id}).first()
        if found is None:
            raise NotFound(f"No take with id {take_id} in this archive")
        return found[0], found[1]


def _next_number(session: Session, shot_id: int) -> int:
    """Takes of a shot are counted through all its revisions."""
    there, last = session.exec(_LAST_NUMBER, params={"shot": shot_id}).one()
    if not there:
        raise NotFound(f"No shot with id {shot_id} in this archive")
    return int(last or 0) + 1
