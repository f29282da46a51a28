"""Timing maps of films with several events: a row for every event that a film may have, a column an eighth of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

BINS = 8
"""Columns."""
Window = tuple[float | None, float | None]
"""When an event began and ended, in seconds; None where it was not seen."""


def timing_facts(events: Sequence[Window], seconds: float, lengths: Sequence[int]) -> dict[str, Any]:
    """What a row keeps of one film: how much of each eighth shows each event, and what its map calls the lines.

    Films of each of `lengths` events have lines of their own, so that maps of films of unequal length have one mean.
    Raises ValueError for a film of another length.
    """
    if len(events) not in lengths:
        raise ValueError(f"timing: expected one of {', '.join(map(str, lengths))} events, got {len(events)}")
    edges = np.linspace(0, seconds, BINS + 1)
    lines: list[list[float] | None] = [None] * sum(lengths)
    first = dict(zip(lengths, accumulate(lengths, initial=0), strict=False))[len(events)]
    for number, (start, stop) in enumerate(events):
        begin, end = (start, stop) if start is not None and stop is not None else (0.0, 0.0)
        shown = np.clip(np.minimum(end, edges[1:]) - np.maximum(begin, edges[:-1]), 0, None) / np.diff(edges)
        lines[first + number] = [round(float(share), 4) for share in shown]
    return {"timing": lines, "asked": [f"{at} of {length}" for length in lengths for at in range(1, length + 1)]}
