"""How a Wan block is read when a pass ends early: what its text attention asks, with or without the rest of the block.

The walk itself is `walking`'s. Knows nothing of what readers make of queries and keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers.models.transformers.transformer_wan import _get_qkv_projections
from torch import Tensor

from generators.models.base import Reader
from generators.models.walking import Asked, Walked, heard, walk_blocks
from generators.models.wan_attention import TEXT_COLUMNS, _heads


def walk(network: Any, inputs: dict[str, Any], layers: Sequence[int], read: Reader, *, recompute: bool) -> list[Tensor]:
    """What `read` makes of the text attention of each of these layers, in their order.

    Raises ControlRejected for layers that are not there and for a network whose blocks may be skipped or split.
    """
    return walk_blocks(network, inputs, layers, read, WalkedWan, recompute=recompute, blocks="blocks")


class WalkedWan(Walked):
    """A Wan block that is read."""

    def forward(self, hidden: Tensor, states: Tensor, time: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """The block's output, or its input where nobody reads on."""
        out: Tensor | None = self.walk(hidden, states, time, rotary)
        return hidden if out is None else out

    def ask(self, *inputs: Any) -> Asked:
        """Self-attention, and what text attention asks: the first part of `WanTransformerBlock.forward`."""
        hidden, states, time, rotary = inputs
        block, attn = self.block, self.block.attn2
        modulation = block.scale_shift_table + time.float()
        shift, scale, gate = (modulation[..., i : i + 1, :] for i in range(3))
        if time.ndim == 4:
            shift, scale, gate = (x.squeeze(2) for x in (shift, scale, gate))
        normed = (block.norm1(hidden.float()) * (1 + scale) + shift).type_as(hidden)
        hidden = (hidden.float() + block.attn1(normed, None, None, rotary) * gate).type_as(hidden)
        asking = block.norm2(hidden.float()).type_as(hidden)
        text = states if attn.add_k_proj is None else states[:, -TEXT_COLUMNS:]
        q, k, _ = _get_qkv_projections(attn, asking, text)
        return self._by_head(attn.norm_q(q), attn.norm_k(k))

    def whole(self, *inputs: Any) -> tuple[Tensor, Asked]:
        """The block's output, and what its text attention asked."""
        with heard(self.block.attn2) as found:
            out: Tensor = self.block.forward(*inputs)  # not __call__: a compiled block would not hear the hooks
        return out, self._by_head(found["q"], found["k"])

    def _by_head(self, q_BND: Tensor, k_BMD: Tensor) -> Asked:
        q, k = (_heads(x, self.block.attn2).transpose(1, 2) for x in (q_BND, k_BMD))
        return q, k
