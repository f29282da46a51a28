"""The processor that stands in a UNet attention while a control may act there.

Computes what diffusers' `AttnProcessor2_0` computes, except for the requests whose control acts in this pass. UNets
fold what cannot see each other into the batch: frames in spatial attention, pixels in temporal attention. Neighbours
are shown to a control with the frames of a clip in one sequence.

R rows of the pass (a branch of a request each), P folded parts of a row, N queries, M keys, H heads, D head width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from generators.controls.base import AttentionCall, Control, Run
from generators.controls.steering import join, steer, steers
from generators.errors import ControlRejected
from generators.models.base import Site

Triple = tuple[Tensor, Tensor, Tensor]


class ControlledUnetAttention:
    """Runs `plain` untouched where nobody acts. Raises ControlRejected in the place of a processor it does not know."""

    def __init__(self, plain: Any, attn: Any, site: Site, run: Run) -> None:
        if type(plain) is not AttnProcessor2_0 or getattr(attn, "fused_projections", False):
            raise ControlRejected(
                f"{site}: expected diffusers' AttnProcessor2_0 with projections of its own to steer at, got "
                f"{type(plain).__name__}; unload adapters that replace it, call unfuse_qkv_projections()"
            )
        self.plain = plain
        self.site = site
        self.run = run

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        acting = self.run.acting(self.site)
        if not acting:
            plain: Tensor = self.plain(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return plain
        states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        qkv = _heads(attn.to_q(hidden_states), attn), *_projected(attn, states)
        out = self._attend(attn, acting, qkv).transpose(1, 2).flatten(2, 3).to(qkv[0].dtype)
        projected: Tensor = attn.to_out[1](attn.to_out[0](out)) / attn.rescale_output_factor
        return projected

    def _attend(self, attn: Any, acting: Mapping[int, Sequence[Control]], qkv: Triple) -> Tensor:
        """(R P, H, N, D): stock attention for the rows at rest, the phases of `steer` for those that act."""
        parts = len(qkv[0]) // self.run.rows
        q, k, v = (x.unflatten(0, (-1, parts)) for x in qkv)
        batch = (clips(q), clips(k), clips(v)) if self.site.kind == "self" else None
        out = torch.empty_like(q)
        for row in range(len(q)):
            if row in acting:
                out[row] = self._steered(attn, acting[row], row, (q[row], k[row], v[row]), batch)
        rest = [row for row in range(len(q)) if not steers(acting.get(row, ()))]
        if rest:
            q, k, v = (x[rest].flatten(0, 1) for x in (q, k, v))
            at_rest: Any = F.scaled_dot_product_attention(q, k, v)
            out[rest] = at_rest.unflatten(0, (-1, parts))
        if batch is not None:
            joined = clips(out)
            join(self.run, acting, self.site, joined)
            out = joined.unflatten(2, (parts, -1)).transpose(1, 2)
        return out.flatten(0, 1)

    def _steered(self, attn: Any, controls: Sequence[Control], row: int, qkv: Triple, batch: Triple | None) -> Tensor:
        """(P, H, N, D). In text attention all frames ask one text: their pixels are rows of one call, in order."""
        q, k, v = qkv
        if self.site.kind == "cross":
            q, k, v = q.transpose(0, 1).flatten(1, 2).unsqueeze(0), k[:1], v[:1]
        call = AttentionCall(
            site=self.site,
            step=self.run.step,
            row=row,
            layout=self.run.layout(row).halved(self.site.level),
            q=q,
            k=k,
            v=v,
            raw_q=q,
            raw_k=k,
            batch=batch,
            raw_batch=None if batch is None else batch[0],
            norm=_as_it_is,
            turn=_as_it_is,
            branch=self.run.branch(row),
        )
        if self.site.kind != "cross":
            return steer(call, controls)
        out: Tensor = steer(call, controls, partial(_project, attn))[0].unflatten(1, (len(qkv[0]), -1)).transpose(0, 1)
        return out


def clips(x_RPHND: Tensor) -> Tensor:
    """Rows whose frames are one sequence, (R, H, P N, D): a view of projections, which lie so in memory."""
    return x_RPHND.transpose(1, 2).flatten(2, 3)


def _as_it_is(q: Tensor) -> Tensor:
    """These families have no norm of queries, and no positions that turn them."""
    return q


def _project(attn: Any, states: Tensor) -> Triple:
    k, v = _projected(attn, states)
    return k, v, k


def _projected(attn: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    return _heads(attn.to_k(states), attn), _heads(attn.to_v(states), attn)


def _heads(x_BND: Tensor, attn: Any) -> Tensor:
    heads: Tensor = x_BND.unflatten(2, (attn.heads, -1)).transpose(1, 2)
    return heads
