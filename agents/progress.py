"""What happens during a run, as a stream of typed values: for the live view, the SDK and logs.

Events are news, never memory: everything they say is also in the archive, and a reader may miss any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agents.brains import EventVerdict
from agents.outcome import ShotState, Tally
from agents.storyboard import Storyboard


@dataclass(frozen=True, kw_only=True)
class RunEvent:
    """Base of everything a run reports."""

    run_id: int


@dataclass(frozen=True, kw_only=True)
class RunStarted(RunEvent):
    """Work on the run begins or goes on; whatever happens from here on, it can be resumed."""


@dataclass(frozen=True, kw_only=True)
class Planned(RunEvent):
    """The storyboard stands, with all events timed."""

    storyboard: Storyboard


@dataclass(frozen=True, kw_only=True)
class AwaitingApproval(RunEvent):
    """The storyboard waits for a person; nothing is filmed until it is approved."""


@dataclass(frozen=True, kw_only=True)
class ShotEvent(RunEvent):
    """Base of what concerns one shot; `shot` is its label."""

    shot: str


@dataclass(frozen=True, kw_only=True)
class ShotStarted(ShotEvent):
    """Work on a shot begins or goes on."""

    prompt: str


@dataclass(frozen=True, kw_only=True)
class TakeStarted(ShotEvent):
    """A take is on the device now."""

    take: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Step(ShotEvent):
    """One denoising step of a take is done."""

    take: int
    step: int
    of: int


@dataclass(frozen=True, kw_only=True)
class TakeDone(ShotEvent):
    """A take is on disk."""

    take: int
    seconds: float
    seam_jump: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Judged(ShotEvent):
    """The critic has seen a take: one entry a promised event."""

    take: int
    phrases: tuple[str, ...]
    events: tuple[EventVerdict, ...]
    identity: float
    quality: float


@dataclass(frozen=True, kw_only=True)
class RemedyChosen(ShotEvent):
    """What the director changes before the next take, and why."""

    after_take: int
    kind: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ShotDone(ShotEvent):
    """No more takes of this shot. `take` is the one for the film, None when there is none.

    `why` says why it was not filmed or judged, or what ended the work on it early.
    """

    take: int | None
    state: ShotState
    seen: int
    promised: int
    unjudged: int = 0
    """Promised events of which nobody can tell, in a take that was judged."""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class FilmDone(RunEvent):
    """The film is cut. `missing` are labels of shots that are not in it."""

    folder: str
    tally: Tally
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Note(RunEvent):
    """Something a person should know."""

    text: str


OnEvent = Callable[[RunEvent], None]


def ignore(event: RunEvent) -> None:
    """Listens to nothing."""
