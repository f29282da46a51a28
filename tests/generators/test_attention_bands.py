"""Bands over frames: however they are computed, against one pair of tokens at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from generators.attention import attend
from generators.attention_bands import RowBand, attend_factored, gaussian_table, known_band, off_frame_mass

H, F, G, D = 3, 5, 4, 8


def qkv(dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    q, k, v = (torch.randn(1, H, F * G, D, dtype=torch.float64).to(dtype) for _ in range(3))
    return q, k, v


def slow_band(q: Tensor, k: Tensor, v: Tensor, table: Tensor, scale: float, heads: list[float]) -> Tensor:
    """Every row alone: logits, their largest, the band between frames, softmax."""
    out = torch.zeros_like(v)
    for h in range(H):
        for i in range(F * G):
            phi = torch.tensor([float(q[0, h, i] @ k[0, h, j]) / D**0.5 for j in range(F * G)], dtype=torch.float64)
            top = max(float(phi.max()), 0.0)
            band = torch.tensor([float(table[i // G, j // G]) for j in range(F * G)], dtype=torch.float64)
            out[0, h, i] = (phi + scale * heads[h] * top * band).softmax(0) @ v[0, h]
    return out


def band(**changes: Any) -> RowBand:
    return replace(RowBand(table_FF=gaussian_table(F, 1.3), per_frame=G, scale=0.5), **changes)


@pytest.mark.parametrize("rows", [3, 4096])
@pytest.mark.parametrize("heads", [None, [1.0, 0.0, 1.0]])
def test_a_band_is_what_it_says_however_it_is_computed(rows: int, heads: list[float] | None) -> None:
    q, k, v = qkv()
    described = band(heads_H=None if heads is None else torch.tensor(heads))
    expected = slow_band(q, k, v, described.table_FF, 0.5, heads or [1.0] * H)
    known = known_band(described, q, k, "rowmax")
    lse = attend(q, k, v, [described])[1]
    for out, its_lse in (
        attend(q, k, v, [described], rows=rows),
        attend(q, k, v, [known], rows=rows),
        attend_factored(q, k, v, [known]),
    ):
        torch.testing.assert_close(out, expected, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(its_lse, lse, atol=1e-12, rtol=1e-12)


def test_a_constant_in_the_place_of_the_largest_logit_needs_no_logits() -> None:
    q, k, v = qkv()
    bias = 0.5 * 2.0 * gaussian_table(F, 1.3).repeat_interleave(G, 0).repeat_interleave(G, 1)
    expected = (q @ k.mT / D**0.5 + bias).softmax(-1) @ v
    out, _ = attend_factored(q, k, v, [known_band(band(), q, k, 2.0)])
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=1e-12)


def test_a_sample_of_the_keys_never_finds_more_than_the_largest_logit() -> None:
    torch.manual_seed(1)
    q, k = torch.randn(1, 2, 6 * 64, 16), torch.randn(1, 2, 6 * 64, 16)
    wide = RowBand(table_FF=gaussian_table(6, 1.0), per_frame=64)
    sampled, exact = (known_band(wide, q, k, which).size_BHN for which in ("sampled", "rowmax"))
    assert (sampled <= exact).all()
    assert 0.5 < float(sampled.mean() / exact.mean()) < 1


def test_a_band_reweighs_frames_and_leaves_what_is_inside_a_frame_as_it_is() -> None:
    q, k, _ = qkv()
    eye = torch.eye(F * G, dtype=torch.float64).expand(1, H, -1, -1)
    plain = attend(q, k, eye)[0].unflatten(-1, (F, G))
    banded = attend_factored(q, k, eye, [known_band(band(), q, k, "rowmax")])[0].unflatten(-1, (F, G))
    inside = [x / x.sum(-1, keepdim=True) for x in (plain, banded)]
    torch.testing.assert_close(*inside)
    own = torch.arange(F * G) // G
    gained = banded.sum(-1)[..., torch.arange(F * G), own] / plain.sum(-1)[..., torch.arange(F * G), own]
    assert (gained > 1).all()


@pytest.mark.parametrize("gain", [1.0, 3.0])
@pytest.mark.parametrize("magnitude", ["rowmax", "sampled", 3.0])
def test_weight_beside_text_is_kept_where_it_is_asked_for(magnitude: Any, gain: float) -> None:
    q, k, v = qkv()
    q = gain * q
    loose, kept = (known_band(band(keeps_mass=keeps), q, k, magnitude) for keeps in (False, True))
    _, plain = attend(q, k, v)
    out, moved = attend(q, k, v, [loose])
    assert (moved - plain).abs().mean() > 0.1
    for made, its_lse in (attend(q, k, v, [kept]), attend(q, k, v, [kept], rows=3), attend_factored(q, k, v, [kept])):
        torch.testing.assert_close(made, out, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(its_lse, plain, atol=1e-12, rtol=1e-12)
    if magnitude == "rowmax":
        torch.testing.assert_close(attend(q, k, v, [band(keeps_mass=True)])[1], plain, atol=1e-12, rtol=1e-12)


def test_each_of_two_bands_keeps_the_weight_or_not_as_it_says() -> None:
    q, k, v = qkv()
    near = known_band(band(keeps_mass=True), q, k, "rowmax")
    wide = known_band(band(table_FF=gaussian_table(F, 3.0), keeps_mass=True), q, k, 2.0)
    for biases in ([near, wide], [near, replace(wide, keeps_mass=False)]):
        torch.testing.assert_close(attend_factored(q, k, v, biases), attend(q, k, v, biases), atol=1e-12, rtol=1e-12)


def test_negative_rows_are_left_alone_unless_the_released_code_is_asked_for() -> None:
    q, k, v = qkv()
    q, k = q.abs(), -k.abs()
    assert torch.equal(attend(q, k, v, [band()])[0], attend(q, k, v)[0])
    assert not torch.allclose(attend(q, k, v, [band(negative=True)])[0], attend(q, k, v)[0])


@pytest.mark.slow
@settings(max_examples=10)
@given(dtype=st.sampled_from([torch.float32, torch.bfloat16]), seed=st.integers(0, 2**31 - 1))
def test_a_band_in_lower_precision_stays_near_the_exact_one(dtype: torch.dtype, seed: int) -> None:
    q, k, v = qkv(dtype, seed)
    exact = slow_band(q.double(), k.double(), v.double(), band().table_FF, 0.5, [1.0] * H)
    out, lse = attend_factored(q, k, v, [known_band(band(), q, k, "rowmax")])
    assert (out.dtype, lse.dtype) == (dtype, torch.float32)
    near = 1e-5 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(out.double(), exact, atol=near, rtol=near)


def test_gradients_flow_through_a_factored_band() -> None:
    q, k, v = (x.requires_grad_() for x in qkv())
    known = known_band(band(), q.detach(), k.detach(), "rowmax")
    slow, _ = attend(q, k, v, [known])
    quick, _ = attend_factored(q, k, v, [known])
    ours = torch.autograd.grad(quick.square().sum(), (q, k, v))
    torch.testing.assert_close(ours, torch.autograd.grad(slow.square().sum(), (q, k, v)))


def test_heads_that_look_at_their_own_frame_are_told_from_those_that_do_not() -> None:
    frame = torch.arange(F * G) // G
    own = 20 * torch.nn.functional.one_hot(frame, D).double()
    q = torch.stack([own, torch.zeros_like(own)])[None]
    mass = off_frame_mass(q, q, G)
    torch.testing.assert_close(mass, torch.tensor([0.0, 1 - 1 / F], dtype=torch.float64), atol=1e-9, rtol=0)
