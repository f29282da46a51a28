"""Slices of films over time: one column a frame, the longest film of every class, seams marked where pixels step."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evals.results import Method
from evals.slices import MOST, SLICE, column_over_time, slices
from generators.clip import Frames


def stepping(frames: int, seam: int) -> Frames:
    """A film that is dark before the seam and light from it on, its left half red."""
    film = np.full((frames, 8, 12, 3), 20, np.uint8)
    film[seam:] = 220
    film[:, :, :6, 0] = 255
    return film


def method(folder: Path, units: Sequence[tuple[str, str, int]]) -> Method:
    """A method whose units (name, class, frames) have slices of films that step in the middle."""
    rows: list[dict[str, Any]] = []
    folder.mkdir()
    for name, group, frames in units:
        (folder / f"{name}.png").write_bytes(column_over_time(stepping(frames, frames // 2), 9))
        facts = {"classes": [group], "seams": [frames // 2]}
        rows.append({"unit": name, "length": frames / 8, "facts": facts, "pictures": {SLICE: f"{name}.png"}})
    return Method(name=folder.name, folder=folder, manifest={}, lines=(), rows=tuple(rows))


def test_a_slice_is_its_column_of_every_frame_and_steps_at_the_seam() -> None:
    film = stepping(10, 4)
    for column in (3, 9):
        with Image.open(io.BytesIO(column_over_time(film, column))) as picture:
            strip = np.asarray(picture, np.int16)
        assert np.array_equal(strip, film[:, :, column].transpose(1, 0, 2))
        assert np.abs(np.diff(strip, axis=1)).mean((0, 2)).argmax() + 1 == 4


def test_the_first_unit_of_every_class_is_shown_longest_first(tmp_path: Path) -> None:
    units = [(f"{size}-{number}", f"{size} shots", 10 * size) for number in (0, 1) for size in range(2, 8)]
    both = [method(tmp_path / name, units) for name in ("cut", "held")]
    shown = dict(slices(both))
    assert list(shown) == ["7-0", "6-0", "5-0", "4-0"]
    assert len(shown) == MOST
    assert dict(slices(both[:1]))["7-0"] != shown["7-0"]  # a strip a method


def test_where_no_row_has_a_slice_there_is_none(tmp_path: Path) -> None:
    row = {"unit": "a", "length": 4.0, "facts": {"classes": ["2 shots"]}, "strip": None}
    assert not list(slices([Method(name="cut", folder=tmp_path, manifest={}, lines=(), rows=(row,))]))
