"""The only place that computes attention for a controlled site.

B batch, H heads, N rows (video tokens), M columns (keys), D head width, n rows of one chunk, C touched columns.

Rows are walked in chunks, statistics are float32 (float64 stays float64), and biases are *described*: a bias says which
columns it touches and computes its values from a chunk's unbiased logits, so that the heads x N x M map is never built
whole. This torch path is the reference, the CPU path and the gradient path. It knows nothing of models or prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

ROWS = 4096
"""Rows of a chunk."""


class Bias(Protocol):
    """What to add to the logits: some columns of some rows.

    A band over frames touches all columns with values of |frame(row) - frame(column)|; a group mask touches the
    columns of other groups with -inf; separable attention touches the columns of its events.
    """

    @property
    def columns(self) -> Tensor | None:
        """Touched columns (C,), each once; None means all."""
        ...

    def values(self, rows: slice, logits_BHnM: Tensor) -> Tensor:
        """(B, H, n, C), or what broadcasts to it, from the unbiased logits of these rows."""
        ...


def attend(
    q_BHND: Tensor,
    k_BHMD: Tensor,
    v_BHMD: Tensor,
    biases: Sequence[Bias] = (),
    *,
    counts_M: Tensor | None = None,
    rows: int = ROWS,
) -> tuple[Tensor, Tensor]:
    """softmax(q k^T / sqrt(D) + biases) v, and the log-sum-exp of each row.

    `counts_M` says how many equal keys a column stands for (compact padding). Biases are all computed from the
    unbiased logits, then summed. Returns out (B, H, N, D) in v's dtype and lse (B, H, N) in the statistics' dtype.
    """
    outs, lses = [], []
    for part in _chunks(q_BHND.shape[2], rows):
        logits = scores(q_BHND[:, :, part], k_BHMD)
        total = _weighted(_biased(logits, biases, part), counts_M)
        lse = total.logsumexp(-1)
        weights = (total - lse.unsqueeze(-1)).exp()
        outs.append((weights @ v_BHMD.to(weights.dtype)).to(v_BHMD.dtype))
        lses.append(lse)
    return torch.cat(outs, dim=2), torch.cat(lses, dim=2)


def scores(q_BHnD: Tensor, k_BHMD: Tensor) -> Tensor:
    """Unbiased logits q k^T / sqrt(D) of a chunk of rows, in the statistics' dtype."""
    dtype = torch.promote_types(q_BHnD.dtype, torch.float32)
    scaled = q_BHnD.to(dtype) * float(q_BHnD.shape[-1] ** -0.5)
    return scaled @ k_BHMD.to(dtype).transpose(-1, -2)


def column_mass(
    q_BHND: Tensor,
    k_BHMD: Tensor,
    columns_C: Tensor,
    *,
    counts_M: Tensor | None = None,
    rows: int = ROWS,
) -> Tensor:
    """How much each row attends to some columns: probability, mean over heads and columns, (B, N)."""
    parts = []
    for part in _chunks(q_BHND.shape[2], rows):
        logits = scores(q_BHND[:, :, part], k_BHMD)
        lse = _weighted(logits, counts_M).logsumexp(-1, keepdim=True)
        parts.append((logits[..., columns_C] - lse).exp().mean(dim=(1, 3)))
    return torch.cat(parts, dim=1)


def merge(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Attention over two sets of keys from the (out, lse) of each: as if they had been one softmax."""
    (out_a, lse_a), (out_b, lse_b) = first, second
    lse = torch.logaddexp(lse_a, lse_b)
    share_a, share_b = ((part - lse).exp().unsqueeze(-1) for part in (lse_a, lse_b))
    return (share_a * out_a + share_b * out_b).to(out_a.dtype), lse


def _chunks(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def _biased(logits: Tensor, biases: Sequence[Bias], rows: slice) -> Tensor:
    total = logits
    for bias in biases:
        values, columns = bias.values(rows, logits), bias.columns
        if columns is None:
            total = total + values
        else:
            shape = (*logits.shape[:-1], len(columns))
            total = total.index_add(-1, columns, values.to(logits.dtype).expand(shape))
    return total


def _weighted(logits: Tensor, counts_M: Tensor | None) -> Tensor:
    return logits if counts_M is None else logits + counts_M.to(logits.dtype).log()
