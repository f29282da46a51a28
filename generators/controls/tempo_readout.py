"""Where in a clip some words are attended to, read from their columns alone: the map over all columns is never kept.

H heads, N video tokens, n of a chunk, M text columns, C read columns, W words, L layers, F steps of the token grid in
time. Differentiable: chunks are computed again on the way back. Knows nothing of losses or targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from generators.attention import ROWS, scores
from generators.controls.tempo_losses import pearson, time_course


@dataclass(frozen=True, kw_only=True)
class WordColumns:
    """Columns that are read, each once, and how they make words."""

    columns_C: Tensor
    share_CW: Tensor
    """Each word is the mean over its columns."""

    @classmethod
    def of(cls, words: Sequence[Sequence[int]], device: torch.device) -> WordColumns:
        """From the token columns of each word."""
        columns = sorted({column for word in words for column in word})
        share = [[(column in word) / len(word) for word in words] for column in columns]
        return cls(
            columns_C=torch.tensor(columns, device=device),
            share_CW=torch.tensor(share, dtype=torch.float64, device=device),
        )


def word_attention(
    q_BHND: Tensor, k_BHMD: Tensor, words: WordColumns, *, counts_M: Tensor | None = None, rows: int = ROWS
) -> Tensor:
    """How much each row attends to each word: probability, mean over heads and the word's columns, (B, W, N).

    `counts_M` says how many equal keys a column stands for.
    """

    def chunk(q_BHnD: Tensor) -> Tensor:
        logits = scores(q_BHnD, k_BHMD)
        weighted = logits if counts_M is None else logits + counts_M.to(logits.dtype).log()
        lse = weighted.logsumexp(-1, keepdim=True)
        mass_BnC = (logits[..., words.columns_C] - lse).exp().mean(1)
        return mass_BnC @ words.share_CW.to(mass_BnC.dtype)

    again = torch.is_grad_enabled() and q_BHND.requires_grad
    parts = []
    for part in q_BHND.split(rows, dim=2):
        parts.append(checkpoint(chunk, part, use_reentrant=False, preserve_rng_state=False) if again else chunk(part))
    return torch.cat(parts, dim=1).transpose(1, 2)


def padding_counts(k_BHMD: Tensor, tokens: int) -> Tensor | None:
    """Counts that make one column of all padding after `tokens`, when that is one key bit for bit; else None."""
    columns = k_BHMD.shape[2]
    padding = k_BHMD[:, :, tokens:]
    if columns <= tokens + 1 or not bool((padding == padding[:, :, :1]).all()):
        return None
    counts = torch.ones(tokens + 1, device=k_BHMD.device)
    counts[-1] = columns - tokens
    return counts


def telling_prefix(maps_LWFHW: Tensor, *, enough: float = 0.95) -> int:
    """The fewest first layers whose mean time course is that of all layers, for every word.

    "Is that of" means a Pearson correlation above `enough`; with layers whose mean does not vary, all of them.
    """
    whole = [time_course(maps) for maps in maps_LWFHW.mean(0)]
    for count in range(1, len(maps_LWFHW)):
        first = [time_course(maps) for maps in maps_LWFHW[:count].mean(0)]
        if all(pearson(a, b) > enough for a, b in zip(first, whole, strict=True)):
            return count
    return len(maps_LWFHW)


def layer_agreement(maps_LWFHW: Tensor) -> list[float]:
    """For each layer alone, the smallest correlation over words of its time course with that of all layers."""
    whole = [time_course(maps) for maps in maps_LWFHW.mean(0)]
    return [
        min(float(pearson(time_course(maps), all_)) for maps, all_ in zip(layer, whole, strict=True))
        for layer in maps_LWFHW
    ]
