"""The transformer's forward pass in training: stock Wan's, over a dozen text columns instead of 512.

B clips, t latent frames of h x w, N video tokens, M text columns, H heads, D channels a head.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor, WanTransformer3DModel
from torch import Tensor


class FewColumns:
    """What the cross-attentions of one forward pass share."""

    bias: Tensor | None = None
    """(B, 1, 1, M), added to the logits of the text columns."""


class TrainingAttention(WanAttnProcessor):  # type: ignore[misc]
    """Stock Wan attention with a bias on the text columns, so that few columns stand for 512.

    Norms, rotations and softmax stay in float32 under autocast, the products take the values' type. Written out
    because the fused kernel's gradient is slower than this on a CPU, eight times where the columns are few.
    """

    def __init__(self, columns: FewColumns) -> None:
        self.columns = columns

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        cross = encoder_hidden_states is not None
        source = encoder_hidden_states if cross else hidden_states
        value = attn.to_v(source).unflatten(2, (attn.heads, -1))
        query = attn.norm_q(attn.to_q(hidden_states).float()).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(source).float()).unflatten(2, (attn.heads, -1))
        if rotary_emb is not None:
            query, key = rotated(query, *rotary_emb), rotated(key, *rotary_emb)
        q_BHND, k_BHMD, v_BHMD = (x.to(value.dtype).transpose(1, 2) for x in (query, key, value))
        logits_BHNM = (q_BHND @ k_BHMD.transpose(2, 3)).float() * q_BHND.shape[-1] ** -0.5
        if cross and self.columns.bias is not None:
            logits_BHNM = logits_BHNM + self.columns.bias
        out = logits_BHNM.softmax(-1).to(value.dtype) @ v_BHMD
        out = attn.to_out[0](out.transpose(1, 2).flatten(2, 3))
        return attn.to_out[1](out)  # type: ignore[no-any-return]


def rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary embedding of (B, N, H, D) by Wan's tables (1, N, 1, D), which hold every angle twice."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cosines[..., 0::2], sines[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


@contextlib.contextmanager
def few_columns(transformer: WanTransformer3DModel) -> Iterator[FewColumns]:
    """Within the block, cross-attention takes the columns and bias of `text_columns` instead of 512 columns."""
    before: Any = transformer.attn_processors
    columns = FewColumns()
    ours: Any = TrainingAttention(columns)
    steered: Any = dict.fromkeys(before, ours)
    transformer.set_attn_processor(steered)
    try:
        yield columns
    finally:
        transformer.set_attn_processor(before)


def predict(
    transformer: WanTransformer3DModel,
    columns: FewColumns,
    noisy: Tensor,
    levels: Tensor,
    text: tuple[Tensor, Tensor],
) -> Tensor:
    """Velocity (B, C, t, h, w) at noise levels s: (B,) for whole clips, or (B, t) a latent frame."""
    side = transformer.config["patch_size"][1]
    tokens = noisy.shape[3] // side * (noisy.shape[4] // side)
    steps = 1000 * (levels if levels.dim() == 1 else levels.repeat_interleave(tokens, dim=1))
    hidden, columns.bias = text
    velocity: Tensor = transformer(
        hidden_states=noisy, timestep=steps, encoder_hidden_states=hidden, return_dict=False
    )[0]
    return velocity
