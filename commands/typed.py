"""What a person types next: commands of this checkout that work where they stand, on the runs they are looking at."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import fabula
from commands.interpreter import own_python
from screen import near

MAIN = Path(__file__).resolve().parent.parent / "main.py"


@dataclass(frozen=True, kw_only=True)
class Typed:
    """`typed("resume", 3)` is that command as a shell takes it; with the home and database that this one was given."""

    home: Path | None = None
    database: str | None = None

    def __call__(self, *words: object) -> str:
        """The words behind whatever calls this program here."""
        return shlex.join([_python(), near(MAIN), *map(str, words), *self._kept()])

    def resume(self, run: int) -> str:
        """The command that goes on with a run."""
        return self("resume", run)

    def _kept(self) -> list[str]:
        """Options without which the command would look elsewhere; what the environment says already is not repeated."""
        kept = []
        if self.home is not None and self.home != fabula.default_home():
            kept += ["--home", str(self.home)]
        if self.database is not None and self.database != fabula.environment().get("FABULA_DATABASE"):
            kept += ["--database", fabula.without_password(self.database)]
        return kept


def first_film(typed: Typed) -> str:
    """The command of a first film, for somebody who has none yet."""
    return typed("run", near(MAIN.parent / "examples" / "the-fox-and-the-cat.txt"))


def _python() -> str:
    """What a shell calls a Python that has the libraries: any, where the checkout keeps its own (`use_libraries`)."""
    own, now = own_python(MAIN.parent).exists(), Path(sys.executable)
    found = {name: shutil.which(name) for name in ("python", "python3")}
    return next((n for n, place in found.items() if place and (own or Path(place).parent == now.parent)), str(now))
