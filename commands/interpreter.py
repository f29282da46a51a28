"""Which Python runs fabula: the one that was called, or that of the environment `make` keeps beside `main.py`.

Imports nothing but the standard library, since it runs where nothing else may be installed.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from pathlib import Path

NEEDED = "typer"
"""Stands for all of them: `pip install` brings every library or none."""


def own_python(checkout: Path) -> Path:
    """The interpreter of the environment that `make` keeps, whether it is there or not."""
    return checkout / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def use_libraries(checkout: Path) -> None:
    """Nothing where they are; else start again in the checkout's `.venv`, or end saying how to install them."""
    if importlib.util.find_spec(NEEDED) is not None:
        return
    python = own_python(checkout)
    if python.exists() and Path(sys.prefix).resolve() != (checkout / ".venv").resolve():
        os.execv(python, [str(python), *sys.argv])
    sys.exit(
        f"fabula's libraries are not installed for {sys.executable}.\n"
        f"Type `make film` in {checkout}, which installs them into .venv and films a first story, or install them\n"
        f"yourself with Python 3.11 or newer: python -m pip install --editable {shlex.quote(str(checkout))}"
    )
