"""The processor that stands in a CogVideoX attention while a control may act there.

One softmax over [text | video] for the rows of both. Rows of video are steered; rows of text are computed as they are.
Where nobody acts the stock processor runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor

from generators.controls.base import AttentionCall, Control, Run
from generators.controls.steering import join, steer, steers
from generators.models.base import Site
from generators.models.walking import Asked, Walked, heard

Triple = tuple[Tensor, Tensor, Tensor]


class ControlledJointAttention:
    """Runs `plain` untouched where nobody acts. B rows of the pass, H heads, S = text columns + N video tokens."""

    def __init__(self, plain: Any, site: Site, run: Run) -> None:
        self.plain = plain
        self.site = site
        self.run = run

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> tuple[Tensor, Tensor]:
        acting = self.run.acting(self.site)
        if not acting:
            plain: tuple[Tensor, Tensor] = self.plain(
                attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
            )
            return plain
        columns = encoder_hidden_states.shape[1]
        raw = projected(attn, torch.cat([encoder_hidden_states, hidden_states], dim=1))
        q = placed(attn.norm_q, raw[0], columns, image_rotary_emb)
        k = placed(attn.norm_k, raw[1], columns, image_rotary_emb)
        ways = (
            partial(placed, attn.norm_q, columns=0, rotary=None),
            partial(placed, None, columns=0, rotary=image_rotary_emb),
        )
        out = self._attend(acting, columns, (q, k, raw[2]), (raw[0], raw[1]), ways)
        out = attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))
        return out[:, columns:], out[:, :columns]

    def _attend(
        self,
        acting: Mapping[int, Sequence[Control]],
        columns: int,
        qkv_BHSD: Triple,
        raw_BHSD: tuple[Tensor, Tensor],
        ways: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
    ) -> Tensor:
        """(B, H, S, D): stock attention for the rows at rest and for text, the phases of `steer` for acting video."""
        q, k, v = qkv_BHSD
        out = torch.empty_like(q)
        rest = [row for row in range(len(out)) if not steers(acting.get(row, ()))]
        if rest:
            out[rest] = F.scaled_dot_product_attention(q[rest], k[rest], v[rest])
        for row, controls in acting.items():
            own = slice(row, row + 1)
            call = AttentionCall(
                site=self.site,
                step=self.run.step,
                row=row,
                layout=self.run.layout(row),
                q=q[own, :, columns:],
                k=k[own],
                v=v[own],
                raw_q=raw_BHSD[0][own, :, columns:],
                raw_k=raw_BHSD[1][own],
                text=slice(columns),
                batch=(q[:, :, columns:], k, v),
                raw_batch=raw_BHSD[0][:, :, columns:],
                norm=ways[0],
                turn=ways[1],
                branch=self.run.branch(row),
            )
            steered = steer(call, controls)
            if steers(controls):
                out[own, :, :columns] = F.scaled_dot_product_attention(q[own, :, :columns], k[own], v[own])
                out[own, :, columns:] = steered
        join(self.run, acting, self.site, out[:, :, columns:])
        return out


class WalkedJoint(Walked):
    """A CogVideoX block that is read."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: Any = None,
        attention_kwargs: Any = None,
    ) -> tuple[Tensor, Tensor]:
        """The block's output, or its input where nobody reads on."""
        out: tuple[Tensor, Tensor] | None = self.walk(
            hidden_states, encoder_hidden_states, temb, image_rotary_emb, attention_kwargs
        )
        return (hidden_states, encoder_hidden_states) if out is None else out

    def ask(self, *inputs: Any) -> Asked:
        """Queries of video and keys of text, norms and positions applied."""
        hidden, states, time, rotary, _ = inputs
        attn, columns = self.block.attn1, states.shape[1]
        hidden, states, _, _ = self.block.norm1(hidden, states, time)
        q, k, _ = projected(attn, torch.cat([states, hidden], dim=1))
        return placed(attn.norm_q, q, columns, rotary)[:, :, columns:], placed(attn.norm_k, k, columns, None)[
            :, :, :columns
        ]

    def whole(self, *inputs: Any) -> tuple[Any, Asked]:
        """The stock processor writes positions into what the norms gave, so what was heard holds them."""
        columns = inputs[1].shape[1]
        with heard(self.block.attn1) as found:
            out = self.block.forward(*inputs)  # not __call__: a compiled block would not hear the hooks
        return out, (found["q"][:, :, columns:], found["k"][:, :, :columns])


def placed(norm: Any, x_BHSD: Tensor, columns: int, rotary: Any) -> Tensor:
    """Queries or keys after their norm, video turned by its place; never the raw ones' own memory."""
    out: Tensor = x_BHSD.clone() if norm is None else norm(x_BHSD)
    if rotary is not None:
        turned: Any = apply_rotary_emb(out[:, :, columns:], rotary)
        out[:, :, columns:] = turned
    return out


def projected(attn: Any, states_BSC: Tensor) -> Triple:
    """q, k, v as (B, H, S, D), before norm and positions; of fused projections too."""
    if getattr(attn, "fused_projections", False):
        parts = attn.to_qkv(states_BSC).chunk(3, dim=-1)
    else:
        parts = (attn.to_q(states_BSC), attn.to_k(states_BSC), attn.to_v(states_BSC))
    q, k, v = (part.unflatten(2, (attn.heads, -1)).transpose(1, 2) for part in parts)
    return q, k, v
