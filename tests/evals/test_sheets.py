"""Contact sheets: which units are shown, and a band a shot where a row names its shots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evals.benchmarks.protocol import as_json
from evals.metrics.score import NotMeasured, Outcome, Score
from evals.results import Method
from evals.sheets import SHOTS, best_and_worst, shot_fact
from generators.clip import Frames
from generators.pictures import Lane, SheetRow, contact_sheet


def strip(folder: Path, name: str, count: int) -> Frames:
    """A strip of so many frames, each of one grey, as it lies on the disk."""
    frames = np.repeat(np.linspace(10, 240, count).astype(np.uint8), 12)[None, :, None] * np.ones((8, 1, 3), np.uint8)
    Image.fromarray(frames).save(folder / name)
    return frames[None]


def method(folder: Path, values: Mapping[str, Outcome], facts: Mapping[str, Any]) -> Method:
    """A method with a unit a value, every one with a strip of four frames."""
    rows = [
        {"unit": name, "prompt": f"asks for {name}", "length": 8.0, "strip": f"{name}.png", "facts": facts,
         "outcomes": {"completion": as_json(value)}}
        for name, value in values.items()
    ]  # fmt: skip
    return Method(name="ours", folder=folder, manifest={}, lines=(), rows=tuple(rows))


def test_a_row_that_names_its_shots_has_a_band_a_shot(tmp_path: Path) -> None:
    lane = Lane(text="a fox jumps", promised=(1.0, 2.0), seen=(1.5, 2.5))
    missed = Lane(text="a fox sleeps", promised=(0.5, 3.0), seen=None)
    facts = {SHOTS: [shot_fact("first", 4.0, [lane]), shot_fact("second", 4.0, [missed])]}
    found = best_and_worst(method(tmp_path, {"a": Score(value=0.5)}, facts), "completion")
    assert found is None  # its strip is not there
    left, right = np.array_split(strip(tmp_path, "a.png", 4), 2, axis=2)
    bands = [
        SheetRow(label="1", text="best 0.500 · first", seconds=4.0, frames=left, lanes=(lane,)),
        SheetRow(label="2", text="second", seconds=4.0, frames=right, lanes=(missed,)),
    ]
    found = best_and_worst(method(tmp_path, {"a": Score(value=0.5)}, facts), "completion")
    assert found == contact_sheet("ours", "completion", bands)


def test_best_middle_and_worst_are_shown_once_each_and_what_was_not_measured_is_not(tmp_path: Path) -> None:
    facts = {SHOTS: [shot_fact("only", 4.0, [])]}
    values: dict[str, Outcome] = {name: Score(value=value) for name, value in zip("abcde", (0.1, 0.9, 0.5, 0.4, 0.8),
                                                                                  strict=True)}  # fmt: skip
    values["f"] = NotMeasured(reason="no video")
    frames = {name: strip(tmp_path, f"{name}.png", 4 + number) for number, name in enumerate("abcdef")}
    bands = [
        SheetRow(label="1", text=f"{rank} {value:.3f} · only", seconds=4.0, frames=frames[name])
        for rank, value, name in (("best", 0.9, "b"), ("median", 0.5, "c"), ("worst", 0.1, "a"))
    ]
    assert best_and_worst(method(tmp_path, values, facts), "completion") == contact_sheet("ours", "completion", bands)


def test_a_row_without_shots_is_one_band_with_its_prompt(tmp_path: Path) -> None:
    frames = strip(tmp_path, "a.png", 4)
    band = SheetRow(label="", text="best 1.000 · asks for a", seconds=8.0, frames=frames)
    found = best_and_worst(method(tmp_path, {"a": Score(value=1.0)}, {}), "completion")
    assert found == contact_sheet("ours", "completion", [band])
