"""A script: everything that decides a clip of the puppet world, and how it reads as truth.

The same script always gives the same frames. Positions are pixels of the 96 x 64 canvas, times are seconds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from generators.world.words import FPS, HUES, KINDS, PLACES, PROPS, SHORT, SIDES, TIMES, VERBS


@dataclass(frozen=True, kw_only=True)
class Actor:
    """One puppet: its body colour, what it is, and where it stands first."""

    hue: str
    kind: str
    x: float = 48.0
    faces: int = 1
    """+1 looks right, -1 looks left, until it moves."""

    def __post_init__(self) -> None:
        _one_of("Actor.hue", self.hue, tuple(HUES))
        _one_of("Actor.kind", self.kind, KINDS)

    @property
    def words(self) -> str:
        """How captions call it: `red fox`."""
        return f"{self.hue} {self.kind}"


@dataclass(frozen=True, kw_only=True)
class Prop:
    """A thing to push or lift."""

    kind: str
    x: float

    def __post_init__(self) -> None:
        _one_of("Prop.kind", self.kind, PROPS)


@dataclass(frozen=True, kw_only=True)
class ScriptEvent:
    """`actor` (and `other`) index the script's actors, `prop` its props."""

    verb: str
    actor: int
    start: float
    end: float
    side: str | None = None
    prop: int | None = None
    other: int | None = None

    def __post_init__(self) -> None:
        _one_of("ScriptEvent.verb", self.verb, tuple(VERBS))
        slot = VERBS[self.verb].slot
        has = {"side": self.side, "prop": self.prop, "other": self.other}
        for name, value in has.items():
            if (value is not None) != (name == slot):
                raise ValueError(f"ScriptEvent {self.verb!r} takes {slot!r}; got {name}={value!r}")
        if self.side is not None:
            _one_of("ScriptEvent.side", self.side, SIDES)
        if not 0 <= self.start < self.end:
            raise ValueError(f"ScriptEvent {self.verb!r}: expected 0 <= start < end, got {self.start}, {self.end}")


@dataclass(frozen=True, kw_only=True)
class Script:
    """One clip: where, when, who, what happens and for how many frames."""

    place: str
    time: str
    actors: tuple[Actor, ...]
    events: tuple[ScriptEvent, ...]
    props: tuple[Prop, ...] = ()
    frames: int = SHORT

    def __post_init__(self) -> None:
        _one_of("Script.place", self.place, PLACES)
        _one_of("Script.time", self.time, TIMES)
        hues = [actor.hue for actor in self.actors]
        if len(set(hues)) != len(hues):
            raise ValueError(f"Script.actors: every actor needs a hue of its own, got {hues}")
        for event in self.events:
            _index("actor", event.actor, len(self.actors))
            _index("other", event.other, len(self.actors))
            _index("prop", event.prop, len(self.props))

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return self.frames / FPS

    def to_json(self) -> str:
        """The sidecar: actors, props, events with their times, place, time and length."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Script:
        """Read a sidecar back. Raises ValueError when it is not one."""
        try:
            raw: dict[str, Any] = json.loads(text)
            raw["actors"] = tuple(Actor(**a) for a in raw["actors"])
            raw["props"] = tuple(Prop(**p) for p in raw["props"])
            raw["events"] = tuple(ScriptEvent(**e) for e in raw["events"])
            return cls(**raw)
        except (KeyError, TypeError) as error:
            raise ValueError(f"Script: expected a sidecar as `to_json` writes it, got {text[:80]!r}") from error


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}; got {value!r}")


def _index(name: str, value: int | None, count: int) -> None:
    if value is not None and not 0 <= value < count:
        raise ValueError(f"ScriptEvent.{name}: expected an index below {count}, got {value}")
