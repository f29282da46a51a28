"""Where the words of each event were attended to, as numbers and as one figure: without and with a control.

The share of an event's attention inside its promised time is compared with what attention spread evenly over the clip
would put there. Draws what it is handed; films nothing.

E events, F steps of the token grid in time, h x w tokens of one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from numpy.typing import NDArray

from evals.plots import DPI, plain_text, png_bytes
from generators.clip import Clip, Event
from generators.controls.looking import Attention
from generators.pictures import COLOURS, FAINT, INK, PROMISED, spread

FILMS = (COLOURS[1], COLOURS[0], *COLOURS[2:])
"""Colours of the clips, as many as can be told apart in one figure."""
PICTURES = 8
"""Frames and heat maps side by side, at most."""
WIDTH, LEFT, RIGHT = 12.5, 1.4, 0.7
"""Of the figure and its margins, inches."""
HEAD, ABOVE, CURVE, BELOW, GAP, FOOT = 0.75, 0.45, 1.5, 0.4, 0.07, 0.1
"""Heights of what stands over the frames, over a curve, of a curve, under it, under a strip of pictures, and last."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One clip, and where its events' words were attended to while it was denoised."""

    name: str
    clip: Clip
    attention: Attention


@dataclass(frozen=True, kw_only=True)
class FilmAttention:
    """One clip in numbers."""

    name: str
    inside: tuple[float, ...]
    """For each event, the part of its words' attention over the clip's seconds that falls into its time."""
    curves: tuple[tuple[float, ...], ...]
    """For each event, the share of its attention that a video token gives to the event's words, at each time."""
    seconds: float
    """What filming it took."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Attention to the words of one prompt's events."""

    prompt: str
    model: str
    seed: int
    seconds: float
    """Length of the clip."""
    steps: tuple[int, ...]
    """Denoising steps that were looked at."""
    layers: tuple[int, ...]
    events: tuple[Event, ...]
    even: tuple[float, ...]
    """For each event, the part that attention spread evenly over the clip would put into its time."""
    times: tuple[tuple[float, float], ...]
    """Seconds of each value of the curves."""
    films: tuple[FilmAttention, ...]
    figure: Path | None


def inspection(prompt: str, watched: Sequence[Watched], figure: Path | None) -> Inspection:
    """The numbers of clips of one prompt, seed and length."""
    first = watched[0]
    seconds = len(first.clip.frames) / first.clip.fps
    events = first.attention.events
    return Inspection(
        prompt=prompt,
        model=first.clip.model,
        seed=first.clip.seed,
        seconds=seconds,
        steps=first.attention.steps,
        layers=first.attention.layers,
        events=events,
        even=tuple((min(event.end, seconds) - event.start) / seconds for event in events),
        times=tuple((start, end) for start, end in first.attention.intervals),
        films=tuple(_in_numbers(film) for film in watched),
        figure=figure,
    )


def _in_numbers(film: Watched) -> FilmAttention:
    return FilmAttention(
        name=film.name,
        inside=tuple(film.attention.inside(i) for i in range(len(film.attention.events))),
        curves=tuple(tuple(map(float, curve)) for curve in film.attention.curve),
        seconds=film.clip.seconds_spent,
        notes=film.clip.notes,
    )


def attention_figure(prompt: str, watched: Sequence[Watched]) -> bytes:
    """A PNG: frames of every clip on top; below, for each event, its curve over time and its maps over space.

    All of it stands on one time axis. Maps of an event share their colours, so that clips can be compared.
    """
    first = watched[0]
    frames = spread(len(first.clip.frames), PICTURES)
    events = range(len(first.attention.events))
    height, width = first.clip.frames.shape[1:3]
    strip = (WIDTH - LEFT - RIGHT) / len(frames) * height / width
    strips = [strip, GAP] * len(watched)
    heights = [HEAD, *strips, *([ABOVE, CURVE, BELOW, *strips] * len(events)), FOOT]
    figure = Figure(figsize=(WIDTH, sum(heights)), dpi=DPI, facecolor="white")
    grid = figure.add_gridspec(
        len(heights), len(frames), height_ratios=heights, left=LEFT / WIDTH, right=1 - RIGHT / WIDTH, top=1, bottom=0,
        hspace=0, wspace=0.03,
    )  # fmt: skip
    figure.text(0.02, 1 - 0.12 / sum(heights), plain_text(f"{prompt}\n{_told(first)}"), va="top", fontsize=9, color=INK)
    for number, film in enumerate(watched):
        _frames(figure, grid, 1 + 2 * number, film, frames, titled=number == 0)
    for event in events:
        row = 1 + len(strips) + event * (3 + len(strips))
        _curves(figure.add_subplot(grid[row + 1, :]), event, watched)
        _maps(figure, grid, row + 3, event, watched, frames)
    return png_bytes(figure)


