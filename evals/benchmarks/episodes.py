"""Stories whose cast is known, as YAML: who is in which shot, what they look like, and how well a judge saw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.benchmarks.named_lists import read_named


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A story's cast (name to description), pictures of them, and who is in which shot; `goes_on` continues.

    `fidelity` has an entry a shot: by name, 0..1, how well the shot shows what it promised. Others are unjudged.
    """

    name: str
    cast: Mapping[str, str]
    references: Mapping[str, tuple[Path, ...]]
    prompts: tuple[str, ...]
    shows: tuple[tuple[str, ...], ...]
    goes_on: tuple[bool, ...]
    fidelity: tuple[Mapping[str, float], ...]


def read_episodes(path: Path) -> tuple[Episode, ...]:
    """Raises ValueError naming the entry that is no episode, or a name that two episodes bear."""
    return read_named(path, "episode", "name, cast and shots", _episode)


def _episode(path: Path, entry: Any) -> Episode:
    try:
        cast = {str(name): str(text) for name, text in entry["cast"].items()}
        shots = [(str(s["prompt"]), tuple(map(str, s["shows"])), bool(s.get("continues"))) for s in entry["shots"]]
        judged = [{str(n): float(f) for n, f in s.get("fidelity", {}).items()} for s in entry["shots"]]
        pictures = {str(n): tuple(path.parent / p for p in files) for n, files in entry.get("references", {}).items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: expected name, cast and shots (prompt, shows), got {entry!r:.120}") from error
    said = f"{path}: {entry.get('name')!r}"
    if lost := [str(path) for files in pictures.values() for path in files if not path.is_file()]:
        raise ValueError(f"{said}: no such picture: {', '.join(lost)}")
    strangers = sorted(({name for _, shows, _ in shots for name in shows} | set(pictures)) - set(cast))
    if len(shots) < 2 or strangers:
        raise ValueError(f"{said}: {'; '.join(strangers) or 'one shot'}: not in its cast, or alone")
    for (_, shows, _), one in zip(shots, judged, strict=True):
        if not set(one) <= set(shows) or not all(0 <= value <= 1 for value in one.values()):
            raise ValueError(f"{said}: fidelity: expected 0 to 1 for some of {', '.join(shows)}, got {one}")
    prompts, shows_of, goes_on = zip(*shots, strict=True)
    return Episode(
        name=str(entry["name"]),
        cast=cast,
        references=pictures,
        prompts=prompts,
        shows=shows_of,
        goes_on=goes_on,
        fidelity=tuple(judged),
    )
