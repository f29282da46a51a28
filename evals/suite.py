"""Runs a benchmark over footage: films, judges, keeps a row a unit, goes on where it stopped, and writes the table.

    out/<benchmark>/<method>/  manifest.json  rows.jsonl  table.json  table.md  strips/  pictures/

Two runs of one call give the same table byte for byte; seconds spent stand in the rows and not in the table. Knows
no measurement: those are the benchmarks'.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from evals.benchmarks.distance import DistanceSettings, VideoDistance
from evals.benchmarks.entities import Entities, EntitySettings, Eyes
from evals.benchmarks.protocol import Benchmark, Film, HasCeiling, Judged, Judgement, Line, Unit, as_json, from_json
from evals.benchmarks.quality import Quality, QualitySettings
from evals.benchmarks.shot_sets import ShotSets, ShotSetsSettings
from evals.benchmarks.storyeval import StoryEval, StoryEvalSettings
from evals.benchmarks.tempocontrol import TempoControl, TempoControlSettings
from evals.benchmarks.verifiers import Verifier
from evals.claims import Claims
from evals.footage import Footage
from evals.metrics.embedders import Weights
from evals.metrics.grounding import open_grounder
from evals.metrics.score import NotMeasured
from evals.rows import KEYS, ROWS, Row, add_row, read_rows
from generators.clip import Frames
from generators.pictures import strip_jpeg, thumbnails
from storage.media import keep_file

PROTOCOL = 2
"""Goes up whenever a metric's definition or a row's form changes: rows of another number are not read."""
PACKAGES = ("numpy", "opencv-python-headless", "scipy", "torch", "transformers", "diffusers", "pillow")
STRIP_WIDTH = 160
WAIT_SECONDS = 0.5
"""Between two looks at what only other processes are still making."""


Settings = (
    StoryEvalSettings | TempoControlSettings | ShotSetsSettings | QualitySettings | DistanceSettings | EntitySettings
)


@dataclass(frozen=True, kw_only=True)
class Models:
    """What benchmarks look with; what is absent is not measured, with the reason given here."""

    weights: Weights = Weights()
    verifier: Verifier | NotMeasured = NotMeasured(reason="no verifier was named")


def open_benchmark(settings: Settings, models: Models) -> Benchmark:
    """The benchmark of these settings. Raises ValueError or OSError naming the prompt file that cannot be read."""
    match settings:
        case StoryEvalSettings():
            return StoryEval(settings, models.verifier)
        case TempoControlSettings():
            return TempoControl.with_weights(settings, models.weights)
        case ShotSetsSettings():
            return ShotSets.with_weights(settings, models.weights)
        case QualitySettings():
            return Quality.with_weights(settings, models.weights)
        case DistanceSettings():
            return VideoDistance.with_weights(settings, models.weights)
        case EntitySettings():
            weights = models.weights
            eyes = Eyes(
                grounder=open_grounder(weights),
                text=weights.open_text("clip_vitb32"),
                crops=weights.open_patches("dinov2_vitb14"),
                characters=weights.open("clip_vitl14"),
            )
            return Entities(settings, eyes)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One unit is judged, `done` of `of`; `kept` says that an earlier run judged it."""

    done: int
    of: int
    unit: str
    kept: bool


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that a table rests on. Two tables compare only where `digest` is the same; `films` tells whether the
    same clips were judged, `ceiling` whose autoencoder the ceilings beside them are.
    """

    benchmark: str
    method: str
    source: str
    seed: int
    units: int
    settings: Mapping[str, Any]
    digest: str
    films: str
    ceiling: str
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished run: the table and where it lies. `seconds` is the mean time to make a clip, where it is known."""

    manifest: Manifest
    lines: tuple[Line, ...]
    folder: Path
    seconds: float | None = field(compare=False, default=None)


