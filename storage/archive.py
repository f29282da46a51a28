"""The archive: everything fabula remembers, rows in one database and files in one folder.

The only door to storage. One transaction a step, every step safe to repeat: a step looks up, else does, then writes.
Safe to call from any thread; rows come back as plain values that outlive their session. Knows nothing of agents,
models or frames.

    runs        open_run  find_run  ask  run  runs  newest  story  set_status  spend          (runs.py)
                claim  hold  renew  release
    storyboard  save_storyboard  shots  revise_shot  fail_shot                                (shots.py)
    takes       begin_take  finish_take  fail_take  lose_take  take_file  take  take_with     (takes.py)
                takes  takes_folder  weights
    verdicts    save_verdict  verdict  save_remedy                                            (takes.py)
    calls       begin_call  finish_call  fail_call  answered  unknown  calls  costs           (calls.py)
    film        save_film  film  record  keep_picture  picture  keep_clip  clip               (here)
    schedules   add_schedule  schedules  remove_schedule  due  claim_due  renew_due           (schedules.py)
                leave_due  finish_due
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlmodel import select

from storage.calls import Calls
from storage.database import Database
from storage.media import Media, file_sha256
from storage.records import RunRecord
from storage.runs import Runs
from storage.schedules import Schedules
from storage.shots import Shots
from storage.tables import Film, Run
from storage.takes import Takes

DATABASE = "fabula.db"
PICTURES, CLIPS = "pictures", "clips"


class Archive(Runs, Shots, Takes, Calls, Schedules):
    """One database and one media folder."""

    def __init__(self, media: Path, url: str | None = None) -> None:
        """Open both, making what is missing and bringing the schema to its newest form.

        `url` is any SQLAlchemy URL; without one the database is a SQLite file in the media folder. Others may share
        the folder: their runs have numbers of their own, and folders that bear the database's mark. Raises DiskError,
        SchemaError.
        """
        self.media = Media(media)
        own = f"sqlite:///{(media / DATABASE).resolve()}"
        self._db = Database(url or own)
        place = self._db.place
        self._apart = "" if place == own else f"-{hashlib.sha256(place.encode()).hexdigest()[:8]}"

    def close(self) -> None:
        """Let go of the database; calling it twice is harmless."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def claim(self, run_id: int, owner: str, seconds: float) -> Run:
        """Hold the run (see `Runs.claim`) and remove what a killed holder had half written."""
        held_before = self.run(run_id).owner == owner
        run = super().claim(run_id, owner, seconds)
        if not held_before:  # a holder's own temporaries are being written
            self.media.sweep(self.takes_folder(run_id))
        return run

    def keep_picture(self, data: bytes) -> str:
        """Keep a picture that shots start from or a camera moves over; gives the sha256 by which `picture` finds it."""
        sha256 = hashlib.sha256(data).hexdigest()
        if self.picture(sha256) is None:
            self.media.keep(f"{PICTURES}/{sha256}", data)
        return sha256

    def picture(self, sha256: str) -> Path | None:
        """A kept picture's file, checked by its sha256; None when it is altered or gone."""
        return self.media.intact(f"{PICTURES}/{sha256}", sha256)

    def keep_clip(self, file: Path) -> str:
        """Keep a copy of a video whose motion shots have; gives the sha256 by which `clip` finds it."""
        sha256 = file_sha256(file)

        def write(path: Path) -> None:
            shutil.copyfile(file, path)

        if self.clip(sha256) is None:
            self.media.keep(f"{CLIPS}/{sha256}", write)
        return sha256

    def clip(self, sha256: str) -> Path | None:
        """A kept clip's file, checked by its sha256; None when it is altered or gone."""
        return self.media.intact(f"{CLIPS}/{sha256}", sha256)

    def save_film(
        self,
        run_id: int,
        *,
        takes: Sequence[int],
        missing: Sequence[str],
        folder: Path,
        files: Mapping[str, str],
        events_seen: int,
        events_promised: int,
    ) -> Film:
        """Keep the edited result, in the place of an earlier one; `files` are names under `folder` to sha256."""
        with self._db.write() as session:
            film = session.exec(select(Film).where(Film.run_id == run_id)).first()
            film = film or Film(run_id=run_id, folder=str(folder))
            film.takes, film.missing, film.files = list(takes), list(missing), dict(files)
            film.folder, film.events_seen, film.events_promised = str(folder), events_seen, events_promised
            session.add(film)
        return film

    def film(self, run_id: int) -> Film | None:
        """The run's film, when it was cut."""
        with self._db.read() as session:
            return session.exec(select(Film).where(Film.run_id == run_id)).first()

    def record(self, run_id: int) -> RunRecord:
        """Everything kept of one run, in the same handful of queries for any number of shots; NotFound."""
        return RunRecord(
            run=self.run(run_id),
            story=self.story(run_id),
            shots=tuple(self.shots(run_id)),
            takes=tuple(self.takes(run_id)),
            calls=tuple(self.calls(run_id)),
            film=self.film(run_id),
        )
