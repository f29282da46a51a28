"""What a computation costs, by counter where clocks drown in noise: FLOPs, and peak bytes of live tensors.

`compare_with_stock` puts the sampler beside the pipeline it took apart. Knows pipelines of Wan's shape only for that.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from generators.clip import ShotRequest
from generators.models.wan import WanShaped
from generators.sampler import Settings, sample


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one stretch of work took."""

    flops: int
    peak_bytes: int
    """Most bytes alive at once during the stretch, in tensors that were made while measuring."""


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of the work on one thread: a thread's clock does not see others, and counts waiting for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        begun = time.thread_time()
        work()
        return time.thread_time() - begun
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, kw_only=True)
class CostRatios:
    """Ours over the stock pipeline's, for the same denoising step: 1.0 is the same."""

    ours: Cost
    stock: Cost

    @property
    def flops(self) -> float:
        """Of floating-point operations."""
        return self.ours.flops / self.stock.flops

    @property
    def peak_bytes(self) -> float:
        """Of peak live bytes."""
        return self.ours.peak_bytes / self.stock.peak_bytes


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of every storage that an operator makes, until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live = 0
        self._known: set[int] = set()

    def restart(self) -> None:
        """Forget the peak so far; what is alive stays counted."""
        self.peak = self._live

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage(), before)
        return result

    def _see(self, storage: torch.UntypedStorage, before: set[int]) -> None:
        key = storage._cdata
        if key in before or key in self._known:
            return
        self._known.add(key)
        self._live += storage.nbytes()
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._freed, key, storage.nbytes())

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._live -= size


class Meter:
    """Counts until the measured block ends; `lap` closes a stretch of it and begins the next."""

    def __init__(self, counter: FlopCounterMode, live: _LiveBytes) -> None:
        self._counter, self._live = counter, live
        self._flops = 0
        self.laps: list[Cost] = []

    def lap(self) -> None:
        """Close a stretch: its cost is the last of `laps`."""
        total = self._counter.get_total_flops()
        self.laps.append(Cost(flops=total - self._flops, peak_bytes=self._live.peak))
        self._flops = total
        self._live.restart()


@contextmanager
def measured() -> Iterator[Meter]:
    """Count what a block costs, on the CPU or an accelerator; its end closes the last lap."""
    counter, live = FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION), _LiveBytes()
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    meter = Meter(counter, live)
    with counter, live:
        yield meter
    meter.lap()


class _NoModules:
    """In place of the counter's module tracker, whose hooks keep what checkpoints would free."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def _attention_flops(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    flops: int = sdpa_flop_count(query, key, value)
    return flops


def _attention_backward_flops(grad: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    flops: int = sdpa_backward_flop_count(grad, query, key, value)
    return flops


_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


def compare_with_stock(model: WanShaped, request: ShotRequest, *, guidance: float = 5.0) -> CostRatios:
    """The second of three denoising steps, ours beside the stock pipeline's.

    A request with controls is compared with the stock pipeline's step without them. On a picture-to-video checkpoint
    frame 0 is given.
    """
    with measured() as ours:
        sample(model, [request], Settings(steps=3, guidance=guidance), on_step=lambda progress: ours.lap())
    with measured() as stock:
        stock_latents(model, request, Settings(steps=3, guidance=guidance), on_step=stock.lap)
    return CostRatios(ours=ours.laps[1], stock=stock.laps[1])


def stock_latents(
    model: WanShaped, request: ShotRequest, settings: Settings, on_step: Callable[[], None] = lambda: None
) -> torch.Tensor:
    """Latents (1, C, F, h, w) of the same request through the stock pipeline's own `__call__`."""
    from PIL import Image

    def step_ended(pipe: Any, index: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step()
        return tensors

    picture = {"image": Image.fromarray(request.given[0].frames[0])} if model.joins_channels else {}
    latents: torch.Tensor = model.pipe(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        height=request.height,
        width=request.width,
        num_frames=request.frames,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        generator=torch.Generator().manual_seed(request.seed),
        callback_on_step_end=step_ended,
        output_type="latent",
        **picture,
    ).frames
    return latents
