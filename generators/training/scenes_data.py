"""Where sets of shots come from: stories of the puppet world drawn on the spot, or clips on disk with their captions.

A set is a function of a random generator alone. Knows scripts, files and pixels, no net.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Protocol

import numpy as np

from generators.clip import Frames
from generators.errors import TrainingError
from generators.training.clips import EVENT_SHARES
from generators.training.preparing.footage import ClipRow, fitted, read_window
from generators.world.captions import write_caption
from generators.world.grammar import Split, is_held_out, sample_script
from generators.world.renderer import render
from generators.world.script import Script
from generators.world.words import FPS, SHORT

_RECASTS = 1000


@dataclass(frozen=True, kw_only=True)
class DrawnSet:
    """n shots of one size, each with its caption."""

    shots: tuple[Frames, ...] = field(repr=False)
    captions: tuple[str, ...]
    fps: int


class SetSource(Protocol):
    """Anything that draws sets of captioned shots from a random generator."""

    @property
    def name(self) -> str:
        """What a checkpoint remembers of the source: equal names give equal sets."""
        ...

    def draw(self, rng: np.random.Generator, *, shots: int, related: bool) -> DrawnSet:
        """Shots of one story in its order, or shots that have nothing to do with each other."""
        ...


@dataclass(frozen=True, kw_only=True)
class WorldStories:
    """Stories of the puppet world: one cast of one or two puppets in one place, other events in every shot."""

    frames: int = SHORT
    split: Split = "train"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.frames not in EVENT_SHARES:
            raise TrainingError(
                f"frames: the puppet world's clips have {' or '.join(map(str, EVENT_SHARES))} frames, got {self.frames}"
            )

    @property
    def name(self) -> str:
        """The world and its split."""
        return f"world {self.split} {self.frames}"

    def draw(self, rng: np.random.Generator, *, shots: int, related: bool) -> DrawnSet:
        """Sample scripts, render them, tell each of them once; every caption names the full look of everybody."""
        scripts = self.story(rng, shots) if related else [self._script(rng) for _ in range(shots)]
        told = tuple(write_caption(script, rng, self.split).text for script in scripts)
        drawn = render(scripts, self.device).permute(0, 1, 3, 4, 2).cpu().numpy()
        return DrawnSet(shots=tuple(np.ascontiguousarray(clip) for clip in drawn), captions=told, fps=FPS)

    def story(self, rng: np.random.Generator, shots: int) -> list[Script]:
        """Scripts of one cast in one place; a shot with a single puppet shows any one of the cast.

        Raises TrainingError when no such shots are found.
        """
        first = self._script(rng)
        cast = [(actor.hue, actor.kind) for actor in first.actors]
        told = [first]
        for _ in range(_RECASTS):
            if len(told) == shots:
                return told
            other = self._script(rng)
            if len(other.actors) > len(cast):
                continue
            order = rng.permutation(len(cast))
            looks = [cast[i] for i in order]
            actors = tuple(replace(a, hue=hue, kind=kind) for a, (hue, kind) in zip(other.actors, looks, strict=False))
            script = replace(other, actors=actors, place=first.place, time=first.time)
            if is_held_out(script) == (self.split == "heldout"):
                told.append(script)
        raise TrainingError(f"No story of {shots} shots in {_RECASTS} tries; ask for fewer shots")

    def _script(self, rng: np.random.Generator) -> Script:
        counts, shares = zip(*EVENT_SHARES[self.frames], strict=True)
        return sample_script(rng, frames=self.frames, events=int(rng.choice(counts, p=shares)), split=self.split)


@dataclass(frozen=True, kw_only=True)
class Framing:
    """What is cut out of a clip: `frames` of it, every `stride`-th at most, on a canvas of this size."""

    frames: int
    width: int
    height: int
    stride: int = 3
    """The largest step between frames; the largest one that fits is used, as in the released training."""

    def __post_init__(self) -> None:
        for name in ("frames", "width", "height", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"Framing.{name}: expected at least 1, got {getattr(self, name)}")


class FootageSets:
    """Sets of clips on disk. A group's shots follow each other in the order of its rows."""

    def __init__(self, rows: list[ClipRow], framing: Framing) -> None:
        self.framing = framing
        unnamed = [row.path for row in rows if not row.caption.strip()]
        if unnamed:
            raise TrainingError(f"{len(unnamed)} clips have no caption, {unnamed[0]} among them; write one for each")
        self.rows = [row for row in rows if row.count >= framing.frames]
        self.left_out = len(rows) - len(self.rows)
        """Shots too short for the frames that were asked for."""
        if not self.rows:
            raise TrainingError(
                f"No clip of {len(rows)} has {framing.frames} frames; ask for fewer, or cut fewer shots"
            )
        self._runs = [list(run) for _, run in groupby(self._kept(rows), key=lambda pair: pair[0])]

    def _kept(self, rows: list[ClipRow]) -> list[tuple[tuple[str, int], ClipRow]]:
        """Usable rows with the run they belong to: a shot left out ends a run."""
        found, run = [], 0
        for row in rows:
            if row.count < self.framing.frames:
                run += 1
                continue
            found.append(((row.group, run), row))
        return found

    @property
    def name(self) -> str:
        """A digest over the rows and the framing."""
        said = [[row.path.name, row.caption, row.first, row.last, row.group] for row in self.rows]
        return hashlib.sha256(json.dumps([said, vars(self.framing)]).encode()).hexdigest()[:16]

    def draw(self, rng: np.random.Generator, *, shots: int, related: bool) -> DrawnSet:
        """Consecutive shots of one group, or any shots. Raises TrainingError when no group has so many."""
        if related:
            runs = [run for run in self._runs if len(run) >= shots]
            if not runs:
                raise TrainingError(
                    f"No group of clips has {shots} consecutive shots of {self.framing.frames} frames; the longest has "
                    f"{max(map(len, self._runs))}. Lower the similarity that was asked for, or the shots of a set"
                )
            run = runs[int(rng.integers(len(runs)))]
            begin = int(rng.integers(len(run) - shots + 1))
            chosen = [row for _, row in run[begin : begin + shots]]
        else:
            chosen = [self.rows[int(i)] for i in rng.integers(len(self.rows), size=shots)]
        return DrawnSet(
            shots=tuple(self._window(row, rng) for row in chosen),
            captions=tuple(row.caption for row in chosen),
            fps=max(round(chosen[0].fps), 1),
        )

    def _window(self, row: ClipRow, rng: np.random.Generator) -> Frames:
        framing = self.framing
        stride = max(s for s in range(1, framing.stride + 1) if (framing.frames - 1) * s + 1 <= row.count)
        spare = row.count - (framing.frames - 1) * stride - 1
        begin = row.first + int(rng.integers(spare + 1))
        frames = read_window(row.path, begin, framing.frames, stride)
        return fitted(frames, framing.width, framing.height)
