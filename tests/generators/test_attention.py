from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from generators import attention_bands
from generators.attention import LOGITS, attend, column_mass, merge
from generators.attention_bands import RowBand, attend_factored, gaussian_table, known_band
from generators.attention_plain import attend_plain
from generators.costs import measured

torch.manual_seed(0)
B, H, N, M, D = 2, 3, 12, 7, 8


def slow_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """One row at a time, as it is written in every paper."""
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for n in range(q.shape[2]):
                logits = torch.stack([q[b, h, n] @ key / q.shape[-1] ** 0.5 for key in k[b, h]]) + bias[b, h, n]
                weights = logits.exp() / logits.exp().sum()
                out[b, h, n] = sum(weight * value for weight, value in zip(weights, v[b, h], strict=True))
    return out


@dataclass
class Columns:
    """Twice the row's largest logit on some columns."""

    columns: Tensor

    def values(self, rows: slice, logits_BHnM: Tensor) -> Tensor:
        return 2 * logits_BHnM.amax(-1, keepdim=True).expand(*logits_BHnM.shape[:-1], len(self.columns))


@dataclass
class Band:
    """A Gaussian band over frames, for self-attention: rows and columns lie frame by frame."""

    per_frame: int
    columns: None = None

    def values(self, rows: slice, logits_BHnM: Tensor) -> Tensor:
        row = torch.arange(rows.start, rows.stop) // self.per_frame
        column = torch.arange(logits_BHnM.shape[-1]) // self.per_frame
        return torch.exp(-0.5 * (row[:, None] - column[None, :]).to(logits_BHnM.dtype) ** 2)


@dataclass
class Groups:
    """Rows of the first half do not see the columns of the second, and the other way round."""

    half: int
    columns: None = None

    def values(self, rows: slice, logits_BHnM: Tensor) -> Tensor:
        row = torch.arange(rows.start, rows.stop) < self.half
        column = torch.arange(logits_BHnM.shape[-1]) < self.half
        return torch.where(row[:, None] == column[None, :], 0.0, -torch.inf)


def random_qkv(columns: int = M) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.randn(B, H, N, D, dtype=torch.float64),
        torch.randn(B, H, columns, D, dtype=torch.float64),
        torch.randn(B, H, columns, D, dtype=torch.float64),
    )


@pytest.mark.parametrize("rows", [1, 5, 4096])
def test_attention_agrees_with_one_row_at_a_time_for_any_chunk(rows: int) -> None:
    q, k, v = random_qkv()
    out, lse = attend(q, k, v, rows=rows)
    torch.testing.assert_close(out, slow_attention(q, k, v, torch.zeros(B, H, N, M)))
    torch.testing.assert_close(lse, (q @ k.mT / D**0.5).logsumexp(-1))


@pytest.mark.parametrize("rows", [5, 4096])
def test_biases_are_read_from_the_unbiased_logits_and_summed(rows: int) -> None:
    q, k, v = random_qkv(columns=N)
    first, second, band = Columns(torch.tensor([4, 1])), Columns(torch.tensor([1])), Band(per_frame=4)
    top = 2 * (q @ k.mT / D**0.5).amax(-1)
    whole = band.values(slice(0, N), torch.zeros(1, 1, N, N, dtype=torch.float64)).expand(B, H, N, N).clone()
    whole[..., 1] += 2 * top
    whole[..., 4] += top
    out, _ = attend(q, k, v, [first, second, band], rows=rows)
    torch.testing.assert_close(out, slow_attention(q, k, v, whole))


def test_a_group_mask_is_two_attentions() -> None:
    q, k, v = random_qkv(columns=N)
    out, _ = attend(q, k, v, [Groups(half=6)], rows=5)
    for part in (slice(0, 6), slice(6, N)):
        apart, _ = attend(q[:, :, part], k[:, :, part], v[:, :, part])
        torch.testing.assert_close(out[:, :, part], apart)


def test_counted_columns_stand_for_equal_keys() -> None:
    q, k, v = random_qkv()
    counts = torch.tensor([1.0, 1, 1, 1, 1, 1, 6])
    long_k, long_v = (torch.cat([x, *[x[:, :, -1:]] * 5], dim=2) for x in (k, v))
    torch.testing.assert_close(attend(q, k, v, counts_M=counts), attend(q, long_k, long_v))
    columns = torch.tensor([0, 2])
    torch.testing.assert_close(column_mass(q, k, columns, counts_M=counts, rows=5), column_mass(q, long_k, columns))


