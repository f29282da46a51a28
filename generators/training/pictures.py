"""Pictures of a training run: contact sheets of clips and loss curves. Knows pixels and log rows, no model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from generators.clip import Frames
from generators.pictures import COLOURS, LINE, PAPER
from generators.training.checkpoint import write_whole

_TITLE = 12


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


def draw_losses(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The log's numbers over the steps; below them, each over its own start, the errors by noise level (`at ...`).

    Writes a PNG; nothing while no number was logged twice.
    """
    names = dict.fromkeys(key for row in rows for key in row if key not in ("step", "clips_per_second"))
    series = {name: [(row["step"], float(row[name])) for row in rows if row.get(name, 0) > 0] for name in names}
    series = {name: points for name, points in series.items() if len(points) > 1}
    panels = [[n for n in series if not n.startswith("at ")], [n for n in series if n.startswith("at ")]]
    panels = [panel for panel in panels if panel]
    if not panels:
        return
    figure = Figure(figsize=(9, 1 + 3 * len(panels)), dpi=100, facecolor=PAPER, layout="constrained")
    drawn = np.atleast_1d(figure.subplots(len(panels), sharex=True))
    for axes, panel in zip(drawn, panels, strict=True):
        own = panel[0].startswith("at ")
        for colour, name in zip(itertools.cycle(COLOURS), panel):
            steps, values = zip(*series[name], strict=True)
            shown = np.asarray(values) / (values[0] if own else 1.0)
            axes.plot(steps, shown, color=colour, linewidth=0.9, label=f"{name}  {values[-1]:.4g}")
        axes.set_yscale("linear" if own else "log")
        axes.set_ylabel("error over its first" if own else "", fontsize=8)
        axes.legend(frameon=False, fontsize=8)
        axes.grid(color=LINE, linewidth=0.5)
        axes.set_facecolor(PAPER)
    drawn[-1].set_xlabel("step")
    write_whole(path, lambda file: figure.savefig(file, format="png"))


def _save(picture: Image.Image, path: Path) -> None:
    def write(file: BinaryIO) -> None:
        picture.save(file, format="PNG")

    write_whole(path, write)
