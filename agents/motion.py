"""Whose motion a shot has: where the clip lies that a source names, and what a take keeps of it.

`agents/sources.py` has the words. Before anything is filmed, files are copied into the archive and both they and
finished takes are named by their content (`sha256:…`), so that a run can be resumed, and filmed again, without them. A
take names that content among its controls; its pixels are read when it is filmed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agents import director
from agents.boardfile import read_board
from agents.controls import MotionFrom
from agents.errors import PlanError, UsageError
from agents.order import Order, motion_wishes, read_bytes
from agents.sources import KNOWN, Camera, File, Kept, OtherRun, OtherShot, Source, read_source, shot_named
from agents.storyboard import Storyboard, parse_storyboard
from agents.takespec import clip_frames
from generators.camera import camera_frames
from generators.camera_moves import MOVES
from generators.clip import Frames, Limits, ShotRequest
from generators.controls.config import ControlConfig, MotionQueries
from generators.controls.noise_windows import CAMERA_WINDOW
from generators.errors import MediaError
from generators.motion_clip import check_length, clip_seconds, motion_frames
from generators.stills import MOST_BYTES, check_picture, picture_pixels
from storage.archive import Archive
from storage.media import file_sha256
from storage.tables import Take

LARGEST = 2_000_000_000
"""Bytes of a clip that is copied."""


@dataclass(frozen=True, kw_only=True)
class Settling:
    """Names sources by their content. `keeps` copies files into the archive; without it nothing is written."""

    archive: Archive
    folder: Path
    """Where relative file names start."""
    keeps: bool = True

    def settled(self, text: str) -> str:
        """A source as rows hold it: `shot N`, `sha256:…`, or a camera's move, its picture named like that.

        Raises UsageError for one that cannot be used.
        """
        match read_source(text):
            case OtherShot() as other:
                return str(other)
            case OtherRun(run, shot):
                return str(self._of_run(run, shot))
            case Camera(move, picture):
                return str(Camera(move, self._of_picture(picture) if picture else None))
            case Kept(sha256) as kept:
                if clip_file(self.archive, sha256) is None:
                    raise UsageError(f"motion from {text}: no such clip in this archive; name its file")
                return str(kept)
            case File(name):
                return str(self._of_file(name))

    def of_board(self, board: Storyboard) -> Storyboard:
        """The storyboard with all its sources settled."""
        shots = tuple(
            shot
            if shot.motion_from is None
            else shot.model_copy(update={"motion_from": self.settled(shot.motion_from)})
            for shot in board.shots
        )
        return board.model_copy(update={"shots": shots})

    def _of_run(self, run: int, shot: int) -> Kept:
        self.archive.run(run)  # NotFound says which runs there are not
        best = director.best_take(self.archive.takes(run, [shot]))
        if best is None or best.take.sha256 is None or self.archive.take_file(best.take) is None:
            raise UsageError(f"motion from run {run} shot {shot}: expected a finished take, and there is none")
        return Kept(best.take.sha256)

    def _of_file(self, name: str) -> Kept:
        path = _at(name, self.folder)
        if name.startswith("camera ") and not path.exists():
            raise UsageError(f"motion from {name}: expected `camera` and one of {', '.join(MOVES)}")
        try:
            if not path.is_file():
                raise MediaError(f"No video file {path}")
            if path.stat().st_size > LARGEST:
                raise MediaError(
                    f"{path} is larger than {LARGEST // 1_000_000_000} GB; cut out the part that is wanted"
                )
            clip_seconds(path, 0.0)
        except (MediaError, OSError) as error:
            raise UsageError(f"motion from: {error}; expected {KNOWN}") from error
        return Kept(self.archive.keep_clip(path) if self.keeps else file_sha256(path))

    def _of_picture(self, picture: Kept | File) -> Kept:
        try:
            if isinstance(picture, Kept):
                kept_picture(self.archive, picture.sha256)
                return picture
            path = _at(picture.name, self.folder)
            data = read_bytes(path, "picture that a camera moves over", most=MOST_BYTES)
            check_picture(data, str(path))
        except MediaError as error:
            raise UsageError(f"motion from a camera: {error}") from error
        return Kept(self.archive.keep_picture(data) if self.keeps else hashlib.sha256(data).hexdigest())


def beside(named: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Sources with files named from a folder on, as `Order.motion_from` takes them. Raises UsageError."""
    found = []
    for number, source in motion_wishes(named).items():
        text = _beside(source, folder)
        found.append(f"{number}={text}" if number else text)
    return tuple(found)


def _beside(text: str, folder: Path) -> str:
    match read_source(text):
        case File(name):
            return str(_at(name, folder))
        case Camera(move, File(name)):
            return str(Camera(move, File(str(_at(name, folder)))))
        case source:
            return str(source)


def _at(name: str, folder: Path) -> Path:
    """Where a file lies that is named from a folder on."""
    return (folder / Path(name).expanduser()).resolve()


def settled(order: Order, archive: Archive, *, keeps: bool = True) -> Order:
    """The order with every source of motion named by its content. Raises UsageError, PlanError, DiskError."""
    board = read_board(order.from_plan) if isinstance(order.from_plan, Path) else order.from_plan
    moves = board is not None and any(shot.motion_from for shot in board.shots)
    if order.motion_share is not None and not (moves or order.motion_from):
        raise UsageError("motion share: there is no motion to share; name its clip with --motion-from")
    if board is not None and moves:
        folder = order.from_plan.parent if isinstance(order.from_plan, Path) else Path()
        board = Settling(archive=archive, folder=folder, keeps=keeps).of_board(board)
        order = replace(order, from_plan=board)
    here = Settling(archive=archive, folder=Path(), keeps=keeps)
    wishes = {number: here.settled(source) for number, source in motion_wishes(order.motion_from).items()}
    named = tuple(f"{number}={source}" if number else source for number, source in sorted(wishes.items()))
    return replace(order, motion_from=named)


