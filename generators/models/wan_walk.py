"""How a block of Wan's architecture is read when a pass ends early: what its text attention asks, alone or on the way.

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


def walk(
    network: Any,
    inputs: dict[str, Any],
    layers: Sequence[int],
    read: Reader,
    walked: type[WalkedWan],
    *,
    recompute: bool,
) -> list[Tensor]:
    """What `read` makes of the text attention of each of these layers, in their order.

    `walked` says how a block is read. Raises ControlRejected for layers that are not there and for a network whose
    blocks may be skipped or split.
    """
    return walk_blocks(network, inputs, layers, read, walked, recompute=recompute, blocks="blocks")


class WalkedWan(Walked):
    """A Wan block that is read."""

    def forward(self, hidden: Tensor, *inputs: Any) -> Tensor:
        """The block's output, or its input where nobody reads on."""
        out: Tensor | None = self.walk(hidden, *inputs)
        return hidden if out is None else out

    def ask(self, *inputs: Any) -> Asked:
        """Self-attention, and what text attention asks: the first part of `WanTransformerBlock.forward`."""
        hidden, states, time, rotary = inputs[:4]
        block, attn = self.block, self.block.attn2
        shift, scale, gate = self.modulation(time)
        normed = (block.norm1(hidden.float()) * (1 + scale) + shift).type_as(hidden)
        hidden = (hidden.float() + block.attn1(normed, None, None, rotary) * gate).type_as(hidden)
        asking = block.norm2(hidden.float()).type_as(hidden)
        text = states if attn.add_k_proj is None else states[:, -TEXT_COLUMNS:]
        q, k, _ = _get_qkv_projections(attn, asking, text)
        return self._by_head(attn.norm_q(q), attn.norm_k(k))

    def modulation(self, time: Tensor) -> Sequence[Tensor]:
        """Shift, scale and gate of self-attention, (B, 1 or N, D) each, from times (B, 6, D) or (B, N, 6, D)."""
        table = self.block.scale_shift_table + time.float()
        found = [table[..., i : i + 1, :] for i in range(3)]
        return [x.squeeze(2) for x in found] if time.ndim == 4 else found

    def whole(self, *inputs: Any) -> tuple[Tensor, Asked]:
        """The block's output, and what its text attention asked."""
        with heard(self.block.attn2) as found:
            out: Tensor = self.block.forward(*inputs)  # not __call__: a compiled block would not hear the hooks
        return out, self._by_head(found["q"], found["k"])

    def _by_head(self, q_BND: Tensor, k_BMD: Tensor) -> Asked:
        q, k = (_heads(x, self.block.attn2).transpose(1, 2) for x in (q_BND, k_BMD))
        return q, k


class WalkedSkyReels(WalkedWan):
    """A SkyReels-V2 block that is read: it is told a mask as well, and times of tokens lie behind the six parts."""

    def modulation(self, time: Tensor) -> Sequence[Tensor]:
        """Shift, scale and gate of self-attention, (B, 1 or N, D) each, from times (B, 6, D) or (B, 6, N, D)."""
        if time.ndim == 3:
            return super().modulation(time)
        parts: Tensor = self.block.scale_shift_table.unsqueeze(2) + time.float()
        return parts[:, :3].unbind(1)
