"""Clips as training reads them: rows of a table, windows of a video file, frames fitted to a canvas.

A row names a stretch of a file; nothing is cut out or encoded again. Knows no shot detection and no model.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from generators.clip import Frames
from generators.errors import MediaError, TrainingError

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
TABLES = (".csv", ".json", ".jsonl")


@dataclass(frozen=True, kw_only=True)
class Footage:
    """What a video file holds."""

    frames: int
    fps: Fraction


@dataclass(frozen=True, kw_only=True)
class ClipRow:
    """One shot: frames `first` to before `last` of a file. Rows of one group follow each other as they stand."""

    path: Path
    first: int
    last: int
    fps: float
    group: str
    caption: str = ""
    similarity: float | None = None
    """To the shot before it in its video, where an encoder was asked."""

    @property
    def count(self) -> int:
        """Frames of the shot."""
        return self.last - self.first

    def plain(self, folder: Path) -> dict[str, object]:
        """The row as it is written; its path from `folder` where it lies inside."""
        path = self.path.resolve()
        inside = path.is_relative_to(folder.resolve())
        said = str(path.relative_to(folder.resolve()) if inside else path)
        return {name: value for name, value in (asdict(self) | {"path": said}).items() if value is not None}


def read_rows(source: Path) -> list[ClipRow]:
    """Clips of a folder, or of a CSV, JSON or JSONL table. Raises TrainingError naming what cannot be used.

    A folder: every video is a shot, a `.txt` of the same name its caption, and the videos of one folder follow each
    other by name. A table: `path` and `caption`; `group` (the file's folder), `first` and `last` where they are named.
    """
    if source.is_dir():
        rows = list(_of_folder(source))
    elif source.suffix.lower() in TABLES:
        rows = [_of_entry(entry, number, source) for number, entry in enumerate(_entries(source), 1)]
    else:
        raise TrainingError(f"{source}: expected a folder of videos, or a {', '.join(TABLES)} file")
    if not rows:
        raise TrainingError(f"{source} names no clip")
    return rows


def videos_of(folder: Path) -> list[Path]:
    """Video files under a folder, in the order of their names."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in VIDEOS)


def _of_folder(folder: Path) -> Iterator[ClipRow]:
    for file in videos_of(folder):
        told, seen = file.with_suffix(".txt"), probe(file)
        caption = told.read_text(encoding="utf-8").strip() if told.is_file() else ""
        group = file.parent.relative_to(folder).as_posix()
        yield ClipRow(path=file, first=0, last=seen.frames, fps=float(seen.fps), group=group, caption=caption)


def _entries(table: Path) -> list[Mapping[str, Any]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
        if table.suffix.lower() == ".csv":
            return list(csv.DictReader(text.splitlines()))
        found = (
            json.loads(text) if table.suffix.lower() == ".json" else map(json.loads, filter(str.strip, _lines(text)))
        )
        entries = list(found)
    except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise TrainingError(f"{table} cannot be read: {error}") from error
    if not all(isinstance(entry, dict) for entry in entries):
        raise TrainingError(f"{table}: expected a list of objects with path and caption")
    return entries


def _lines(text: str) -> list[str]:
    return text.splitlines()


def _of_entry(entry: Mapping[str, Any], number: int, table: Path) -> ClipRow:
    if not entry.get("path"):
        raise TrainingError(f"{table}, clip {number}: expected a path, got {entry.get('path')!r}")
    path = table.parent / str(entry["path"])
    try:
        seen = None if entry.get("last") and entry.get("fps") else probe(path)
        return ClipRow(
            path=path,
            first=int(entry.get("first") or 0),
            last=int(entry.get("last") or (seen.frames if seen else 0)),
            fps=float(entry.get("fps") or (seen.fps if seen else 0)),
            group=str(entry.get("group") or path.parent),
            caption=str(entry.get("caption") or ""),
            similarity=float(entry["similarity"]) if entry.get("similarity") not in (None, "") else None,
        )
    except ValueError as error:
        raise TrainingError(f"{table}, clip {number} ({entry['path']}): {error}") from error


def probe(path: Path) -> Footage:
    """Frames and frame rate of a video. Raises MediaError when it is none."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate = stream.average_rate
            count = stream.frames or sum(1 for packet in container.demux(stream) if packet.pts is not None)
    except (FFmpegError, IndexError, OSError) as error:
        raise MediaError(f"{path} is not a readable video: {error}") from error
    if not count or rate is None:
        raise MediaError(f"{path} holds no frames")
    return Footage(frames=count, fps=rate)


def read_window(path: Path, first: int, count: int, stride: int = 1) -> Frames:
    """`count` frames from number `first` on, every `stride`-th: decodes from the key frame before, not the whole file.

    Frames are counted at the file's average rate. Raises MediaError when the file ends sooner.
    """
    import av
    from av.error import FFmpegError

    wanted = range(first, first + (count - 1) * stride + 1, stride)
    found: dict[int, Frames] = {}
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            base, rate = stream.time_base, stream.average_rate
            if base is None or rate is None:
                raise MediaError(f"{path} holds no frames")
            start = stream.start_time or 0
            container.seek(start + int(Fraction(first) / rate / base), stream=stream)
            for frame in container.decode(stream):
                number = round((frame.pts - start) * base * rate) if frame.pts is not None else -1
                if number in wanted:
                    found.setdefault(number, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
                if number >= wanted[-1]:
                    break
    except (FFmpegError, IndexError, OSError) as error:
        raise MediaError(f"{path} is not a readable video: {error}") from error
    if not found:
        raise MediaError(f"{path}: expected frames {first} to {wanted[-1]}, found none of them")
    return np.stack(list(_nearest(found, wanted)))


def _nearest(found: Mapping[int, Frames], wanted: range) -> Iterator[Frames]:
    """The frame of each number; files of uneven rate lack some, their neighbour stands for them."""
    numbers = np.array(sorted(found))
    for number in wanted:
        yield found[int(numbers[np.abs(numbers - number).argmin()])]


def fitted(frames: Frames, width: int, height: int) -> Frames:
    """Frames on a canvas: the picture is scaled until it covers it, and cut evenly on both sides."""
    _, high, wide, _ = frames.shape
    if (high, wide) == (height, width):
        return frames
    scale = max(width / wide, height / high)
    size = (max(round(wide * scale), width), max(round(high * scale), height))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    scaled = (Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in frames)
    return np.stack([np.asarray(picture)[top : top + height, left : left + width] for picture in scaled])