def run(benchmark: Benchmark, footage: Footage, out: Path, seed: int = 0) -> Generator[Progress, None, Result]:
    """Judge every unit that `out` holds no row of, one at a time, and write the table at the end.

    Clips get the seeds `seed`, `seed + 1`, … in order. A row is of use while its clips are those that would be filmed
    now; one that lacked a clip is made again. Raises what footage, benchmark and disk raise; rows stay.
    """
    units = benchmark.units()
    seeds = [seed + before for before in accumulate((len(unit.cases) for unit in units), initial=0)][:-1]
    films = [_digests(footage, unit, first) for unit, first in zip(units, seeds, strict=True)]
    manifest = _manifest(benchmark, footage, seed, films)
    folder = out / slug(benchmark.name) / slug(footage.name)
    _begin(folder, _json(asdict(manifest)))
    book, claims = _Book(folder / ROWS, manifest), Claims(folder)
    rows: dict[str, Row] = {}
    waiting = list(zip(units, seeds, films, strict=True))
    again = False
    while waiting:
        elsewhere = []
        for unit, first, digests in waiting:
            with claims.claimed(unit.name, again=again) as ours:
                if not ours:
                    elsewhere.append((unit, first, digests))
                    continue
                row, kept = book.row(unit, digests), True
                if row is None:
                    row, kept = _judge(benchmark, footage, unit, first, digests, folder, manifest), False
                    book.add(row)
            rows[unit.name] = row
            yield Progress(done=len(rows), of=len(units), unit=unit.name, kept=kept)
        if again and len(elsewhere) == len(waiting):
            time.sleep(WAIT_SECONDS)
        waiting, again = elsewhere, True
    lines = tuple(benchmark.lines([_judged(unit, rows[unit.name]) for unit in units]))
    keep_file(folder / "table.json", _json([asdict(line) for line in lines]))
    keep_file(folder / "table.md", markdown(lines).encode())
    return Result(manifest=manifest, lines=lines, folder=folder, seconds=_seconds([rows[unit.name] for unit in units]))


def finish(running: Generator[Progress, None, Result], on_progress: Callable[[Progress], None] | None = None) -> Result:
    """Run to the end, telling of every step."""
    while True:
        try:
            step = next(running)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        if on_progress is not None:
            on_progress(step)


def markdown(lines: Sequence[Line]) -> str:
    """The table as people read it: mean ± error, interval, count, and what was not measured and why."""
    head = "| metric | over | mean ± error | 95 % | n | beside it |\n|---|---|---|---|---|---|\n"
    return head + "".join(_markdown_line(line) for line in lines)


def _markdown_line(line: Line) -> str:
    one = line.summary
    mean = "–" if one.mean is None else f"{one.mean:.4f}" + ("" if one.error is None else f" ± {one.error:.4f}")
    bounds = "–" if one.low is None else f"{one.low:.4f} to {one.high:.4f}"
    cells = (one.metric, line.group, mean, bounds, f"{one.count} of {one.total}", one.beside or "–")
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


def slug(name: str) -> str:
    """A name as a file's name; a name that had to change carries its digest, so that two never meet."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:80]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _digests(footage: Footage, unit: Unit, first: int) -> list[str]:
    return [footage.digest(case, first + number) for number, case in enumerate(unit.cases)]


def _manifest(benchmark: Benchmark, footage: Footage, seed: int, films: Sequence[Sequence[str]]) -> Manifest:
    settings = dict(benchmark.settings())
    return Manifest(
        benchmark=benchmark.name,
        method=footage.name,
        source=footage.source,
        seed=seed,
        units=len(films),
        settings=settings,
        digest=_digest([PROTOCOL, benchmark.name, settings])[:16],
        films=_digest(films)[:16],
        ceiling=benchmark.ceiling if isinstance(benchmark, HasCeiling) else "",
        versions={"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _begin(folder: Path, manifest: bytes) -> None:
    """Lay down the manifest; the table of another one, which may never be finished again, goes before."""
    known = folder / "manifest.json"
    if not known.exists() or known.read_bytes() != manifest:
        for table in ("table.json", "table.md"):
            (folder / table).unlink(missing_ok=True)
    keep_file(known, manifest)


class _Book:
    """Rows of one call's benchmark, method and seed, also those that other processes add meanwhile."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._manifest = manifest
        self._read = -1
        self._rows: dict[str, list[Row]] = {}

    def row(self, unit: Unit, digests: Sequence[str]) -> Row | None:
        """The newest row of the unit whose clips are these; of a unit's rows it is then the last, the table's."""
        self._look()
        rows = self._rows.get(unit.name, [])
        usable = [row for row in rows if row["films"] == digests]
        if usable and usable[-1] is not rows[-1]:
            self.add(usable[-1])
        return usable[-1] if usable else None

    def add(self, row: Row) -> None:
        """Write one row, unless it says what the unit's last one says: units without a clip are tried every time."""
        last = self._rows.get(row["unit"], [])[-1:]
        if [_lasting(one) for one in last] != [_lasting(row)]:
            add_row(self._path, row)

    def _look(self) -> None:
        size = self._path.stat().st_size if self._path.exists() else 0
        if size == self._read:
            return
        self._read, self._rows = size, {}
        for row in read_rows(self._path):
            if "unit" in row and all(row.get(key) == getattr(self._manifest, key) for key in KEYS):
                self._rows.setdefault(row["unit"], []).append(row)


