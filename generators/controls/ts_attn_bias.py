"""The arithmetic of TS-Attn: a subject's region, and the bias of its rows, each from a row's own logits.

Equation numbers are those of arXiv 2604.19473. Knows no prompts and no time. H heads, n rows of a chunk, N video
tokens, M text columns, C touched columns, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.attention import column_logits, column_mass, rows_at_once, scores
from generators.controls.ts_attn_flags import Erosion, Flags, Threshold
from generators.controls.ts_attn_plan import SubjectPlan

R_MIN, R_MAX = 1.0, 1.5


@dataclass(frozen=True, kw_only=True)
class RowStatistics:
    """Smallest, largest and mean logit of each row over so many columns, (H, n, 1) each."""

    low: Tensor
    top: Tensor
    mean: Tensor
    columns: Tensor | int

    def beside(self, other: RowStatistics) -> RowStatistics:
        """Over the columns of both."""
        columns = self.columns + other.columns
        return RowStatistics(
            low=torch.minimum(self.low, other.low),
            top=torch.maximum(self.top, other.top),
            mean=(self.mean * self.columns + other.mean * other.columns) / columns,
            columns=columns,
        )


def event_bias(
    logits_HnM: Tensor,
    columns_C: Tensor,
    lift_nC: Tensor,
    lower_nC: Tensor,
    *,
    counts_M: Tensor | None = None,
    video: RowStatistics | None = None,
    flags: Flags | None = None,
) -> Tensor:
    """Lift the columns of a row's own event, lower those of the others (eq. 4-6, 8-10), from its logits: (H, n, C).

    b+ = max - mean, b- = min - mean over the text axis, each scaled by 1 + 0.5 (1 - p') where p' is the column's
    probability between the row's smallest (0) and largest (1); the paper's b- is scaled by 1 + 0.5 p' instead.
    `lift_nC` and `lower_nC` say how often. `counts_M`: equal keys behind a column, 0 leaves it out of the statistics.
    `video`: what the rows' logits of video columns come to, where those count as well.
    """
    flags = flags or Flags()
    over = row_statistics(logits_HnM, counts_M)
    over = over if video is None else over.beside(video)
    low, top, mean = over.low, over.top, over.mean
    if not flags.reinforcement:
        return lift_nC * (top - mean) + lower_nC * (low - mean)
    share = _probability_share(logits_HnM, columns_C, low, top, counts_M, flags.epsilon)
    up = R_MIN + (R_MAX - R_MIN) * (1 - share)
    down = R_MIN + (R_MAX - R_MIN) * share if flags.lowered == "mirrored" else up
    return lift_nC * up * (top - mean) + lower_nC * down * (low - mean)


def row_statistics(logits_HnM: Tensor, counts_M: Tensor | None = None) -> RowStatistics:
    """Of each row, from its logits."""
    if counts_M is None:
        low, top = torch.aminmax(logits_HnM, dim=-1, keepdim=True)
        mean = logits_HnM.mean(-1, keepdim=True)
        return RowStatistics(low=low, top=top, mean=mean, columns=logits_HnM.shape[-1])
    counts = counts_M.to(logits_HnM.dtype)
    mean = (logits_HnM @ (counts / counts.sum())).unsqueeze(-1)
    left_out = counts_M == 0
    low = logits_HnM.masked_fill(left_out, torch.inf).amin(-1, keepdim=True)
    top = logits_HnM.masked_fill(left_out, -torch.inf).amax(-1, keepdim=True)
    return RowStatistics(low=low, top=top, mean=mean, columns=counts.sum())


def statistics_of(q_HnD: Tensor, k_HMD: Tensor) -> RowStatistics:
    """The same for rows whose logits are too many to hold: walked in chunks of rows."""
    q_BHnD, k_BHMD = q_HnD.unsqueeze(0), k_HMD.unsqueeze(0)
    size = rows_at_once(q_BHnD, k_BHMD)
    found = [row_statistics(scores(part, k_BHMD)[0]) for part in q_BHnD.split(size, dim=2)]
    low, top, mean = (torch.cat([getattr(one, name) for one in found], dim=1) for name in ("low", "top", "mean"))
    return RowStatistics(low=low, top=top, mean=mean, columns=k_HMD.shape[1])


def _probability_share(
    logits_HnM: Tensor, columns_C: Tensor, low: Tensor, top: Tensor, counts_M: Tensor | None, epsilon: float
) -> Tensor:
    """p' of the touched columns: 0 for the row's least probable column, 1 for its most probable one, (H, n, C).

    A softmax's sum falls out of (p - min p) / (max p - min p), so none is taken unless `epsilon` is added below.
    """
    least = (low - top).exp()
    share, span = (logits_HnM[..., columns_C] - top).exp() - least, 1 - least
    if epsilon:
        weights = (logits_HnM - top).exp()
        total = weights.sum(-1, keepdim=True) if counts_M is None else (weights @ counts_M.to(top.dtype)).unsqueeze(-1)
        span = span + epsilon * total
    return torch.where(top > low, share / span, torch.zeros_like(share))


# ── the region ──


def subject_map(q_BHND: Tensor, k_BHMD: Tensor, columns_C: Tensor, *, counts_M: Tensor | None, flags: Flags) -> Tensor:
    """How much each row shows the subject: probability or logit of its words, mean over heads and words, (N,)."""
    if flags.region_map == "logits":
        return column_logits(q_BHND, k_BHMD, columns_C)[0]
    return column_mass(q_BHND, k_BHMD, columns_C, counts_M=counts_M)[0]


def subject_region(
    map_N: Tensor,
    grid: tuple[int, int, int],
    *,
    threshold: Threshold = "upper_half",
    erosion: Erosion = "lonely",
) -> Tensor:
    """Rows that show the subject, (N,) bool; erosion looks at the 8 neighbours of a row in its frame.

    `lonely` takes off rows without any neighbour; `full` those without all (beyond the picture's edge counts as in).
    """
    upper = map_N.topk(max(1, len(map_N) // 2)).values
    on = map_N >= map_N.mean() if threshold == "mean" else map_N > upper.mean()
    frames = on.view(grid[0], 1, *grid[1:]).to(map_N.dtype)
    if erosion == "full":
        frames = -F.max_pool2d(-frames, 3, stride=1, padding=1)
    if erosion == "lonely":
        ring = torch.ones(1, 1, 3, 3, dtype=frames.dtype, device=frames.device)
        ring[..., 1, 1] = 0
        frames = frames * (F.conv2d(frames, ring, padding=1) > 0)
    return (frames > 0).flatten()


# ── the bias, described ──


@dataclass(frozen=True, kw_only=True)
class SeparableBias:
    """One subject's bias: the words of its events, on the rows in its region."""

    plan: SubjectPlan
    region: Tensor | None
    """(N,) bool; None is every row."""
    flags: Flags
    counts: Tensor | None
    """Equal keys behind a column, for the statistics."""
    strength: float
    probe: tuple[Tensor, Tensor] | None
    """Queries and keys of the statistics; None reads the attention's own logits."""
    video: tuple[Tensor, Tensor] | None = None
    """Queries and video keys whose logits count in the statistics as well."""

    @property
    def columns(self) -> Tensor:
        """Touched columns."""
        return self.plan.columns

    def values(self, rows: slice, logits_BHnM: Tensor) -> Tensor:
        """(1, H, n, C)."""
        source = rows if self.plan.source is None else self.plan.source[rows]
        if self.probe is not None:
            q, k = self.probe
            logits_BHnM = scores(q[:, :, source], k)
        segment_n = self.plan.segment[rows]
        lift, lower = self.plan.lift[segment_n], self.plan.lower[segment_n]
        if self.region is not None:
            inside = self.region[rows].unsqueeze(-1)
            lift, lower = lift * inside, lower * inside
        bias = event_bias(
            logits_BHnM[0],
            self.plan.columns,
            lift,
            lower,
            counts_M=self.counts,
            video=None if self.video is None else statistics_of(self.video[0][0, :, source], self.video[1][0]),
            flags=self.flags,
        )
        return self.strength * bias.unsqueeze(0)
