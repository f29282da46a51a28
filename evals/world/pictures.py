"""Pictures of a script or a filmed clip: frames, and beneath them what was promised and what was seen, on one axis.

Knows the puppet world's scripts and detectors; drawing is `generators.pictures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.world.controls import film
from evals.world.detectors import Frames
from evals.world.events import promised
from evals.world.scores import ClipJudgement, judge_clip
from evals.world.settings import SCORE, Setting
from generators.pictures import Lane, SheetRow, contact_sheet, thumbnails
from generators.world.script import Script, ScriptEvent
from generators.world.words import HEIGHT, WIDTH

COLUMNS, ZOOM = 9, 2


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A script, the frames that should show it (its own truth by default), and a title."""

    script: Script
    title: str
    frames: Frames | None = None


def timeline(script: Script, clip: ClipJudgement) -> tuple[Lane, ...]:
    """One lane an event in order of start: its promised bar, and the bar of what was seen."""
    told = sorted(script.events, key=lambda event: event.start)
    return tuple(
        Lane(
            text=name_of(script, event),
            promised=(event.start, event.end),
            seen=(seen.start, seen.end) if seen.done and seen.start is not None and seen.end is not None else None,
        )
        for event, seen in zip(told, clip.events, strict=True)
    )


def name_of(script: Script, event: ScriptEvent) -> str:
    """The event in a few words: `red fox: push ball`."""
    promise = promised(script, event)
    what = [promise.verb.replace("_", " ")]
    what += [word for word in (promise.side, promise.prop, promise.other) if word is not None]
    return f"{script.actors[event.actor].words}: {' '.join(what)}"


def draw(shown: Sequence[Shown], title: str, setting: Setting = SCORE) -> bytes:
    """A PNG with a band a clip: nine frames, a tick a second, promised and seen bars.

    Raises ValueError when there is nothing to show.
    """
    if not shown:
        raise ValueError("draw: expected at least one script to show, got none")
    rows = [_row(str(number), one, setting) for number, one in enumerate(shown, 1)]
    return contact_sheet(title, f"pale: promised, green: seen by {setting.name}, red: not seen", rows)


def write_sheet(path: Path, shown: Sequence[Shown], title: str, setting: Setting = SCORE) -> Path:
    """`draw` into a file; gives the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(draw(shown, title, setting))
    return path


def _row(label: str, one: Shown, setting: Setting) -> SheetRow:
    frames = film(one.script) if one.frames is None else one.frames
    lanes = timeline(one.script, judge_clip(frames, one.script, setting))
    few = thumbnails(frames, COLUMNS, WIDTH).repeat(ZOOM, 1).repeat(ZOOM, 2)
    assert few.shape[1:] == (ZOOM * HEIGHT, ZOOM * WIDTH, 3)
    return SheetRow(label=label, text=one.title, seconds=one.script.seconds, frames=few, lanes=lanes)
