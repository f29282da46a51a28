"""Rows of results on disk: a line of JSON each, there before the next one begins, whole after any kill."""

from __future__ import annotations

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
    """Rows written so far, none when there is no file; a line that a kill cut short is taken off the file."""
    if not path.exists():
        return []
    written = path.read_bytes()
    whole = written[: written.rfind(b"\n") + 1]
    if len(whole) < len(written):
        os.truncate(path, len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def add_row(path: Path, row: Row) -> None:
    """Add one line, and have it on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
