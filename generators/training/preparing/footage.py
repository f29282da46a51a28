"""Clips as training reads them: rows of a table, windows of a video file, frames fitted to a canvas.

A row names a stretch of a file; nothing is cut out or encoded again. Knows no shot detection and no model.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache
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
    Every file is looked at once.
    """
    if source.is_dir():
        rows = list(_of_folder(source))
    elif source.suffix.lower() in TABLES:
        look = cache(probe)
        rows = [_of_entry(entry, number, source, look) for number, entry in enumerate(_entries(source), 1)]
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
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{table} cannot be read: {error}") from error
    kind = table.suffix.lower()
    if kind == ".csv":
        return _of_csv(text, table)
    if kind == ".jsonl":  # lines end at \n alone: captions may hold what else ends a line
        lines = enumerate(text.split("\n"), 1)
        entries = [_parsed(line, f"{table}, line {number},") for number, line in lines if line.strip()]
    else:
        entries = _parsed(text, str(table))
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise TrainingError(f"{table}: expected a list of objects with path and caption")
    return entries


def _of_csv(text: str, table: Path) -> list[Mapping[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        return list(reader)
    except csv.Error as error:
        raise TrainingError(f"{table}, line {reader.reader.line_num}, cannot be read: {error}") from error


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{where} cannot be read: {error}") from error


def _of_entry(entry: Mapping[str, Any], number: int, table: Path, look: Callable[[Path], Footage]) -> ClipRow:
    if not entry.get("path"):
        raise TrainingError(f"{table}, clip {number}: expected a path, got {entry.get('path')!r}")
    path = table.parent / str(entry["path"])
    try:
        seen = look(path)
        return ClipRow(
            path=path,
            fps=_rate(entry, seen),
            group=str(entry.get("group") or path.parent),
            caption=str(entry.get("caption") or ""),
            similarity=_number(entry, "similarity"),
            **_stretch(entry, seen),
        )
    except (ValueError, MediaError) as error:
        raise TrainingError(f"{table}, clip {number} ({entry['path']}): {error}") from error


def _stretch(entry: Mapping[str, Any], seen: Footage) -> dict[str, int]:
    """`first` and `last` of a row. Raises ValueError for frames that the file has not.

    A file's header may count one frame less than its decoder, by which shots are cut.
    """
    first = _number(entry, "first") or 0.0
    last = float(seen.frames) if (said := _number(entry, "last")) is None else said
    last = float(seen.frames) if last == seen.frames + 1 else last
    if not (first.is_integer() and last.is_integer() and 0 <= first < last <= seen.frames):
        raise ValueError(f"expected 0 <= first < last <= {seen.frames}, its frames, got {first:g} and {last:g}")
    return {"first": int(first), "last": int(last)}


def _rate(entry: Mapping[str, Any], seen: Footage) -> float:
    fps = _number(entry, "fps")
    if fps is not None and fps <= 0:
        raise ValueError(f"fps: expected more than 0, got {fps:g}")
    return float(seen.fps) if fps is None else fps


def _number(entry: Mapping[str, Any], name: str) -> float | None:
    """A number of a row, None where there is none. Raises ValueError for what is no finite number."""
    said = entry.get(name)
    if said is None or said == "":
        return None
    try:
        value = math.nan if isinstance(said, bool) else float(said)
    except (ValueError, TypeError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a number, got {said!r:.80}")
    return value


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

    Frames are counted at the file's average rate; where one is missing between others the nearer stands for it.
    Raises MediaError when the file begins later or ends sooner by more than a frame.
    """
    import av
    from av.error import FFmpegError

    wanted = range(first, first + (count - 1) * stride + 1, stride)
    missing, found = list(wanted), list[Frames]()
    before: tuple[int, Any] | None = None

    def take(place: int, *there: tuple[int, Any] | None) -> None:
        near = min((one for one in there if one is not None), key=lambda one: abs(one[0] - place), default=None)
        between = len(there) > 1 and None not in there
        if near is None or (abs(near[0] - place) > 1 and not between):
            raise MediaError(f"{path}: expected frames {first} to {wanted[-1]}, found none at {place}")
        found.append(np.asarray(near[1].to_ndarray(format="rgb24"), np.uint8))

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            base, rate = stream.time_base, stream.average_rate
            if base is None or rate is None:
                raise MediaError(f"{path} holds no frames")
            start = stream.start_time or 0
            container.seek(start + int(Fraction(first) / rate / base), stream=stream)
            for frame in container.decode(stream):
                if frame.pts is None:
                    continue
                here = round((frame.pts - start) * base * rate), frame
                while missing and missing[0] <= here[0]:
                    take(missing.pop(0), before, here)
                if not missing:
                    break
                before = here
            for place in missing:
                take(place, before)
    except (FFmpegError, IndexError, OSError) as error:
        raise MediaError(f"{path} is not a readable video: {error}") from error
    return np.stack(found)


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
