"""The processor that stands in an LTX attention while a control may act there.

Computes what diffusers' `LTXVideoAttnProcessor` computes, except for the batch rows whose control acts in this pass.
LTX hides padding of the text: acting rows read their prompt's own columns alone, so no bias can lift a hidden one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_ltx import apply_rotary_emb
from torch import Tensor

from generators.controls.base import AttentionCall, Control, Run
from generators.controls.steering import join, steer, steers
from generators.models.base import Site
from generators.models.walking import Asked, Walked, heard

Triple = tuple[Tensor, Tensor, Tensor]


class ControlledLTXAttention:
    """Runs `plain` untouched where nobody acts."""

    def __init__(self, plain: Any, site: Site, run: Run, embed: Callable[[Tensor], Tensor]) -> None:
        self.plain = plain
        self.site = site
        self.run = run
        self.embed = embed
        """The network's own way from the encoder's text to what its cross-attentions read."""
        self._attention_backend = plain._attention_backend
        self._parallel_config = plain._parallel_config

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Tensor:
        acting = self.run.acting(self.site)
        if not acting:
            plain: Tensor = self.plain(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)
            return plain
        states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        raw_q, raw_k, raw_v = attn.to_q(hidden_states), attn.to_k(states), attn.to_v(states)
        q, k = attn.norm_q(raw_q), attn.norm_k(raw_k)
        if image_rotary_emb is not None:
            q, k = apply_rotary_emb(q, image_rotary_emb), apply_rotary_emb(k, image_rotary_emb)
        mask = None
        if attention_mask is not None:
            mask = attn.prepare_attention_mask(attention_mask, states.shape[1], len(states))
            mask = mask.view(len(states), attn.heads, -1, mask.shape[-1])
        q, k, v, raw_q, raw_k = (x.unflatten(2, (attn.heads, -1)) for x in (q, k, raw_v, raw_q, raw_k))
        ways = partial(_normed, attn), partial(_turned, attn, image_rotary_emb)
        out = self._attend(attn, acting, mask, (q, k, v), (raw_q, raw_k), ways).flatten(2, 3).to(q.dtype)
        projected: Tensor = attn.to_out[1](attn.to_out[0](out))
        return projected

    def _attend(
        self,
        attn: Any,
        acting: Mapping[int, Sequence[Control]],
        mask_BH1M: Tensor | None,
        qkv_BNHD: Triple,
        raw_BNHD: tuple[Tensor, Tensor],
        ways: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
    ) -> Tensor:
        """(B, N, H, D): stock attention for the rows at rest, the phases of `steer` for those that act."""
        out = torch.empty_like(qkv_BNHD[0])
        rest = [row for row in range(len(out)) if not steers(acting.get(row, ()))]
        if rest:
            q, k, v = (x[rest] for x in qkv_BNHD)
            mask = None if mask_BH1M is None else mask_BH1M[rest]
            out[rest] = dispatch_attention_fn(q, k, v, attn_mask=mask, backend=self._attention_backend)
        batch = (qkv_BNHD[0].transpose(1, 2), qkv_BNHD[1].transpose(1, 2), qkv_BNHD[2].transpose(1, 2))
        raw_q, raw_k = (x.transpose(1, 2) for x in raw_BNHD)
        for row, controls in acting.items():
            own = slice(row, row + 1)
            read = slice(None) if mask_BH1M is None else slice(self.run.tokens(row))
            call = AttentionCall(
                site=self.site,
                step=self.run.step,
                row=row,
                layout=self.run.layout(row),
                q=batch[0][own],
                k=batch[1][own, :, read],
                v=batch[2][own, :, read],
                raw_q=raw_q[own],
                raw_k=raw_k[own, :, read],
                batch=batch,
                raw_batch=raw_q,
                norm=ways[0],
                turn=ways[1],
                branch=self.run.branch(row),
            )
            steered = steer(call, controls, partial(self._project, attn)).transpose(1, 2)
            if steers(controls):
                out[own] = steered
        join(self.run, acting, self.site, out.transpose(1, 2))
        return out

    def _project(self, attn: Any, states: Tensor) -> Triple:
        """Keys, values and raw keys, each (g, H, M, d), of texts as the encoder gave them."""
        text = self.embed(states)
        raw_k = attn.to_k(text)
        k, v, raw = (
            x.unflatten(2, (attn.heads, -1)).transpose(1, 2) for x in (attn.norm_k(raw_k), attn.to_v(text), raw_k)
        )
        return k, v, raw


class WalkedLTX(Walked):
    """An LTX block that is read."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: Any = None,
        encoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """The block's output, or its input where nobody reads on."""
        out: Tensor | None = self.walk(
            hidden_states, encoder_hidden_states, temb, image_rotary_emb, encoder_attention_mask
        )
        return hidden_states if out is None else out

    def ask(self, *inputs: Any) -> Asked:
        """Self-attention, and what text attention asks: the first part of `LTXVideoTransformerBlock.forward`."""
        hidden, states, time, rotary, mask = inputs
        block, attn = self.block, self.block.attn2
        table = block.scale_shift_table
        modulation = table[None, None].to(time.device) + time.reshape(len(hidden), time.shape[1], len(table), -1)
        shift, scale, gate = modulation.unbind(dim=2)[:3]
        normed = block.norm1(hidden) * (1 + scale) + shift
        hidden = hidden + block.attn1(normed, None, image_rotary_emb=rotary) * gate
        return _asked(attn, attn.norm_q(attn.to_q(hidden)), attn.norm_k(attn.to_k(states)), mask)

    def whole(self, *inputs: Any) -> tuple[Any, Asked]:
        """The block's output, and what was heard on the way."""
        with heard(self.block.attn2) as found:
            out = self.block.forward(*inputs)  # not __call__: a compiled block would not hear the hooks
        return out, _asked(self.block.attn2, found["q"], found["k"], inputs[4])


def _normed(attn: Any, raw_BHND: Tensor) -> Tensor:
    """Raw queries after their norm, which is over all heads."""
    normed: Tensor = attn.norm_q(raw_BHND.transpose(1, 2).flatten(2)).unflatten(2, (attn.heads, -1)).transpose(1, 2)
    return normed


def _turned(attn: Any, rotary: Any, q_BHND: Tensor) -> Tensor:
    """Queries of one row turned by their places."""
    if rotary is None:
        return q_BHND
    q = apply_rotary_emb(q_BHND.transpose(1, 2).flatten(2), tuple(part[:1] for part in rotary))
    turned: Tensor = q.unflatten(2, (attn.heads, -1)).transpose(1, 2)
    return turned


def _asked(attn: Any, q_BNC: Tensor, k_BMC: Tensor, mask_B1M: Tensor | None) -> Asked:
    """By heads, without the columns of text that are hidden."""
    q, k = (x.unflatten(2, (attn.heads, -1)).transpose(1, 2) for x in (q_BNC, k_BMC))
    return q, k if mask_B1M is None else k[:, :, mask_B1M[0, 0] == 0]
