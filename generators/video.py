"""Frames to files and back: lossless takes, and the film a person watches.

A take is FFV1 in Matroska, written and read in this process by PyAV: every pixel comes back, and the same frames make
the same bytes. A film is H.264 in MP4 by an ffmpeg binary (its x264 is the one people's players agree with), also the
same bytes for the same frames. Knows nothing of shots, events or where files belong.
"""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from generators.clip import Frames
from generators.errors import BackendUnavailable, MediaError

if TYPE_CHECKING:
    from av import VideoFrame

Smoothing = Literal["nearest", "lanczos"]

WATCHABLE_HEIGHT = 360
"""A film lower than this is enlarged by a whole factor until it is not."""


def write_take(path: Path, frames: Frames, fps: int) -> None:
    """Write frames without loss as FFV1 in Matroska; the same frames give the same bytes.

    Raises ValueError for what are no frames, MediaError when the encoder refuses, OSError when the disk does.
    """
    import av
    from av.error import FFmpegError

    _check(frames)
    _, height, width, _ = frames.shape
    flags = {"flags": "+bitexact", "level": "3", "g": "1", "slicecrc": "1"}
    try:
        with av.open(str(path), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream("ffv1", rate=fps, options=flags)
            stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
            stream.thread_count = 1
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    except FFmpegError as error:
        _raise_av(error, f"Could not write take {path}")


def read_take(path: Path) -> tuple[Frames, Fraction]:
    """All frames of a video file and its frames a second; MediaError names the file when it is not whole."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames = [frame_pixels(frame) for frame in container.decode(stream)]
            rate = stream.average_rate
    except FileNotFoundError as error:
        raise MediaError(f"No video file {path}") from error
    except (FFmpegError, IndexError) as error:
        raise MediaError(f"{path} is not a readable video: {error}") from error
    if not frames or rate is None:
        raise MediaError(f"{path} holds no frames")
    return np.stack(frames), rate


def write_film(
    path: Path,
    frames: Iterable[Frames],
    fps: Fraction | int,
    *,
    factor: int = 1,
    smoothing: Smoothing = "lanczos",
    crf: int = 18,
    ffmpeg: str | None = None,
    timeout: float = 3600.0,
) -> None:
    """Write runs of frames, one after the other, as one H.264 MP4 that starts playing before it is whole.

    Takes frames as they come, so a long film needs little memory, and enlarges them by a whole `factor`; an odd width
    or height gains one repeated column or row. Raises BackendUnavailable without ffmpeg, ValueError without frames,
    MediaError with ffmpeg's own words, OSError when the disk is full.
    """
    runs = iter(frames)
    first = next(runs, None)
    if first is None:
        raise ValueError("A film needs at least one frame")
    size = _even(first).shape[1:3]
    command = _film_command(find_ffmpeg(ffmpeg), path, size, Fraction(fps), factor, smoothing, crf)
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=complaints, stderr=complaints)
        watchdog = threading.Timer(timeout, process.kill)
        watchdog.start()
        try:
            _feed(process, first, runs, size)
            code = process.wait()
        finally:
            watchdog.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
        if code != 0:
            _raise_ffmpeg(path, code, complaints)


def enlarge(frames: Frames, factor: int, smoothing: Smoothing = "lanczos") -> Frames:
    """Frames a whole factor larger: `nearest` keeps hard pixels, `lanczos` is smooth."""
    _check(frames)
    if factor == 1:
        return frames
    if smoothing == "nearest":
        return frames.repeat(factor, axis=1).repeat(factor, axis=2)
    _, height, width, _ = frames.shape
    size = (width * factor, height * factor)
    return np.stack([np.asarray(Image.fromarray(f).resize(size, Image.Resampling.LANCZOS)) for f in frames])


def watchable_factor(height: int) -> int:
    """The whole factor that makes a clip of this height comfortable to watch."""
    return max(1, -(-WATCHABLE_HEIGHT // height))


def find_ffmpeg(setting: str | None = None) -> str:
    """The ffmpeg to use: the one named, else the one on the PATH, else the one imageio-ffmpeg brings."""
    if setting is not None:
        found = shutil.which(setting)
        if found is None:
            raise BackendUnavailable(f"No program {setting!r}: name an ffmpeg that can be run, or leave the option out")
        return found
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError, OSError) as error:
        raise BackendUnavailable(
            "No ffmpeg: install it (apt-get install ffmpeg, brew install ffmpeg), or `pip install imageio-ffmpeg`, "
            "or name one by option; finished takes are kept and the run can be resumed"
        ) from error


def ffmpeg_version(ffmpeg: str) -> str:
    """The version an ffmpeg binary says it has; asked once of each file."""
    try:
        file = Path(ffmpeg).stat()
    except OSError as error:
        raise _broken(ffmpeg, error) from error
    return _said_version(ffmpeg, file.st_mtime_ns, file.st_size)


@lru_cache(maxsize=8)
def _said_version(ffmpeg: str, changed: int, size: int) -> str:
    try:
        said = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise _broken(ffmpeg, error) from error
    found = re.match(r"ffmpeg version (\S+)", said)
    return found.group(1) if found else said.partition("\n")[0]


def _broken(ffmpeg: str, error: Exception) -> BackendUnavailable:
    return BackendUnavailable(f"{ffmpeg} does not run ({error}): install ffmpeg, or name one that does by option")


_SCALERS: dict[Smoothing, str] = {"nearest": "neighbor", "lanczos": "lanczos"}
_EXACT = "+accurate_rnd+full_chroma_int+bitexact"


def frame_pixels(frame: VideoFrame) -> Frames:
    """RGB of one decoded frame; the format of our takes is read in place, three times faster than a conversion."""
    if frame.format.name != "bgr0":
        return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    plane = frame.planes[0]
    pixels = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size // 4, 4)
    return pixels[:, : frame.width, 2::-1]


def _check(frames: Frames) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(
            f"Expected uint8 frames of shape (frames, height, width, 3), got {frames.dtype} {frames.shape}"
        )


def _even(frames: Frames) -> Frames:
    """H.264 in 4:2:0 has no odd sizes: repeat the last row or column."""
    _check(frames)
    _, height, width, _ = frames.shape
    if height % 2 == 0 and width % 2 == 0:
        return frames
    return np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _film_command(
    ffmpeg: str, path: Path, size: tuple[int, ...], fps: Fraction, factor: int, smoothing: Smoothing, crf: int
) -> list[str]:
    import ffmpeg as builder

    height, width = size
    picture = builder.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=str(fps))
    if factor > 1:
        picture = picture.filter("scale", width * factor, height * factor, flags=_SCALERS[smoothing] + _EXACT)
    film = picture.output(
        str(path),
        format="mp4",
        vcodec="libx264",
        pix_fmt="yuv420p",
        crf=crf,
        preset="veryfast",
        threads=1,
        movflags="+faststart",
        fflags="+bitexact",
        map_metadata=-1,
        sws_flags=_EXACT.lstrip("+"),
        **{"flags:v": "+bitexact"},
    )
    film = film.global_args("-hide_banner", "-loglevel", "error", "-filter_threads", "1").overwrite_output()
    argv: list[str] = film.compile(cmd=ffmpeg)
    return argv


def _feed(process: subprocess.Popen[bytes], first: Frames, rest: Iterable[Frames], size: tuple[int, ...]) -> None:
    pipe = process.stdin
    if pipe is None:
        raise MediaError("ffmpeg was started without an input")
    try:
        with pipe:
            pipe.write(np.ascontiguousarray(_even(first)).tobytes())
            for frames in rest:
                even = _even(frames)
                if even.shape[1:3] != size:
                    raise MediaError(f"Frames of one film differ in size: {size} and {even.shape[1:3]} (height, width)")
                pipe.write(np.ascontiguousarray(even).tobytes())
    except BrokenPipeError:
        return  # ffmpeg ended early: its exit code and words say why


def _raise_ffmpeg(path: Path, code: int, complaints: IO[bytes]) -> None:
    complaints.seek(0)
    said = complaints.read().decode(errors="replace").strip()[-2000:]
    if "No space left on device" in said:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))
    if "Unknown encoder 'libx264'" in said:
        raise BackendUnavailable("This ffmpeg has no libx264: name another one, or `pip install imageio-ffmpeg`")
    raise MediaError(f"ffmpeg could not write {path} (exit code {code}): {said or 'it was stopped'}")


def _raise_av(error: Exception, what: str) -> None:
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and number in (
        errno.ENOSPC,
        errno.EACCES,
        errno.EDQUOT,
        errno.EROFS,
        errno.ENOENT,
    ):
        raise OSError(number, error.strerror) from error
    raise MediaError(f"{what}: {error}") from error