def _told(film: Watched) -> str:
    steps, layers = film.attention.steps, film.attention.layers
    return (
        f"{film.clip.model}, seed {film.clip.seed}: attention to the words of each event, mean over heads, "
        f"{len(steps)} denoising steps ({_range(steps)}) and {len(layers)} layers ({_range(layers)})"
    )


def _range(numbers: Sequence[int]) -> str:
    whole = len(numbers) > 2 and numbers[-1] - numbers[0] + 1 == len(numbers)
    return f"{numbers[0]}–{numbers[-1]}" if whole else ", ".join(map(str, numbers))


def _frames(figure: Figure, grid: GridSpec, row: int, film: Watched, frames: Sequence[int], *, titled: bool) -> None:
    for column, number in enumerate(frames):
        axes = figure.add_subplot(grid[row, column])
        axes.imshow(film.clip.frames[number], interpolation="antialiased", aspect="auto")
        title = f"{number / film.clip.fps:.2f} s" if titled else ""
        _bare(axes, film.name if column == 0 else "", title)


def _curves(axes: Axes, event: int, watched: Sequence[Watched]) -> None:
    """The event's attention over time, percent of all that a video token gives; its promised time is shaded."""
    first = watched[0]
    promised = first.attention.events[event]
    seconds = len(first.clip.frames) / first.clip.fps
    axes.axvspan(promised.start, min(promised.end, seconds), color=PROMISED, alpha=0.7, linewidth=0, label="promised")
    middles = [(a + b) / 2 for a, b in first.attention.intervals]
    for film, colour in zip(watched, FILMS, strict=False):
        label = f"{film.name}: {100 * film.attention.inside(event):.0f} % inside"
        axes.plot(middles, 100 * film.attention.curve[event], marker="o", markersize=3, color=colour, linewidth=1.6,
                  label=plain_text(label))  # fmt: skip
    axes.set_xlim(0, seconds)
    axes.set_ylim(0, 112 * max(float(film.attention.curve[event].max()) for film in watched))
    axes.set_ylabel("attention, %", fontsize=8, color=INK)
    axes.set_xlabel("seconds", fontsize=7, color=FAINT, labelpad=1)
    axes.set_title(plain_text(f"“{promised.phrase}”, {promised.start:g}–{promised.end:g} s"), fontsize=9, loc="left")
    axes.tick_params(colors=FAINT, labelsize=7, pad=1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, loc="lower right", bbox_to_anchor=(1.0, 0.98), borderaxespad=0, ncols=3)


def _maps(
    figure: Figure, grid: GridSpec, row: int, event: int, watched: Sequence[Watched], frames: Sequence[int]
) -> None:
    shown = [[_at(film, event, number) for number in frames] for film in watched]
    top = max(float(one.max()) for of_film in shown for one in of_film)
    cells: list[Axes] = []
    picture: Any = None
    for offset, (film, of_film) in enumerate(zip(watched, shown, strict=True)):
        for column, one in enumerate(of_film):
            axes = figure.add_subplot(grid[row + 2 * offset, column])
            picture = axes.imshow(100 * one, vmin=0, vmax=100 * top, cmap="magma", interpolation="nearest",
                                  aspect="auto")  # fmt: skip
            _bare(axes, film.name if column == 0 else "", "")
            cells.append(axes)
    last, start = cells[-1].get_position(), cells[0].get_position()
    bar = figure.add_axes((last.x1 + 0.008, last.y0, 0.008, start.y1 - last.y0))
    figure.colorbar(picture, cax=bar)
    bar.tick_params(colors=FAINT, labelsize=6, pad=1)
    bar.set_title("%", fontsize=6, color=FAINT)


def _at(film: Watched, event: int, frame: int) -> NDArray[np.float32]:
    """The map of the step in time that a pixel frame belongs to."""
    moment = frame / film.clip.fps
    step = next((i for i, (_, end) in enumerate(film.attention.intervals) if moment < end - 1e-9), -1)
    shown: NDArray[np.float32] = film.attention.maps[event, step]
    return shown


def _bare(axes: Axes, label: str, title: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if label:
        axes.set_ylabel(plain_text(label), fontsize=8, color=INK, rotation=0, ha="right", va="center")
    if title:
        axes.set_title(title, fontsize=7, color=FAINT, pad=2)
