"""What shots together cost: attention by groups beside the dense one, and a window of a take filmed again."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from evals.benchmarks import scene_rows
from evals.benchmarks.scene_rows import PUBLISHED, SHARE_LIMIT, grouped_rows, window_rows
from generators.attention_groups import SceneMask, Scenes, groups

MASKS: tuple[SceneMask, ...] = get_args(SceneMask)
SMALL = Scenes(texts=(3, 5, 2), videos=(14, 7, 21))


@pytest.mark.parametrize("mask", MASKS)
def test_a_masks_share_is_what_its_pairs_are_token_by_token(mask: SceneMask) -> None:
    assert scene_rows._share(SMALL, mask) == pytest.approx(scene_rows._allowed(SMALL, mask).double().mean().item())
    pairs = sum(group.pairs for group in groups(PUBLISHED, mask))
    assert scene_rows._share(PUBLISHED, mask) == pytest.approx(pairs / PUBLISHED.tokens**2)


def test_another_mask_than_asked_is_an_error_that_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_rows, "TIMED", SMALL)
    qkv = scene_rows._qkv(SMALL, 1, torch.float32)
    assert scene_rows._error(qkv, "v2") < scene_rows.ERROR_LIMIT
    monkeypatch.setattr(scene_rows, "groups", lambda scenes, mask: groups(scenes, "v1"))
    assert scene_rows._error(qkv, "v2") > 100 * scene_rows.ERROR_LIMIT


@pytest.mark.slow
def test_attention_by_groups_does_the_masks_share_of_the_work_without_a_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_rows, "TIMED", SMALL)
    rows = grouped_rows(pairs=2)
    assert len(rows) == 4 * len(MASKS)
    timed = [row for row in rows if row.low is not None]
    assert [row.limit for row in timed] == [SHARE_LIMIT] * len(MASKS)
    assert all(0 < (row.low or 0) <= row.value <= (row.high or 0) for row in timed)
    for row in rows:
        assert row in timed or row.value <= (row.limit or 0), row  # of so few tokens a clock tells nothing
    assert [row.value for row in rows if "flops" in row.measure] == pytest.approx([1.0] * len(MASKS), abs=0.05)


@pytest.mark.slow
def test_a_window_filmed_again_keeps_every_other_frame_and_costs_about_a_take() -> None:
    rows = window_rows(steps=2)
    assert len(rows) == 8
    for kept, new, flops, jump in (rows[:4], rows[4:]):
        assert (kept.value, new.value) == (0, 8)
        assert 1 < flops.value < 1.5  # the whole clip is denoised, and the frames that are kept are encoded
        assert jump.value > 0
