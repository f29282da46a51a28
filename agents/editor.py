"""The editor: cuts the accepted takes into one film, and writes everything a person needs beside it.

Reads rows and take files, asks nobody and decides nothing about takes: which take stands for a shot is said in the
plan. The same plan gives the same bytes, and `recut` makes the film again from its manifest.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from agents.captions import as_srt, as_vtt, in_order, label, seen_interval, shot_captions
from agents.errors import EditError, UsageError
from agents.outcome import ShotOutcome, Tally, shot_outcomes, tally
from agents.reel import Look, Piece, Placed, Reel
from agents.takespec import axis_of
from generators.pictures import Lane, SheetRow, contact_sheet
from generators.video import Smoothing, ffmpeg_version, find_ffmpeg, write_film
from storage.media import keep_file
from storage.records import RunRecord, ShotRecord, TakeRecord
from storage.tables import TakeStatus

FILM, SRT, VTT = "film.mp4", "film.srt", "film.vtt"
SHEET, MANIFEST, REPORT = "contact-sheet.png", "manifest.json", "report.html"
SHEET_SHOTS = 40
"""Shots on a contact sheet; a longer film has several, `contact-sheet-02.png` and so on."""
MANIFEST_FORMAT = 1
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "pillow", "av")
"""Their versions can change pixels."""


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """How a film is cut. Changing any of these changes the film's bytes and nothing that was filmed."""

    crossfade: float = 0.0
    """Seconds that two shots overlap at a cut; 0 for a hard cut. Never more than half of the shorter shot."""
    burn_captions: bool = False
    scale: int | None = None
    """Whole factor the frames are enlarged by; None for the smallest that is comfortable to watch."""
    smoothing: Smoothing = "lanczos"
    font: str | None = None
    """A font file for captions in other than Latin script."""
    crf: int = 18
    sheet_frames: int = 6
    """Frames of each shot on the contact sheet and in the report's strips."""
    ffmpeg: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.crossfade <= 10:
            raise ValueError(f"EditOptions.crossfade: expected 0 to 10 seconds, got {self.crossfade}")
        if self.scale is not None and not 1 <= self.scale <= 32:
            raise ValueError(f"EditOptions.scale: expected 1 to 32, got {self.scale}")
        if not 1 <= self.sheet_frames <= 24:
            raise ValueError(f"EditOptions.sheet_frames: expected 1 to 24, got {self.sheet_frames}")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"EditOptions.crf: expected 0 (best) to 51, got {self.crf}")

    @property
    def look(self) -> Look:
        """The part that changes frames."""
        return Look(
            crossfade=self.crossfade,
            burn_captions=self.burn_captions,
            scale=self.scale,
            smoothing=self.smoothing,
            font=self.font,
        )


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One shot in the film: the take that stands for it, and its leading frames that the shot before already shows.

    `drop` is the overlap a shot that continues was given; where the shot before is missing nothing is left out.
    """

    shot: str
    """The shot's label, such as 3."""
    take_id: int
    drop: int = 0


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture of where the model looked while it filmed a shot's take; without one, the reason."""

    shot: str
    """The shot's label."""
    name: str
    """Its file beside the film."""
    png: bytes = field(default=b"", repr=False)
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class FilmPlan:
    """What to cut: the run's rows, one Cut for each shot that has a take, where takes lie, where the film goes."""

    record: RunRecord
    cuts: tuple[Cut, ...]
    media: Path
    folder: Path
    options: EditOptions = EditOptions()
    figures: tuple[Figure, ...] = ()
    """For the report, in the order of shots."""


