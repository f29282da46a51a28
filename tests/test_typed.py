"""Commands that are printed to be typed next: they work where the person stands, on the runs they are looking at."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands.typed import Typed, first_film

Cli = Callable[..., Any]


def test_inside_the_checkout_a_command_is_short(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    assert Typed()("resume", 3) == "python main.py resume 3"
    assert first_film(Typed()) == "python main.py run examples/the-fox-and-the-cat.txt"
    monkeypatch.chdir(checkout / "docs")
    assert Typed()("resume", 3) == "python ../main.py resume 3"


def test_elsewhere_a_command_names_the_checkout(checkout: Path, desk: Path) -> None:
    assert Typed()("resume", 3) == f"python {shlex.quote(str(checkout / 'main.py'))} resume 3"


def test_where_no_python_is_on_the_path_the_one_that_runs_is_named(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(desk))
    assert shlex.split(Typed()("runs"))[0] == sys.executable


def test_a_command_keeps_home_and_database_unless_the_environment_says_them(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = Typed(home=desk / "my home", database="sqlite:///runs.db")
    assert shlex.split(typed("runs"))[3:] == ["--home", str(desk / "my home"), "--database", "sqlite:///runs.db"]
    monkeypatch.setenv("FABULA_HOME", str(desk / "my home"))
    monkeypatch.setenv("FABULA_DATABASE", "sqlite:///runs.db")
    assert shlex.split(typed("runs"))[2:] == ["runs"]


def test_a_database_password_is_not_repeated(desk: Path) -> None:
    command = Typed(database="postgresql://ann:s3cret@host/films")("runs")
    assert "s3cret" not in command
    assert "postgresql://ann:***@host/films" in command


@pytest.mark.slow
def test_what_is_printed_works_when_it_is_pasted(cli: Cli, desk: Path) -> None:
    planned = cli("plan", "A red fox jumps.", "--home", "my home").out
    (command,) = re.findall(r"then: (.*)$", planned, re.MULTILINE)
    done = subprocess.run(["bash", "-c", command], cwd=desk, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 promised event seen" in done.stdout


@pytest.mark.parametrize(
    "database",
    [
        "postgresql://u:p#w@host/db",
        "postgresql://u:p?w@host/db",
        "postgresql://u:p[w@host/db",
        "postgresql://h/d?password=p-w",
    ],
)
def test_no_spelling_of_a_password_gets_through(desk: Path, database: str) -> None:
    command = Typed(database=database)("runs")
    assert not any(secret in command for secret in ("p#w", "p?w", "p[w", "p-w"))


def test_a_database_that_cannot_be_read_is_not_repeated(desk: Path) -> None:
    assert shlex.split(Typed(database="no address, s3cret")("runs"))[-2:] == ["--database", "***"]


@pytest.mark.slow
def test_the_program_starts_in_a_folder_that_is_gone(checkout: Path, tmp_path: Path) -> None:
    code = f'mkdir gone && cd gone && rmdir ../gone && exec "{sys.executable}" "{checkout / "main.py"}" --help'
    done = subprocess.run(["bash", "-c", code], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "main.py COMMAND" in done.stdout or "Usage" in done.stdout
