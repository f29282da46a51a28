"""Rows of results on disk: a line of JSON each, there before the next one begins, whole after any kill."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROWS = "rows.jsonl"
"""Their file in a folder of results."""
KEYS = ("digest", "method", "source", "seed", "ceiling")
"""What a row of the suite and the manifest of its table have in common."""
Row = Mapping[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Rows written so far, none when there is no file; what a kill cut short is no row, and stays where it is.

    Nothing is taken off the file: another process may be in the middle of its line.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [row for line in lines if (row := _row(line)) is not None]


def add_row(path: Path, row: Row) -> None:
    """Add one line in one piece, behind those that other processes add, and have it on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        torn = size > 0 and (file.seek(size - 1), file.read(1))[1] != b"\n"
        line = (b"\n" if torn else b"") + json.dumps(row, ensure_ascii=False).encode() + b"\n"
        if (written := file.write(line)) != len(line):
            raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes were written; free some space", str(path))
        os.fsync(file.fileno())


def _row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