@dataclass(frozen=True, kw_only=True)
class FilmFiles:
    """What was written. `film` is None when not one shot has a take; the report says why."""

    folder: Path
    film: Path | None
    files: dict[str, str]
    """File name under `folder` to sha256."""
    takes: tuple[int, ...]
    missing: tuple[str, ...]
    """Labels of the shots that are not in the film."""
    seconds: float
    tally: Tally

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.folder / REPORT


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A shot, what became of it, the take that stands for it and its place in the film; no take where it is missing."""

    shot: ShotRecord
    outcome: ShotOutcome
    take: TakeRecord | None = None
    piece: Piece | None = None
    placed: Placed | None = None


def edit(plan: FilmPlan, account: Callable[[], RunRecord] | None = None) -> FilmFiles:
    """Cut the film and write it, its captions, contact sheet, manifest and report into the plan's folder.

    The report comes last; `account` then gives the rows anew, so that it tells what cutting took as well. Raises
    EditError when a take's file is gone or altered or takes do not fit together, BackendUnavailable without ffmpeg,
    MediaError, DiskError when the folder cannot be written.
    """
    from agents.report import render_report  # reads this module's scenes

    scenes = _scenes(plan)
    versions = _versions(plan.options.ffmpeg, cut=bool(plan.cuts))
    pieces = [scene.piece for scene in scenes if scene.piece is not None]
    reel = Reel(pieces, plan.media, plan.options.look, thumbs=plan.options.sheet_frames) if pieces else None
    with ThreadPoolExecutor(1, "film") as aside, _or_stop(reel):  # what is drawn is drawn while an encoder works
        film = aside.submit(_keep_film, plan.folder / FILM, reel, plan.options) if reel else None
        places = iter(reel.places() if reel else ())
        scenes = [replace(scene, placed=next(places)) if scene.piece else scene for scene in scenes]
        sheets = list(_sheets(scenes, plan))
    files = {FILM: film.result()} if film else {}
    captions = in_order(caption for scene in scenes if scene.placed for caption in scene.placed.captions)
    files |= {one.name: keep_file(plan.folder / one.name, one.png) for one in plan.figures if one.png}
    result = _result(plan, scenes, files)
    manifest = _manifest(plan, scenes, files, versions)
    for name, content in (
        (SRT, as_srt(captions).encode()),
        (VTT, as_vtt(captions).encode()),
        *sheets,
        (MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()),
    ):
        files[name] = keep_file(plan.folder / name, content)
    told = replace(plan, record=account()) if account else plan
    files[REPORT] = keep_file(plan.folder / REPORT, render_report(told, scenes, result, versions).encode())
    return result


@contextmanager
def _or_stop(reel: Reel | None) -> Iterator[None]:
    """What goes wrong meanwhile ends the film too: nobody waits for an encoder in vain."""
    try:
        yield
    except BaseException:
        if reel is not None:
            reel.stop()
        raise


def recut(manifest: Path, media: Path, folder: Path, *, ffmpeg: str | None = None) -> Path:
    """Make the film again from its manifest and the takes it names, and check that it is the same, bit for bit.

    Raises EditError when the manifest is not one, a take is gone or altered, or the bytes differ (it says which
    versions do, and the film is there to be watched), UsageError when the manifest cannot be read and where the earlier
    film would be overwritten.
    """
    said = _read_manifest(manifest)
    if folder.resolve() == manifest.parent.resolve():
        raise UsageError(f"{folder} holds the film that is to be made again; name another folder for it")
    options = EditOptions(**said["edit"] | {"ffmpeg": ffmpeg})
    pieces = [Piece.from_plain(cut["piece"]) for cut in said["cuts"]]
    if not pieces:
        raise EditError(f"{manifest} is of a film without a single shot")
    reel = Reel(pieces, media, options.look)
    sha256 = _keep_film(folder / FILM, reel, options)
    if sha256 != said["film"]:
        now = _versions(ffmpeg, cut=True)
        differ = [f"{k} {v} then, {now.get(k)} now" for k, v in said["versions"].items() if now.get(k) != v]
        raise EditError(f"{folder / FILM} is not the same bytes as before: {'; '.join(differ) or 'same versions'}")
    return folder / FILM


def _keep_film(path: Path, reel: Reel, options: EditOptions) -> str:
    """Write the film; gives its sha256."""

    def write(temporary: Path) -> None:
        write_film(
            temporary,
            reel.frames(),
            reel.fps,
            factor=1 if reel.enlarged else reel.factor,
            smoothing=options.smoothing,
            crf=options.crf,
            ffmpeg=options.ffmpeg,
        )

    return keep_file(path, write)


def _scenes(plan: FilmPlan) -> list[Scene]:
    """Every shot of the storyboard in order, with its take where the plan names one."""
    takes = {record.take.id: record for record in plan.record.takes}
    cuts = {cut.shot: cut for cut in plan.cuts}
    standing = {cut.take_id for cut in plan.cuts}
    outcomes = {shot.label: shot for shot in shot_outcomes(plan.record, standing, ended=True)}
    unknown = sorted(cuts.keys() - {shot.label for shot in plan.record.shots})
    if unknown:
        raise EditError(f"The plan cuts shots {unknown} that are not in the storyboard")
    scenes: list[Scene] = []
    for shot in plan.record.shots:
        cut = cuts.get(shot.label)
        if cut is None:
            scenes.append(Scene(shot=shot, outcome=outcomes[shot.label]))
            continue
        take = takes.get(cut.take_id)
        if take is None or take.label != shot.label or take.take.status != TakeStatus.DONE:
            raise EditError(f"Take {cut.take_id} is not a finished take of shot {shot.label}")
        joined = shot.shot.transition == "continues" and bool(scenes) and scenes[-1].piece is not None
        piece = _piece(shot, take, cut, joined)
        scenes.append(Scene(shot=shot, outcome=outcomes[shot.label], take=take, piece=piece))
    return scenes


def _piece(shot: ShotRecord, take: TakeRecord, cut: Cut, joined: bool) -> Piece:
    return Piece(
        shot=shot.label,
        file=take.take.file or "",
        sha256=take.take.sha256 or "",
        drop=cut.drop if joined else 0,
        joined=joined,
        captions=shot_captions(shot, take.verdict, axis_of(shot, take)[1]),
    )


def _result(plan: FilmPlan, scenes: list[Scene], files: dict[str, str]) -> FilmFiles:
    return FilmFiles(
        folder=plan.folder,
        film=plan.folder / FILM if FILM in files else None,
        files=files,
        takes=tuple(scene.take.take.id for scene in scenes if scene.take),
        missing=tuple(scene.shot.label for scene in scenes if scene.take is None),
        seconds=_seconds(scenes),
        tally=_tally(scenes),
    )


def _seconds(scenes: list[Scene]) -> float:
    """The film's length."""
    last = next((scene.placed for scene in reversed(scenes) if scene.placed), None)
    return last.begins + last.seconds if last else 0.0


