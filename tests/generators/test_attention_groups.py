"""Masks of several scenes: groups against a dense mask, their pairs, their cost."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from generators.attention_groups import SceneMask, Scenes, attend_groups, groups
from generators.costs import measured

MASKS: tuple[SceneMask, ...] = get_args(SceneMask)
UNEQUAL = Scenes(texts=(3, 5, 2), videos=(14, 7, 21))
PUBLISHED = Scenes(texts=(226,) * 3, videos=(17_550,) * 3)
B, H, D = 2, 3, 8
EXACT = 5e-14
"""Rounding of float64: what was read is under 1e-14, the references' own figures are about 1e-15."""


def dense(scenes: Scenes, mask: SceneMask) -> Tensor:
    """The masks token by token, from scene ids and modalities, as section 2 of the paper words them."""
    lengths = scenes.texts + scenes.videos
    scene = torch.tensor([i for i, length in enumerate(lengths) for _ in range(length)]) % len(scenes)
    is_text = torch.arange(sum(lengths)) < sum(scenes.texts)
    own = scene[:, None] == scene[None, :]
    both_video = ~is_text[:, None] & ~is_text[None, :]
    both_text = is_text[:, None] & is_text[None, :]
    unlike = is_text[:, None] != is_text[None, :]
    return {
        "v1": own,
        "v2": own | both_video,
        "v3": own | both_video | both_text,
        "v4": own | both_video | unlike,
        "v5": torch.ones_like(own),
    }[mask]


def drawn(scenes: Scenes, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = (B, H, scenes.tokens, D)
    q, k, v = (2 * torch.randn(shape, generator=generator, dtype=dtype) for _ in range(3))
    return q, k, v


@pytest.mark.parametrize("mask", MASKS)
def test_the_groups_are_the_mask(mask: SceneMask) -> None:
    seen = torch.zeros(UNEQUAL.tokens, UNEQUAL.tokens, dtype=torch.int)
    for group in groups(UNEQUAL, mask):
        for run in group.keys:
            seen[group.rows, run] += 1
    assert torch.equal(seen, dense(UNEQUAL, mask).int())


@pytest.mark.parametrize("mask", MASKS)
def test_whoever_is_seen_sees_back(mask: SceneMask) -> None:
    seen = torch.zeros(UNEQUAL.tokens, UNEQUAL.tokens, dtype=torch.bool)
    for group in groups(UNEQUAL, mask):
        for run in group.keys:
            seen[group.rows, run] = True
    assert torch.equal(seen, seen.T)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, EXACT)])
def test_groups_give_what_a_dense_mask_gives(mask: SceneMask, dtype: torch.dtype, bound: float) -> None:
    q, k, v = drawn(UNEQUAL, dtype)
    logits = q.double() @ k.double().transpose(-1, -2) / D**0.5
    weights = logits.masked_fill(~dense(UNEQUAL, mask), -torch.inf).softmax(-1)
    assert (attend_groups(q, k, v, groups(UNEQUAL, mask)) - weights @ v.double()).abs().max() < bound


@pytest.mark.parametrize("mask", MASKS)
def test_gradients_are_those_of_the_dense_mask(mask: SceneMask) -> None:
    qkv = [x.requires_grad_() for x in drawn(UNEQUAL)]
    out = attend_groups(qkv[0], qkv[1], qkv[2], groups(UNEQUAL, mask))
    slow = F.scaled_dot_product_attention(*qkv, attn_mask=dense(UNEQUAL, mask))
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(4), dtype=out.dtype)
    ours, theirs = (torch.autograd.grad((x * pull).sum(), qkv) for x in (out, slow))
    assert max((a - b).abs().max() for a, b in zip(ours, theirs, strict=True)) < EXACT


def test_groups_give_what_the_slow_loop_over_rows_gives() -> None:
    scenes = Scenes(texts=(2, 1), videos=(3, 4))
    (q, k, v), mask = drawn(scenes), dense(scenes, "v2")
    rows = []
    for row in range(scenes.tokens):
        allowed = mask[row].nonzero().flatten()
        weights = (q[:, :, row, None] @ k[:, :, allowed].transpose(-1, -2) / D**0.5).exp()
        rows.append((weights / weights.sum(-1, keepdim=True)) @ v[:, :, allowed])
    assert (attend_groups(q, k, v, groups(scenes, "v2")) - torch.cat(rows, dim=2)).abs().max() < EXACT


@pytest.mark.parametrize(
    ("mask", "millions", "share"),
    [("v1", 948, 0.333), ("v2", 2796, 0.983), ("v3", 2796, 0.983), ("v4", 2844, 0.9999), ("v5", 2844, 1.0)],
)
def test_pairs_at_the_published_size_are_the_published_ones(mask: SceneMask, millions: int, share: float) -> None:
    pairs = sum(group.pairs for group in groups(PUBLISHED, mask))
    assert PUBLISHED.tokens == 53_328
    assert round(pairs / 1e6) == millions
    assert pairs / PUBLISHED.tokens**2 == pytest.approx(share, abs=6e-4)


def test_one_scene_is_one_group_whatever_the_mask() -> None:
    scenes = Scenes(texts=(4,), videos=(9,))
    for mask in MASKS:
        assert sum(group.pairs for group in groups(scenes, mask)) == scenes.tokens**2
    q, k, v = drawn(scenes, torch.float32)
    assert torch.equal(attend_groups(q, k, v, groups(scenes, "v5")), F.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("mask", MASKS)
def test_work_is_the_masks_share_and_no_square_is_built(mask: SceneMask) -> None:
    scenes = Scenes(texts=(16,) * 3, videos=(330,) * 3)
    q, k, v = drawn(scenes, torch.float32)
    with torch.no_grad(), measured() as ours:
        attend_groups(q, k, v, groups(scenes, mask))
    with torch.no_grad(), measured() as whole:
        F.scaled_dot_product_attention(q, k, v)
    share = dense(scenes, mask).float().mean().item()
    assert ours.laps[0].flops / whole.laps[0].flops == pytest.approx(share, rel=0.05)
    assert ours.laps[0].peak_bytes < 4 * q.nbytes  # its output, and what merging one group takes
    assert ours.laps[0].peak_bytes < scenes.tokens**2  # the smallest mask there is: a byte a pair, for all heads


def test_a_mask_that_is_not_one_of_the_five_is_refused() -> None:
    with pytest.raises(ValueError, match="v1, v2, v3, v4, v5"):
        groups(UNEQUAL, "v6")  # type: ignore[arg-type]


def test_scenes_without_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="no empty text or video"):
        Scenes(texts=(3, 3), videos=(9, 0))
    with pytest.raises(ValueError, match="a text for each video"):
        Scenes(texts=(3,), videos=(9, 9))
