"""Where a run's files go for people: its film's folder, and the storyboard to be read and edited.

Knows the archive; knows no models and no pixels.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from agents.boardfile import board_text
from agents.order import Order, title_of
from agents.state import storyboard_of
from agents.storyboard import Storyboard
from storage.archive import Archive
from storage.errors import DiskError
from storage.media import disk_error, keep_file, make_folder, slug

STORYBOARD = "storyboard.yaml"
NEWEST = 20
"""Runs whose takes say how long a take lasts."""


def film_folder(archive: Archive, order: Order, run_id: int, board: Storyboard | None) -> str:
    """`films/` and the story's name under the current folder, numbered when another run has that folder."""
    folder = Path("films", slug(title_of(order, board))).resolve()
    taken = any(run.asked.get("out") == str(folder) and run.id != run_id for run in archive.runs())
    return f"{folder}-{run_id}" if taken else str(folder)


def ready(folder: Path) -> None:
    """Make the film's folder now: minutes of filming later is too late to learn that it cannot be. Raises DiskError."""
    try:
        make_folder(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise disk_error(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    except DiskError as error:
        raise DiskError(f"{error}; or run the story again with another folder (--out)") from error


def write_board(archive: Archive, run_id: int, file: Path | None, filmed: Sequence[str] = ()) -> Path:
    """Write the storyboard for a person, and keep where it lies; never over what they may have edited.

    `filmed` says of every shot how it will be filmed.
    """
    row = archive.run(run_id)
    path = (file or Path(row.asked["out"]) / STORYBOARD).resolve()
    if row.asked.get("storyboard") != str(path) or not path.exists():
        keep_file(path, board_text(storyboard_of(row, archive.shots(run_id)), filmed).encode())
        archive.ask(run_id, row.asked | {"storyboard": str(path)})
    return path


def take_seconds(archive: Archive, model: str) -> float | None:
    """Median seconds of takes by this model in the newest runs; None when it filmed none of them."""
    spent: list[float] = []
    for run in archive.runs()[:NEWEST]:
        takes = [record.take for record in archive.takes(run.id)]
        spent += [take.seconds_spent for take in takes if take.model == model and take.seconds_spent > 0]
    return median(spent) if spent else None
