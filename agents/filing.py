"""Where a run's files go for people: its film's folder, and the storyboard to be read and edited.

Knows the archive; knows no models and no pixels.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from statistics import median

from agents.boardfile import board_text
from agents.editor import MANIFEST
from agents.errors import UsageError
from agents.order import Order, title_of
from agents.state import storyboard_of
from agents.storyboard import Storyboard
from storage.archive import Archive
from storage.errors import DiskError
from storage.lease import holds
from storage.media import disk_error, file_sha256, keep_file, make_folder, slug
from storage.records import RunRecord
from storage.tables import Run

STORYBOARD = "storyboard.yaml"
NEWEST = 20
"""Runs whose takes say how long a take lasts."""


def film_folder(archive: Archive, order: Order, run_id: int, board: Storyboard | None) -> str:
    """The story's name under the folder of films, numbered when another run has that folder or its film lies there."""
    folder = (order.films or Path("films")).resolve() / slug(title_of(order, board))
    key = archive.run(run_id).key
    others = {run.asked.get("out") for run in archive.runs() if run.id != run_id}
    names = chain([str(folder)], (f"{folder}-{number}" for number in count(run_id)))
    return next(name for name in names if name not in others and film_key(Path(name)) in (None, key))


def check_free(archive: Archive, folder: Path, key: str) -> None:
    """Raise UsageError when a film of a run with another key lies in `folder`, or is being made: it would be lost."""
    for other in archive.runs():
        if other.key == key or other.asked.get("out") != str(folder):
            continue
        film = archive.film(other.id)
        there = film is not None and any((Path(film.folder) / name).exists() for name in film.files)
        if there or holds(other.owner, other.owner_until):
            raise UsageError(f"{folder} is the folder of run {other.id}'s film: name another one (--out)")
    if film_key(folder) not in (None, key):
        raise UsageError(
            f"{folder} holds a film that is not in this archive ({MANIFEST} says so): name another one (--out), or "
            "move that film away"
        )


def film_key(folder: Path) -> str | None:
    """Whose film lies in a folder, by its manifest: a run's key, empty if it is no film's; None for no manifest."""
    try:
        said = json.loads((folder / MANIFEST).read_bytes())
        return str(said["run"]["key"])
    except OSError:  # whether a film can be written there is another question
        return None
    except (ValueError, KeyError, TypeError):
        return ""


def ready(folder: Path) -> None:
    """Make the film's folder now: minutes of filming later is too late to learn that it cannot be. Raises DiskError."""
    try:
        make_folder(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise disk_error(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    except DiskError as error:
        raise DiskError(f"{error}; or name another folder (--out)") from error


def write_board(archive: Archive, run_id: int, file: Path | None, filmed: Sequence[str] = ()) -> Path:
    """Write the storyboard for a person, and keep where it lies; never over what they may have edited.

    `filmed` says of every shot how it will be filmed.
    """
    row = archive.run(run_id)
    path = board_path(row, file)
    if row.asked.get("storyboard") != str(path) or not path.exists():
        keep_file(path, board_text(storyboard_of(row, archive.shots(run_id)), filmed).encode())
        archive.ask(run_id, row.asked | {"storyboard": str(path)})
    return path


def check_board_file(run: Run | None, file: Path) -> None:
    """Raise UsageError for a file that is there and not the run's storyboard: somebody's edits may be in it."""
    if file.exists() and (run is None or run.asked.get("storyboard") != str(file.resolve())):
        raise UsageError(f"{file} is there already, and is no storyboard of this run: name another file (--out)")


def board_path(run: Run, file: Path | None) -> Path:
    """Where a run's storyboard is written: in `file`, else where it is kept already, else in the film's folder.

    Raises as `check_board_file`.
    """
    if file is not None:
        check_board_file(run, file)
        return file.resolve()
    kept = run.asked.get("storyboard")
    path = Path(kept or Path(run.asked["out"]) / STORYBOARD)
    if str(path) == kept or not path.exists():
        return path
    return path.with_stem(f"{path.stem}-{run.id}")


def edited_board(run: Run, named: Path | None) -> Path | None:
    """The file that a person may have edited: `named`, else where the storyboard was written; None where it never was.

    Raises UsageError when it is gone: the edits in it would be lost unsaid.
    """
    kept = run.asked.get("storyboard")
    if named is not None or kept is None:
        return named
    if not Path(kept).exists():
        raise UsageError(
            f"The storyboard {kept} is gone: name where it is now with --from-plan, or write it anew with the command "
            "that planned it"
        )
    return Path(kept)


def lost(record: RunRecord) -> tuple[Path, ...]:
    """Files of the run's film that are gone, or are not what was cut."""
    film = record.film
    if film is None:
        return ()
    files = {Path(film.folder) / name: sha256 for name, sha256 in film.files.items()}
    return tuple(path for path, sha256 in files.items() if _sha256(path) != sha256)


def _sha256(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except OSError:
        return None


def take_seconds(archive: Archive, model: str) -> float | None:
    """Median seconds of takes by this model in the newest runs; None when it filmed none of them."""
    spent: list[float] = []
    for run in archive.runs()[:NEWEST]:
        takes = [record.take for record in archive.takes(run.id)]
        spent += [take.seconds_spent for take in takes if take.model == model and take.seconds_spent > 0]
    return median(spent) if spent else None
