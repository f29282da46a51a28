"""From a folder of long videos to a table of captioned shots that `train scenes` reads.

A video's findings are one file, replaced as a whole after every step, so that what was found or paid for is kept when
the work is stopped; asked again with other settings, only what they change is found anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from generators.clip import Frames
from generators.errors import TrainingError
from generators.training.checkpoint import write_whole
from generators.training.preparing.cuts import CutSettings, find_shots
from generators.training.preparing.footage import ClipRow, probe, read_window, videos_of
from generators.training.preparing.pairs import Embedder, compared, grouped

TABLE = "clips.jsonl"
SHOWN = 64
"""Frames of a shot that a captioner is given at most, spread evenly."""


class Captioner(Protocol):
    """Tells what a shot shows, in the words that earlier shots of its run were told in."""

    def caption(self, frames: Frames, fps: float, before: Sequence[str]) -> str:
        """One caption that names the full look of everybody. `before` are the run's captions so far."""
        ...


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How shots are found and which neighbours belong together."""

    cuts: CutSettings = field(default_factory=CutSettings)
    least_similar: float = 0.8
    """Neighbours less similar than this end a run; counts where there is an encoder."""

    def __post_init__(self) -> None:
        if not -1 <= self.least_similar <= 1:
            raise ValueError(f"Preparation.least_similar: expected -1 to 1, got {self.least_similar}")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a table holds."""

    table: Path
    videos: int
    shots: int
    runs: int
    """Shots in a row that belong together; a shot alone is one."""
    longest: int
    """Shots of the longest run."""
    captioned: int


@dataclass(frozen=True, kw_only=True)
class PreparingProgress:
    """`video` of `of` is being worked on: so many shots found, so many told."""

    name: str
    video: int
    of: int
    shots: int
    captioned: int


OnPreparing = Callable[[PreparingProgress], None]


def prepare(
    videos: Path,
    out: Path,
    settings: Preparation,
    embedder: Embedder | None = None,
    captioner: Captioner | None = None,
    on_progress: OnPreparing | None = None,
) -> Prepared:
    """Find shots, compare neighbours, write captions, and put all of it into `out / "clips.jsonl"`.

    Captions in a `.txt` beside a video come first: a line a shot, or one line for all. Without an encoder a video is
    one run; without a captioner other captions stay empty. Raises TrainingError for a folder without videos.
    """
    files = videos_of(videos)
    if not files:
        raise TrainingError(f"{videos}: expected a folder with videos, found none")
    rows: list[ClipRow] = []
    for number, file in enumerate(files, 1):
        found = _Findings(file, videos, out)
        found.cut(settings.cuts)
        found.compare(embedder)
        found.rows = grouped(found.rows, settings.least_similar if embedder else None, found.name)
        _take_given(found)

        def tell(found: _Findings = found, number: int = number) -> None:
            if on_progress is not None:
                told = sum(bool(row.caption) for row in found.rows)
                on_progress(
                    PreparingProgress(
                        name=found.name, video=number, of=len(files), shots=len(found.rows), captioned=told
                    )
                )

        tell()
        if captioner is not None:
            _tell_shots(found, captioner, tell)
        found.keep()
        rows += found.rows
    _write_lines(out / TABLE, [row.plain(out) for row in rows])
    runs = [sum(row.group == group for row in rows) for group in dict.fromkeys(row.group for row in rows)]
    return Prepared(
        table=out / TABLE,
        videos=len(files),
        shots=len(rows),
        runs=len(runs),
        longest=max(runs, default=0),
        captioned=sum(bool(row.caption) for row in rows),
    )


class _Findings:
    """What is known of one video, on disk after every step."""

    def __init__(self, file: Path, videos: Path, out: Path) -> None:
        self.file, self.out = file, out
        self.name = file.relative_to(videos).as_posix()
        short = hashlib.sha256(self.name.encode()).hexdigest()[:12]
        self.path = out / "videos" / f"{file.stem}-{short}.json"
        kept = self._kept()
        self.by: dict[str, Any] = kept.get("by", {})
        """Which settings and encoder the findings came from."""
        self.rows = [ClipRow(**row | {"path": file}) for row in kept.get("rows", [])]

    def _kept(self) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise TrainingError(
                f"{self.path} is damaged: {error}; delete it to find this video's shots anew"
            ) from error
        return kept if kept["by"].get("bytes") == self.file.stat().st_size else {}

    def keep(self) -> None:
        """Write what is known, whole or not at all."""
        _write_lines(self.path, [{"by": self.by, "rows": [row.plain(self.out) for row in self.rows]}])

    def cut(self, settings: CutSettings) -> None:
        """Find the shots, unless they were found with these settings; captions of the same stretch stay."""
        by = {"bytes": self.file.stat().st_size, "cuts": asdict(settings)}
        if {name: self.by.get(name) for name in by} == by:
            return
        told = {(row.first, row.last): row.caption for row in self.rows}
        fps = float(probe(self.file).fps)
        self.rows = [
            ClipRow(path=self.file, first=a, last=b, fps=fps, group=self.name, caption=told.get((a, b), ""))
            for a, b in find_shots(self.file, settings)
        ]
        self.by = by
        self.keep()

    def compare(self, embedder: Embedder | None) -> None:
        """Compare neighbours, unless this encoder did."""
        if embedder is None or self.by.get("encoder") == embedder.name:
            return
        self.rows = compared(self.rows, embedder)
        self.by["encoder"] = embedder.name
        self.keep()


def _take_given(found: _Findings) -> None:
    """Captions that lie beside the video. Raises TrainingError when their number fits neither the shots nor one."""
    beside = found.file.with_suffix(".txt")
    if not beside.is_file():
        return
    lines = [line.strip() for line in beside.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(lines) == 1:
        lines *= len(found.rows)
    if len(lines) != len(found.rows):
        raise TrainingError(
            f"{beside}: expected a caption for each of {len(found.rows)} shots, or one; got {len(lines)}"
        )
    found.rows = [replace(row, caption=line) for row, line in zip(found.rows, lines, strict=True)]


def _tell_shots(found: _Findings, captioner: Captioner, tell: Callable[[], None]) -> None:
    for i, row in enumerate(found.rows):
        if row.caption:
            continue
        before = [other.caption for other in found.rows[:i] if other.group == row.group]
        stride = -(-row.count // SHOWN)
        frames = read_window(row.path, row.first, -(-row.count // stride), stride)
        told = captioner.caption(frames, row.fps / stride, before)
        found.rows[i] = replace(row, caption=told)
        found.keep()
        tell()


def _write_lines(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)

    def put(file: BinaryIO) -> None:
        file.write(text.encode())

    write_whole(path, put)
