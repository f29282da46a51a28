"""What every test stands on: no network beyond this machine, no keys, a home of its own, quiet threads."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # before torch: spinning threads slow small models down up to 70 times
os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side, and tiny models gain nothing from a second thread
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `python` is this one
os.environ["COLUMNS"] = "100"  # rich and typer fold text at the same place everywhere
for _name in (
    "OPENAI_API_KEY",
    "FABULA_API_KEY",
    "FABULA_HOME",
    "FABULA_DATABASE",
    "FABULA_PROFILE",
    "NO_COLOR",
    "FORCE_COLOR",
):
    os.environ.pop(_name, None)

hypothesis.settings.register_profile("untimed", deadline=None)  # a loaded machine must not fail a property
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent


def _loopback_only(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: a test that tries to leave this machine fails by name instead of hanging."""
    if event != "socket.connect":
        return
    address = arguments[1]
    host = address[0] if isinstance(address, tuple) else None
    if isinstance(host, str) and host not in ("127.0.0.1", "::1", "localhost"):
        raise PermissionError(f"A test tried to connect to {host}; tests talk to loopback servers only")


sys.addaudithook(_loopback_only)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-docs", action="store_true", help="write the commands' help into docs/usage.md")


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees, or writes into, the home of the person who runs it."""
    monkeypatch.setenv("FABULA_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def checkout() -> Path:
    """The folder that holds main.py."""
    return ROOT


@pytest.fixture
def database_work() -> Iterator[Counter[str]]:
    """What each SQLite file costs, by its folder's name: hundreds of steps of SQLite's machine, whatever else runs."""
    steps: Counter[str] = Counter()

    def count(connection: sqlite3.Connection, _record: object) -> None:
        file = Path(connection.execute("PRAGMA database_list").fetchone()[2])
        connection.set_progress_handler(lambda: steps.update([file.parent.name]), 100)

    sa.event.listen(sa.Engine, "connect", count)
    yield steps
    sa.event.remove(sa.Engine, "connect", count)


@dataclass(frozen=True)
class Answer:
    """What one command came to."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """Its standard output, which must be one JSON object and nothing else."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`python main.py …` in this process."""
    import main

    def call(*words: object) -> Answer:
        capfd.readouterr()
        code = main.main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return call


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the instant backend and a critic who sees what it is told (`stage.toml`)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stage.toml").write_text(STAGE)
    monkeypatch.setenv("FABULA_PROFILE", str(tmp_path / "stage.toml"))
    return tmp_path


STAGE = """\
description = "Instant frames, and a critic who sees everything."
[critic]
kind = "scripted"
[backend]
kind = "instant"
[budget]
shots = 1000
takes_per_shot = 2
"""
STORY = "A red fox jumps high up in the meadow. A blue cat dances on the beach. The fox spins around."
