"""The arithmetic of Video Storyboarding against slow references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from generators.attention import merge
from generators.attention_plain import attend_plain
from generators.controls.storyboarding_maths import (
    Anchor,
    Matches,
    dropped,
    flow_maps,
    flow_queries,
    flow_weight,
    injected,
    key_frames,
    mask_tokens,
    matches,
    otsu,
    smoothed,
    subject_attention,
    subject_tokens,
)

F, N, H, D = 3, 4, 2, 6
"""Frames, tokens of one, heads, head width."""


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def anchor(seed: int, density: float = 0.5) -> Anchor:
    mask = torch.rand(F * N, generator=torch.Generator().manual_seed(seed)) < density
    return Anchor(noise(H, F * N, D, seed=seed + 10), noise(H, F * N, D, seed=seed + 20), mask)


# Framewise subject-driven shared attention


@pytest.mark.parametrize("dilution", [1.0, F**0.5, float(F)])
def test_merged_attention_is_one_masked_softmax(dilution: float) -> None:
    q, k, v = (noise(1, H, F * N, D, seed=seed) for seed in range(3))
    anchors = [anchor(5), anchor(6)]
    made, lse = merge(attend_plain(q, k, v), subject_attention(q, anchors, F, dilution=dilution))
    frame = torch.arange(F * N) // N
    columns = [(k[0], v[0], torch.zeros(F * N, F * N, dtype=torch.float64))]
    for one in anchors:
        open_ = (frame[:, None] == frame[None, :]) & one.mask[None, :]
        bias = torch.full((F * N, F * N), math.log(dilution), dtype=torch.float64).masked_fill(~open_, -math.inf)
        columns.append((one.k, one.v, bias))
    logits = torch.cat([q[0] @ kk.mT / D**0.5 + bias for kk, _, bias in columns], dim=-1)
    values = torch.cat([vv for _, vv, _ in columns], dim=1)
    torch.testing.assert_close(made[0], logits.softmax(-1) @ values, atol=1e-13, rtol=1e-13)
    torch.testing.assert_close(lse[0], logits.logsumexp(-1), atol=1e-13, rtol=1e-13)


def test_frames_without_a_subject_read_nothing_more() -> None:
    q, k, v = (noise(1, H, F * N, D, seed=seed) for seed in range(3))
    seen = anchor(5)
    hidden = seen._replace(mask=seen.mask & (torch.arange(F * N) >= N))
    own = attend_plain(q, k, v)
    out, lse = merge(own, subject_attention(q, [hidden], F))
    assert torch.equal(out[:, :, :N], own[0][:, :, :N])
    assert not torch.equal(out[:, :, N:], own[0][:, :, N:])
    assert lse.isfinite().all()
    nobody, _ = merge(own, subject_attention(q, [], F))
    assert torch.equal(nobody, own[0])


# Q flow


def test_keyframes_are_evenly_spaced_and_the_last_frame_is_one() -> None:
    assert key_frames(16, 5) == (0, 5, 10, 15)
    assert key_frames(21, 5) == (0, 5, 10, 15, 20)
    assert key_frames(9, 5) == (0, 5, 8)
    assert key_frames(1, 5) == (0,)


def test_the_published_weight_falls_from_073_to_half() -> None:
    shown = [flow_weight(frame, 0, 4, "sigmoid") for frame in (0, 2, 4)]
    assert shown == pytest.approx([0.731, 0.622, 0.5], abs=5e-4)
    assert [flow_weight(frame, 0, 4, "linear") for frame in (0, 1, 4)] == [1.0, 0.75, 0.0]


@pytest.mark.parametrize("weight", ["sigmoid", "linear"])
def test_flow_queries_are_those_of_the_slow_loop(weight: str) -> None:
    frames, keys = 6, (0, 3, 5)
    vanilla, own = noise(frames * N, H * D, seed=1), noise(1, H, frames * N, D, seed=2)
    made = flow_queries(own, flow_maps(vanilla, frames, keys), frames, weight)  # type: ignore[arg-type]
    v, q = vanilla.view(frames, N, -1).numpy(), own.view(H, frames, N, D).numpy()
    slow = q.copy()
    for f in range(frames):
        if f in keys:
            continue
        a, b = max(k for k in keys if k < f), min(k for k in keys if k > f)
        for p in range(N):
            best = []
            for key in (a, b):
                cosines = [v[f, p] @ v[key, o] / np.linalg.norm(v[f, p]) / np.linalg.norm(v[key, o]) for o in range(N)]
                best.append(int(np.argmax(cosines)))
            x = (b - f) / (b - a)
            w = x if weight == "linear" else 1 / (1 + np.exp(-x))
            slow[:, f, p] = w * q[:, a, best[0]] + (1 - w) * q[:, b, best[1]]
    np.testing.assert_allclose(made.view(H, frames, N, D).numpy(), slow, atol=1e-12)


def test_a_still_clip_leads_every_token_to_itself() -> None:
    frame = noise(N, H * D)
    (found, _) = flow_maps(frame.repeat(4, 1), 4, (0, 3))
    assert found.nearest.dtype is torch.int16
    assert found.nearest.tolist() == [list(range(N))] * 2
    still = noise(1, H, N, D).repeat(1, 1, 4, 1)
    torch.testing.assert_close(flow_queries(still, flow_maps(frame.repeat(4, 1), 4, (0, 3)), 4), still)


def test_dropout_is_the_same_for_one_shot_step_and_layer_and_of_the_asked_size() -> None:
    first, again, other = (dropped(4000, 0.4, seed=1, step=2, layer=layer) for layer in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.float().mean()) == pytest.approx(0.4, abs=0.03)


# Correspondences of what moved


def moving(frames: int, side: int, step: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features (F side side, C) of a pattern that moves by `step` (rows, columns) a frame, a tenth of noise on it.

    And where each token of a frame was in the first, -1 for what was not in sight.
    """
    pattern = noise(3 * side, 3 * side, 16, seed=seed)
    shown, was = [], []
    index = torch.arange(side)
    for f in range(frames):
        y, x = (side + index - f * by for by in step)
        shown.append(pattern[y][:, x] + 0.1 * noise(side, side, 16, seed=seed + 100 + f))
        inside = ((y >= side) & (y < 2 * side))[:, None] & ((x >= side) & (x < 2 * side))[None, :]
        was.append(torch.where(inside, (y - side)[:, None] * side + (x - side)[None, :], -1).flatten())
    return torch.stack(shown).flatten(0, 2), torch.stack(was)


