"""Pictures of a training run: contact sheets of clips and loss curves. Knows pixels and log rows, no model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageDraw

from generators.clip import Frames
from generators.training.checkpoint import write_whole

_TITLE = 12
_COLOURS = ((200, 40, 40), (40, 90, 200), (30, 140, 60), (150, 70, 190), (220, 140, 20), (90, 90, 90))


def draw_sheet(clips: Sequence[tuple[str, Frames]], path: Path, columns: int = 9, zoom: int = 2) -> None:
    """One row a clip, `columns` frames spread over its length, its title above. Writes a PNG."""
    rows = [_row(title, frames, columns, zoom) for title, frames in clips]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    _save(Image.fromarray(np.concatenate(padded)), path)


def _row(title: str, frames: Frames, columns: int, zoom: int) -> Frames:
    chosen = np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int)
    strip = np.concatenate(list(frames[chosen]), axis=1).repeat(zoom, 0).repeat(zoom, 1)
    banner = Image.new("RGB", (strip.shape[1], _TITLE))
    ImageDraw.Draw(banner).text((2, 0), title, fill=(255, 255, 255))
    return np.concatenate([np.asarray(banner), strip])


def draw_losses(rows: Sequence[Mapping[str, Any]], path: Path, width: int = 900, height: int = 420) -> None:
    """Every number of the log but the speed over the steps, on a log scale. Writes a PNG; nothing without rows."""
    names = [n for n in dict.fromkeys(key for row in rows for key in row) if n not in ("step", "clips_per_second")]
    series = {n: [(float(r["step"]), float(r[n])) for r in rows if r.get(n, 0) and r[n] > 0] for n in names}
    series = {n: points for n, points in series.items() if len(points) > 1}
    if not series:
        return
    picture = Image.new("RGB", (width, height), (255, 255, 255))
    pen = ImageDraw.Draw(picture)
    values = [math.log10(v) for points in series.values() for _, v in points]
    low, high, last = math.floor(min(values)), math.ceil(max(values)), rows[-1]["step"]
    left, bottom, tall = 60, height - 25, height - 45

    def place(step: float, value: float) -> tuple[float, float]:
        share = (math.log10(value) - low) / max(high - low, 1)
        return left + (width - left - 10) * step / last, bottom - tall * share

    for decade in range(low, high + 1):
        y = place(0, 10.0**decade)[1]
        pen.line([(left, y), (width - 10, y)], fill=(225, 225, 225))
        pen.text((4, y - 6), f"1e{decade}", fill=(80, 80, 80))
    for index, (name, points) in enumerate(series.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        pen.line([place(step, value) for step, value in points], fill=colour)
        pen.text((left + 10 + 130 * index, 4), f"{name} {points[-1][1]:.4g}", fill=colour)
    pen.text((width - 110, bottom + 6), f"step {last}", fill=(80, 80, 80))
    _save(picture, path)


def _save(picture: Image.Image, path: Path) -> None:
    def write(file: BinaryIO) -> None:
        picture.save(file, format="PNG")

    write_whole(path, write)
