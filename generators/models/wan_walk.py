"""A Wan pass that ends early: block by block, up to the last text attention that someone reads.

The network's own `forward` runs, so that offloading, adapters and casting work as ever; for its duration `blocks` holds
only the blocks walked, each wrapped. Block outputs are all that is kept on the way: the way back computes a block
again. Knows nothing of what readers make of queries and keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import _get_qkv_projections
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from generators.errors import ControlRejected
from generators.models.base import Reader
from generators.models.wan_attention import TEXT_COLUMNS, _heads


def walk(network: Any, inputs: dict[str, Any], layers: Sequence[int], read: Reader, *, recompute: bool) -> list[Tensor]:
    """What `read` makes of the text attention of each of these layers, in their order.

    Raises ControlRejected for layers that are not there and for a network whose blocks may be skipped or split.
    """
    _check(network, layers)
    reading = _Reading(read=read, layers=frozenset(layers), last=max(layers), recompute=recompute)
    blocks = network.blocks
    walked = [_Walked(block, layer, reading) for layer, block in enumerate(blocks[: reading.last + 1])]
    try:
        network.blocks = torch.nn.ModuleList(walked)
        with frozen(network):
            network.forward(**inputs, return_dict=False)
    finally:
        network.blocks = blocks
    return [reading.found[layer] for layer in layers]


@contextmanager
def frozen(module: torch.nn.Module) -> Iterator[None]:
    """No parameter takes part in autograd while the block runs; afterwards they are as they were."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What one walk reads, and what it found: written on the way, never on the way back."""

    read: Reader
    layers: frozenset[int]
    last: int
    recompute: bool
    found: dict[int, Tensor] = field(default_factory=dict)


class _Walked(torch.nn.Module):
    """A block in its place in the walk."""

    def __init__(self, block: Any, layer: int, reading: _Reading) -> None:
        super().__init__()
        self.block, self.layer, self.reading = block, layer, reading

    def forward(self, hidden: Tensor, states: Tensor, time: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """The block's output; the last block's input again, since nobody reads on."""
        run = self._until_text if self._ends_here else self._whole
        if self.reading.recompute and torch.is_grad_enabled() and hidden.requires_grad:
            result = checkpoint(run, hidden, states, time, rotary, use_reentrant=False, preserve_rng_state=False)
        else:
            result = run(hidden, states, time, rotary)
        out, seen = result
        if seen is not None:
            self.reading.found[self.layer] = seen
        return hidden if out is None else out

    @property
    def _ends_here(self) -> bool:
        """Whether the block may stop at its text attention; one whose weights come and go with `forward` runs whole."""
        comes_and_goes = hasattr(self.block, "_diffusers_hook") or hasattr(self.block, "_hf_hook")
        return self.layer == self.reading.last and not comes_and_goes

    def _whole(
        self, hidden: Tensor, states: Tensor, time: Tensor, rotary: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        attn = self.block.attn2
        with frozen(self.block), _heard(attn) as heard:
            # not __call__: a compiled block would not hear the hooks
            out = self.block.forward(hidden, states, time, rotary)
            if self.layer not in self.reading.layers:
                return out, None
            return out, self._seen(attn, heard["q"], heard["k"])

    def _until_text(
        self, hidden: Tensor, states: Tensor, time: Tensor, rotary: tuple[Tensor, Tensor]
    ) -> tuple[None, Tensor]:
        """Self-attention, and what text attention asks: the first part of `WanTransformerBlock.forward`."""
        block, attn = self.block, self.block.attn2
        with frozen(block):
            modulation = block.scale_shift_table + time.float()
            shift, scale, gate = (modulation[..., i : i + 1, :] for i in range(3))
            if time.ndim == 4:
                shift, scale, gate = (x.squeeze(2) for x in (shift, scale, gate))
            normed = (block.norm1(hidden.float()) * (1 + scale) + shift).type_as(hidden)
            hidden = (hidden.float() + block.attn1(normed, None, None, rotary) * gate).type_as(hidden)
            asking = block.norm2(hidden.float()).type_as(hidden)
            text = states if attn.add_k_proj is None else states[:, -TEXT_COLUMNS:]
            q, k, _ = _get_qkv_projections(attn, asking, text)
            return None, self._seen(attn, attn.norm_q(q), attn.norm_k(k))

    def _seen(self, attn: Any, q_BND: Tensor, k_BMD: Tensor) -> Tensor:
        q, k = (_heads(x, attn).transpose(1, 2) for x in (q_BND, k_BMD))
        return self.reading.read(self.layer, q, k)


@contextmanager
def _heard(attn: Any) -> Iterator[dict[str, Tensor]]:
    """Queries and keys that a text attention made, after their norm."""
    heard: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda module, args, out, name=name: heard.__setitem__(name, out))
        for name, module in (("q", attn.norm_q), ("k", attn.norm_k))
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _check(network: Any, layers: Sequence[int]) -> None:
    count = len(network.blocks)
    if not layers or not all(0 <= layer < count for layer in layers):
        raise ControlRejected(f"layers: expected some of 0..{count - 1}, got {list(layers)}")
    if getattr(network, "is_cache_enabled", False):
        raise ControlRejected("a probe reads every block, which a diffusers cache may skip; call disable_cache() first")
    if getattr(network, "_parallel_config", None) is not None:
        raise ControlRejected("a probe reads whole clips, which context parallelism splits; load without it")
    if torch.is_inference_mode_enabled():
        raise ControlRejected("a probe needs autograd, which inference mode forbids; use torch.no_grad instead")
