"""The reel: take files spliced one after the other into the frames of a film, with the place of each in film time.

Holds one take at a time, so a film may be longer than memory. Knows files, frames and seconds; nothing of verdicts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from agents.captions import Caption
from agents.errors import EditError
from generators.clip import Frames
from generators.errors import MediaError
from generators.pictures import draw_caption, thumbnails
from generators.video import Smoothing, enlarge, read_take, watchable_factor
from storage.media import file_sha256

THUMB_WIDTH = 192


@dataclass(frozen=True, kw_only=True)
class Look:
    """What changes the film's pixels."""

    crossfade: float = 0.0
    burn_captions: bool = False
    scale: int | None = None
    smoothing: Smoothing = "lanczos"
    font: str | None = None


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One take to splice in. `joined` goes on from the piece before: no fade, and `drop` leading frames left out."""

    shot: str
    file: str
    sha256: str
    drop: int = 0
    joined: bool = False
    captions: tuple[Caption, ...] = ()
    """In seconds of the take."""

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Back from the manifest."""
        captions = tuple(Caption(**line) for line in plain["captions"])
        return cls(**{name: value for name, value in plain.items() if name != "captions"}, captions=captions)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a piece came to stand: seconds of the film, and small pictures of the whole take."""

    begins: float
    seconds: float
    captions: tuple[Caption, ...]
    """In seconds of the film."""
    thumbs: Frames = field(repr=False)


@dataclass(kw_only=True)
class _Splice:
    """Counts frames piece by piece: how many overlap at each cut, and how many are held back for the next."""

    fade: int
    """Frames that two pieces overlap at most."""
    overlap: int = 0
    """First frames of the piece that fade over the last of the piece before."""
    held: int = 0
    """Last frames of the piece that the next may fade over."""
    _count: int = 0

    def add(self, kept: int, *, joined: bool) -> int:
        """Put `kept` frames at the end; gives the film's frame that is their first."""
        self.overlap = 0 if joined else min(self.held, kept // 2)
        self.held = min(self.fade, kept // 2)
        begins = self._count - self.overlap
        self._count = begins + kept
        return begins


class Reel:
    """The pieces in their order: `places` says where each stands, `frames` are what is seen; each reads every take.

    Two readings, so that what is drawn beside the film need not wait for its encoder.
    """

    def __init__(self, pieces: Sequence[Piece], media: Path, look: Look, *, thumbs: int = 6) -> None:
        """Read the first take for size and rate. Raises ValueError without pieces, EditError."""
        if not pieces:
            raise ValueError("A reel needs at least one piece")
        self._pieces = pieces
        self._media = media
        self._look = look
        self._thumbs = thumbs
        self._stopped = threading.Event()
        first, self.fps = load(media, pieces[0])
        self._size = first.shape[1:3]
        self.factor = look.scale or watchable_factor(self._size[0])
        """How much larger the film is than its takes."""

    @property
    def enlarged(self) -> bool:
        """Whether `frames` come enlarged already: captions are drawn on large frames, the rest is left to ffmpeg."""
        return self._look.burn_captions

    def stop(self) -> None:
        """No more frames come: whoever reads them gets an EditError."""
        self._stopped.set()

    def places(self) -> list[Placed]:
        """Where each piece stands; EditError names the take that is altered or does not fit."""
        splice = self._splice()
        placed = []
        for piece in self._pieces:
            footage = self._take(piece)
            count = len(footage) - piece.drop
            begins = splice.add(count, joined=piece.joined)
            ends = float((begins + count) / self.fps)
            shift = float((begins - piece.drop) / self.fps)
            placed.append(
                Placed(
                    begins=float(begins / self.fps),
                    seconds=float(count / self.fps),
                    captions=_clipped(piece.captions, shift, float(begins / self.fps), ends),
                    thumbs=thumbnails(footage, self._thumbs, THUMB_WIDTH),
                )
            )
        return placed

    def frames(self) -> Iterator[Frames]:
        """The film's frames in runs; EditError names the take that is altered or does not fit."""
        splice = self._splice()
        held: Frames | None = None  # the end of the piece before, which the next may fade into
        for piece in self._pieces:
            if self._stopped.is_set():
                raise EditError("the film is given up: what goes beside it could not be made")
            fresh = self._dressed(self._take(piece)[piece.drop :], piece)
            splice.add(len(fresh), joined=piece.joined)
            overlap = splice.overlap
            if held is not None and len(held) > overlap:
                yield held[: len(held) - overlap]
            if held is not None and overlap:
                yield _blend(held[-overlap:], fresh[:overlap])
                fresh = fresh[overlap:]
            if len(fresh) > splice.held:
                yield fresh[: len(fresh) - splice.held]
            held = fresh[len(fresh) - splice.held :]
        if held is not None and len(held):
            yield held

    def _splice(self) -> _Splice:
        return _Splice(fade=round(self._look.crossfade * self.fps))

    def _take(self, piece: Piece) -> Frames:
        """All frames of a piece's take, which is of the film's size and rate and has more than those left out."""
        footage, fps = load(self._media, piece)
        if (footage.shape[1:3], fps) != (self._size, self.fps):
            raise EditError(
                f"Shot {piece.shot} ({piece.file}) is {footage.shape[2]}x{footage.shape[1]} at {fps} frames a second, "
                f"the film is {self._size[1]}x{self._size[0]} at {self.fps}: film it again under this run's settings"
            )
        if piece.drop >= len(footage):
            raise EditError(f"Shot {piece.shot}: {piece.drop} frames to leave out of {len(footage)} leave nothing")
        return footage

    def _dressed(self, kept: Frames, piece: Piece) -> Frames:
        if not self.enlarged:
            return kept
        frames = enlarge(kept, self.factor, self._look.smoothing)
        font = Path(self._look.font) if self._look.font else None
        runs = []
        first = 0
        lines = [_line_at(piece.captions, float((i + piece.drop) / self.fps)) for i in range(len(frames))]
        for index in range(1, len(lines) + 1):
            if index == len(lines) or lines[index] != lines[first]:
                runs.append(draw_caption(frames[first:index], lines[first], font))
                first = index
        return np.concatenate(runs)


def load(media: Path, piece: Piece) -> tuple[Frames, Fraction]:
    """A take's frames and rate, its bytes checked first; EditError when they are not those that were kept."""
    path = media / piece.file
    try:
        if file_sha256(path) != piece.sha256:
            raise EditError(f"Take {path} of shot {piece.shot} was altered: resume the run, it will be filmed again")
        return read_take(path)
    except (OSError, MediaError) as error:
        raise EditError(f"Take {path} of shot {piece.shot} cannot be read: {error}; resume the run") from error


def _blend(out: Frames, into: Frames) -> Frames:
    """A cross-fade in whole numbers, so that it is the same everywhere."""
    steps = len(out) + 1
    weight = np.arange(1, steps, dtype=np.uint32)[:, None, None, None]
    mixed = (out * (steps - weight) + into * weight + steps // 2) // steps
    return mixed.astype(np.uint8)


def _clipped(captions: Sequence[Caption], shift: float, begins: float, ends: float) -> tuple[Caption, ...]:
    """Captions in film time, cut to where the piece is seen; what is left out of it has none."""
    moved = (caption.moved(shift) for caption in captions)
    kept = (Caption(start=max(c.start, begins), end=min(c.end, ends), text=c.text) for c in moved)
    return tuple(caption for caption in kept if caption.end - caption.start > 1e-3)


def _line_at(captions: Sequence[Caption], seconds: float) -> str:
    return " · ".join(c.text for c in captions if c.start <= seconds < c.end)
