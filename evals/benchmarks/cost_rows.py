"""Rows of the table of costs: what VSTAR and TempoControl take over the work without them, each beside its limit.

A ratio that is counted at full size needs no memory and no time: its tensors hold nothing, the code is the real one.
TempoControl's way over a prefix of the blocks stands beside the way over all of them, reading by reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch._subclasses.fake_tensor import FakeTensorMode

from evals.benchmarks.band_costs import Way, band_costs, band_seconds, unet_costs
from evals.benchmarks.tempo_costs import WAN_1_3B, Size, trajectories
from evals.benchmarks.tempo_costs import measure as tempo_costs
from generators.clip import ShotRequest
from generators.controls.config import TempoControl, Word
from generators.costs import measured
from generators.models.tiny import tiny_pipeline
from generators.models.wan import WanVideoModel
from generators.models.wan_attention import TEXT_COLUMNS
from generators.sampler import Settings

UNET_LIMIT = 1.02
BAND_LIMIT = 1.3
BAND_LIMITS: dict[Way, float | None] = {
    "constant": BAND_LIMIT, "sampled": BAND_LIMIT, "rowmax": None, "rowmax, chunked": None
}  # fmt: skip
"""Of VSTAR's band on attention over space and time: for the cheap sizes; the exact ones stand beside them."""
ALL_BLOCKS_LIMIT, PREFIX_LIMIT = 0.75, 0.45
MAPS_LIMIT = 0.1


@dataclass(frozen=True, kw_only=True)
class ControlRow:
    """One ratio, controlled over plain; 1 is the same. `low` and `high` bound a timed one with 95 % confidence.

    `extra_maps` and `probe_maps` are in whole attention maps of the model's own type: heads x rows x columns.
    """

    method: str
    model: str
    measure: str
    ratio: float
    limit: float | None = None
    """The most it may be; None where a row stands for comparison."""
    low: float | None = None
    high: float | None = None
    pairs: int | None = None
    tokens: int | None = None


def timed_row(ratios: Sequence[float], **told: Any) -> ControlRow:
    """The median of interleaved pairs, with the interval of it."""
    low, high = interval_of_median(ratios)
    return ControlRow(measure="time", ratio=median(ratios), low=low, high=high, pairs=len(ratios), **told)


