"""What TempoControl minimises and reads, against values worked out by hand and slow float64 references."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from generators.controls.tempo_losses import (
    PUBLISHED_TOKENS,
    Weights,
    correlation,
    magnitude,
    objective,
    pearson,
    spread,
    time_course,
)
from generators.controls.tempo_readout import (
    WordColumns,
    layer_agreement,
    padding_counts,
    telling_prefix,
    word_attention,
)

LATE = torch.tensor([0, 0, 0, 1, 1, 1], dtype=torch.float64)


def maps(*totals: float) -> Tensor:
    """One frame a number, which its four tokens share evenly: (F, 2, 2)."""
    return torch.tensor(totals, dtype=torch.float64).view(-1, 1, 1).expand(-1, 2, 2) / 4


def test_a_word_that_follows_its_time_correlates_fully_whatever_the_ends_of_the_clip_do() -> None:
    # interior 0, 0, 1, 1 against itself: variance 1/4, so 0.25 / (0.25 + 1e-6)
    for ends in ((0.0, 1.0), (1.0, 0.0)):
        found = correlation(maps(ends[0], 0, 0, 1, 1, ends[1]) * 4, LATE)
        assert float(found) == pytest.approx(0.25 / (0.25 + 1e-6), abs=5e-6)


def test_the_time_course_is_stretched_from_the_least_to_the_most() -> None:
    course = time_course(maps(4, 8, 6, 12))
    assert course.tolist() == pytest.approx([0, 0.5, 0.25, 1], abs=1e-6)


def test_magnitude_is_absent_less_present_in_sums_over_space() -> None:
    assert float(magnitude(maps(1, 2, 3, 10, 20, 30), LATE)) == pytest.approx(2 - 20)
    assert float(magnitude(maps(1, 2, 3, 10, 20, 30), torch.ones(6))) == pytest.approx(-11)
    assert float(magnitude(maps(1, 2, 3, 10, 20, 30), torch.zeros(6))) == pytest.approx(11)
    assert float(magnitude(maps(1, 2, 3, 10, 20, 30), torch.full((6,), 0.7))) == 0


def test_spread_is_the_entropy_of_present_frames_only() -> None:
    peaked = maps(1, 1, 1, 1, 1, 1).clone()
    peaked[3:] = torch.tensor([[1.0, 0], [0, 0]])
    assert float(spread(peaked, LATE)) == pytest.approx(0, abs=1e-6)
    assert float(spread(peaked, 1 - LATE)) == pytest.approx(math.log(4), abs=1e-6)
    assert float(spread(peaked, torch.zeros(6))) == 0


def test_a_word_that_stays_all_the_time_has_no_correlation_and_no_gradient_from_it() -> None:
    held = torch.rand(6, 3, 4, dtype=torch.float64, requires_grad=True)
    found = correlation(held, torch.ones(6, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(found, held)
    assert float(found.detach()) == 0
    assert not gradient.any()


def slow_objective(all_maps: Tensor, targets: Tensor, weights: Weights, scale: float) -> float:
    """The formulas of the released code, written out with plain numbers."""
    terms = []
    for one, target in zip(all_maps.tolist(), targets.tolist(), strict=True):
        sums = [sum(sum(row) for row in frame) for frame in one]
        means = [total / (len(one[0]) * len(one[0][0])) for total in sums]
        course = [(m - min(means)) / (max(means) - min(means) + 1e-6) for m in means]
        x, y = course[1:-1], target[1:-1]
        mx, my = sum(x) / len(x), sum(y) / len(y)
        cov = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / len(x)
        vx, vy = sum((a - mx) ** 2 for a in x) / len(x), sum((b - my) ** 2 for b in y) / len(y)
        on = [i for i, c in enumerate(target) if c > 0.7]
        off = [i for i, c in enumerate(target) if c < 0.7]
        up = -sum(sums[i] for i in on) / len(on) if on else 0.0
        down = sum(sums[i] for i in off) / len(off) if off else 0.0
        entropy = 0.0
        for i in on:
            share = [v / (sums[i] + 1e-10) for row in one[i] for v in row]
            entropy += -sum(p * math.log(p + 1e-10) for p in share) / len(on)
        terms.append((-cov / (math.sqrt(vx + 1e-6) * math.sqrt(vy + 1e-6)), up + down, entropy))
    corr, mag, ent = (sum(t[i] for t in terms) / len(terms) for i in range(3))
    return weights.correlation * corr + weights.magnitude * scale * mag + weights.focus * ent


TARGETS = st.lists(st.floats(0, 1), min_size=7, max_size=7)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), targets=st.lists(TARGETS, min_size=1, max_size=3), weigh=st.integers(0, 3))
def test_the_objective_is_the_published_formula(seed: int, targets: list[list[float]], weigh: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    found = torch.rand(len(targets), 7, 3, 4, generator=generator, dtype=torch.float64)
    target = torch.tensor(targets, dtype=torch.float64)
    weights = Weights(correlation=weigh, magnitude=0.3, focus=10)
    for tokens, scale in ((None, 1.0), (PUBLISHED_TOKENS, PUBLISHED_TOKENS / 12)):
        expected = slow_objective(found, target, weights, scale)
        assert float(objective(found, target, weights, tokens=tokens)) == pytest.approx(expected, abs=1e-11)


def test_every_term_has_the_gradient_of_its_value() -> None:
    start = torch.rand(2, 6, 2, 3, dtype=torch.float64, requires_grad=True)
    curve = torch.tensor([0.1, 0.8, 0.9, 0.2, 0.0, 1.0], dtype=torch.float64)
    for term in (correlation, magnitude, spread):
        assert torch.autograd.gradcheck(lambda m, term=term: term(m, curve), start[0].detach().requires_grad_())
    targets = torch.stack([LATE, torch.ones(6, dtype=torch.float64)])
    assert torch.autograd.gradcheck(lambda m: objective(m, targets, Weights()), start)


# ── the read-out ──

WORDS = ((2, 3), (5,), (3, 5, 6))


def slow_attention(q: Tensor, k: Tensor) -> Tensor:
    """The whole map, (B, W, N)."""
    probability = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1).mean(1)
    return torch.stack([probability[..., list(word)].mean(-1) for word in WORDS], dim=1)


def queries_and_keys(dtype: torch.dtype = torch.float64, seed: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(1, 2, 30, 8, generator=generator, dtype=torch.float64)
    k = torch.randn(1, 2, 9, 8, generator=generator, dtype=torch.float64)
    return q.to(dtype), k.to(dtype)


@given(
    rows=st.integers(1, 40),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    seed=st.integers(0, 2**31 - 1),
)
def test_words_are_read_from_their_columns_as_from_the_whole_map(rows: int, dtype: torch.dtype, seed: int) -> None:
    q, k = queries_and_keys(dtype, seed)
    found = word_attention(q, k, WordColumns.of(WORDS, torch.device("cpu")), rows=rows)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    near = 1e-14 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(found.double(), slow_attention(q.double(), k.double()), atol=near, rtol=0)


@pytest.mark.slow
def test_the_read_out_has_the_gradient_of_the_whole_map() -> None:
    q, k = queries_and_keys()
    q.requires_grad_()
    columns = WordColumns.of(WORDS, torch.device("cpu"))
    weigh = torch.randn(1, 3, 30, dtype=torch.float64)
    (ours,) = torch.autograd.grad((word_attention(q, k, columns, rows=7) * weigh).sum(), q)
    (slow,) = torch.autograd.grad((slow_attention(q, k) * weigh).sum(), q)
    torch.testing.assert_close(ours, slow, atol=1e-14, rtol=0)
    assert torch.autograd.gradcheck(lambda x: word_attention(x, k, columns, rows=7), q)


def test_equal_padding_is_one_column_that_counts_for_all() -> None:
    q, k = queries_and_keys()
    padded = torch.cat([k, k.new_ones(1, 2, 40, 8)], dim=2)
    counts = padding_counts(padded, 9)
    assert counts is not None
    assert counts.tolist() == [1.0] * 9 + [40.0]
    columns = WordColumns.of(WORDS, torch.device("cpu"))
    ours = word_attention(q, padded[:, :, :10], columns, counts_M=counts)
    torch.testing.assert_close(ours, slow_attention(q, padded), atol=1e-14, rtol=0)
    padded[0, 0, -1, 0] += 1e-9
    assert padding_counts(padded, 9) is None
    assert padding_counts(k, 9) is None


def test_the_telling_prefix_ends_where_its_time_course_is_that_of_all_layers() -> None:
    noise, signal = maps(5, 1, 5, 1, 5, 1), maps(0, 0, 0, 9, 9, 9)
    layers = torch.stack([torch.stack([one]) for one in (noise, signal * 40, signal, noise)])
    assert telling_prefix(layers) == 2
    assert layer_agreement(layers)[1] > 0.95 > layer_agreement(layers)[0]
    assert telling_prefix(layers[:1]) == 1
    assert telling_prefix(torch.stack([torch.stack([maps(1, 1, 1, 1, 1, 1)])] * 3)) == 3


def test_a_series_that_does_not_vary_correlates_with_nothing() -> None:
    assert float(pearson(torch.ones(5), torch.rand(5))) == 0
