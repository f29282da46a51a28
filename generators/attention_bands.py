"""Biases over frames, and attention with them that never builds a map.

A bias that depends only on the frames of a row and a column is a product of few factors: `left (rows x frames)` times
`right (frames x columns)`. Written into extra head dimensions of queries and keys it rides through any fused kernel, at
the price of one dimension a frame. A band whose size is the row's own largest logit needs the logits, and goes the
chunked way of `attention.py`, which is also the slow reference of the quick one.

B batch, H heads, N rows, M columns, D head width, F frames, n rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from generators.attention import Bias, recomputed, scores
from generators.attention_plain import attend_plain

SAMPLED_KEYS = 48
"""Keys of a frame that a sample looks at, at most."""
SAMPLED_SHARE = 16
"""A sample looks at one key of so many, or fewer."""
LOGITS = 2**24
"""Logits looked at together."""
WIDTH = 8
"""Fused kernels want head widths that are multiples of this."""


@runtime_checkable
class FactoredBias(Bias, Protocol):
    """A bias over all columns that is a product of few factors."""

    @property
    def keeps_mass(self) -> bool:
        """Whether each row is lowered so that its total weight stays; the factors leave that out."""
        ...

    def factors(self, columns: int) -> tuple[Tensor, Tensor]:
        """Left (B, H, N, R), or what broadcasts to it, and right (columns, R): the bias is left @ right^T."""
        ...


def gaussian_table(frames: int, sigma: float, *, device: torch.device | None = None) -> Tensor:
    """exp(-((j - i) / sigma)^2 / 2), (F, F) float64, 1 on the diagonal (VSTAR eq. 2)."""
    place = torch.arange(frames, dtype=torch.float64, device=device)
    return (-0.5 * ((place[:, None] - place[None, :]) / sigma) ** 2).exp()


@dataclass(frozen=True, kw_only=True)
class RowBand:
    """scale * max(row) * table[frame of the row, frame of the column], from the row's unbiased logits."""

    table_FF: Tensor
    per_frame: int
    """Tokens of a frame; rows and columns lie frame by frame."""
    scale: float = 1.0
    heads_H: Tensor | None = None
    """(H,) factors; None is 1 for all."""
    negative: bool = False
    """Whether a row whose logits are all below 0 is pushed away from near frames, as in the released code."""
    keeps_mass: bool = False
    """Whether a row's total weight on these columns stays what it was, beside other columns of the same softmax."""

    @property
    def columns(self) -> None:
        """All."""
        return

    def values(self, rows: slice, logits_BHnM: Tensor) -> Tensor:
        """(B, H, n, M)."""
        columns = torch.arange(logits_BHnM.shape[-1], device=logits_BHnM.device)
        table = self.spread(rows, columns, logits_BHnM.dtype)
        bias = self.size(logits_BHnM.amax(-1, keepdim=True)) * table
        return bias - _gain(logits_BHnM, bias) if self.keeps_mass else bias

    def size(self, top_BHn1: Tensor) -> Tensor:
        """What the table is multiplied with, (B, H, n, 1), where a row's largest logit is `top`."""
        size = self.scale * (top_BHn1 if self.negative else top_BHn1.clamp_min(0))
        return size if self.heads_H is None else size * self.heads_H.to(size.dtype).view(-1, 1, 1)

    def spread(self, rows: slice, columns_C: Tensor, dtype: torch.dtype) -> Tensor:
        """The table at some rows and columns, (n, C)."""
        row = torch.arange(rows.start, rows.stop, device=columns_C.device) // self.per_frame
        return self.table_FF.to(dtype)[row][:, columns_C // self.per_frame]


@dataclass(frozen=True, kw_only=True)
class KnownBand:
    """size(row) * table[frame of the row, frame of the column], sizes known before the attention."""

    table_FF: Tensor
    per_frame: int
    size_BHN: Tensor
    """What the table is multiplied with, scale and heads included; anything that broadcasts to (B, H, N)."""
    keeps_mass: bool = False
    """As of `RowBand`."""

    @property
    def columns(self) -> None:
        """All."""
        return

    def values(self, rows: slice, logits_BHnM: Tensor) -> Tensor:
        """(B, H, n, M)."""
        left, right = self.factors(logits_BHnM.shape[-1])
        part = left[:, :, rows] if left.shape[2] > 1 else left
        bias = part.to(logits_BHnM.dtype) @ right.to(logits_BHnM.dtype).mT
        return bias - _gain(logits_BHnM, bias) if self.keeps_mass else bias

    def factors(self, columns: int) -> tuple[Tensor, Tensor]:
        """One factor a frame."""
        frames = len(self.table_FF)
        rows = self.table_FF.to(self.size_BHN.dtype).repeat_interleave(self.per_frame, dim=0)
        left = self.size_BHN.unsqueeze(-1) * rows
        place = torch.arange(columns, device=left.device) // self.per_frame
        return left, (place[:, None] == torch.arange(frames, device=left.device)).to(left.dtype)


def known_band(
    band: RowBand, q_BHND: Tensor, k_BHMD: Tensor, magnitude: Literal["rowmax", "sampled"] | float
) -> KnownBand:
    """The same band with its sizes found beforehand, so that it can be factored.

    From all keys (half an attention's work), from a sample of each frame's keys (a stable under-estimate, a hundredth
    of it), or a number in the place of the row's largest logit (none).
    """
    if isinstance(magnitude, str):
        places = _places(k_BHMD.shape[2], band.per_frame, sampled=magnitude == "sampled").to(k_BHMD.device)

        def largest(part: slice) -> Tensor:
            return _native_scores(q_BHND[:, :, part], k_BHMD[:, :, places]).amax(-1, keepdim=True)

        top = torch.cat([recomputed(largest, part) for part in _parts(q_BHND, len(places))], 2)
    else:
        top = q_BHND.new_full((1, 1, 1, 1), float(magnitude), dtype=_statistics(q_BHND))
    return KnownBand(
        table_FF=band.table_FF,
        per_frame=band.per_frame,
        size_BHN=band.size(top).squeeze(-1),
        keeps_mass=band.keeps_mass,
    )


def attend_factored(
    q_BHND: Tensor, k_BHMD: Tensor, v_BHMD: Tensor, biases: Sequence[FactoredBias]
) -> tuple[Tensor, Tensor]:
    """softmax(q k^T / sqrt(D) + biases) v, and the log-sum-exp of each row, through a fused kernel where there is one.

    Factors are rounded to the queries' dtype: in bfloat16 a bias is exact to 1 in 256. A bias that keeps a row's weight
    changes nothing else of the output than the log-sum-exp, which takes one attention without it.
    """
    out, lse = _fused(q_BHND, k_BHMD, v_BHMD, biases)
    keeping = [bias for bias in biases if bias.keeps_mass]
    if keeping:
        _, plain = attend_plain(q_BHND, k_BHMD, v_BHMD)
        alone = [lse if len(biases) == 1 else _fused(q_BHND, k_BHMD, v_BHMD, [bias])[1] for bias in keeping]
        lse = lse - sum(own - plain for own in alone)
    return out, lse


def _fused(q_BHND: Tensor, k_BHMD: Tensor, v_BHMD: Tensor, biases: Sequence[FactoredBias]) -> tuple[Tensor, Tensor]:
    """Factors in extra head dimensions, nothing kept."""
    width, columns = q_BHND.shape[-1], k_BHMD.shape[2]
    scale = float(width**-0.5)
    lefts, rights = zip(*(bias.factors(columns) for bias in biases), strict=True)
    left = torch.cat([x.expand(*q_BHND.shape[:3], x.shape[-1]) for x in lefts], -1) / scale
    right = torch.cat(rights, -1).expand(*k_BHMD.shape[:3], -1)
    whole = max(width + left.shape[-1], v_BHMD.shape[-1])
    whole += -whole % WIDTH
    q, k, v = (torch.nn.functional.pad(x, (0, whole - x.shape[-1])) for x in (q_BHND, k_BHMD, v_BHMD))
    q[..., width : width + left.shape[-1]] = left
    k[..., width : width + left.shape[-1]] = right
    out, lse = attend_plain(q, k, v, scale=scale)
    return out[..., : v_BHMD.shape[-1]], lse


def off_frame_mass(q_BHND: Tensor, k_BHMD: Tensor, per_frame: int, rows: int = 64) -> Tensor:
    """How much each head attends to frames other than the row's own, from a few rows: (H,), in 0..1."""
    places = torch.linspace(0, q_BHND.shape[2] - 1, min(rows, q_BHND.shape[2]), device=q_BHND.device).long()
    weights = scores(q_BHND[:, :, places], k_BHMD).softmax(-1)
    own = torch.arange(k_BHMD.shape[2], device=places.device) // per_frame == (places // per_frame).unsqueeze(-1)
    return 1 - (weights * own).sum(-1).mean(dim=(0, 2))


def _gain(logits: Tensor, bias: Tensor) -> Tensor:
    """By how much a bias raises the log of a row's total weight, keepdim."""
    return (logits + bias).logsumexp(-1, keepdim=True) - logits.logsumexp(-1, keepdim=True)


def _native_scores(q_BHnD: Tensor, k_BHMD: Tensor) -> Tensor:
    """Logits from a product in the tensors' own dtype, which is what an accelerator is quick at."""
    return ((q_BHnD * float(q_BHnD.shape[-1] ** -0.5)) @ k_BHMD.mT).to(_statistics(q_BHnD))


def _statistics(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _places(columns: int, per_frame: int, *, sampled: bool) -> Tensor:
    """Columns to look at: all, or the middles of equal stretches of every frame."""
    if not sampled:
        return torch.arange(columns)
    count = max(1, min(SAMPLED_KEYS, per_frame // SAMPLED_SHARE))
    within = ((torch.arange(count, dtype=torch.float64) + 0.5) * per_frame / count).long()
    return (torch.arange(columns // per_frame)[:, None] * per_frame + within).flatten()


def _parts(q_BHND: Tensor, columns: int) -> Iterator[slice]:
    """Chunks of rows whose logits fit into `LOGITS`."""
    batch, heads, rows, _ = q_BHND.shape
    size = max(1, LOGITS // (batch * heads * columns))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
