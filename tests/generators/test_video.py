"""Takes come back pixel for pixel; films play anywhere; both are the same bytes twice."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from generators.clip import Frames
from generators.errors import BackendUnavailable, MediaError
from generators.video import (
    enlarge,
    ffmpeg_version,
    find_ffmpeg,
    read_take,
    watchable_factor,
    write_film,
    write_take,
)


def noise(count: int, height: int = 32, width: int = 48, seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def drift(count: int, height: int = 32, width: int = 48) -> Frames:
    """A bright square that moves over a gradient."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0] = np.linspace(40, 120, width, dtype=np.uint8)
    for index, frame in enumerate(frames):
        frame[8:20, 2 + index : 14 + index] = (240, 200, 40)
    return frames


@pytest.mark.parametrize("shape", [(1, 32, 48), (2, 32, 48), (7, 31, 45), (33, 64, 96), (5, 1, 1)])
def test_every_pixel_of_a_take_comes_back(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    frames = noise(*shape)
    write_take(tmp_path / "take.mkv", frames, fps=8)
    back, rate = read_take(tmp_path / "take.mkv")
    assert np.array_equal(back, frames)
    assert rate == 8


@pytest.mark.parametrize("fps", [8, 16, 24, 30])
def test_a_take_remembers_its_frame_rate(tmp_path: Path, fps: int) -> None:
    write_take(tmp_path / "take.mkv", drift(9), fps=fps)
    assert read_take(tmp_path / "take.mkv")[1] == fps


@pytest.mark.slow
def test_the_same_frames_make_the_same_bytes_at_another_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_take(tmp_path / f"{name}.mkv", noise(5), fps=8)
        write_film(tmp_path / f"{name}.mp4", [drift(9)], 8)
        time.sleep(1.1)  # a clock in a header would show
    for kind in ("mkv", "mp4"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


@pytest.mark.parametrize(
    "bad", [np.zeros((0, 4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8)]
)
def test_what_are_no_frames_is_refused_by_shape_and_type(tmp_path: Path, bad: Frames) -> None:
    with pytest.raises(ValueError, match="Expected uint8 frames"):
        write_take(tmp_path / "take.mkv", bad, fps=8)


def test_a_truncated_or_missing_take_is_named(tmp_path: Path) -> None:
    path = tmp_path / "take.mkv"
    write_take(path, noise(5), fps=8)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(MediaError, match=r"take\.mkv"):
        read_take(path)
    with pytest.raises(MediaError, match=r"gone\.mkv"):
        read_take(tmp_path / "gone.mkv")


def test_a_film_is_h264_that_starts_fast_and_shows_what_was_put_in(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    parts = [drift(9), drift(5)[:, :, ::-1]]
    write_film(path, iter(parts), Fraction(8))
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
    back, rate = read_take(path)
    assert rate == 8
    assert back.shape == (14, 32, 48, 3)
    difference = np.abs(back.astype(int) - np.concatenate(parts).astype(int)).mean()
    assert difference < 6
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_odd_sizes_gain_one_row_or_column(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", [drift(3, 31, 45)], 8)
    assert read_take(tmp_path / "film.mp4")[0].shape == (3, 32, 46, 3)


def test_shots_of_two_sizes_make_no_film(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="differ in size"):
        write_film(tmp_path / "film.mp4", [drift(3), drift(3, 64, 96)], 8)


def test_no_frames_make_no_film(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        write_film(tmp_path / "film.mp4", [], 8)


def test_what_ffmpeg_says_reaches_the_person(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no-such-folder.*No such file"):
        write_film(tmp_path / "no-such-folder" / "film.mp4", [drift(3)], 8)


@pytest.mark.slow
def test_an_ffmpeg_that_hangs_is_stopped(tmp_path: Path) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    begun = time.monotonic()
    with pytest.raises(MediaError, match="it was stopped"):
        write_film(tmp_path / "film.mp4", [noise(200, 64, 96)], 8, ffmpeg=str(sleeper), timeout=0.3)
    assert time.monotonic() - begun < 50


def test_a_named_ffmpeg_that_is_not_there_is_an_error_not_another_ffmpeg() -> None:
    with pytest.raises(BackendUnavailable, match="no-such-ffmpeg"):
        find_ffmpeg("no-such-ffmpeg")


def test_without_any_ffmpeg_the_message_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "gone"))
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(BackendUnavailable, match=r"pip install imageio-ffmpeg"):
        find_ffmpeg()


def test_the_ffmpeg_on_the_path_comes_before_the_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "ffmpeg"
    mine.write_text("#!/bin/sh\necho ffmpeg version 1.2-mine Copyright\n")
    mine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert find_ffmpeg() == str(mine)
    assert ffmpeg_version(find_ffmpeg()) == "1.2-mine"


def test_enlarging_by_nearest_keeps_every_pixel_and_lanczos_keeps_the_picture() -> None:
    frames = drift(2)
    hard, soft = enlarge(frames, 3, "nearest"), enlarge(frames, 3, "lanczos")
    assert np.array_equal(hard[:, ::3, ::3], frames)
    assert hard.shape == soft.shape == (2, 96, 144, 3)
    assert np.abs(hard.astype(int) - soft.astype(int)).mean() < 6


@pytest.mark.parametrize(("height", "factor"), [(64, 6), (360, 1), (480, 1), (359, 2), (1, 360)])
def test_a_small_film_is_enlarged_until_it_is_watchable(height: int, factor: int) -> None:
    assert watchable_factor(height) == factor
