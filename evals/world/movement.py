"""Movements: stretches in which a puppet goes from one place to another. Knows no verb. Heights are nominal ones."""

from __future__ import annotations

from evals.world.curves import Run, eased, pieces, runs
from evals.world.sightings import Seen, View, kept
from generators.world.motion import TALL

STILL = 0.9
"""Pixels between two frames looked at that are rest."""
_STEP = 4
"""Pixels below which nothing is a movement."""
PAUSE = 0.4
"""Heights of rest between two parts of one movement."""
LEVEL = 0.35
"""Heights that what stays on the ground, or rests, may move."""


def moves(view: View) -> list[Run]:
    """Everything that may be one movement: whole runs and their parts between slow-downs."""
    x = view.me.x
    whole = [r for r in runs(x, STILL) if view.me.seen[r[0]] and view.me.seen[r[1]] and abs(x[r[1]] - x[r[0]]) > _STEP]
    found = list(whole)
    for run in whole:
        cut = pieces(x, run, PAUSE * TALL)
        found += cut if len(cut) > 1 else []
    return found


def went(view: View, run: Run, evidence: str, *shares: float) -> Seen:
    """A movement that is the promised one, with the times at which it began and ended."""
    x = view.me.x
    start, end = eased(view.times, x, run[0], run[1], float(x[run[0]]), float(x[run[1]]))
    return kept(evidence, start, end, view.scene, *shares)
