"""A set that does not fit into memory is filmed in smaller batches, not shot by shot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.backends.local import LocalBackend
from generators.cast_memory import fewer_at_once
from generators.clip import ShotRequest, ShotSet
from generators.errors import OutOfMemory
from generators.models.tiny import tiny_wan
from tests.generators.test_segmenters import tiny_clipseg

PROMPTS = ("a red fox jumps", "the red fox spins", "a red fox walks to the left", "the red fox lies down")


def shots() -> ShotSet:
    requests = tuple(
        ShotRequest(prompt=prompt, frames=9, fps=8, width=32, height=32, seed=i, steps=10)
        for i, prompt in enumerate(PROMPTS)
    )
    return ShotSet(requests=requests, subjects=("red fox",) * 4, anchors=2, wanted=(0, 1, 2, 3))


def backend(folder: Path, room: int | None = None, at_once: int | None = None) -> LocalBackend:
    """One whose network runs out of memory with more than `room` rows in a pass."""
    made = LocalBackend(str(folder), device="cpu", at_once=at_once)
    assert made.model is not None
    (network,) = made.model.experts  # type: ignore[attr-defined]

    def check(module: Any, args: Any, told: dict[str, Any]) -> None:
        if room is not None and len(told["hidden_states"]) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    network.register_forward_pre_hook(check, with_kwargs=True)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan("world", tmp_path_factory.mktemp("model"), scheduler="euler")


def test_half_of_what_rides_beside_the_anchors_is_tried_next() -> None:
    def tried(shots: int, anchors: int) -> list[int]:
        found: list[int] = []
        while (smaller := fewer_at_once(shots, anchors, found[-1] if found else None)) is not None:
            found.append(smaller)
        return found

    assert tried(12, 2) == [7, 5, 4, 3]
    assert tried(4, 2) == [3]
    assert tried(3, 2) == []


@pytest.mark.slow
def test_a_set_that_runs_out_of_memory_is_filmed_in_smaller_batches_and_says_so(folder: Path) -> None:
    clips = backend(folder, room=6).shoot_set(shots())
    asked = backend(folder, at_once=3).shoot_set(shots())
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(clips, asked, strict=True))
    assert [clip.composition for clip in clips] == [clip.composition for clip in asked]
    assert all("filmed 3 shots of the set at once: more did not fit into memory" in clip.notes for clip in clips)
    assert not any("at once" in note for clip in asked for note in clip.notes)


@pytest.mark.slow
def test_a_set_of_which_not_even_the_smallest_batch_fits_is_told_so(folder: Path) -> None:
    with pytest.raises(OutOfMemory, match=r"ran out of memory .* film a smaller size"):
        backend(folder, room=1).shoot_set(shots())


def rows_of(made: LocalBackend) -> int:
    """Rows that its network computes for the set."""
    assert made.model is not None
    (network,) = made.model.experts  # type: ignore[attr-defined]
    rows = [0]

    def count(module: Any, args: Any, told: dict[str, Any]) -> None:
        rows[0] += len(told["hidden_states"])

    network.register_forward_pre_hook(count, with_kwargs=True)
    made.shoot_set(shots())
    return rows[0]


@pytest.mark.slow
def test_what_is_kept_of_the_first_sweep_is_the_backends_own_setting(folder: Path) -> None:
    assert rows_of(LocalBackend(str(folder), device="cpu", keeps="flow maps")) < rows_of(backend(folder))


@pytest.mark.slow
def test_clipseg_finds_the_subject_where_the_backend_is_told_so(folder: Path, tmp_path: Path) -> None:
    place = tiny_clipseg(tmp_path / "clipseg", seed=0)
    plain = backend(folder).shoot_set(shots())
    clipseg = LocalBackend(str(folder), device="cpu", clipseg=str(place)).shoot_set(shots())
    assert plain[0].composition != clipseg[0].composition
    assert any("attention" in note for note in plain[0].notes)
    assert not any("attention" in note for note in clipseg[0].notes)
