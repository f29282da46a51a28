"""A transformer's pass that ends early: block by block, up to the last text attention that someone reads.

The network's own `forward` runs, so that offloading, adapters and casting work as ever; for its duration its list of
blocks holds only the blocks walked, each wrapped. Block outputs are all that is kept on the way: the way
back computes a block again. Knows nothing of what readers make of queries and keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from generators.errors import ControlRejected
from generators.models.base import Reader
from generators.models.holding import check_steerable

Asked = tuple[Tensor, Tensor]
"""q (1, H, N, D) of every video token, and k (1, H, M, D) of the text that is read."""


class Walked(torch.nn.Module, ABC):
    """A block in its place in the walk; families say how it is called and what its text attention asks."""

    def __init__(self, block: Any, layer: int, reading: Reading) -> None:
        super().__init__()
        self.block, self.layer, self.reading = block, layer, reading

    @abstractmethod
    def ask(self, *inputs: Any) -> Asked:
        """What the block's text attention asks, without the rest of the block."""

    @abstractmethod
    def whole(self, *inputs: Any) -> tuple[Any, Asked]:
        """The block's output, and what its text attention asked."""

    def walk(self, hidden: Tensor, *inputs: Any) -> Any:
        """The block's output; None from the last block, since nobody reads on."""

        def run(*inputs: Any) -> tuple[Any, Tensor | None]:
            with frozen(self.block):
                if self._ends_here:
                    return None, self._seen(self.ask(*inputs))
                out, asked = self.whole(*inputs)
                return out, self._seen(asked) if self.layer in self.reading.layers else None

        if self.reading.recompute and torch.is_grad_enabled() and hidden.requires_grad:
            out, seen = checkpoint(run, hidden, *inputs, use_reentrant=False, preserve_rng_state=False)
        else:
            out, seen = run(hidden, *inputs)
        if seen is not None:
            self.reading.found[self.layer] = seen
        return out

    def _seen(self, asked: Asked) -> Tensor:
        return self.reading.read(self.layer, *asked)

    @property
    def _ends_here(self) -> bool:
        """Whether the block may stop at its text attention; one whose weights come and go with `forward` runs whole."""
        comes_and_goes = hasattr(self.block, "_diffusers_hook") or hasattr(self.block, "_hf_hook")
        return self.layer == self.reading.last and not comes_and_goes


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one walk reads, and what it found: written on the way, never on the way back."""

    read: Reader
    layers: frozenset[int]
    last: int
    recompute: bool
    found: dict[int, Tensor] = field(default_factory=dict)


def walk_blocks(
    network: Any,
    inputs: dict[str, Any],
    layers: Sequence[int],
    read: Reader,
    wrap: Callable[[Any, int, Reading], Walked],
    *,
    recompute: bool,
    blocks: str = "transformer_blocks",
) -> list[Tensor]:
    """What `read` makes of the text attention of each of these layers, in their order.

    `blocks` is what the network calls its list of them. Raises ControlRejected for layers that are not there and for a
    network whose blocks may be skipped or split.
    """
    whole = getattr(network, blocks)
    _check(network, len(whole), layers)
    reading = Reading(read=read, layers=frozenset(layers), last=max(layers), recompute=recompute)
    walked = [wrap(block, layer, reading) for layer, block in enumerate(whole[: reading.last + 1])]
    try:
        setattr(network, blocks, torch.nn.ModuleList(walked))
        with frozen(network):
            network.forward(**inputs, return_dict=False)
    finally:
        setattr(network, blocks, whole)
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


@contextmanager
def heard(attn: Any) -> Iterator[dict[str, Tensor]]:
    """Queries and keys that an attention makes while the block runs, as its norms gave them: `q` and `k`."""
    found: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda module, args, out, name=name: found.__setitem__(name, out))
        for name, module in (("q", attn.norm_q), ("k", attn.norm_k))
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _check(network: Any, count: int, layers: Sequence[int]) -> None:
    if not layers or not all(0 <= layer < count for layer in layers):
        raise ControlRejected(f"layers: expected some of 0..{count - 1}, got {list(layers)}")
    check_steerable(network, "a probe")
    if torch.is_inference_mode_enabled():
        raise ControlRejected("a probe needs autograd, which inference mode forbids; use torch.no_grad instead")
