"""Rows of the table of what shots together cost: attention by groups, and a window of a take filmed again.

FLOPs and bytes of attention are counted at the published size, whose tensors hold nothing there; clocks and rounding
are read on fewer tokens. Weights are random: the seam of a window says what its measure is, not how well a model joins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from evals.benchmarks.cost_rows import interval_of_median
from generators.attention_groups import ACROSS, SceneMask, Scenes, attend_groups, groups
from generators.backends import BackendConfig, open_backend
from generators.clip import Canvas, Clip, Given, ShotRequest
from generators.costs import Cost, measured, processor_seconds
from generators.models.tiny import tiny_wan
from generators.seams import seam_jump

SHARE_LIMIT = 1.05
"""Of attention by groups, in FLOPs and in time, over the mask's share of the dense attention."""
ERROR_LIMIT = 1e-5
PUBLISHED = Scenes(texts=(226,) * 3, videos=(17_550,) * 3)
HEADS, HEAD_WIDTH = 48, 64
"""Of CogVideoX-5B."""
TIMED = Scenes(texts=(32,) * 3, videos=(2400,) * 3)
"""The published proportion of words to pictures, on tokens that a CPU attends to in a second."""
Qkv = tuple[Tensor, Tensor, Tensor]
FRAMES, WINDOW = 33, range(13, 21)
"""A take of nine latent frames, and the two of them, a quarter of the clip, that are filmed again."""


@dataclass(frozen=True, kw_only=True)
class SceneRow:
    """One measure of one method. A `limit` is what it must not exceed; `low` and `high` bound a timed one with 95 %."""

    method: str
    measure: str
    value: float
    limit: float | None = None
    low: float | None = None
    high: float | None = None


def grouped_rows(*, pairs: int = 7) -> list[SceneRow]:
    """Attention of three shots by groups, for every mask: FLOPs, time, bytes and rounding beside the dense one."""
    with FakeTensorMode():
        full = _qkv(PUBLISHED, HEADS, torch.bfloat16)
        whole = _cost(lambda: F.scaled_dot_product_attention(*full))
        costs = {mask: _cost(lambda mask=mask: _grouped(full, PUBLISHED, mask)) for mask in get_args(SceneMask)}  # type: ignore[misc]
    qkv = _qkv(TIMED, 1, torch.float32)
    rows = []
    for mask in get_args(SceneMask):
        method = f"attention by groups, {mask}"
        told = f"flops over the mask's share of the dense attention, {PUBLISHED.tokens} tokens"
        ratio = costs[mask].flops / whole.flops / _share(PUBLISHED, mask)
        square = costs[mask].peak_bytes / PUBLISHED.tokens**2
        rows += [
            SceneRow(method=method, measure=told, value=ratio, limit=SHARE_LIMIT),
            SceneRow(method=method, measure="peak bytes over a mask of a byte a pair", value=square, limit=1.0),
            _timed(method, qkv, mask, pairs),
            SceneRow(method=method, measure="error against a dense mask", value=_error(qkv, mask), limit=ERROR_LIMIT),
        ]
    return rows


def window_rows(steps: int = 4) -> list[SceneRow]:
    """A quarter of a take filmed again between its other frames, by both ways in which a model is given frames."""
    rows = []
    for way, at_zero in (("noised latents", False), ("tokens at zero", True)):
        method = f"a window filmed again, {way}"
        (whole, plain), (again, cost) = _refilmed(at_zero, steps)
        kept = np.ones(FRAMES, dtype=bool)
        kept[WINDOW.start : WINDOW.stop] = False
        changed = (again.frames != whole.frames).any(axis=(1, 2, 3))
        jump = seam_jump(again.frames, _outside(whole))
        assert jump is not None  # the window lies inside the clip
        rows += [
            SceneRow(method=method, measure="kept frames that changed", value=int(changed[kept].sum()), limit=0),
            SceneRow(method=method, measure="frames of the window that are new", value=int(changed[~kept].sum())),
            SceneRow(method=method, measure="flops over a full take", value=cost.flops / plain.flops),
            SceneRow(method=method, measure="seam jump in median frame differences, random weights", value=jump),
        ]
    return rows


