"""What can go wrong while things are kept. Catch :class:`StorageError` for all of it.

StorageError
├── NotFound        no such run, shot, take or schedule
├── AlreadyKept     what stands there would be overwritten
├── RunBusy         another living process films this run
├── DiskError       a file or the database could not be written (full disk, unwritable folder)
└── SchemaError     a database of another or newer version
"""

from __future__ import annotations


class StorageError(Exception):
    """The archive could not do what was asked; nothing was lost."""


class NotFound(StorageError):
    """No row with this name or number."""


def no_run(run_id: int) -> NotFound:
    """There is no run with this number, and where to look for the right one."""
    return NotFound(f"No run {run_id} in this archive; `runs` lists those there are")


class AlreadyKept(StorageError):
    """The rows that stand there say something else and are not overwritten."""


class RunBusy(StorageError):
    """Another living process holds the run; the message says which and until when."""


class DiskError(StorageError):
    """A file or the database could not be written; the message names it and the reason."""


class SchemaError(StorageError):
    """The database was made by another version; the message says what to run."""
