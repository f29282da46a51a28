"""What owning the denoising loop costs: one step of ours beside the stock pipeline's, by counter instead of clock."""

from __future__ import annotations

from dataclasses import dataclass

from generators.clip import Given, ShotRequest
from generators.costs import compare_with_stock
from generators.models.tiny import TinyKind, tiny_pipeline
from generators.models.wan import WanVideoModel

KINDS: tuple[TinyKind, ...] = ("t2v-2.1", "i2v-2.1", "t2v-2.2", "ti2v-2.2", "world")


@dataclass(frozen=True, kw_only=True)
class SamplerRow:
    """One family member: ratios of ours to stock for the same step; 1.0 is the same."""

    model: str
    flops: float
    peak_bytes: float
    stock_flops: int
    stock_peak_bytes: int


def measure() -> list[SamplerRow]:
    """A random tiny checkpoint of every kind, one guided step each. Loads torch and diffusers."""
    return [_row(kind) for kind in KINDS]


def _row(kind: TinyKind) -> SamplerRow:
    import numpy as np

    pipe = tiny_pipeline(kind)
    pipe.set_progress_bar_config(disable=True)
    picture = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    request = ShotRequest(
        prompt="a red fox walks",
        negative_prompt="blurry",
        frames=17,
        fps=8,
        width=64,
        height=64,
        seed=1,
        given=(Given(first=0, frames=picture),) if kind.startswith("i2v") else (),
    )
    ratios = compare_with_stock(WanVideoModel.from_pipeline(pipe), request)
    return SamplerRow(
        model=kind,
        flops=ratios.flops,
        peak_bytes=ratios.peak_bytes,
        stock_flops=ratios.stock.flops,
        stock_peak_bytes=ratios.stock.peak_bytes,
    )