def _lasting(row: Row) -> str:
    """A row without what it took."""
    return json.dumps({key: value for key, value in row.items() if key not in ("seconds", "judging")}, sort_keys=True)


def _judge(
    benchmark: Benchmark,
    footage: Footage,
    unit: Unit,
    first: int,
    digests: Sequence[str],
    folder: Path,
    manifest: Manifest,
) -> Row:
    films = [footage.film(case, first + number) for number, case in enumerate(unit.cases)]
    started = time.monotonic()
    judgement = benchmark.judge(unit, films)
    stem = "-".join([unit.name, *([_digest(digests)[:8]] if any(digests) else [])])
    seen = [film for film in films if isinstance(film, Film)]
    return {
        "unit": unit.name,
        "prompt": " / ".join(case.prompt for case in unit.cases),
        **{key: getattr(manifest, key) for key in KEYS},
        "films": [digest if isinstance(film, Film) else None for digest, film in zip(digests, films, strict=True)],
        "outcomes": {name: as_json(outcome) for name, outcome in judgement.outcomes.items()},
        "facts": dict(judgement.facts),
        "headline": judgement.headline,
        "strip": _strip(folder, stem, seen, unit.shown),
        "pictures": {name: _picture(folder, stem, name, png) for name, png in judgement.pictures.items()},
        "length": sum(len(film.frames) / film.fps for film in seen),
        "seconds": [film.seconds for film in seen],
        "judging": round(time.monotonic() - started, 3),
    }


def _judged(unit: Unit, row: Row) -> Judged:
    outcomes = {name: from_json(found) for name, found in row["outcomes"].items()}
    return Judged(unit=unit, judgement=Judgement(outcomes=outcomes, facts=row["facts"], headline=row["headline"]))


def _strip(folder: Path, stem: str, films: Sequence[Film], shown_frames: int) -> str | None:
    """A strip of frames of the unit's clips beside the rows, for the report."""
    if not films:
        return None
    each = max(1, shown_frames // len(films))
    shown: list[Frames] = [thumbnails(film.frames, each, STRIP_WIDTH) for film in films]
    shown = [frames for frames in shown if frames.shape[1:] == shown[0].shape[1:]]
    path = folder / "strips" / f"{slug(stem)}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(strip_jpeg(np.concatenate(shown)))
    return f"strips/{path.name}"


def _picture(folder: Path, stem: str, name: str, png: bytes) -> str:
    """A picture that the judgement drew, beside the rows."""
    path = folder / "pictures" / f"{slug(f'{stem}-{name}')}.png"
    keep_file(path, png)
    return f"pictures/{path.name}"


def _seconds(rows: Sequence[Row]) -> float | None:
    known = [spent for row in rows for spent in row["seconds"] if spent is not None]
    return float(np.mean(known)) if known else None


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
