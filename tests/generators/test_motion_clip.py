"""The part of a video that a shot takes its motion from: its speed, its shape, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from generators.clip import Frames
from generators.errors import MediaError
from generators.motion_clip import check_length, clip_seconds, motion_frames
from generators.video import write_film, write_take


def numbered(count: int, height: int = 16, width: int = 16) -> Frames:
    """Frame n is of the grey 2n."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None] * 2, (count, height, width, 3)).copy()


def take(folder: Path, frames: Frames, fps: int, name: str = "clip.mkv") -> Path:
    write_take(folder / name, frames, fps)
    return folder / name


def numbers(path: Path, **asked: float) -> list[int]:
    settings = {"count": 8, "fps": 8, "width": 16, "height": 16} | asked
    return [int(frame[0, 0, 0]) // 2 for frame in motion_frames(path, **settings)]  # type: ignore[arg-type]


def test_a_longer_clip_shows_its_beginning_at_its_own_speed(tmp_path: Path) -> None:
    path = take(tmp_path, numbered(64), 16)
    assert numbers(path) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert numbers(take(tmp_path, numbered(40), 8, "same.mkv")) == list(range(8))


def test_a_shorter_clip_is_slowed_down_to_the_shots_length(tmp_path: Path) -> None:
    path = take(tmp_path, numbered(4), 8)
    assert numbers(path) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_parts_of_a_shot_show_their_parts_of_the_clip(tmp_path: Path) -> None:
    path = take(tmp_path, numbered(16), 8)
    whole = numbers(path, count=16)
    assert numbers(path, first=0.0, last=0.5) + numbers(path, first=0.5, last=1.0) == whole == list(range(16))


def test_frames_are_cut_to_the_shots_shape_about_the_middle(tmp_path: Path) -> None:
    frames = np.zeros((4, 16, 48, 3), np.uint8)
    frames[:, :, 16:32] = 200
    made = motion_frames(take(tmp_path, frames, 8), count=4, fps=8, width=32, height=32)
    assert made.shape == (4, 32, 32, 3)
    assert made[:, :, 4:28].min() > 150


def test_a_film_that_people_watch_is_read_too(tmp_path: Path) -> None:
    write_film(tmp_path / "clip.mp4", [numbered(32, 64, 64)], 16)
    made = motion_frames(tmp_path / "clip.mp4", count=9, fps=8, width=32, height=32)
    assert made.shape == (9, 32, 32, 3)
    assert clip_seconds(tmp_path / "clip.mp4", 10.0) == pytest.approx(2.0)


def test_looking_stops_when_enough_was_seen(tmp_path: Path) -> None:
    path = take(tmp_path, numbered(64), 8)
    assert clip_seconds(path, 1.0) < 1.5
    assert clip_seconds(path, 100.0) == pytest.approx(8.0)


def test_a_clip_of_half_the_shot_is_slowed_down_and_a_shorter_one_refused(tmp_path: Path) -> None:
    path = take(tmp_path, numbered(16), 8)
    check_length(path, 4.0)
    with pytest.raises(MediaError, match=r"lasts 2\.00 s, and the shot that is to have its motion 5\.00 s"):
        check_length(path, 5.0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("gone.mp4", None, "No video file"), ("story.mp4", b"a story", "not a readable video")],
)
def test_what_is_no_video_says_so(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=message):
        clip_seconds(tmp_path / name, 1.0)


def test_a_still_picture_has_no_motion(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="1 frames; expected a video"):
        clip_seconds(take(tmp_path, numbered(1), 8), 1.0)