def test_merging_by_log_sum_exp_is_one_softmax_over_both_sets_of_keys() -> None:
    q, k, v = random_qkv()
    split = merge(attend(q, k[:, :, :3], v[:, :, :3]), attend(q, k[:, :, 3:], v[:, :, 3:]))
    torch.testing.assert_close(split, attend(q, k, v))


def test_column_mass_is_the_mean_probability_over_heads_and_columns() -> None:
    q, k, _ = random_qkv()
    probability = (q @ k.mT / D**0.5).softmax(-1)
    expected = probability[..., [1, 5]].mean(dim=(1, 3))
    torch.testing.assert_close(column_mass(q, k, torch.tensor([1, 5]), rows=5), expected)


@pytest.mark.slow
@settings(max_examples=30)
@given(
    rows=st.integers(1, 16),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 2**31 - 1),
    banded=st.booleans(),
)
def test_lower_precision_is_rounded_where_it_comes_in_and_where_it_goes_out(
    rows: int, dtype: torch.dtype, seed: int, banded: bool
) -> None:
    draw = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, 2, N, D, generator=draw, dtype=torch.float64).to(dtype) for _ in range(3))
    bias = Band(per_frame=4) if banded else Columns(torch.tensor([4, 1]))
    logits = q.double() @ k.double().mT / D**0.5
    whole = torch.zeros_like(logits)
    if banded:
        whole += bias.values(slice(0, N), logits)
    else:
        whole[..., [4, 1]] = bias.values(slice(0, N), logits)
    out, lse = attend(q, k, v, [bias], rows=rows)
    assert (out.dtype, lse.dtype) == (dtype, torch.float32)
    near = 1e-5 if dtype == torch.float32 else 2**-8
    expected = slow_attention(q.double(), k.double(), v.double(), whole)
    torch.testing.assert_close(out.double(), expected, atol=near, rtol=near)
    torch.testing.assert_close(lse.double(), (logits + whole).logsumexp(-1), atol=1e-5, rtol=1e-5)


def test_gradients_flow_to_queries_keys_and_values() -> None:
    q, k, v = (x[:1, :1, :3].requires_grad_() for x in random_qkv())
    assert torch.autograd.gradcheck(
        lambda *qkv: attend(*qkv, [Columns(torch.tensor([1]))], rows=2), (q, k, v), atol=1e-4
    )


FAR = 1024
"""Rows and columns of a map that would be seen in memory: 16 chunks of it."""


def _banded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    band = RowBand(table_FF=gaussian_table(8, 1.0), per_frame=FAR // 8)
    return attend_factored(q, k, v, [known_band(band, q.detach(), k.detach(), 1.0)])[0]


def _as_large_as_rows_are(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    band = RowBand(table_FF=gaussian_table(8, 1.0), per_frame=FAR // 8)
    return attend_factored(q, k, v, [known_band(band, q, k, "rowmax")])[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "attention",
    [
        lambda q, k, v: attend(q, k, v, [Band(per_frame=FAR // 8)])[0],
        lambda q, k, v: attend_plain(q, k, v)[0],
        _banded,
        _as_large_as_rows_are,
        lambda q, k, v: merge(attend_plain(q, k[:, :, :9], v[:, :, :9]), attend_plain(q, k[:, :, 9:], v[:, :, 9:]))[0],
        lambda q, k, v: column_mass(q, k, torch.arange(3)).unsqueeze(-1),
    ],
    ids=["bias", "plain", "factored", "rowmax", "merged", "columns"],
)
def test_the_way_back_never_holds_a_map(attention: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOGITS, "cpu", 64 * FAR)
    monkeypatch.setattr(attention_bands, "LOGITS", 64 * FAR)
    q, k, v = (torch.randn(1, 1, FAR, 16).requires_grad_() for _ in range(3))
    with measured() as meter:
        gradients = torch.autograd.grad(attention(q, k, v).square().sum(), (q, k, v), allow_unused=True)
    assert gradients[0].abs().max() > 0
    assert meter.laps[0].peak_bytes < 0.6 * 4 * FAR**2