def _tally(scenes: list[Scene]) -> Tally:
    return tally(scene.outcome for scene in scenes)


def _sheets(scenes: list[Scene], plan: FilmPlan) -> Iterator[tuple[str, bytes]]:
    """Names and pictures of the film's contact sheets, one after the other."""
    pages = max(1, math.ceil(len(scenes) / SHEET_SHOTS))
    whole = f"{_tally(scenes).said} · {_seconds(scenes):.1f} s"
    for page in range(pages):
        name = SHEET if page == 0 else SHEET.replace(".png", f"-{page + 1:02d}.png")
        under = whole + (f" · sheet {page + 1} of {pages}" if pages > 1 else "")
        yield name, _sheet(scenes[page * SHEET_SHOTS : (page + 1) * SHEET_SHOTS], under, plan)


def _sheet(scenes: list[Scene], under: str, plan: FilmPlan) -> bytes:
    font = Path(plan.options.font) if plan.options.font else None
    return contact_sheet(plan.record.run.title, under, [_row(scene) for scene in scenes], font=font)


def _row(scene: Scene) -> SheetRow:
    seconds, promised = axis_of(scene.shot, scene.take)
    return SheetRow(
        label=scene.shot.label,
        text=scene.shot.first.prompt,
        seconds=seconds,
        frames=scene.placed.thumbs if scene.placed else None,
        lanes=tuple(_lane(scene, index, bar) for index, bar in enumerate(promised)),
        missing="" if scene.take else scene.outcome.why,
    )


def _lane(scene: Scene, index: int, promised: tuple[float, float]) -> Lane:
    event, outcome = scene.shot.promised[index], scene.outcome.events[index]
    seen = seen_interval(scene.take.verdict if scene.take else None, index)
    if seen is None and outcome.seen:
        seen = promised  # seen, but the critic did not say when
    who = "" if event.subject in event.phrase else f"{event.subject}: "
    text = f"{label(scene.shot, event)} {who}{event.phrase}"
    return Lane(text=text, promised=promised, seen=seen, judged=outcome.seen is not None)


def _versions(ffmpeg: str | None, *, cut: bool) -> dict[str, str]:
    """What can change pixels; ffmpeg's version only where it `cut` a film."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "cores": str(os.cpu_count())}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found | ({"ffmpeg": ffmpeg_version(find_ffmpeg(ffmpeg))} if cut else {})


def _manifest(
    plan: FilmPlan, scenes: list[Scene], files: Mapping[str, str], versions: dict[str, str]
) -> dict[str, Any]:
    """All it takes to make the film again: the cuts from takes, and every take from its request. No clock, no path."""
    run = plan.record.run
    return {
        "format": MANIFEST_FORMAT,
        "story": plan.record.story,
        "run": {"key": run.key, "profile": run.profile, "options": run.options, "title": run.title},
        "versions": versions,
        "edit": {k: v for k, v in asdict(plan.options).items() if k != "ffmpeg"},
        "film": files.get(FILM),
        "cuts": [
            {"take": scene.take.take.id, "piece": asdict(scene.piece)} for scene in scenes if scene.take and scene.piece
        ],
        "missing": [scene.shot.label for scene in scenes if scene.take is None],
        "takes": [_take_entry(record) for record in plan.record.takes if record.take.status == TakeStatus.DONE],
    }


def _take_entry(record: TakeRecord) -> dict[str, Any]:
    take = record.take
    names = (
        "id",
        "number",
        "seed",
        "model",
        "weights",
        "controls",
        "request",
        "request_digest",
        "composition",
        "file",
        "sha256",
    )
    return {"shot": record.label, "revision": record.shot.revision} | {name: getattr(take, name) for name in names}


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}; expected the manifest.json beside a film"
        ) from error
    except ValueError as error:
        raise EditError(f"{path} cannot be read as a manifest: {error}") from error
    if not isinstance(said, dict) or said.get("format") != MANIFEST_FORMAT:
        raise EditError(f"{path} is not a manifest of format {MANIFEST_FORMAT}")
    return said