def _refilmed(at_zero: bool, steps: int) -> tuple[tuple[Clip, Cost], tuple[Clip, Cost]]:
    """A full take and the same with its window filmed again from another seed, each with what it cost."""
    with TemporaryDirectory() as folder:
        backend = open_backend(
            BackendConfig(
                kind="local",
                model=str(tiny_wan("world", Path(folder), scheduler="euler")),
                device="cpu",
                canvas=Canvas(width=32, height=32, fps=8, frame_counts=(FRAMES,)),
                steps=steps,
                guidance=5.0,
                gives_tokens_at_zero=at_zero,
            )
        )

        def take(seed: int, given: tuple[Given, ...] = ()) -> tuple[Clip, Cost]:
            request = ShotRequest(
                prompt="a red fox walks", frames=FRAMES, fps=8, width=32, height=32, seed=seed, given=given
            )
            with measured() as meter:
                (clip,) = backend.shoot([request])
            return clip, meter.laps[0]

        whole = take(1)
        return whole, take(2, _outside(whole[0]))


def _outside(clip: Clip) -> tuple[Given, Given]:
    return (
        Given(first=0, frames=clip.frames[: WINDOW.start]),
        Given(first=WINDOW.stop, frames=clip.frames[WINDOW.stop :]),
    )


def _timed(method: str, qkv: Qkv, mask: SceneMask, pairs: int) -> SceneRow:
    def dense() -> Tensor:
        return F.scaled_dot_product_attention(*qkv)

    def ours() -> Tensor:
        return _grouped(qkv, TIMED, mask)

    ratios = [_seconds(ours) / _seconds(dense) / _share(TIMED, mask) for _ in range(pairs + 1)][1:]  # the first warms
    low, high = interval_of_median(ratios)
    told = f"time over the mask's share of the dense attention, {TIMED.tokens} tokens on a CPU"
    return SceneRow(method=method, measure=told, value=median(ratios), limit=SHARE_LIMIT, low=low, high=high)


def _seconds(work: Callable[[], Tensor]) -> float:
    with torch.no_grad():
        return processor_seconds(work)


def _error(qkv: Qkv, mask: SceneMask) -> float:
    """Largest difference from the masked softmax in float64."""
    q, k, v = (x.double() for x in qkv)
    slow = F.scaled_dot_product_attention(q, k, v, attn_mask=_allowed(TIMED, mask))
    return float((_grouped(qkv, TIMED, mask) - slow).abs().max())


def _grouped(qkv: Qkv, scenes: Scenes, mask: SceneMask) -> Tensor:
    q, k, v = qkv
    return attend_groups(q, k, v, groups(scenes, mask))


def _allowed(scenes: Scenes, mask: SceneMask) -> Tensor:
    """Who may see whom, token by token, (S, S)."""
    lengths = scenes.texts + scenes.videos
    scene = torch.repeat_interleave(torch.arange(len(lengths)) % len(scenes), torch.tensor(lengths))
    is_text = torch.arange(scenes.tokens) < scenes.columns
    met = {
        "VV": ~is_text[:, None] & ~is_text[None, :],
        "TT": is_text[:, None] & is_text[None, :],
        "TV": is_text[:, None] != is_text[None, :],
    }
    return torch.stack([scene[:, None] == scene[None, :], *(met[kinds] for kinds in ACROSS[mask])]).any(dim=0)


def _share(scenes: Scenes, mask: SceneMask) -> float:
    """Of all pairs of tokens, those that see each other, counted from the mask's words."""
    texts, videos = scenes.texts, scenes.videos
    pairs = sum((text + video) ** 2 for text, video in zip(texts, videos, strict=True))
    across = {
        "VV": sum(videos) ** 2 - sum(n * n for n in videos),
        "TT": sum(texts) ** 2 - sum(n * n for n in texts),
        "TV": 2 * (sum(texts) * sum(videos) - sum(text * video for text, video in zip(texts, videos, strict=True))),
    }
    return float(pairs + sum(across[kinds] for kinds in ACROSS[mask])) / scenes.tokens**2


def _qkv(scenes: Scenes, heads: int, dtype: torch.dtype) -> Qkv:
    shape = (1, heads, scenes.tokens, HEAD_WIDTH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)


def _cost(work: Callable[[], object]) -> Cost:
    with torch.no_grad(), measured() as meter:
        work()
    return meter.laps[0]
