"""How a person, a storyboard and a row name whose motion a shot has.

    shot 2               another shot of the film
    run 7 shot 2         a shot of another run
    camera pan left      a camera's move; `over hill.jpg` names the picture it moves over
    sha256:…             a clip, a take or a picture that the archive keeps, named by its content
    clip.mp4             anything else is a file

Knows the words. What they stand for is found in `agents/motion.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

from generators.camera_moves import MOVES, CameraMove

_SHOT = re.compile(r"shot (\d+)")
_RUN = re.compile(r"run (\d+) shot (\d+)")
_CAMERA = re.compile(rf"camera ({'|'.join(MOVES)})(?: over (.+))?")
_KEPT = re.compile(r"sha256:([0-9a-f]{64})")
KNOWN = "a video file, `shot N`, `run N shot M`, or a camera's move such as `camera pan left`"


@dataclass(frozen=True)
class OtherShot:
    """A shot of the same film."""

    number: int

    def __str__(self) -> str:
        return f"shot {self.number}"


@dataclass(frozen=True)
class OtherRun:
    """A shot of another run."""

    run: int
    shot: int

    def __str__(self) -> str:
        return f"run {self.run} shot {self.shot}"


@dataclass(frozen=True)
class Kept:
    """What the archive keeps under this content."""

    sha256: str

    def __str__(self) -> str:
        return f"sha256:{self.sha256}"


@dataclass(frozen=True)
class File:
    """A file, as a person names it."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Camera:
    """A camera's move over a picture; None: over a texture."""

    move: CameraMove
    picture: Kept | File | None = None

    def __str__(self) -> str:
        return f"camera {self.move}" + (f" over {self.picture}" if self.picture else "")


Source = OtherShot | OtherRun | Kept | File | Camera


def read_source(text: str) -> Source:
    """What a `motion_from` names. Every text names something: at least a file, which may not be there."""
    if named := _SHOT.fullmatch(text):
        return OtherShot(int(named[1]))
    if named := _RUN.fullmatch(text):
        return OtherRun(int(named[1]), int(named[2]))
    if named := _CAMERA.fullmatch(text):
        return Camera(cast(CameraMove, named[1]), _content(named[2]) if named[2] else None)
    return _content(text)


def shot_named(text: str | None) -> int | None:
    """The number of the shot of the same film that a `motion_from` names; None for anything else."""
    source = read_source(text) if text else None
    return source.number if isinstance(source, OtherShot) else None


def _content(text: str) -> Kept | File:
    named = _KEPT.fullmatch(text)
    return Kept(named[1]) if named else File(text)
