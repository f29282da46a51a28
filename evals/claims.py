"""Who makes which unit, where several processes work on one folder of results: a file a unit, gone when it is made.

Claims spread work and decide nothing: a unit that two have made has two rows, and the last is the table's.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

from storage.lease import alive, new_owner
from storage.media import disk_error, make_folder

UNSIGNED_SECONDS = 10.0
"""A claim without an owner is being signed this moment; an older one was left so by a kill."""


class Claims:
    """The claims of one process in a folder of results."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "claims"
        self._owner = new_owner()

    @contextlib.contextmanager
    def claimed(self, unit: str, *, again: bool = False) -> Iterator[bool]:
        """Whether the unit is ours while the block lasts.

        A claim of a process that is gone is taken over; one of another machine, of which nobody knows, when asked
        `again`.
        """
        path = self._folder / hashlib.sha256(unit.encode()).hexdigest()[:16]
        ours = self._take(path, again)
        try:
            yield ours
        finally:
            if ours:
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # others' claims are in it
                    self._folder.rmdir()

    def _take(self, path: Path, again: bool) -> bool:
        make_folder(self._folder)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(self._owner)
        except FileExistsError:
            return self._take_over(path, again)
        except FileNotFoundError:
            return False  # somebody's last claim took the folder along
        except OSError as error:
            raise disk_error(path, error) from error
        return True

    def _take_over(self, path: Path, again: bool) -> bool:
        try:
            owner, age = path.read_text(encoding="utf-8"), time.time() - path.stat().st_mtime
        except FileNotFoundError:
            return False  # freed this moment, because its row is there
        lives = alive(owner) if owner else age < UNSIGNED_SECONDS
        if lives or (lives is None and not again):
            return False
        try:
            path.write_text(self._owner, encoding="utf-8")
        except FileNotFoundError:
            return False  # its holder ended meanwhile, and the folder went with the last claim
        except OSError as error:
            raise disk_error(path, error) from error
        return True
