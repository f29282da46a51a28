"""Slices through films: one column of pixels over time, so that a seam that does not hold is a step in the picture.

A judgement keeps a slice beside its row; here they are put side by side, a strip a method. Measures nothing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from evals import plots
from evals.results import Method
from generators.clip import Frames

SLICE = "slice"
"""The picture of a row that is a slice."""
MOST = 4
"""Units that are shown, of every class the first, longest films first."""


def column_over_time(frames: Frames, column: int) -> bytes:
    """The column of every frame (T, H, W, 3), side by side: a PNG of T x H pixels."""
    out = io.BytesIO()
    picture = np.ascontiguousarray(frames[:, :, column].transpose(1, 0, 2))
    Image.fromarray(picture).save(out, "PNG", compress_level=6)
    return out.getvalue()


def slices(methods: Sequence[Method]) -> Iterator[tuple[str, bytes]]:
    """Units by name and the slices of all methods as one PNG; seams are marked. Nothing where no row has one."""
    by_method = {method.name: {row["unit"]: (method, row) for row in method.rows} for method in methods}
    for unit in _shown(methods):
        strips = {}
        for name, rows in by_method.items():
            if unit not in rows:
                continue
            method, row = rows[unit]
            path = method.folder / row.get("pictures", {}).get(SLICE, "")
            if path.is_file():
                with Image.open(path) as strip:
                    strips[name] = (np.asarray(strip.convert("RGB")), row["facts"]["seams"])
        if strips:
            yield unit, plots.slices(f"{unit}: a column of pixels over time, seams marked", strips)


def _shown(methods: Sequence[Method]) -> list[str]:
    first: dict[str, tuple[float, str]] = {}
    for method in methods:
        for row in method.rows:
            if SLICE in row.get("pictures", {}):
                for group in row["facts"]["classes"]:
                    first.setdefault(group, (row["length"], row["unit"]))
    longest = sorted(first.values(), key=lambda one: -one[0])
    return [unit for _, unit in longest[:MOST]]
