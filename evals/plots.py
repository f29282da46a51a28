"""Plots of the report as PNG bytes, the same for the same numbers: bars with intervals, curves, heat maps, costs.

Draws what it is handed and knows no benchmark. A value of None is a gap, never a zero.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from generators.pictures import COLOURS, FAINT, INK, PAPER

DPI = 110


@dataclass(frozen=True, kw_only=True)
class Point:
    """A mean and its interval; all None where nothing was measured."""

    mean: float | None
    low: float | None = None
    high: float | None = None


Series = Mapping[str, Mapping[str, Point]]
"""By method, then by what stands on the horizontal axis."""


MARKERS = ("o", "s", "^", "D")
"""One for every time that the colours are used up."""


def bars(title: str, groups: Sequence[str], series: Series) -> bytes:
    """Methods side by side in every group, with intervals."""
    figure, axes = _figure(title, wide=max(5.0, 0.34 * len(groups) * max(len(series), 1) + 2.5))
    width = 0.8 / max(len(series), 1)
    for number, (method, points) in enumerate(series.items()):
        known = [(i, points[g]) for i, g in enumerate(groups) if g in points and points[g].mean is not None]
        at = [i + (number - (len(series) - 1) / 2) * width for i, _ in known]
        heights = [point.mean or 0.0 for _, point in known]
        axes.bar(at, heights, width * 0.92, yerr=_errors([p for _, p in known]), label=_short(method),
                 color=COLOURS[number % len(COLOURS)], ecolor=INK, capsize=2, error_kw={"linewidth": 0.8})  # fmt: skip
    many = len(groups) > 4
    axes.set_xticks(range(len(groups)), groups, rotation=30 if many else 0, ha="right" if many else "center")
    _legend(axes)
    return png_bytes(figure)


def curves(title: str, across: str, series: Mapping[str, Mapping[int, Point]]) -> bytes:
    """A line a method over whole numbers, its interval shaded."""
    figure, axes = _figure(title)
    for number, (method, points) in enumerate(series.items()):
        known = sorted((at, point) for at, point in points.items() if point.mean is not None)
        colour, marker = _look(number)
        at = [one for one, _ in known]
        means = [np.nan if p.mean is None else p.mean for _, p in known]
        axes.plot(at, means, marker=marker, color=colour, label=_short(method))
        low = [p.mean if p.low is None else p.low for _, p in known]
        high = [p.mean if p.high is None else p.high for _, p in known]
        axes.fill_between(at, np.asarray(low, float), np.asarray(high, float), color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel(across)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    return png_bytes(figure)


def heat(title: str, rows: str, columns: str, cells: np.ndarray, names: Sequence[str] = ()) -> bytes:
    """A matrix of 0..1; NaN stays white. `names` are those of its rows, their numbers where there are none."""
    height = max(2.4, 0.28 * cells.shape[0] + 1.4)
    figure, axes = _figure(title, wide=max(4.0, 0.3 * cells.shape[1] + 2.2), high=height)
    shown = axes.imshow(cells, vmin=0, vmax=1, cmap="YlGn", aspect="auto", interpolation="nearest")
    axes.set_xlabel(columns)
    axes.set_ylabel(rows)
    if names:
        axes.set_yticks(range(len(names)), [_short(name) for name in names])
    figure.colorbar(shown, ax=axes, fraction=0.04)
    return png_bytes(figure)


def matrices(title: str, panels: Mapping[str, np.ndarray]) -> bytes:
    """Square matrices of 0..1 beside one another, a method each, all in the same colours."""
    figure = Figure(figsize=(min(2.4 * len(panels) + 0.8, 24.0), 3.2), dpi=DPI, facecolor=PAPER, layout="constrained")
    figure.suptitle(plain_text(title), fontsize=10, color=INK, x=0.01, ha="left")
    for column, (method, cells) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), column, facecolor=PAPER)
        shown = axes.imshow(cells, vmin=0, vmax=1, cmap="YlGn", interpolation="nearest")
        axes.set_title(_short(method, 24), fontsize=8, color=INK, loc="left")
        axes.set_xticks([])
        axes.set_yticks([])
        if column == len(panels):
            figure.colorbar(shown, ax=axes, fraction=0.04)
    return png_bytes(figure)


def costs(title: str, quality: str, points: Mapping[str, tuple[float, Point]]) -> bytes:
    """Quality against the seconds that a clip takes, a point a method."""
    figure, axes = _figure(title)
    for number, (method, (seconds, point)) in enumerate(points.items()):
        if point.mean is None:
            continue
        colour, marker = _look(number)
        axes.errorbar([seconds], [point.mean], yerr=_errors([point]), fmt=marker, capsize=3,
                      color=colour, label=_short(method))  # fmt: skip
    axes.set_xlabel("seconds a clip")
    axes.set_ylabel(quality, fontsize=8)
    _legend(axes)
    return png_bytes(figure)


def trade_off(title: str, across: str, up: str, points: Mapping[str, tuple[Point, Point]]) -> bytes:
    """One measure against another, a point a method with both its intervals; both must have been measured."""
    figure, axes = _figure(title)
    for number, (method, (x, y)) in enumerate(points.items()):
        at, (colour, marker) = ([x.mean or 0.0], [y.mean or 0.0]), _look(number)
        axes.errorbar(*at, xerr=_errors([x]), yerr=_errors([y]), fmt=marker, capsize=2, linewidth=0.9,
                      color=colour, label=_short(method))  # fmt: skip
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
    _legend(axes)
    return png_bytes(figure)


def forest(title: str, across: str, series: Series) -> bytes:
    """Differences with intervals, a line a method from the top; every group of a method is a point, zero is drawn."""
    groups = list(dict.fromkeys(group for points in series.values() for group in points))
    figure, axes = _figure(title, wide=7.2, high=1.2 + 0.16 * len(series) * (len(groups) + 1))
    axes.axvline(0, color=FAINT, linewidth=0.8)
    apart = 1 / (len(groups) + 1)
    for number, group in enumerate(groups):
        known = [(row, points[group]) for row, points in enumerate(series.values()) if group in points]
        at = [row + (number - (len(groups) - 1) / 2) * apart for row, _ in known]
        axes.errorbar([p.mean or 0.0 for _, p in known], at, xerr=_errors([p for _, p in known]), fmt="o", markersize=4,
                      capsize=2, linewidth=0.9, color=COLOURS[number % len(COLOURS)], label=_short(group))  # fmt: skip
    axes.set_yticks(range(len(series)), [_short(method) for method in series])
    axes.set_ylim(len(series) - 0.5, -0.5)
    axes.set_xlabel(across)
    _legend(axes)
    return png_bytes(figure)


def slices(title: str, strips: Mapping[str, tuple[np.ndarray, Sequence[int]]]) -> bytes:
    """Pictures (H, T, 3) under one another on one axis of frames, a method each, its seams marked above and below."""
    longest = max(picture.shape[1] for picture, _ in strips.values())
    figure = Figure(figsize=(9.0, 0.4 + 1.25 * len(strips)), dpi=DPI, facecolor=PAPER, layout="constrained")
    figure.suptitle(plain_text(title), fontsize=10, color=INK, x=0.01, ha="left")
    for row, (method, (picture, seams)) in enumerate(strips.items(), 1):
        axes = figure.add_subplot(len(strips), 1, row, facecolor=PAPER)
        axes.imshow(picture, aspect="auto", interpolation="nearest")
        axes.set_xlim(-0.5, longest - 0.5)
        axes.set_title(_short(method), fontsize=8, color=INK, loc="left", pad=6)
        axes.set_yticks([])
        axes.tick_params(colors=FAINT, labelsize=7)
        axes.spines[:].set_visible(False)
        for edge, marker in ((-1.5, "v"), (picture.shape[0] + 0.5, "^")):
            axes.plot([at - 0.5 for at in seams], [edge] * len(seams), marker, color=COLOURS[1], markersize=4,
                      clip_on=False)  # fmt: skip
        axes.set_ylim(picture.shape[0] - 0.5, -0.5)
    return png_bytes(figure)


def _figure(title: str, wide: float = 6.4, high: float = 3.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(min(wide, 24.0), high), dpi=DPI, facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot(facecolor=PAPER)
    axes.set_title(plain_text(title), fontsize=10, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=FAINT, labelsize=8)
    return figure, axes


def _look(number: int) -> tuple[str, str]:
    """Colour and marker of a method: no two of the first 24 look alike."""
    return COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]


def _legend(axes: Axes) -> None:
    """Beside the picture, so that it hides nothing; none where nothing was drawn."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _errors(points: Sequence[Point]) -> np.ndarray:
    """Distances down and up from every mean; nothing where there is no interval."""
    down = [0.0 if p.mean is None or p.low is None else max(p.mean - p.low, 0.0) for p in points]
    up = [0.0 if p.mean is None or p.high is None else max(p.high - p.mean, 0.0) for p in points]
    return np.array([down, up])


def _short(name: str, longest: int = 36) -> str:
    name = plain_text(name).lstrip("_")  # a label that begins so is hidden
    return name if len(name) <= longest else name[: longest - 1] + "…"


def plain_text(text: str) -> str:
    """Dollars would be read as formulas."""
    return text.replace("$", r"\$")


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG; equal figures give equal bytes."""
    FigureCanvasAgg(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