def with_motion(board: Storyboard, wishes: Mapping[int, str]) -> Storyboard:
    """The storyboard with the sources that were asked for beside it; 0 stands for shots that name none themselves.

    Raises UsageError for a shot that is not there, and for shots that would wait for one another.
    """
    if not wishes:
        return board
    if beyond := sorted(number for number in wishes if number > len(board.shots)):
        raise UsageError(
            f"motion from: there is no shot {beyond[0]}; the storyboard has {len(board.shots)}: run the story again "
            "with a number that is there"
        )
    everywhere = wishes.get(0)
    shots = []
    for number, shot in enumerate(board.shots, 1):
        general = None if everywhere is None or shot_named(everywhere) == number else everywhere
        source = wishes.get(number) or shot.motion_from or general
        shots.append(shot.model_dump() | {"motion_from": source})
    try:
        return parse_storyboard(board.model_dump() | {"shots": shots}, "The storyboard with the motion asked for")
    except PlanError as error:  # no run can go on from there: its wishes are its own
        raise UsageError(f"{error}: run the story again with other sources") from error


def check_board(board: Storyboard, archive: Archive, limits: Limits) -> None:
    """Look before anything is filmed whether every shot can have the motion it names, and read its synopsis.

    Raises PlanError where the backend cannot, MediaError for a clip that is gone or too short.
    """
    for number, shot in enumerate(board.shots, 1):
        if shot.synopsis and not limits.frame_texts:
            raise PlanError(f"shot {number}: this backend's frames cannot read a synopsis; leave it away")
        if shot.motion_from is None:
            continue
        if not limits.moves:
            raise PlanError(f"shot {number}: this backend cannot give a shot the motion of a clip; see motion_from")
        try:
            _check_source(shot.motion_from, clip_frames(shot.seconds, limits) / limits.fps, archive)
        except MediaError as error:
            raise MediaError(f"shot {number}: {error}") from error


def _check_source(text: str, seconds: float, archive: Archive) -> None:
    match read_source(text):
        case OtherShot() | Camera(_, None):
            pass
        case Kept(sha256):
            check_length(kept_clip(archive, sha256), seconds)
        case Camera(_, Kept(sha256)):
            kept_picture(archive, sha256)
        case unsettled:
            raise _unsettled(unsettled)


def motion_of(text: str, taken: Take | None, archive: Archive, share: float | None) -> MotionFrom:
    """The control of a take whose shot names this settled source; `taken` is the other shot's take, if it names one.

    Raises MediaError for what no row holds: a source that nobody settled.
    """
    match read_source(text):
        case Camera(move, None):
            return MotionFrom(clip="", camera=move, steps=share)
        case Camera(move, Kept(sha256)):
            return MotionFrom(clip=sha256, camera=move, steps=share)
        case Kept(sha256):
            known = archive.take_with(sha256)
            return MotionFrom(clip=sha256, prompt=str(known.request["prompt"]) if known else "", steps=share)
        case OtherShot() if taken is not None and taken.sha256 is not None:
            return MotionFrom(clip=taken.sha256, prompt=str(taken.request["prompt"]), steps=share)
        case unsettled:
            raise _unsettled(unsettled)


def _unsettled(source: Source) -> MediaError:
    return MediaError(f"motion from {source}: expected a source whose clip is kept; see `Settling`")


def shown(request: ShotRequest, archive: Archive) -> ShotRequest:
    """The request with every clip that its controls name shown to them. Raises MediaError for one that is gone."""

    size: dict[str, int] = {
        "count": request.frames,
        "fps": request.fps,
        "width": request.width,
        "height": request.height,
    }

    def pixels(control: ControlConfig) -> ControlConfig:
        if not isinstance(control, MotionFrom):
            return control
        if control.camera is None:
            clip = kept_clip(archive, control.clip)
            frames = motion_frames(clip, **size, first=control.first, last=control.last)
        else:
            picture = kept_picture(archive, control.clip) if control.clip else None
            frames = camera_frames(control.camera, picture, **size, first=control.first, last=control.last)
        window = CAMERA_WINDOW if control.camera and control.steps is None else None
        return MotionQueries(frames=frames, prompt=control.prompt, steps=control.steps, window=window, timing="exact")

    return replace(request, controls=tuple(pixels(control) for control in request.controls))


def kept_picture(archive: Archive, sha256: str) -> Frames:
    """A camera's picture, (height, width, 3). Raises MediaError when it is altered, gone or none."""
    path = archive.picture(sha256)
    if path is None:
        raise MediaError(
            f"The picture {sha256[:16]} that a camera moves over is altered or gone from {archive.media.folder}: run "
            "the story again with the same --motion-from or storyboard, which puts it back"
        )
    return picture_pixels(path.read_bytes(), path.name)


def kept_clip(archive: Archive, sha256: str) -> Path:
    """Where a source lies. Raises MediaError when it is altered or gone."""
    path = clip_file(archive, sha256)
    if path is None:
        raise MediaError(
            f"The clip {sha256[:16]} whose motion is wanted is altered or gone from {archive.media.folder}: run the "
            "story again with the same --motion-from or storyboard, which puts it back"
        )
    return path


def clip_file(archive: Archive, sha256: str) -> Path | None:
    """A kept clip's file, or that of a finished take with this content; None when neither is whole."""
    kept = archive.clip(sha256)
    if kept is not None:
        return kept
    take = archive.take_with(sha256)
    return archive.take_file(take) if take else None
