"""The processor that stands in a Wan attention while a control may act there.

Computes what diffusers' `WanAttnProcessor` computes, except for the batch rows whose control acts in this pass. Wan
drops attention kwargs, so processors hold the shared run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import _get_added_kv_projections, _get_qkv_projections
from torch import Tensor

from generators.controls.base import AttentionCall, Control, Run
from generators.controls.steering import compact_padding, join, steer, steers
from generators.models.base import Site

TEXT_COLUMNS = 512
"""Wan pads text to this, and its own processor counts image tokens from it."""

Rotary = tuple[Tensor, Tensor]


class ControlledWanAttention:
    """Runs `plain` untouched where nobody acts."""

    def __init__(self, plain: Any, site: Site, run: Run, embed: Callable[[Tensor], Tensor] | None = None) -> None:
        self.plain = plain
        self.site = site
        self.run = run
        self.embed = embed
        """The network's own way from the encoder's text to what its cross-attentions read."""
        self._attention_backend = getattr(plain, "_attention_backend", None)
        self._parallel_config = getattr(plain, "_parallel_config", None)
        self._padding_equal: dict[int, bool] = {}

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Rotary | None = None,
    ) -> Tensor:
        acting = self.run.acting(self.site)
        if not acting:
            plain: Tensor = self.plain(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
            return plain
        image, text = _split_image(attn, encoder_hidden_states)
        raw_q, raw_k, raw_v = _get_qkv_projections(attn, hidden_states, hidden_states if text is None else text)
        raw = [_heads(x, attn) for x in (raw_q, raw_k, raw_v)]
        q, k = _heads(attn.norm_q(raw_q), attn), _heads(attn.norm_k(raw_k), attn)
        if rotary_emb is not None:
            q, k = _rotated(q, rotary_emb), _rotated(k, rotary_emb)
        ways = partial(_normed, attn), partial(_turned, rotary_emb)
        out = self._attend(attn, acting, text, (q, k, raw[2]), (raw[0], raw[1]), ways).flatten(2, 3).type_as(q)
        if image is not None:
            out = out + self._image_attention(attn, q, image)
        del raw_q, raw, q  # the projection needs their memory
        projected: Tensor = attn.to_out[1](attn.to_out[0](out))
        return projected

    def _attend(
        self,
        attn: Any,
        acting: Mapping[int, Sequence[Control]],
        text: Tensor | None,
        qkv_BNHD: tuple[Tensor, Tensor, Tensor],
        raw_BNHD: tuple[Tensor, Tensor],
        ways: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
    ) -> Tensor:
        """(B, N, H, D): stock attention for the rows at rest, the phases of `steer` for those that act."""
        lone = len(qkv_BNHD[0]) == 1 and steers(acting[0])  # then the output is what `steer` gives: no second copy
        out = qkv_BNHD[0] if lone else torch.empty_like(qkv_BNHD[0])
        rest = [row for row in range(len(out)) if not steers(acting.get(row, ()))]
        if rest:
            q, k, v = (x[rest] for x in qkv_BNHD)
            out[rest] = dispatch_attention_fn(q, k, v, backend=self._attention_backend)
        batch = (qkv_BNHD[0].transpose(1, 2), qkv_BNHD[1].transpose(1, 2), qkv_BNHD[2].transpose(1, 2))
        for row, controls in acting.items():
            own = slice(row, row + 1)
            call = AttentionCall(
                site=self.site,
                step=self.run.step,
                row=row,
                layout=self.run.layout(row),
                q=batch[0][own],
                k=batch[1][own],
                v=batch[2][own],
                raw_q=raw_BNHD[0][own].transpose(1, 2),
                raw_k=raw_BNHD[1][own].transpose(1, 2),
                batch=batch,
                raw_batch=raw_BNHD[0].transpose(1, 2),
                norm=ways[0],
                turn=ways[1],
                branch=self.run.branch(row),
            )
            if text is not None and self._is_padding_equal(row, text):
                call = compact_padding(call, self.run.tokens(row))
            steered = steer(call, controls, partial(self._project, attn)).transpose(1, 2)
            if lone:
                return steered
            if steers(controls):
                out[own] = steered
        join(self.run, acting, self.site, out.transpose(1, 2))
        return out

    def _project(self, attn: Any, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, values and raw keys, each (g, H, M, d), of texts as the encoder gave them."""
        assert self.embed is not None  # text per frame is asked for at cross-attention alone
        text = self.embed(states)
        _, raw_k, v = _get_qkv_projections(attn, text, text)
        k, v, raw_k = (_heads(x, attn).transpose(1, 2) for x in (attn.norm_k(raw_k), v, raw_k))
        return k, v, raw_k

    def _image_attention(self, attn: Any, q_BNHD: Tensor, image: Tensor) -> Tensor:
        key, value = _get_added_kv_projections(attn, image)
        keys, values = _heads(attn.norm_added_k(key), attn), _heads(value, attn)
        out: Tensor = dispatch_attention_fn(q_BNHD, keys, values, backend=self._attention_backend)
        return out.flatten(2, 3).type_as(q_BNHD)

    def _is_padding_equal(self, row: int, text: Tensor) -> bool:
        """Whether the row's padding is one vector, bit for bit; asked once a run, since text does not change."""
        request = self.run.request(row)
        if request not in self._padding_equal:
            padding = text[row, self.run.tokens(row) :]
            self._padding_equal[request] = bool((padding == padding[:1]).all())
        return self._padding_equal[request]


def _heads(x_BND: Tensor, attn: Any) -> Tensor:
    return x_BND.view(*x_BND.shape[:2], attn.heads, -1)


def _normed(attn: Any, raw_BHND: Tensor) -> Tensor:
    """Raw queries after their norm, which is over all heads."""
    return _heads(attn.norm_q(raw_BHND.transpose(1, 2).flatten(2, 3)), attn).transpose(1, 2)


def _turned(rotary: Rotary | None, q_BHND: Tensor) -> Tensor:
    """Queries turned by the place of the row they stand in."""
    return q_BHND if rotary is None else _rotated(q_BHND.transpose(1, 2), rotary).transpose(1, 2)


def _split_image(attn: Any, states: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    if states is None or attn.add_k_proj is None:
        return None, states
    images = states.shape[1] - TEXT_COLUMNS
    return states[:, :images], states[:, images:]


def _rotated(x_BNHD: Tensor, rotary: Rotary) -> Tensor:
    cos, sin = rotary[0][..., 0::2], rotary[1][..., 1::2]
    even, odd = x_BNHD[..., 0::2], x_BNHD[..., 1::2]
    out = torch.empty_like(x_BNHD)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out.type_as(x_BNHD)
