"""The part of a video file that a shot takes its motion from: at its own speed, cut to the shot's shape, and no more of
it in memory than the shot has frames.

Knows files and pixels; nothing of models, shots or where a file came from. Files are untrusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from generators.clip import Frames
from generators.errors import MediaError
from generators.video import frame_pixels

if TYPE_CHECKING:
    from av import VideoFrame

SLOWEST = 0.5
"""Share of its speed to which a clip is slowed down to fill a longer shot; shorter ones than that are refused."""
Moment = tuple[float, "VideoFrame"]


def clip_seconds(path: Path, enough: float) -> float:
    """How long a video lasts; looks no further than `enough` seconds.

    Raises MediaError, naming the file, when it is no video that can be read, or a still picture.
    """
    count, last, apart = 0, 0.0, 0.0
    for count, (moment, _) in enumerate(_moments(path), 1):
        apart = moment - last if count > 1 else apart
        last = moment
        if count > 1 and last >= enough:
            break
    if count < 2:
        raise MediaError(f"{path} has {count} frames; expected a video, whose motion can be seen")
    return last + apart


def check_length(path: Path, seconds: float) -> None:
    """Raise MediaError for a clip too short to be slowed down to a shot of so many seconds."""
    found = clip_seconds(path, SLOWEST * seconds)
    if found < SLOWEST * seconds - 1e-6:
        raise MediaError(
            f"{path} lasts {found:.2f} s, and the shot that is to have its motion {seconds:.2f} s: expected a clip of "
            f"at least half of that"
        )


def motion_frames(
    path: Path, *, count: int, fps: int, width: int, height: int, first: float = 0.0, last: float = 1.0
) -> Frames:
    """`count` frames (count, height, width, 3) of a clip as a take of `fps` shows them, cut to shape about the middle.

    A clip longer than the shot shows its beginning at its own speed, a shorter one all of it, slowed down. `first` and
    `last` are shares of the shot, for a take of which this is a part. Raises MediaError as `clip_seconds` does.
    """
    shot = count / fps / (last - first)
    span = min(clip_seconds(path, shot), shot)
    wanted = (first + (last - first) * np.arange(count) / count) * span
    found: list[Frames] = []
    for moment, frame in _held(path):
        fresh: Frames | None = None
        while len(found) < count and wanted[len(found)] <= moment + 1e-6:
            fresh = _cut(_upright(frame), width, height) if fresh is None else fresh
            found.append(fresh)
        if len(found) == count:
            break
    return np.stack(found)


def _held(path: Path) -> Iterator[Moment]:
    """Frames with the moment until which each is the nearest one."""
    before: Moment | None = None
    for moment in _moments(path):
        if before is not None:
            yield (before[0] + moment[0]) / 2, before[1]
        before = moment
    if before is not None:
        yield float("inf"), before[1]


def _moments(path: Path) -> Iterator[Moment]:
    """Frames in the order they are shown, each with its second, the first at 0."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 1)
            begins: float | None = None
            for number, frame in enumerate(container.decode(stream)):
                moment = number / rate if frame.time is None else frame.time
                begins = moment if begins is None else begins
                yield moment - begins, frame
    except FileNotFoundError as error:
        raise MediaError(f"No video file {path}") from error
    except (FFmpegError, IndexError, OSError) as error:
        raise MediaError(f"{path} is not a readable video: {error}") from error


def _upright(frame: VideoFrame) -> Frames:
    """Phones write frames as the sensor lies, and beside them how they are turned."""
    return np.rot90(frame_pixels(frame), round(frame.rotation / 90))


def _cut(picture: Frames, width: int, height: int) -> Frames:
    if picture.shape[:2] == (height, width):
        return picture
    fitted = ImageOps.fit(Image.fromarray(picture), (width, height), method=Image.Resampling.LANCZOS)
    return np.asarray(fitted, dtype=np.uint8)
