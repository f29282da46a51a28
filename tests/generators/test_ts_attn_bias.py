"""The arithmetic of TS-Attn: golden values of the published functions, and slow references of every kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from generators.attention import attend, column_logits, column_mass, scores
from generators.controls.ts_attn_bias import SeparableBias, event_bias, row_statistics, subject_region
from generators.controls.ts_attn_flags import PRESETS, Flags
from generators.controls.ts_attn_plan import SubjectPlan

# Golden values of the published function: rows 0-2 are event a's (column 2), rows 3-5 event b's (column 3); the
# subject is column 1; row 1 lies outside the region.
GOLDEN_FIXED = [
    [1.569156, 1.3, -2.394938],
    [0, 0, 0],
    [1.2, 1.765193, -1.95],
    [2.4, -1.865669, 2.132193],
    [1.927906, -1.7, 1.95],
    [2.500690, -1.2, 2.419391],
]
GOLDEN_OFFICIAL = [
    *GOLDEN_FIXED[:3],
    [0.9, -0.4, 0.9],
    [1.2, -1.912292, 1.8],
    [2.4, -1.865669, 2.132193],
]
GOLDEN_PAPER = [
    [0, 1.3, -1.855062],
    [0, 0, 0],
    [0, 1.765193, -1.3],
    [0, -1.634331, 2.132193],
    [0, -2.55, 1.95],
    [0, -0.8, 2.419391],
]
REGION = torch.tensor([1, 0, 1, 1, 1, 1])
COLUMNS = torch.tensor([1, 2, 3])


def golden_logits() -> Tensor:
    n, m = torch.arange(6).view(-1, 1), torch.arange(5).view(1, -1)
    return (((3 * n**2 + 5 * m**2 + n * m) % 7 - 3) / 2).double().unsqueeze(0)


def signs(subject: bool) -> tuple[Tensor, Tensor]:
    """Lifted and lowered columns (6, 3) of the golden rows: subject, event a, event b."""
    region = REGION.unsqueeze(-1)
    lift = torch.tensor([[int(subject), 1, 0]] * 3 + [[int(subject), 0, 1]] * 3) * region
    lower = torch.tensor([[0, 0, 1]] * 3 + [[0, 1, 0]] * 3) * region
    return lift, lower


def close(bias_HnC: Tensor, golden: list[list[float]]) -> None:
    torch.testing.assert_close(bias_HnC[0], torch.tensor(golden).double(), atol=1e-6, rtol=0)


def test_the_bias_has_the_golden_values_of_the_code_with_its_row_offset_fixed() -> None:
    close(event_bias(golden_logits(), COLUMNS, *signs(subject=True)), GOLDEN_FIXED)


def test_the_bias_has_the_golden_values_of_the_released_code() -> None:
    plan = SubjectPlan(
        subject_columns=torch.tensor([1]),
        columns=COLUMNS,
        lift=torch.tensor([[1, 1, 0], [1, 0, 1]]),
        lower=torch.tensor([[0, 0, 1], [0, 1, 0]]),
        segment=torch.tensor([0, 0, 0, 1, 1, 1]),
        source=torch.tensor([0, 1, 2, 1, 2, 3]),
    )
    # keys of the identity make queries of the logits themselves
    q = golden_logits().unsqueeze(0) * 5**0.5
    bias = SeparableBias(
        plan=plan,
        region=REGION.bool(),
        flags=PRESETS["official"],
        counts=None,
        strength=1.0,
        probe=(q, torch.eye(5, dtype=torch.float64).expand(1, 1, 5, 5)),
    )
    close(bias.values(slice(0, 6), golden_logits().unsqueeze(0))[0], GOLDEN_OFFICIAL)
    chunked = [bias.values(slice(a, a + 2), golden_logits().unsqueeze(0)[:, :, a : a + 2])[0] for a in (0, 2, 4)]
    close(torch.cat(chunked, dim=1), GOLDEN_OFFICIAL)


def test_the_mirrored_scale_without_subject_tokens_gives_the_papers_values() -> None:
    close(event_bias(golden_logits(), COLUMNS, *signs(subject=False), flags=PRESETS["paper"]), GOLDEN_PAPER)


def test_without_reinforcement_the_bias_is_the_distance_to_the_mean() -> None:
    logits = golden_logits()
    bias = event_bias(logits, COLUMNS, *signs(subject=False), flags=Flags(reinforcement=False))
    row = logits[0, 0]
    expected = torch.stack([torch.zeros_like(row[0]), row.max() - row.mean(), row.min() - row.mean()])
    torch.testing.assert_close(bias[0, 0], expected)


counted = st.tuples(
    st.integers(1, 3), st.integers(1, 9), st.integers(2, 9), st.integers(0, 40), st.integers(0, 2**31 - 1)
)


def slow_event_bias(logits: Tensor, columns: Tensor, lift: Tensor, lower: Tensor, flags: Flags) -> Tensor:
    """One number at a time, as the published formulas are written."""
    out = torch.zeros(*logits.shape[:2], len(columns), dtype=logits.dtype)
    for h in range(logits.shape[0]):
        for n in range(logits.shape[1]):
            s = logits[h, n]
            p = s.softmax(-1)
            for i, column in enumerate(columns.tolist()):
                scaled = (p[column] - p.min()) / (p.max() - p.min()) if s.max() > s.min() else torch.zeros(())
                up = 1 + 0.5 * (1 - scaled)
                down = 1 + 0.5 * scaled if flags.lowered == "mirrored" else up
                out[h, n, i] = lift[n, i] * up * (s.max() - s.mean()) + lower[n, i] * down * (s.min() - s.mean())
    return out


@given(counted, st.sampled_from(["default", "paper"]), st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
def test_the_bias_agrees_with_a_slow_reference_with_padding_counted_or_written_out(
    sizes: tuple[int, int, int, int, int], preset: str, dtype: torch.dtype
) -> None:
    heads, rows, columns, padding, seed = sizes
    draw = torch.Generator().manual_seed(seed)
    q = 3 * columns**0.5 * torch.randn(heads, rows, columns, generator=draw, dtype=torch.float64).to(dtype)
    logits = scores(q, torch.eye(columns, dtype=dtype))  # keys of the identity: three times a normal variable
    lift, lower = torch.randint(0, 2, (2, rows, columns), generator=draw)
    counts = torch.ones(columns)
    counts[-1] = padding + 1
    touched = torch.arange(columns)
    written_out = logits.double().repeat_interleave(counts.long(), -1)
    expected = slow_event_bias(written_out, touched, lift, lower, PRESETS[preset])
    found = event_bias(logits, touched, lift, lower, counts_M=counts, flags=PRESETS[preset])
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    tolerance = 1e-9 if dtype == torch.float64 else 2e-3
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)


@given(counted)
def test_the_released_epsilon_is_added_to_a_span_of_probabilities(sizes: tuple[int, int, int, int, int]) -> None:
    heads, rows, columns, padding, seed = sizes
    logits = torch.randn(heads, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    counts = torch.ones(columns)
    counts[-1] = padding + 1
    ones = torch.ones(rows, columns)
    found = event_bias(logits, torch.arange(columns), ones, 0 * ones, counts_M=counts, flags=Flags(epsilon=1e-3))
    written_out = logits.double().repeat_interleave(counts.long(), -1)
    p = written_out.softmax(-1)
    low, top = p.amin(-1, keepdim=True), p.amax(-1, keepdim=True)
    scale = 1 + 0.5 * (1 - (logits.exp() / written_out.exp().sum(-1, keepdim=True) - low) / (top - low + 1e-3))
    expected = scale * (written_out.amax(-1, keepdim=True) - written_out.mean(-1, keepdim=True))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


def test_columns_that_count_for_nothing_are_left_out_of_the_statistics() -> None:
    logits = golden_logits()
    found = row_statistics(logits, torch.tensor([1, 1, 1, 0, 0]))
    low, top, mean = found.low, found.top, found.mean
    kept = logits[..., :3]
    assert torch.equal(low, kept.amin(-1, keepdim=True))
    assert torch.equal(top, kept.amax(-1, keepdim=True))
    torch.testing.assert_close(mean, kept.mean(-1, keepdim=True))


def test_a_row_whose_logits_are_all_equal_gets_no_bias() -> None:
    assert not event_bias(torch.ones(1, 6, 5), COLUMNS, *signs(subject=True)).any()


# ── regions ──


def slow_region(mass: Tensor, grid: tuple[int, int, int], threshold: str, erosion: str) -> Tensor:
    values = mass.tolist()
    upper = sorted(values, reverse=True)[: max(1, len(values) // 2)]
    edge = sum(values) / len(values) if threshold == "mean" else sum(upper) / len(upper)
    on = {i for i, value in enumerate(values) if (value >= edge if threshold == "mean" else value > edge)}
    _, height, width = grid

    def around(i: int) -> list[int]:
        t, y, x = i // (height * width), i // width % height, i % width
        return [
            (t * height + j) * width + k
            for j in range(max(y - 1, 0), min(y + 2, height))
            for k in range(max(x - 1, 0), min(x + 2, width))
            if (j, k) != (y, x)
        ]

    kept = {
        "none": lambda i: True,
        "lonely": lambda i: any(j in on for j in around(i)),
        "full": lambda i: all(j in on for j in around(i)),
    }[erosion]
    return torch.tensor([i in on and kept(i) for i in range(len(values))])


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from(["upper_half", "mean"]),
    st.sampled_from(["lonely", "full", "none"]),
    st.data(),
)
def test_a_region_agrees_with_one_row_at_a_time(
    grid: tuple[int, int, int], threshold: Any, erosion: Any, data: st.DataObject
) -> None:
    size = grid[0] * grid[1] * grid[2]
    # whole numbers: sums are exact in any order, so that no row lies on the edge by rounding alone
    mass = torch.tensor(data.draw(st.lists(st.integers(0, 7), min_size=size, max_size=size))).double()
    found = subject_region(mass, grid, threshold=threshold, erosion=erosion)
    assert torch.equal(found, slow_region(mass, grid, threshold, erosion))


def test_the_published_erosion_keeps_22_of_23_and_a_full_one_6() -> None:
    picture = torch.zeros(1, 12, 12)
    picture[0, 2:6, 2:7] = 1  # 4 x 5
    picture[0, 9, 2] = 1  # alone
    picture[0, 8, 8] = picture[0, 9, 9] = 1  # a diagonal pair
    kept = [
        int(subject_region(picture.flatten(), (1, 12, 12), threshold="mean", erosion=erosion).sum())
        for erosion in ("none", "lonely", "full")
    ]
    assert kept == [23, 22, 6]


def test_column_logits_are_the_mean_of_a_map_that_is_not_built() -> None:
    q, k = torch.randn(2, 3, 7, 8, dtype=torch.float64), torch.randn(2, 3, 5, 8, dtype=torch.float64)
    columns = torch.tensor([1, 4])
    expected = (q @ k.mT / 8**0.5)[..., columns].mean(dim=(1, 3))
    torch.testing.assert_close(column_logits(q, k, columns), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunks_of_any_size_give_the_same_attention(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, n, 8).to(dtype) for n in (50, 9, 9))
    plan = SubjectPlan(
        subject_columns=torch.tensor([1]),
        columns=torch.tensor([1, 2, 5]),
        lift=torch.tensor([[1, 1, 0], [1, 0, 1]]),
        lower=torch.tensor([[0, 0, 1], [0, 1, 0]]),
        segment=torch.arange(50) // 25,
    )
    bias = SeparableBias(plan=plan, region=None, flags=Flags(), counts=None, strength=1.0, probe=(q * 2, k))
    with torch.no_grad():
        whole, lse = attend(q, k, v, [bias], rows=50)
        for rows in (7, 16):
            part, part_lse = attend(q, k, v, [bias], rows=rows)
            torch.testing.assert_close(part, whole)
            torch.testing.assert_close(part_lse, lse)
            torch.testing.assert_close(
                column_mass(q, k, plan.columns, rows=rows), column_mass(q, k, plan.columns, rows=50)
            )
    assert (whole.dtype, lse.dtype) == (dtype, torch.float32)
