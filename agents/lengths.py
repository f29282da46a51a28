"""How long a storyboard's shots are filmed, told where that is not what was planned or asked for.

Knows storyboards and a backend's limits, no rows.
"""

from __future__ import annotations

from agents.brains import Brief
from agents.storyboard import PlannedShot, Storyboard
from agents.takespec import clip_frames
from generators.clip import Limits

_FAR = 0.5
"""Share of the length asked for by which a film may be longer or shorter without a word about it."""
_NEAR = 0.5
"""Seconds by which a clip may be longer or shorter than its shot was planned without a word about it."""


def note_length(board: Storyboard, brief: Brief) -> Storyboard:
    """The storyboard with a note where its length is far from the one that was asked for."""
    length, wished = sum(shot.seconds for shot in board.shots), brief.seconds
    if wished is None or abs(length - wished) <= max(brief.shot_seconds[0], _FAR * wished):
        return board
    note = f"a film of {wished:g} s was asked for; what can be filmed of the story takes {length:.1f} s"
    return board.model_copy(update={"notes": (*board.notes, note)})


def fit_lengths(board: Storyboard, limits: Limits) -> Storyboard:
    """The storyboard with shots as long as the backend films them; where that is far from the plan, a note says so."""
    shots = tuple(_as_long(shot, clip_frames(shot.seconds, limits) / limits.fps) for shot in board.shots)
    notes = tuple(
        f"shot {number}: {planned.seconds:g} s were planned and {shot.seconds:.1f} s are filmed, which is what this "
        "backend films best; its events are fitted into that"
        for number, (planned, shot) in enumerate(zip(board.shots, shots, strict=True), 1)
        if shot.seconds != planned.seconds
    )
    return board.model_copy(update={"shots": shots, "notes": (*board.notes, *notes)})


def _as_long(shot: PlannedShot, seconds: float) -> PlannedShot:
    """The shot with this length, unless it is near; what happened up to the end still does."""
    if abs(seconds - shot.seconds) <= _NEAR:
        return shot
    scale = seconds / shot.seconds
    events = tuple(
        event.model_copy(
            update={"start": event.start * scale, "end": seconds if event.end >= shot.seconds else event.end * scale}
        )
        for event in shot.events
    )
    return shot.model_copy(update={"seconds": seconds, "events": events})