@pytest.mark.parametrize("step", [(0, 1), (2, 0), (1, -1)])
def test_flow_maps_follow_a_pattern_that_moves(step: tuple[int, int]) -> None:
    frames, side = 4, 8
    features, was = moving(frames, side, step)
    found = {one.frame: one.nearest.long() for one in flow_maps(features, frames, (0, 3))}
    assert sorted(found) == [1, 2]
    for frame, (first, last) in found.items():
        seen = was[frame] >= 0
        assert torch.equal(first[seen], was[frame][seen])
        back = {int(place): token for token, place in enumerate(was[3].tolist()) if place >= 0}
        pairs = [(token, back[place]) for token, place in enumerate(was[frame].tolist()) if place in back]
        assert len(pairs) >= side
        assert all(int(last[token]) == there for token, there in pairs)


def test_matches_follow_a_subject_that_stands_elsewhere() -> None:
    side, step = 8, (1, 2)
    features, was = moving(2, side, step)
    anchor, own = features.view(2, side * side, -1)
    subject = torch.zeros(side, side, dtype=torch.bool)
    subject[2:6, 1:5] = True
    moved = subject.roll(step, (0, 1)).flatten()
    found = matches(own, [(noise(side * side, 16, seed=50), subject.flatten()), (anchor, subject.flatten())])
    assert found.anchor[moved].tolist() == [1] * 16
    assert torch.equal(found.place[moved], was[1][moved])
    assert float(found.distance[moved].max()) < float(found.distance[~moved].min())


# Masks


@given(st.lists(st.integers(0, 12), min_size=2, max_size=12))
def test_otsu_parts_as_every_threshold_tried_would(values: list[int]) -> None:
    x = torch.tensor(values, dtype=torch.float64)

    def between(threshold: float) -> float:
        high, low = x[x > threshold], x[x <= threshold]
        if not len(high) or not len(low):
            return 0.0
        return float(len(high) * len(low) * (high.mean() - low.mean()) ** 2)

    best = max(between(t + 0.5) for t in range(-1, 13))
    assert between(float(otsu(x))) == pytest.approx(best)


def test_a_map_is_on_where_each_frame_stands_out() -> None:
    quiet, loud = torch.tensor([[0.1, 0.1, 0.3]]), torch.tensor([[5.0, 9.0, 5.0]])
    assert subject_tokens(torch.stack([quiet, loud])).tolist() == [False, False, True, False, True, False]


