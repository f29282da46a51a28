"""VSTAR (arXiv 2403.13501): a band over frames on attention over time, and a text that changes with the frames.

Temporal attention regularisation adds, to the logits phi of a row,

    phi' = phi + scale * max(phi) * D,    D[i, j] = exp(-((j - i) / sigma)^2 / 2)        (eq. 2 and 3)

in the first share of the steps and in both branches of guidance, so that near frames see each other more and far ones
less. Where attention over time stands alone (UNets) this is the published method. Where every token sees every other
(Wan, CogVideoX) D depends on the frames of row and column: it re-weighs frames and leaves the attention inside each
frame as it is. Video synopsis prompting gives every frame a mixture of the texts of the shot's states, in the
conditional branch, in every step.

F latent frames, S states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from generators.attention import Bias
from generators.attention_bands import RowBand, gaussian_table, known_band, off_frame_mass
from generators.controls.base import AttentionCall, Control, Shot, Step, share_of_steps
from generators.controls.config import VSTAR
from generators.controls.frame_text import FrameText, frame_shares, key_frames
from generators.errors import ControlRejected
from generators.models.base import Branch, Site, VideoModel

LONG = 32
"""Clips of more frames are regularised one level further down."""
TRAINED = 16
"""Frames that the published widths are in."""
ALIKE = 0.8
"""Texts whose lengths differ by no more than this stand word beside word well enough to be mixed."""


class VSTARControl(Control):
    """VSTAR on one request. Raises ControlRejected where it could not act."""

    name = "VSTAR"

    def __init__(self, config: VSTAR, shot: Shot) -> None:
        super().__init__(shot)
        self.config = config
        self.frames = shot.layout.grid[0]
        self.replaces_text = bool(config.synopsis)
        self.is_factorised = any(site.kind == "temporal" for site in shot.sites)
        self.last_step = share_of_steps(config.steps, shot.steps)
        self.tables = self._tables() if config.regularise else {}
        self.scale = config.scale if config.scale is not None else (1.0 if self.is_factorised else 0.25)
        self._shares = self._frame_shares() if config.synopsis else None
        self._text: FrameText | None = None
        self._heads: dict[Site, Tensor] = {}

    def begin(self, model: VideoModel) -> None:
        """Encode the synopsis with the model's own encoder. Raises ControlRejected for a state that is cut off."""
        if self._shares is None:
            return
        with torch.no_grad():
            text = model.encode(list(self.config.synopsis), None)
        for state, where in zip(self.config.synopsis, text.maps, strict=True):
            if where.cut:
                raise ControlRejected(f"VSTAR.synopsis: the tokenizer cuts {state!r} after {where.length} tokens")
        lengths = tuple(where.tokens for where in text.maps)
        hides_padding = text.cond_mask is not None
        if hides_padding and self.config.blend == "embeddings":
            raise ControlRejected("VSTAR.blend: this model hides padding, so texts cannot be mixed; use 'outputs'")
        self._text = FrameText(
            states=text.cond,
            shares_FS=self._shares,
            blend="outputs" if hides_padding else self._blend(lengths),
            tokens=lengths,
            hides_padding=hides_padding,
        )

    def at(self, site: Site) -> bool:
        """Attention over time, and text cross-attention where there is a synopsis."""
        return self._regularises(site) or (site.kind == "cross" and self.replaces_text)

    def acts(self, step: Step, branch: Branch) -> bool:
        """The band in both branches early on, the synopsis in the conditional one all the time."""
        return bool(self.tables) and step.index < self.last_step or (self.replaces_text and branch is Branch.COND)

    def acts_at(self, site: Site, step: Step, branch: Branch) -> bool:
        """Each half in its own places and times."""
        if self._regularises(site):
            return step.index < self.last_step
        return self.at(site) and branch is Branch.COND

    def frame_text(self, site: Site) -> FrameText | None:
        """The synopsis, at text cross-attention."""
        return self._text if site.kind == "cross" else None

    def biases(self, call: AttentionCall) -> Sequence[Bias]:
        """The band, at attention over time."""
        if call.reads != "video" or not self._regularises(call.site) or self.config.replace != "none":
            return ()
        band = RowBand(
            table_FF=self.tables[self._level(call.site)].to(call.q.device),
            per_frame=1 if self.is_factorised else call.q.shape[2] // self.frames,
            scale=self.scale,
            negative=self.config.preset == "official",
            keeps_mass=call.part is not None,
        )
        magnitude = self.config.magnitude
        if magnitude == "auto":
            magnitude = "rowmax" if self.is_factorised else "sampled"
        if self.is_factorised and magnitude == "rowmax":
            return (band,)
        if self.config.heads == "temporal":
            band = replace(band, heads_H=self._temporal_heads(call, band.per_frame))
        return (known_band(band, call.q, call.k, magnitude),)

    def output(self, call: AttentionCall, out_BHND: Tensor) -> Tensor:
        """The output, or that of the map that stands in for it."""
        if self.config.replace == "none" or not self._regularises(call.site):
            return out_BHND
        return call.v if self.config.replace == "identity" else call.v.mean(2, keepdim=True).expand_as(call.v)

    def _regularises(self, site: Site) -> bool:
        over_time = site.kind == "temporal" if self.is_factorised else site.kind in ("self", "joint")
        return over_time and self._level(site) in self.tables

    def _level(self, site: Site) -> int:
        return site.level if self.is_factorised else 0

    def _temporal_heads(self, call: AttentionCall, per_frame: int) -> Tensor:
        """Heads that look at other frames more than at their own, as the first regularised pass finds them."""
        if call.site not in self._heads:
            mass = off_frame_mass(call.q, call.k, per_frame)
            self._heads[call.site] = (mass > 0.5).to(mass.dtype)
        return self._heads[call.site]

    def _tables(self) -> dict[int, Tensor]:
        """The band of every level that is regularised, (F, F)."""
        config, levels = self.config, {site.level for site in self.shot.sites if site.kind == "temporal"}
        if not self.is_factorised:
            self._check_joint_space_and_time()
            levels = {0}
        elif config.magnitude == "sampled" or config.heads != "all":
            raise ControlRejected(
                f"VSTAR: this model's attention over time has {self.frames} keys a row and is read whole; "
                "magnitude='sampled' and heads='temporal' are for attention over space and time together"
            )
        sigmas = config.sigmas or ((1.0, 8.0) if self._is_long() else (1.0,))
        wanted = {level: sigma for level, sigma in enumerate(sigmas) if sigma is not None}
        if not set(wanted) <= levels:
            raise ControlRejected(
                f"VSTAR.sigmas: this model has attention over time at levels {sorted(levels)}, got {sigmas}"
            )
        stretch = 1.0 if self.is_factorised else self.frames / TRAINED
        return {level: self._table(sigma * stretch) for level, sigma in wanted.items()}

    def _is_long(self) -> bool:
        return self.is_factorised and self.config.preset == "default" and self.frames > LONG

    def _check_joint_space_and_time(self) -> None:
        if not any(site.kind in ("self", "joint") for site in self.shot.sites):
            raise ControlRejected("VSTAR: this model has no attention over time that a control can reach")
        if self.config.preset == "official" or self.config.replace != "none":
            raise ControlRejected(
                f"VSTAR: preset={self.config.preset!r} and replace={self.config.replace!r} are of attention over time "
                "alone, and this model attends over space and time together; use the default preset, replace='none'"
            )

    def _table(self, sigma: float) -> Tensor:
        if not self.config.matrix:
            return gaussian_table(self.frames, sigma)
        if len(self.config.matrix) != self.frames:
            raise ControlRejected(
                f"VSTAR.matrix: expected {self.frames} x {self.frames} values, one for every pair of latent frames, "
                f"got {len(self.config.matrix)} rows"
            )
        return torch.tensor(self.config.matrix, dtype=torch.float64)

    def _frame_shares(self) -> Tensor:
        """How much each frame reads of each state, (F, S)."""
        if not any(site.kind == "cross" for site in self.shot.sites):
            raise ControlRejected(
                "VSTAR.synopsis: this model has no text cross-attention, so that frames cannot read texts of their "
                "own; leave the synopsis empty to regularise alone"
            )
        states = len(self.config.synopsis)
        if states > self.frames:
            raise ControlRejected(
                f"VSTAR.synopsis: expected at most {self.frames} states (the clip's latent frames), got {states}"
            )
        return frame_shares(self._keys(states), self.frames, self.config.mixture)

    def _keys(self, states: int) -> list[int]:
        config, timeline = self.config, self.shot.timeline
        if not config.seconds:
            # the released code truncates a float grid, which now and then falls one frame short
            is_released = config.preset == "official" and states > 1
            exact = key_frames(states, self.frames)
            return [int(x) for x in np.linspace(0, self.frames - 1, states)] if is_released else exact
        if config.seconds[-1] >= timeline.seconds:
            raise ControlRejected(
                f"VSTAR.seconds: expected moments before the clip's {timeline.seconds} s, got {config.seconds}"
            )
        layout = self.shot.layout
        latents = [timeline.latent(int(moment * timeline.fps + 1e-6)) for moment in config.seconds]
        keys = [(latent + layout.lead) // layout.patch[0] for latent in latents]
        if len(set(keys)) < states:
            raise ControlRejected(
                f"VSTAR.seconds: two of {config.seconds} fall into one latent frame ({keys}); set them further apart"
            )
        return keys

    def _blend(self, lengths: Sequence[int]) -> Literal["embeddings", "outputs"]:
        if self.config.blend != "auto":
            return self.config.blend
        pairs = zip(lengths, lengths[1:], strict=False)
        alike = all(min(pair) >= ALIKE * max(pair) for pair in pairs)
        return "embeddings" if self.is_factorised or alike else "outputs"
