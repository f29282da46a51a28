"""Attention of several scenes in one sequence, masked without a mask: groups of rows attend to whole runs of keys.

The sequence is [T_1 .. T_n | V_1 .. V_n], each scene's text and then each scene's video, n scenes of any lengths. Who
may see whom (Mask2DiT, section 3.1; s is a token's scene, m its modality):

    own   s(x) = s(y)                       the scene's own text and video
    v1    own
    v2    own, or both are video            the published model
    v3    v2, or both are text
    v4    v2, or one is text and the other video
    v5    all

All are symmetric. A row's keys are a few runs of neighbours, so a group of rows with the same keys is a plain attention
on each run, merged by log-sum-exp: exact, without a tokens x tokens tensor, without copies of keys, on fused kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.attention import Collected, merge
from generators.attention_plain import attend_plain

SceneMask = Literal["v1", "v2", "v3", "v4", "v5"]

ACROSS: dict[SceneMask, tuple[str, ...]] = {
    "v1": (),
    "v2": ("VV",),
    "v3": ("VV", "TT"),
    "v4": ("VV", "TV"),
    "v5": ("VV", "TT", "TV"),
}
"""What meets across scenes: video and video, text and text, text and video. Within a scene everything meets."""


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """How scenes lie in one sequence: the tokens of each scene's text and of each scene's video."""

    texts: tuple[int, ...]
    videos: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.videos) or not self.texts:
            raise ValueError(f"Scenes: expected a text for each video, got {len(self.texts)} and {len(self.videos)}")
        if min(self.texts + self.videos) < 1:
            raise ValueError(f"Scenes: expected no empty text or video, got {self.texts} and {self.videos}")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def columns(self) -> int:
        """Text tokens of all scenes."""
        return sum(self.texts)

    @property
    def tokens(self) -> int:
        """Tokens of the whole sequence."""
        return self.columns + sum(self.videos)

    @property
    def text_runs(self) -> tuple[slice, ...]:
        """Where each scene's text stands in the sequence."""
        return _runs(self.texts, 0)

    @property
    def video_runs(self) -> tuple[slice, ...]:
        """Where each scene's video stands in the sequence."""
        return _runs(self.videos, self.columns)


@dataclass(frozen=True)
class Group:
    """Rows that see the same keys: one run of rows, and runs of keys that do not touch."""

    rows: slice
    keys: tuple[slice, ...]

    @property
    def pairs(self) -> int:
        """Logits of the group, in one head."""
        return _length(self.rows) * sum(_length(run) for run in self.keys)


def groups(scenes: Scenes, mask: SceneMask) -> tuple[Group, ...]:
    """The groups of a mask in the order of their rows, which cover the sequence. Raises ValueError for another mask."""
    if mask not in ACROSS:
        raise ValueError(f"mask: expected one of {', '.join(ACROSS)}, got {mask!r}")
    each = [Group(rows, _keys(scenes, mask, scene, "T")) for scene, rows in enumerate(scenes.text_runs)]
    each += [Group(rows, _keys(scenes, mask, scene, "V")) for scene, rows in enumerate(scenes.video_runs)]
    return tuple(_joined(each))


def attend_groups(q_BHSD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, parts: Sequence[Group]) -> Tensor:
    """The attention of all groups, (B, H, S, D) in v's dtype, laid out row by row; S is the whole sequence.

    Groups are done one after the other, each with the fused kernel of its device. Gradients flow.
    """
    out = Collected(q_BHSD, v_BHSD)
    for group in parts:
        out.add(group.rows, _attended(q_BHSD[:, :, group.rows], k_BHSD, v_BHSD, group.keys))
    return out.whole()


def _attended(q_BHnD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, keys: Sequence[slice]) -> Tensor:
    if len(keys) == 1:
        return F.scaled_dot_product_attention(q_BHnD, k_BHSD[:, :, keys[0]], v_BHSD[:, :, keys[0]])
    if _tells_log_sum_exp(q_BHnD, k_BHSD, v_BHSD):
        return reduce(merge, (attend_plain(q_BHnD, k_BHSD[:, :, run], v_BHSD[:, :, run]) for run in keys))[0]
    k, v = (torch.cat([x[:, :, run] for run in keys], dim=2) for x in (k_BHSD, v_BHSD))
    return F.scaled_dot_product_attention(q_BHnD, k, v)


def _tells_log_sum_exp(*qkv: Tensor) -> bool:
    """Whether a fused kernel tells it here; if not, the keys of one group at a time are put side by side."""
    if torch.is_grad_enabled() and any(x.requires_grad for x in qkv):
        return False
    half = qkv[0].dtype in (torch.float16, torch.bfloat16)
    return qkv[0].device.type == "cpu" or (qkv[0].device.type == "cuda" and half)


def _keys(scenes: Scenes, mask: SceneMask, scene: int, kind: Literal["T", "V"]) -> tuple[slice, ...]:
    met: list[slice] = []
    for other, runs in (("T", scenes.text_runs), ("V", scenes.video_runs)):
        met += runs if "".join(sorted(kind + other)) in ACROSS[mask] else runs[scene : scene + 1]
    return tuple(_touching(met))


def _touching(runs: Sequence[slice]) -> Iterator[slice]:
    """Runs in order, neighbours made one."""
    start, stop = runs[0].start, runs[0].stop
    for run in runs[1:]:
        if run.start != stop:
            yield slice(start, stop)
            start = run.start
        stop = run.stop
    yield slice(start, stop)


def _joined(each: Sequence[Group]) -> Iterator[Group]:
    """Groups in order, neighbours with the same keys made one."""
    current = each[0]
    for group in each[1:]:
        if group.keys == current.keys:
            current = Group(slice(current.rows.start, group.rows.stop), current.keys)
            continue
        yield current
        current = group
    yield current


def _runs(lengths: Sequence[int], start: int) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in pairwise(accumulate(lengths, initial=start)))


def _length(run: slice) -> int:
    length: int = run.stop - run.start
    return length