def test_a_token_is_the_subjects_where_most_of_its_cell_is_in_any_of_its_frames() -> None:
    mask = torch.zeros(5, 4, 4, dtype=torch.bool)
    mask[0, :2, :2] = True
    mask[3, 2:, 1:] = True
    made = mask_tokens(mask, [range(1), range(1, 5)], (2, 2, 2))
    assert made.tolist() == [True, False, False, False, False, False, False, True]


# Refinement


def test_matches_are_the_nearest_subject_tokens_of_any_anchor() -> None:
    own = noise(5, 8, seed=1)
    anchors = [(noise(7, 8, seed=seed), torch.tensor([True, False] * 3 + [True])) for seed in (2, 3)]
    found = matches(own, anchors)
    for p in range(5):
        slow = {
            (a, o): 1 - float(torch.cosine_similarity(own[p], features[o], dim=0))
            for a, (features, mask) in enumerate(anchors)
            for o in range(7)
            if mask[o]
        }
        best = min(slow, key=lambda pair: slow[pair])
        assert (int(found.anchor[p]), int(found.place[p])) == best
        assert float(found.distance[p]) == pytest.approx(slow[best], abs=1e-12)


def test_where_no_anchor_shows_its_subject_everything_is_as_far_as_can_be() -> None:
    found = matches(noise(3, 8), [(noise(4, 8, seed=1), torch.zeros(4, dtype=torch.bool))])
    assert found.distance.tolist() == [2.0] * 3


def _shots() -> tuple[Tensor, list[Matches], Tensor, list[tuple[int, ...]]]:
    out, features = noise(3, 6, 5, seed=1), noise(3, 6, 8, seed=2)
    masks = torch.tensor([[True] * 5 + [False], [True] * 6, [False, True, True, True, True, False]])
    anchors = [(1,), (0,), (0, 1)]
    found = [matches(features[s], [(features[a], masks[a]) for a in names]) for s, names in enumerate(anchors)]
    return out, found, masks, anchors


@pytest.mark.parametrize("order", ["simultaneous", "sequential"])
def test_injection_is_that_of_the_slow_loop(order: str) -> None:
    out, found, masks, anchors = _shots()
    made = injected(out, found, masks, anchors, alpha=0.8, order=order)  # type: ignore[arg-type]
    slow, before = out.clone(), out.clone()
    for shot, match in enumerate(found):
        enough = float(otsu(match.distance[masks[shot]]))
        read = slow.clone() if order == "sequential" else before
        for p in range(6):
            if masks[shot, p] and float(match.distance[p]) < enough:
                row = anchors[shot][int(match.anchor[p])]
                slow[shot, p] = 0.8 * read[row, int(match.place[p])] + 0.2 * slow[shot, p]
    torch.testing.assert_close(made, slow, atol=1e-14, rtol=0)
    assert not torch.equal(made, out)
    assert torch.equal(made[~masks], out[~masks])


def test_the_released_order_reads_what_was_already_changed() -> None:
    out, found, masks, anchors = _shots()
    clean, released = (injected(out, found, masks, anchors, order=o) for o in ("simultaneous", "sequential"))  # type: ignore[arg-type]
    assert torch.equal(clean[0], released[0])
    assert not torch.allclose(clean, released)


def test_a_projection_may_come_before_or_after_injection() -> None:
    """Published on the projected output; blending weights add up to one, so both are the same."""
    out, found, masks, anchors = _shots()
    weight, bias = noise(5, 5, seed=7), noise(5, seed=8)
    first = injected(out, found, masks, anchors) @ weight + bias
    torch.testing.assert_close(first, injected(out @ weight + bias, found, masks, anchors))


def test_smoothing_keeps_what_is_flat_and_spreads_a_point_as_a_gaussian() -> None:
    flat = torch.full((1, 2, 4, 4), 3.0)
    torch.testing.assert_close(smoothed(flat), flat)
    point = torch.zeros(1, 1, 5, 5)
    point[0, 0, 2, 2] = 1
    made = smoothed(point)[0, 0]
    assert float(made.sum()) == pytest.approx(1)
    assert float(made[2, 1] / made[2, 2]) == pytest.approx(math.exp(-0.5))
    assert float(made[1, 1] / made[2, 2]) == pytest.approx(math.exp(-1.0))
