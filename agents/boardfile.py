"""The storyboard as a YAML file that a person reads, edits and hands back. Knows the file, not what is filmed of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from agents.errors import PlanError
from agents.order import read_text
from agents.storyboard import Storyboard, parse_storyboard

HEAD = """\
# A storyboard. Edit what you like: every event's phrase must stand word for word in its shot's prompt, start and end
# are seconds of the shot, and a shot's subjects are names of the cast. `transition` is cut or continues. A shot may
# have a `synopsis`, two or more sentences: its frames then read those, one after the other, and not its prompt.
"""


def board_text(board: Storyboard, filmed: Sequence[str] = ()) -> str:
    """The storyboard as YAML, keys in the order people read them.

    `filmed` says of every shot how it will be filmed, as comments: that is decided anew when it is filmed.
    """
    data = board.model_dump(mode="json", exclude_none=True)
    for shot in data["shots"]:
        if not shot["synopsis"]:
            del shot["synopsis"]
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
    head, begins, shots = text.partition("\nshots:\n")
    said = iter(filmed)
    if filmed:  # lists after the shots begin their lines alike
        shots = re.sub("^- ", lambda _: f"# {next(said)}\n- ", shots, count=len(filmed), flags=re.MULTILINE)
    return HEAD + head + begins + shots


def read_board(path: Path) -> Storyboard:
    """What a person wrote. Raises UsageError when the file cannot be read, PlanError with every problem in it."""
    return parse_board(read_text(path, "storyboard"), str(path))


def parse_board(text: str, source: str) -> Storyboard:
    """A storyboard from YAML text. Raises PlanError."""
    try:
        data = yaml.safe_load(text)
    except RecursionError as error:
        raise PlanError(f"{source} is not a storyboard: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # a date that is none is a ValueError
        raise PlanError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    return parse_storyboard(data, source)
