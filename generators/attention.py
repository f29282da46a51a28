"""The only place that computes attention for a controlled site.

B batch, H heads, N rows (video tokens), M columns (keys), D head width, n rows of one chunk, C touched columns.

Rows are walked in chunks, statistics are float32 (float64 stays float64), and biases are *described*: a bias says which
columns it touches and computes its values from a chunk's unbiased logits, so that the heads x N x M map is never built
whole; with gradients a chunk is computed again on the way back. This torch path is the reference, the CPU path and the
gradient path. It knows nothing of models or prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")

ROWS = 4096
"""Rows of a chunk, at most."""
LOGITS = {"cpu": 2**17, "other": 2**25}
"""Logits of a chunk: what a processor's cache holds, or enough to keep an accelerator busy."""


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
        """(B, H, n, C), or what broadcasts to it, from the unbiased logits of these rows. The same when asked again."""
        ...


def attend(
    q_BHND: Tensor,
    k_BHMD: Tensor,
    v_BHMD: Tensor,
    biases: Sequence[Bias] = (),
    *,
    counts_M: Tensor | None = None,
    rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """softmax(q k^T / sqrt(D) + biases) v, and the log-sum-exp of each row.

    `counts_M` says how many equal keys a column stands for (compact padding). Biases are all computed from the
    unbiased logits, then summed. `rows` are walked at once, by default as many as `rows_at_once`. Returns out
    (B, H, N, D) in v's dtype, laid out row by row, and lse (B, H, N) in the statistics' dtype.
    """
    v = v_BHMD.to(_statistics_dtype(v_BHMD))

    def chunk(part: slice) -> tuple[Tensor, Tensor]:
        weights, lse = _weights(q_BHND[:, :, part], k_BHMD, biases, counts_M, part)
        return weights @ v, lse

    out, lses = Collected(q_BHND, v_BHMD), []
    for part in _chunks(q_BHND.shape[2], rows or rows_at_once(q_BHND, k_BHMD)):
        made, lse = recomputed(chunk, part)
        out.add(part, made)
        lses.append(lse)
        del made, lse  # before the next chunk's are made
    return out.whole(), torch.cat(lses, dim=2)


def _weights(
    q_BHnD: Tensor, k_BHMD: Tensor, biases: Sequence[Bias], counts_M: Tensor | None, rows: slice
) -> tuple[Tensor, Tensor]:
    total = _weighted(_biased(scores(q_BHnD, k_BHMD), biases, rows), counts_M)
    lse = total.logsumexp(-1)
    return _changed(_changed(total, "sub", lse.unsqueeze(-1)), "exp"), lse


def rows_at_once(q_BHND: Tensor, k_BHMD: Tensor) -> int:
    """Rows of a chunk: as many as `LOGITS` logits allow on this kind of device, `ROWS` at most."""
    batch, heads, _, _ = q_BHND.shape
    allowed = LOGITS["cpu" if q_BHND.device.type == "cpu" else "other"]
    return max(min(ROWS, allowed // max(batch * heads * k_BHMD.shape[2], 1)), 64)


class Collected:
    """Rows of an output, chunk by chunk: written in place, or kept apart where gradients must flow."""

    def __init__(self, q_BHND: Tensor, v_BHMD: Tensor) -> None:
        batch, heads, rows, _ = q_BHND.shape
        self._dtype = v_BHMD.dtype
        self._parts: list[Tensor] = []
        self._out = None
        if not (torch.is_grad_enabled() and (q_BHND.requires_grad or v_BHMD.requires_grad)):
            self._out = v_BHMD.new_empty(batch, rows, heads, v_BHMD.shape[-1]).transpose(1, 2)

    def add(self, rows: slice, part_BHnD: Tensor) -> None:
        """The next rows."""
        if self._out is None:
            self._parts.append(part_BHnD.to(self._dtype))
        else:
            self._out[:, :, rows] = part_BHnD

    def whole(self) -> Tensor:
        """All of them, (B, H, N, D)."""
        return torch.cat(self._parts, dim=2) if self._out is None else self._out


def scores(q_BHnD: Tensor, k_BHMD: Tensor) -> Tensor:
    """Unbiased logits q k^T / sqrt(D) of a chunk of rows, in the statistics' dtype."""
    dtype = _statistics_dtype(q_BHnD)
    scaled = q_BHnD.to(dtype) * float(q_BHnD.shape[-1] ** -0.5)
    return scaled @ k_BHMD.to(dtype).transpose(-1, -2)


def column_mass(
    q_BHND: Tensor,
    k_BHMD: Tensor,
    columns_C: Tensor,
    *,
    counts_M: Tensor | None = None,
    rows: int | None = None,
) -> Tensor:
    """How much each row attends to some columns: probability, mean over heads and columns, (B, N)."""

    def chunk(part: slice) -> Tensor:
        logits = scores(q_BHND[:, :, part], k_BHMD)
        chosen = logits[..., columns_C]
        lse = _weighted(logits, counts_M).logsumexp(-1, keepdim=True)
        return (chosen - lse).exp().mean(dim=(1, 3))

    parts = _chunks(q_BHND.shape[2], rows or rows_at_once(q_BHND, k_BHMD))
    return torch.cat([recomputed(chunk, part) for part in parts], dim=1)


def attended(q_BHND: Tensor, k_BHMD: Tensor, columns_C: Tensor, lse_BHN: Tensor, biases: Sequence[Bias] = ()) -> Tensor:
    """How much each row did attend to some columns: probability, mean over heads, (B, N, C).

    `lse_BHN` and `biases` are those of the attention that was computed, so keys merged from elsewhere count.
    """
    keys = k_BHMD if biases else k_BHMD[:, :, columns_C]  # a bias is made of whole rows

    def chunk(part: slice) -> Tensor:
        logits = scores(q_BHND[:, :, part], keys)
        if biases:
            logits = _biased(logits, biases, part)[..., columns_C]
        return (logits - lse_BHN[:, :, part].unsqueeze(-1)).exp().mean(1)

    return torch.cat([recomputed(chunk, part) for part in _chunks(q_BHND.shape[2], rows_at_once(q_BHND, keys))], dim=1)


def column_logits(q_BHND: Tensor, k_BHMD: Tensor, columns_C: Tensor) -> Tensor:
    """The unbiased logits of some columns, mean over heads and columns, (B, N): no map is needed for a mean."""
    mean_BH1D = k_BHMD[:, :, columns_C].to(_statistics_dtype(k_BHMD)).mean(2, keepdim=True)
    return (q_BHND.to(mean_BH1D.dtype) * mean_BH1D).sum(-1).mean(1) * float(q_BHND.shape[-1] ** -0.5)


def merge(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Attention over two sets of keys from the (out, lse) of each: as if they had been one softmax."""
    (out_a, lse_a), (out_b, lse_b) = first, second
    lse = torch.logaddexp(lse_a, lse_b)
    share_a, share_b = ((part - lse).exp().unsqueeze(-1) for part in (lse_a, lse_b))
    return (share_a * out_a + share_b * out_b).to(out_a.dtype), lse


def recomputed(chunk: Callable[[slice], T], rows: slice) -> T:
    """What a chunk of rows gives; where gradients are recorded, nothing inside is kept: the way back makes it again."""
    if not torch.is_grad_enabled():
        return chunk(rows)
    made: T = checkpoint(chunk, rows, use_reentrant=False, preserve_rng_state=False)
    return made


def _chunks(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def _biased(logits: Tensor, biases: Sequence[Bias], rows: slice) -> Tensor:
    changes = [(bias.columns, bias.values(rows, logits)) for bias in biases]
    total = logits
    for columns, values in changes:
        if columns is None:
            total = total + values
        else:
            shape = (*logits.shape[:-1], len(columns))
            total = _changed(total, "index_add", -1, columns, values.to(logits.dtype).expand(shape))
    return total


def _weighted(logits: Tensor, counts_M: Tensor | None) -> Tensor:
    return logits if counts_M is None else _changed(logits, "add", counts_M.to(logits.dtype).log())


def _changed(tensor: Tensor, operation: str, *arguments: Any) -> Tensor:
    """The result of an operation: in the tensor's own memory, unless gradients are recorded."""
    changed: Tensor = getattr(tensor, operation if torch.is_grad_enabled() else f"{operation}_")(*arguments)
    return changed


def _statistics_dtype(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
