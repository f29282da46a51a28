"""Which weights a model has, as one short name: equal digests mean the same checkpoint.

Reads files; loads no model. A film's takes carry the digest, so that a checkpoint that was changed under the same
name is noticed before its frames are mixed with those of the former one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

WHOLE = 64 * 2**20
"""Bytes up to which a file is read whole; of a larger one the two ends and `SAMPLES` places between are read."""
ENDS = 2**20
"""Bytes read at either end of a larger file: the start holds the header, with every tensor's name, type and shape."""
SAMPLES, SAMPLE = 62, 64 * 2**10


def weights_digest(folder: Path) -> str:
    """sha256 over names and contents of a checkpoint's files, its model card and hidden files left out.

    A file of more than `WHOLE` bytes counts by its size, its first and last MiB and 62 samples of 64 KiB spread evenly
    between: a checkpoint of 30 GB is told apart from a trained, merged or converted sibling in well under a second.
    """
    found = hashlib.sha256()
    for file in _files(folder):
        found.update(file.relative_to(folder).as_posix().encode() + b"\0")
        found.update(file_digest(file))
    return found.hexdigest()


def named(place: str) -> str:
    """What tells a checkpoint apart from others: its folder's name and a digest of its weights, or its hub id."""
    folder = Path(place)
    return f"{folder.resolve().name} {weights_digest(folder)[:8]}" if folder.is_dir() else place


def file_digest(file: Path) -> bytes:
    """sha256 of one file, sampled when it is larger than `WHOLE`."""
    size = file.stat().st_size
    found = hashlib.sha256()
    with file.open("rb") as opened:
        if size <= WHOLE:
            found.update(opened.read())
            return found.digest()
        found.update(size.to_bytes(8, "little"))
        for start, length in _places(size):
            opened.seek(start)
            found.update(opened.read(length))
    return found.digest()


def _places(size: int) -> Iterator[tuple[int, int]]:
    """Where a large file is read: its start, evenly spread samples, its end."""
    yield 0, ENDS
    step = (size - 2 * ENDS) / (SAMPLES + 1)
    for number in range(1, SAMPLES + 1):
        yield ENDS + int(number * step), SAMPLE
    yield size - ENDS, ENDS


def _files(folder: Path) -> list[Path]:
    """Every file that can change what the model films, in a fixed order."""
    found = []
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.name != "README.md":
            found.append(path)
    return sorted(found)
