"""`python main.py` works with whatever Python is at hand, or says what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def bare(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run code with a Python that has the standard library only."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COV_CORE_SOURCE")}
    begin = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pathlib import Path; "
    command = [sys.executable, "-S", "-c", begin + code, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_main_without_libraries_says_how_to_install_them(tmp_path: Path) -> None:
    done = bare(f"from commands.interpreter import use_libraries; use_libraries(Path({str(tmp_path)!r}))")
    assert done.returncode == 1
    assert "libraries are not installed" in done.stderr
    assert f"Type `make film` in {tmp_path}" in done.stderr
    assert "Traceback" not in done.stderr


def test_main_starts_again_in_the_checkouts_environment(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    code = (
        "sys.argv[0] = 'main.py'; from commands.interpreter import use_libraries; "
        f"use_libraries(Path({str(tmp_path)!r}))"
    )
    done = bare(code, "run", "a red fox jumps")
    assert (done.returncode, done.stdout) == (0, "main.py run a red fox jumps\n")


def test_an_environment_that_lacks_them_itself_is_not_started_for_ever(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    code = (
        f"sys.prefix = {str(tmp_path / '.venv')!r}; from commands.interpreter import use_libraries; "
        f"use_libraries(Path({str(tmp_path)!r}))"
    )
    assert "libraries are not installed" in bare(code).stderr


def test_libraries_that_are_there_are_used_as_they_are() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "--version"], capture_output=True, text=True, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