def interval_of_median(ratios: Sequence[float], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap of a median."""
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(np.asarray(ratios), (resamples, len(ratios))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


def unet_rows() -> Iterator[ControlRow]:
    """VSTAR's regularisation on whole passes of both UNets at the sizes they are filmed at: FLOPs."""
    from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
    from diffusers.models.unets.unet_motion_model import UNetMotionModel

    with torch.device("meta"):
        unets: dict[Any, tuple[str, Any, int]] = {
            "modelscope": ("ModelScope", UNet3DConditionModel(), 256),
            "animatediff": ("AnimateDiff", UNetMotionModel(cross_attention_dim=768), 512),
        }
    for kind, (model, unet, side) in unets.items():
        plain, regularised = unet_costs(kind, unet, frames=16, height=side, width=side)
        yield ControlRow(
            method="VSTAR", model=model, measure="pass_flops", ratio=regularised.flops / plain.flops, limit=UNET_LIMIT
        )


def band_rows(size: Size = WAN_1_3B, *, pairs: int = 7) -> Iterator[ControlRow]:
    """VSTAR's regularisation on one attention over space and time, and on the whole layer around it.

    FLOPs and memory are counted at the model's full size; time is that of the attention alone, on fewer tokens and one
    head.
    """
    frames, height, width = size.grid
    tokens = frames * height * width
    with FakeTensorMode():
        costs = band_costs(
            frames=frames, per_frame=height * width, heads=size.heads, width=size.head_width, dtype=torch.bfloat16
        )
        layer = _layer_flops(size, tokens)
    a_map = size.heads * tokens * tokens * torch.bfloat16.itemsize
    small: dict[str, int] = {"frames": frames, "per_frame": 480, "heads": 1, "width": size.head_width}
    for way, seconds in band_seconds(pairs=pairs, **small).items():
        told: dict[str, Any] = {"method": f"VSTAR {way}", "model": size.model, "tokens": tokens}
        more = costs.banded[way].flops - costs.plain.flops
        yield ControlRow(measure="layer_flops", ratio=1 + more / layer, limit=BAND_LIMITS[way], **told)
        yield ControlRow(measure="flops", ratio=costs.flops(way), limit=BAND_LIMITS[way], **told)
        extra = (costs.banded[way].peak_bytes - costs.plain.peak_bytes) / a_map
        yield ControlRow(measure="extra_maps", ratio=extra, limit=MAPS_LIMIT, **told)
        yield ControlRow(measure="probe_maps", ratio=costs.probes[way].peak_bytes / a_map, limit=MAPS_LIMIT, **told)
        yield timed_row(seconds, **told | {"tokens": frames * small["per_frame"]})


def _layer_flops(size: Size, tokens: int) -> int:
    """Of one plain block, everything in it."""
    features = size.heads * size.head_width
    block: Any = WanTransformerBlock(features, size.feed, size.heads)
    hidden, text = torch.randn(1, tokens, features), torch.randn(1, TEXT_COLUMNS, features)
    with measured() as meter, torch.no_grad():
        block(hidden, text, torch.randn(1, 6, features), None)
    return meter.laps[0].flops


def tempo_rows(size: Size = WAN_1_3B, prefixes: Sequence[int] = (10, 16, 18)) -> Iterator[ControlRow]:
    """TempoControl's moves and probes over the released loop's, counted at full size.

    `activations_of_released` is the most that is alive in one move: what reading takes is told apart from it. Which
    prefix a model has is measured on the model; `share_of_blocks` is the longest whose moves stay within the limit.
    """
    _, height, width = size.grid
    tokens = size.grid[0] * height * width
    released, flops = 0, dict[int, float]()
    for cost in tempo_costs(size, prefixes):
        told: dict[str, Any] = {"method": f"TempoControl {cost.loop}", "model": size.model, "tokens": tokens}
        if cost.loop == "released":
            released = cost.peak_bytes
            yield ControlRow(measure="flops_of_released", ratio=cost.flops_ratio, **told)
            continue
        limit = ALL_BLOCKS_LIMIT if cost.blocks == size.blocks else PREFIX_LIMIT
        flops[cost.blocks] = cost.flops_ratio
        yield ControlRow(measure="flops_of_released", ratio=cost.flops_ratio, limit=limit, **told)
        yield ControlRow(measure="readout_of_maps", ratio=cost.readout_ratio, limit=MAPS_LIMIT, **told)
        yield ControlRow(measure="activations_of_released", ratio=cost.peak_bytes / released, **told)
    if len(flops) > 1:
        longest = np.interp(PREFIX_LIMIT, sorted(flops.values()), sorted(flops)) // 1 / size.blocks
        told = {"method": f"TempoControl within {PREFIX_LIMIT}", "model": size.model, "tokens": tokens}
        yield ControlRow(measure="share_of_blocks", ratio=float(longest), **told)


def trajectory_rows(steps: int = 5) -> Iterator[ControlRow]:
    """What all blocks say of a clip steered over its measured prefix, over what they say of one steered over all.

    A tiny random model: it shows that the two ways go together, not where they lead on a trained one.
    """
    model = WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.1", scheduler="euler"))
    request = ShotRequest(prompt="A red fox walks.", frames=25, fps=8, width=48, height=32, seed=1)
    word = Word(text="walks", latents=(0, 0, 0, 0, 1, 1, 1))
    config = TempoControl(words=(word,), rate=0.01, iterations=2, enough=1.0, steps=0.4)
    whole, prefix = trajectories(model, request, config, Settings(steps=steps, guidance=1.0))
    method = f"TempoControl, first {prefix.blocks} of {whole.blocks} blocks"
    for number, (mine, full) in enumerate(zip(prefix.objectives, whole.objectives, strict=True), 1):
        yield ControlRow(method=method, model="tiny", measure=f"objective_{number}_of_all_blocks", ratio=mine / full)
