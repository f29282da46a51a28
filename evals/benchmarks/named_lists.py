"""Lists that people write for a benchmark: YAML of entries with a name each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml


class Named(Protocol):
    """Whatever bears the name of its entry."""

    @property
    def name(self) -> str:
        """It stands in tables, so no other entry may bear it."""
        ...


T = TypeVar("T", bound=Named)


def read_named(path: Path, kind: str, holds: str, parse: Callable[[Path, Any], T]) -> tuple[T, ...]:
    """The entries of a list of `kind`s, each with `holds`. Raises ValueError naming the file, and what is wrong."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML: {error}") from error
    if not isinstance(found, list) or not found:
        raise ValueError(f"{path}: expected a list of {kind}s with {holds}")
    entries = tuple(parse(path, entry) for entry in found)
    if twice := [name for name, count in Counter(one.name for one in entries).items() if count > 1]:
        raise ValueError(f"{path}: expected a name for every {kind}, got {twice[0]!r} twice")
    return entries
