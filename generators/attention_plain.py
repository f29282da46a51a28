"""Attention without biases that tells its log-sum-exp, so that it can be merged with a steered part.

Uses torch's fused kernels where they give one; the chunked path of `attention.py` is the reference, the gradient path
and the path of any device or dtype the kernels do not serve.
"""

from __future__ import annotations

import torch
from torch import Tensor

from generators.attention import attend


def attend_plain(
    q_BHND: Tensor, k_BHMD: Tensor, v_BHMD: Tensor, *, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(scale q k^T) v, (B, H, N, D), and the log-sum-exp of each row, (B, H, N); scale is 1 / sqrt(D)."""
    needs_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (q_BHND, k_BHMD, v_BHMD))
    if needs_gradient or not all(x.shape[2] for x in (q_BHND, k_BHMD)):
        return attend(_rescaled(q_BHND, scale), k_BHMD, v_BHMD)
    kernels = torch.ops.aten
    if q_BHND.device.type == "cpu":
        out, lse = kernels._scaled_dot_product_flash_attention_for_cpu(q_BHND, k_BHMD, v_BHMD, scale=scale)
        return out, lse
    if q_BHND.device.type == "cuda" and q_BHND.dtype in (torch.float16, torch.bfloat16):
        out, lse, *_ = kernels._scaled_dot_product_flash_attention(q_BHND, k_BHMD, v_BHMD, scale=scale)
        return out, lse[..., : q_BHND.shape[2]]
    return attend(_rescaled(q_BHND, scale), k_BHMD, v_BHMD)


def _rescaled(q_BHND: Tensor, scale: float | None) -> Tensor:
    """Queries whose product with keys, over sqrt(D), is the scaled one."""
    return q_BHND if scale is None else q_BHND * (scale * q_BHND.shape[-1] ** 0.5)
