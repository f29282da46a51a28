"""Contact sheets of finished runs: the best, the middle and the worst units of a method, from their strips.

A row whose facts name its shots gets a band a shot, with what was promised and seen on a time axis; any other row gets
one band. Reads finished rows and measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from evals.metrics.score import Score
from evals.results import Method
from evals.rows import Row
from generators.clip import Frames
from generators.pictures import Lane, SheetRow, contact_sheet

SHEET = 3
"""Units of every rank on a sheet of best, median and worst; of units with a band a shot there is one."""
SHOTS = "shots"
"""The fact under which a row names its shots."""


def shot_fact(text: str, seconds: float, lanes: Sequence[Lane]) -> dict[str, Any]:
    """One shot of a unit, as its row holds it: what is said of it, its length, and its events in time."""
    return {"text": text, "seconds": seconds, "events": [[lane.text, lane.promised, lane.seen] for lane in lanes]}


def best_and_worst(method: Method, metric: str) -> bytes | None:
    """A contact sheet of the best, the middle and the worst units; None when no strip is there."""
    by_unit = {row["unit"]: row for row in method.rows}
    scored = [(outcome.value, unit) for unit, outcome in method.outcomes(metric).items() if isinstance(outcome, Score)]
    ranked = sorted(scored, key=lambda pair: (-pair[0], pair[1]))
    each = 1 if any(by_unit[unit]["facts"].get(SHOTS) for _, unit in ranked) else SHEET
    middle = max((len(ranked) - each) // 2, 0)
    picks = {"best": ranked[:each], "median": ranked[middle : middle + each], "worst": ranked[-each:]}
    first = {unit: (rank, value) for rank, some in reversed(picks.items()) for value, unit in some}
    order = list(dict.fromkeys(unit for some in picks.values() for _, unit in some))  # each unit once
    shown = [row for unit in order for row in _bands(method, by_unit[unit], *first[unit])]
    return contact_sheet(method.name, metric, shown) if shown else None


def _bands(method: Method, row: Row, rank: str, value: float) -> list[SheetRow]:
    """One band, or one a shot; none without a strip."""
    path = method.folder / row["strip"] if row["strip"] else None
    if path is None or not path.is_file():
        return []
    with Image.open(path) as strip:
        frames = np.asarray(strip.convert("RGB"))[None]
    shots = row["facts"].get(SHOTS)
    if not shots:
        text = f"{rank} {value:.3f} · {row['prompt']}"
        return [SheetRow(label="", text=text, seconds=row["length"], frames=frames)]
    parts = np.array_split(frames, len(shots), axis=2)
    heads = [f"{rank} {value:.3f} · "] + [""] * (len(shots) - 1)
    return [
        _shot_band(number, head, shot, part)
        for number, (head, shot, part) in enumerate(zip(heads, shots, parts, strict=True), 1)
    ]


def _shot_band(number: int, head: str, shot: Mapping[str, Any], frames: Frames) -> SheetRow:
    lanes = tuple(
        Lane(text=text, promised=(told[0], told[1]), seen=None if seen is None else (seen[0], seen[1]))
        for text, told, seen in shot["events"]
    )
    return SheetRow(label=str(number), text=head + shot["text"], seconds=shot["seconds"], frames=frames, lanes=lanes)
