"""Files that are whole or not there: write to a temporary beside it, fsync, rename, fsync the folder, sha256.

Knows folders and bytes; knows nothing of what is in a file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import unicodedata
from collections.abc import Callable
from pathlib import Path

from storage.errors import DiskError

LEFTOVER = ".part-"
"""Every temporary's name starts so; what carries it after a kill is rubbish."""

Writer = Callable[[Path], None]
"""Writes a whole file at the path it is given."""


class Media:
    """A folder of finished files, each known by its path under the folder and its sha256."""

    def __init__(self, folder: Path) -> None:
        """Make the folder; DiskError when it cannot be."""
        self.folder = folder
        make_folder(folder)

    def path(self, name: str) -> Path:
        """Where `name` lies; DiskError when it points out of the folder."""
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise DiskError(f"{name!r} points out of the media folder {self.folder}")
        return path

    def keep(self, name: str, write: Writer | bytes) -> str:
        """Put a whole file at `name`; gives its sha256. DiskError names file and reason, nothing half-written stays."""
        return keep_file(self.path(name), write)

    def intact(self, name: str | None, sha256: str | None) -> Path | None:
        """The file's path when it is there with this very content, else None."""
        if name is None or sha256 is None:
            return None
        path = self.path(name)
        try:
            return path if file_sha256(path) == sha256 else None
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise disk_error(path, error) from error

    def sweep(self, name: str) -> int:
        """Remove the temporaries under folder `name` that a killed process left; gives their count.

        Only for the one who holds the folder: a living writer's temporary would go too.
        """
        leftovers = list(self.path(name).rglob(f"{LEFTOVER}*"))
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)


def keep_file(path: Path, write: Writer | bytes) -> str:
    """Write a whole file at `path` or leave what was there; gives its sha256. DiskError names file and reason."""
    make_folder(path.parent)
    temporary = path.with_name(f"{LEFTOVER}{secrets.token_hex(6)}{path.suffix}")
    try:
        if isinstance(write, bytes):
            temporary.write_bytes(write)
        else:
            write(temporary)
        return _settle(temporary, path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _settle(temporary: Path, path: Path) -> str:
    """Everything on disk, then the name, then the name on disk; gives the sha256."""
    with temporary.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)
    return digest


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; DiskError names it and the reason."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def slug(text: str, longest: int = 48) -> str:
    """A file name made of untrusted text: ASCII letters, digits and dashes; `untitled` when nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower())[:longest].strip("-") or "untitled"


def disk_error(path: Path, error: OSError) -> DiskError:
    """An OSError as a sentence that names the file, the reason and the remedy."""
    remedies = {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "free some space under your quota",
        errno.EACCES: "make the folder writable or name another one",
        errno.EPERM: "make the folder writable or name another one",
        errno.EROFS: "name a folder on a writable disk",
        errno.ENOTDIR: "a file stands where a folder is needed; move it away",
        errno.EEXIST: "a file stands where a folder is needed; move it away",
    }
    remedy = remedies.get(error.errno or 0, "check the disk")
    return DiskError(f"Could not write {path}: {error.strerror or error}; {remedy}, then try again")


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
