"""Temporal-wise separable attention (TS-Attn, arXiv 2604.19473), default preset.

In the early steps of the conditional branch, in text cross-attention, rows inside a subject's region get a positive
bias on the words of the event of their time and a negative one on the words of the subject's other events. The size of
both comes from the row's own logits. Where paper and released code differ:
docs/decisions/0010-separable-attention-as-it-is-steered-here.md.

H heads, n rows of a chunk, N video tokens, M text columns, C touched columns, F latent frames, G tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.attention import Bias, column_mass, scores
from generators.clip import Event
from generators.controls.base import AttentionCall, Control, Shot, Step
from generators.controls.config import TSAttn
from generators.errors import ControlRejected
from generators.models.base import Branch, Layout, Site
from generators.timeline import Interval
from generators.tokens import clean_prompt

R_MIN, R_MAX = 1.0, 1.5


def event_bias(
    logits_HnM: Tensor,
    columns_C: Tensor,
    sign_nC: Tensor,
    *,
    counts_M: Tensor | None = None,
    mirrored: bool = False,
) -> Tensor:
    """Lift the columns of a row's own event, lower those of the others (eq. 4-6, 8), from the row's logits: (H, n, C).

    b+ = max - mean, b- = min - mean over the text axis, scaled by 1 + 0.5 (1 - p') where p' is the column's probability
    between the row's smallest (0) and largest (1). `sign_nC` is +1, -1 or 0. `counts_M`: equal keys behind a column.
    `mirrored` is the paper's r- (eq. 9), 1 + 0.5 p' on lowered columns; the released code has none.
    """
    top, low = logits_HnM.amax(-1, keepdim=True), logits_HnM.amin(-1, keepdim=True)
    if counts_M is None:
        mean = logits_HnM.mean(-1, keepdim=True)
    else:
        counts = counts_M.to(logits_HnM.dtype)
        mean = (logits_HnM @ (counts / counts.sum())).unsqueeze(-1)
    least = (low - top).exp()
    share = ((logits_HnM[..., columns_C] - top).exp() - least) / (1 - least)
    share = torch.where(top > low, share, torch.zeros_like(share))
    up = R_MIN + (R_MAX - R_MIN) * (1 - share)
    down = R_MIN + (R_MAX - R_MIN) * share if mirrored else up
    return (sign_nC > 0) * up * (top - mean) + (sign_nC < 0) * down * (low - mean)


def subject_region(mass_N: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Rows that show the subject: above the mean of the upper half, and not alone in their frame: (N,) bool."""
    threshold = mass_N.topk(max(1, len(mass_N) // 2)).values.mean()
    on = (mass_N > threshold).view(grid[0], 1, *grid[1:]).to(mass_N.dtype)
    ring = torch.ones(1, 1, 3, 3, dtype=on.dtype, device=on.device)
    ring[..., 1, 1] = 0
    neighbours = F.conv2d(on, ring, padding=1)
    return ((on > 0) & (neighbours > 0)).flatten()


@dataclass(frozen=True, kw_only=True)
class SubjectPlan:
    """What one subject does in one clip, in token columns."""

    subject_columns: Tensor
    """Columns of the subject's own words; empty steers every row."""
    columns: Tensor
    """(C,) columns that are lifted or lowered at some time."""
    sign: Tensor
    """(F, C): +1 own event or subject, -1 another event, 0 neither."""


class TSAttnControl(Control):
    """TS-Attn on one request. Raises ControlRejected where it could not act."""

    def __init__(self, config: TSAttn, shot: Shot) -> None:
        super().__init__(shot)
        self.config = config
        if not any(self.at(site) for site in shot.sites):
            raise ControlRejected(
                f"TSAttn.layers={config.layers!r}: this model has no such cross-attention to steer; "
                f"it has {sorted({(s.layer, s.kind) for s in shot.sites})}"
            )
        self.last_step = max(1, int(config.steps * shot.steps + 1e-9))
        self.plans = plan_subjects(config, shot)

    def acts(self, step: Step, branch: Branch) -> bool:
        """In the first share of the steps, conditional branch only."""
        return branch is Branch.COND and step.index < self.last_step

    def at(self, site: Site) -> bool:
        """Text cross-attention, of every other block by default."""
        return site.kind == "cross" and (self.config.layers == "all" or site.layer % 2 == 1)

    def biases(self, call: AttentionCall) -> Sequence[Bias]:
        """One bias a subject; they add."""
        raw = self.config.probe == "raw"
        q = call.raw_q if raw else call.q
        k = call.raw_k if raw else call.k
        return [
            SeparableBias(
                plan=plan,
                region=self._region(plan, q, k, call),
                layout=call.layout,
                counts=call.counts,
                strength=self.config.strength,
                probe=(q, k) if raw else None,
            )
            for plan in self.plans
        ]

    def _region(self, plan: SubjectPlan, q_BHND: Tensor, k_BHMD: Tensor, call: AttentionCall) -> Tensor:
        if not self.config.region or not len(plan.subject_columns):
            return torch.ones(call.layout.tokens, dtype=torch.bool, device=q_BHND.device)
        mass_BN = column_mass(q_BHND, k_BHMD, plan.subject_columns, counts_M=call.counts)
        return subject_region(mass_BN[0], call.layout.grid)


@dataclass(frozen=True, kw_only=True)
class SeparableBias:
    """One subject's bias, described: event columns of the rows in its region."""

    plan: SubjectPlan
    region: Tensor
    """(N,) bool."""
    layout: Layout
    counts: Tensor | None
    strength: float
    probe: tuple[Tensor, Tensor] | None
    """Queries and keys of the statistics; None reads the attention's own logits."""

    @property
    def columns(self) -> Tensor:
        """Touched columns."""
        return self.plan.columns

    def values(self, rows: slice, logits_BHnM: Tensor) -> Tensor:
        """(1, H, n, C)."""
        if self.probe is not None:
            q, k = self.probe
            logits_BHnM = scores(q[:, :, rows], k)
        _, height, width = self.layout.grid
        frame_n = torch.arange(rows.start, rows.stop, device=logits_BHnM.device) // (height * width)
        sign_nC = self.plan.sign[frame_n] * self.region[rows].unsqueeze(-1)
        bias = event_bias(logits_BHnM[0], self.plan.columns, sign_nC, counts_M=self.counts)
        return self.strength * bias.unsqueeze(0)


def plan_subjects(config: TSAttn, shot: Shot) -> list[SubjectPlan]:
    """Columns and times of every subject. Raises ControlRejected for what does not stand in the prompt or the clip."""
    events = shot.request.events
    if not events:
        raise ControlRejected("TSAttn: expected a request with at least one event, got none")
    for event in events:
        if event.start >= shot.timeline.seconds:
            raise ControlRejected(
                f"TSAttn: event {event.phrase!r} starts at {event.start} s, expected less than the clip's "
                f"{shot.timeline.seconds} s"
            )
    phrases = [
        shot.text.columns(e.phrase, occurrence=_occurrence(events, i, shot), what="event") for i, e in enumerate(events)
    ]
    subjects = list(dict.fromkeys(clean_prompt(event.subject) for event in events))
    return [_plan(config, shot, subject, phrases) for subject in subjects]


def _occurrence(events: Sequence[Event], index: int, shot: Shot) -> int:
    """Events with one phrase stand for its occurrences in the prompt, in order; the last one is shared."""
    phrase = clean_prompt(events[index].phrase)
    earlier = sum(clean_prompt(event.phrase) == phrase for event in events[:index])
    return min(earlier, max(shot.text.occurrences(phrase) - 1, 0))


def _plan(config: TSAttn, shot: Shot, subject: str, phrases: Sequence[tuple[int, ...]]) -> SubjectPlan:
    own = [i for i, event in enumerate(shot.request.events) if clean_prompt(event.subject) == subject]
    intervals = [Interval(shot.request.events[i].start, shot.request.events[i].end) for i in own]
    owners = [own[i] for i in shot.timeline.owners(intervals)]
    named = _subject_columns(config, shot, subject)
    lifted_always = set(named) if config.subject_tokens else set()
    columns = sorted(lifted_always.union(*(phrases[i] for i in own)))
    signs = []
    for owner in owners:
        lifted = lifted_always | set(phrases[owner])
        lowered = set().union(*(phrases[i] for i in own)) - lifted
        signs.append([(c in lifted) - (c in lowered) for c in columns])
    return SubjectPlan(
        subject_columns=torch.tensor(named, dtype=torch.long, device=shot.device),
        columns=torch.tensor(columns, dtype=torch.long, device=shot.device),
        sign=torch.tensor(signs, dtype=torch.int8, device=shot.device),
    )


def _subject_columns(config: TSAttn, shot: Shot, subject: str) -> list[int]:
    """Columns of every mention of the subject; none for the empty subject."""
    if not subject or not (config.region or config.subject_tokens):
        return []
    mentions = max(shot.text.occurrences(subject), 1)
    found = [shot.text.columns(subject, occurrence=i, what="subject") for i in range(mentions)]
    return sorted({column for columns in found for column in columns})
