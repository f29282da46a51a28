"""Temporal-wise separable attention (TS-Attn, arXiv 2604.19473): when it acts, and what it reads there.

In the early steps of the conditional branch, in attention to text, rows inside a subject's region get a positive bias
on the words of the event of their time and a negative one on the words of the subject's other events. The size of both
comes from the row's own logits. Words and times: `ts_attn_plan`; arithmetic: `ts_attn_bias`; where paper and released
code differ: `ts_attn_flags` and docs/decisions/0010-separable-attention-as-it-is-steered-here.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from generators.attention import Bias
from generators.controls.base import AttentionCall, Control, Shot, Step, share_of_steps
from generators.controls.config import TSAttn
from generators.controls.ts_attn_bias import SeparableBias, subject_map, subject_region
from generators.controls.ts_attn_plan import SubjectPlan, plan_subjects
from generators.errors import ControlRejected
from generators.models.base import Branch, SeesClips, Site, VideoModel

EMPTY = (
    "TS-Attn: the region of {subject!r} was empty wherever it was looked for, so its events were not steered; "
    "use region=False, which steers every token, or a larger picture"
)
"""Of a subject that was looked for in vain, as on a grid of very few tokens."""


class TSAttnControl(Control):
    """TS-Attn on one request. Raises ControlRejected where it could not act."""

    name = "TSAttn"
    reads_words = True

    def __init__(self, config: TSAttn, shot: Shot) -> None:
        super().__init__(shot)
        self.config = config
        self.flags = config.flags
        self._check_sites()
        from_picture = any(given.first == 0 for given in shot.request.given)
        self.last_step = share_of_steps(config.share(from_picture=from_picture), shot.steps)
        self.plans = plan_subjects(config, shot)
        self._inside: dict[tuple[str, Site], list[Tensor]] = {}

    def begin(self, model: VideoModel) -> None:
        """Refuse what means nothing in the model's family. Raises ControlRejected."""
        if not isinstance(model, SeesClips) or model.family != "ltx":
            return
        if self.config.preset == "official":
            raise ControlRejected(
                "TSAttn.preset='official': nothing is published for LTX; expected 'default' or 'paper'"
            )
        if not self.flags.padding:
            raise ControlRejected(
                "TSAttn.padding=False would change nothing: LTX hides the padding of its text from every row"
            )

    def acts(self, step: Step, branch: Branch) -> bool:
        """In the first share of the steps, conditional branch only."""
        return branch is Branch.COND and step.index < self.last_step

    def at(self, site: Site) -> bool:
        """Attention to text, of every other block by default."""
        return site.kind in ("cross", "joint") and (self.flags.layers == "all" or site.layer % 2 == 1)

    def biases(self, call: AttentionCall) -> Sequence[Bias]:
        """One bias a subject; they add."""
        if call.reads != "text":
            return ()
        q, k = (call.raw_q, call.raw_k) if self._reads_raw(call.site) else (call.q, call.k)
        return [self._bias(plan, q, k, call) for plan in self.plans]

    def after_step(self, step: Step, latents: Tensor) -> Tensor:
        """After the last step of its share, note the subjects that were steered nowhere."""
        if step.index == self.last_step - 1:
            shares = self.region_shares()
            self.notes = tuple(EMPTY.format(subject=name) for name, of in shares.items() if not any(of.values()))
        return latents

    def region_shares(self) -> dict[str, dict[Site, float]]:
        """The share of rows inside each subject's region, mean over the calls so far, of every steered attention."""
        shares: dict[str, dict[Site, float]] = {}
        for (subject, site), found in self._inside.items():
            shares.setdefault(subject, {})[site] = float(torch.stack(found).mean())
        return shares

    def _bias(self, plan: SubjectPlan, q_BHND: Tensor, k_BHMD: Tensor, call: AttentionCall) -> SeparableBias:
        region = None
        if self.flags.region and len(plan.subject_columns):
            map_N = subject_map(q_BHND, k_BHMD, plan.subject_columns, counts_M=call.counts, flags=self.flags)
            shape = call.layout.grid
            region = subject_region(map_N, shape, threshold=self.flags.threshold, erosion=self.flags.erosion)
            self._inside.setdefault((plan.subject, call.site), []).append(region.float().mean())
        apart = q_BHND is not call.q or plan.source is not None
        return SeparableBias(
            plan=plan,
            region=region,
            flags=self.flags,
            counts=call.counts if self.flags.padding else self._without_padding(call),
            strength=self.config.strength,
            probe=(q_BHND, k_BHMD) if apart else None,
            video=self._video(q_BHND, call) if self.flags.axis == "all" else None,
        )

    def _video(self, q_BHND: Tensor, call: AttentionCall) -> tuple[Tensor, Tensor]:
        """Queries and video keys of the same kind."""
        assert call.whole is not None
        video = call.whole.over("video")
        return q_BHND, video.raw_k if self._reads_raw(call.site) else video.k

    def _reads_raw(self, site: Site) -> bool:
        """Joint attention is unpublished; unless `probe` asks for it there, its real logits are read."""
        return self.flags.probe == "raw" and (site.kind == "cross" or self.config.probe == "raw")

    def _without_padding(self, call: AttentionCall) -> Tensor:
        """Counts of the columns, 0 where they are padding."""
        columns = torch.arange(call.k.shape[2], device=call.k.device)
        return (columns < self.shot.text.tokens).to(torch.float32)

    def _check_sites(self) -> None:
        sites = self.shot.sites
        if not any(self.at(site) for site in sites):
            raise ControlRejected(
                f"TSAttn.layers={self.flags.layers!r}: this model has no such cross-attention to steer; "
                f"it has {sorted({(s.layer, s.kind) for s in sites})}"
            )
        if self.flags.axis == "all" and not any(site.kind == "joint" for site in sites):
            raise ControlRejected(
                "TSAttn.axis='all' would change nothing: this model's attention to text reads nothing else"
            )
        if any(site.kind == "temporal" for site in sites):
            raise ControlRejected(
                "TSAttn: expected a model whose attention to text reads the whole clip; in this one each frame reads "
                "it alone; VSTAR gives every frame a text of its own"
            )
        if self.config.preset == "official" and any(site.kind == "joint" for site in sites):
            raise ControlRejected(
                "TSAttn.preset='official': nothing is published for joint attention; expected 'default' or 'paper'"
            )
