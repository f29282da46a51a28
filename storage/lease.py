"""Who holds a run or a schedule: names for holders, and whether the process behind a name still lives.

A lease alone would make a resume after SIGKILL wait until it runs out; a process of this machine that is gone
frees its runs at once.
"""

from __future__ import annotations

import os
import secrets
import socket
from datetime import UTC, datetime
from pathlib import Path


def new_owner() -> str:
    """A name for one holder in this process; two holders in one process have two names."""
    return f"{_machine()}/{os.getpid()}/{_started(os.getpid())}/{secrets.token_hex(4)}"


def holds(owner: str | None, until: datetime | None) -> bool:
    """Whether `owner` still has what was taken until then: its time is not up, and its process not known to be gone."""
    return owner is not None and until is not None and until > datetime.now(UTC) and alive(owner) is not False


def holder(owner: str) -> str:
    """A holder in words for people, such as `process 4711 on studio-1`."""
    machine, *rest = owner.rsplit("/", 3)
    return f"process {rest[0]} on {machine.rpartition(':')[0]}" if len(rest) == 3 else owner


def alive(owner: str) -> bool | None:
    """Whether the process behind `owner` lives; None when it ran on another machine and nobody can tell."""
    try:
        machine, pid, started, _nonce = owner.rsplit("/", 3)
        number = int(pid)
    except ValueError:
        return None
    if machine != _machine():
        return None
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, under another user
    return _started(number) == started  # the number may have been given to another process since


def _machine() -> str:
    """This host and, in containers, this process table: process numbers mean nothing outside it."""
    table = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}:{table.stat().st_ino if table.exists() else 0}"


def _started(pid: int) -> str:
    """When the process started, in clock ticks since boot; 0 where the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"
