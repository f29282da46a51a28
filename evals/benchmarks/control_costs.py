"""What a control costs: one attention with it beside the same attention without, and a whole clip beside a plain one.

Ratios are medians of interleaved pairs with the interval of their median; time is the thread's own processor time,
which a busy machine does not touch. FLOPs and bytes are counted. A method joins by one entry in `METHODS`: which
attention it is measured on, and its settings. Weights are random, sizes those of real models with fewer tokens.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor

from evals.benchmarks.band_costs import band_costs
from evals.benchmarks.tempo_costs import WAN_1_3B, Size
from evals.benchmarks.tempo_costs import measure as tempo_costs
from generators.clip import Event, ShotRequest
from generators.controls import build_control
from generators.controls.base import Run, Shot, Step
from generators.controls.config import ControlConfig, TSAttn
from generators.costs import Cost, measured
from generators.models.base import Layout, Site
from generators.models.tiny import tiny_pipeline
from generators.models.wan import WanVideoModel
from generators.models.wan_attention import TEXT_COLUMNS, ControlledWanAttention
from generators.sampler import Settings, sample
from generators.timeline import Timeline
from generators.tokens import TextMap

PROMPT = "A red fox jumps over the wooden box, then the fox walks home along the river."
PHRASES = ("jumps over the wooden box", "walks home along the river")
FPS = 16


@dataclass(frozen=True, kw_only=True)
class Width:
    """One attention of a real model, on fewer tokens."""

    model: str
    heads: int
    head_width: int
    grid: tuple[int, int, int]
    """Tokens along time, height and width."""


WIDTHS = (
    Width(model="Wan-1.3B", heads=12, head_width=128, grid=(5, 30, 52)),
    Width(model="Wan-14B", heads=40, head_width=128, grid=(5, 30, 26)),
)


@dataclass(frozen=True, kw_only=True)
class Method:
    """How one method is measured."""

    config: ControlConfig
    site: Site
    """The attention it steers in a block."""


METHODS: dict[str, Method] = {
    "TSAttn": Method(config=TSAttn(), site=Site(0, 1, "cross")),
    "TSAttn official": Method(
        config=TSAttn(preset="official", intervals="uniform"), site=Site(0, 1, "cross")
    ),
    "TSAttn paper": Method(config=TSAttn(preset="paper"), site=Site(0, 1, "cross")),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ControlRow:
    """One ratio, controlled over plain; 1 is the same. `low` and `high` bound a timed one with 95 % confidence.

    `extra_maps` is in heads x video tokens x text columns maps of the model's own type.
    """

    method: str
    model: str
    measure: str
    ratio: float
    low: float | None = None
    high: float | None = None
    pairs: int | None = None
    tokens: int | None = None


def measure_all(*, pairs: int = 7, on_row: Callable[[ControlRow], None] | None = None) -> list[ControlRow]:
    """The whole table: what steers while denoising, VSTAR's band on full attention, and TempoControl's passes."""
    rows = measure(pairs=pairs, on_row=on_row)
    for row in (*band_rows(), *tempo_rows()):
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows


def band_rows(frames: int = 21, per_frame: int = 40, heads: int = 2, width: int = 128) -> Iterator[ControlRow]:
    """VSTAR's regularisation on one attention over space and time: FLOPs over the plain attention's."""
    costs = band_costs(frames=frames, per_frame=per_frame, heads=heads, width=width)
    for way in costs.banded:
        yield ControlRow(
            method=f"VSTAR {way}",
            model=f"{heads} heads of {width}",
            measure="flops",
            ratio=costs.flops(way),
            tokens=frames * per_frame,
        )


def tempo_rows(size: Size = WAN_1_3B, prefixes: Sequence[int] = (10, 16, 20)) -> Iterator[ControlRow]:
    """TempoControl's moves and probes over the released loop's, counted at full size without computing."""
    _, height, width = size.grid
    tokens = size.grid[0] * height * width
    for cost in tempo_costs(size, prefixes):
        told: dict[str, Any] = {"method": f"TempoControl {cost.loop}", "model": size.model, "tokens": tokens}
        yield ControlRow(measure="flops_of_released", ratio=cost.flops_ratio, **told)
        yield ControlRow(measure="readout_of_maps", ratio=cost.readout_ratio, **told)


def measure(
    methods: Sequence[str] = tuple(METHODS),
    widths: Sequence[Width] = WIDTHS,
    *,
    pairs: int = 7,
    dtype: torch.dtype = torch.float32,
    on_row: Callable[[ControlRow], None] | None = None,
) -> list[ControlRow]:
    """Every method at every width, then a whole tiny clip with each. Raises KeyError for a method not in `METHODS`."""
    rows = []
    for name in methods:
        found = [row for width in widths for row in attention_rows(name, METHODS[name], width, pairs, dtype)]
        for row in (*found, *clip_rows(name, METHODS[name])):
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def attention_rows(
    name: str, method: Method, width: Width, pairs: int = 7, dtype: torch.dtype = torch.float32
) -> list[ControlRow]:
    """Time, FLOPs and extra bytes of one controlled attention at a block's width."""
    bed = _Bed(method, width, dtype)
    costs = {which: bed.cost(which) for which in ("plain", "controlled", "idle")}
    ratios = [bed.seconds("controlled") / bed.seconds("plain") for _ in range(pairs)]
    low, high = interval_of_median(ratios)
    a_map = width.heads * bed.layout.tokens * TEXT_COLUMNS * dtype.itemsize
    extra = costs["controlled"].peak_bytes - costs["plain"].peak_bytes
    told: dict[str, Any] = {"method": name, "model": width.model, "tokens": bed.layout.tokens}
    return [
        ControlRow(measure="time", ratio=median(ratios), low=low, high=high, pairs=pairs, **told),
        ControlRow(measure="flops", ratio=costs["controlled"].flops / costs["plain"].flops, **told),
        ControlRow(measure="extra_maps", ratio=extra / a_map, **told),
        ControlRow(measure="idle_flops", ratio=costs["idle"].flops / costs["plain"].flops, **told),
        ControlRow(measure="idle_bytes", ratio=costs["idle"].peak_bytes / costs["plain"].peak_bytes, **told),
    ]


def clip_rows(name: str, method: Method, steps: int = 10) -> list[ControlRow]:
    """FLOPs of denoising one whole clip with a tiny random model, both branches of guidance."""
    model = WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.1", scheduler="euler"))
    settings = Settings(steps=steps, guidance=3.0)

    def flops(controls: tuple[ControlConfig, ...]) -> int:
        with measured() as meter:
            sample(model, [_request(Layout(channels=16, frames=5, height=8, width=8), controls)], settings)
        return meter.laps[0].flops

    return [ControlRow(method=name, model="tiny", measure="clip_flops", ratio=flops((method.config,)) / flops(()))]


def interval_of_median(ratios: Sequence[float], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap of a median."""
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(np.asarray(ratios), (resamples, len(ratios))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


class _Bed:
    """One attention module of a width, its inputs, and both processors."""

    def __init__(self, method: Method, width: Width, dtype: torch.dtype) -> None:
        frames, height, wide = width.grid
        self.layout = Layout(channels=16, frames=frames, height=2 * height, width=2 * wide)
        shot = _shot(self.layout, method)
        self.run = Run([[build_control(method.config, shot)]])
        features = width.heads * width.head_width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.attention: Any = WanAttention(
                dim=features, heads=width.heads, dim_head=width.head_width, cross_attention_dim_head=width.head_width
            ).to(dtype)
            self.states = torch.randn(1, self.layout.tokens, features, dtype=dtype)
            self.text = torch.randn(1, TEXT_COLUMNS, features, dtype=dtype)
        self.text[:, shot.text.tokens :] = self.text[:, -1:]
        plain = WanAttnProcessor()
        controlled = ControlledWanAttention(plain, method.site, self.run)
        self._processors: Mapping[str, Any] = {"plain": plain, "controlled": controlled, "idle": controlled}

    def cost(self, which: str) -> Cost:
        self._prepare(which)
        with measured() as meter:
            self._forward()
        return meter.laps[0]

    def seconds(self, which: str) -> float:
        self._prepare(which)
        begun = time.thread_time()
        self._forward()
        return time.thread_time() - begun

    def _prepare(self, which: str) -> None:
        self.run.step = Step(index=39 if which == "idle" else 0, of=40, sigma=1.0)
        self.attention.set_processor(self._processors[which])

    @torch.no_grad()
    def _forward(self) -> None:
        self.attention(self.states, self.text, None, None)


def _request(layout: Layout, controls: tuple[ControlConfig, ...]) -> ShotRequest:
    frames = 4 * (layout.frames - 1) + 1
    half = frames / FPS / 2
    events = tuple(
        Event(subject="fox", phrase=phrase, start=i * half, end=(i + 1) * half) for i, phrase in enumerate(PHRASES)
    )
    return ShotRequest(
        prompt=PROMPT, frames=frames, fps=FPS, width=8 * layout.width, height=8 * layout.height, seed=1,
        events=events, controls=controls,
    )  # fmt: skip


def _shot(layout: Layout, method: Method) -> Shot:
    request = _request(layout, (method.config,))
    return Shot(
        request=request,
        text=_text_map(),
        timeline=Timeline(frames=request.frames, fps=FPS),
        layout=layout,
        steps=40,
        sites=(method.site,),
        device=torch.device("cpu"),
    )


def _text_map() -> TextMap:
    """The prompt in pieces of up to four letters, about as many as a large vocabulary makes of it."""
    ids: dict[str, int] = {}

    def pieces(text: str) -> list[tuple[int, int]]:
        words = [found.span() for found in re.finditer(r"\w+|[^\w\s]", text)]
        return [(at, min(at + 4, end)) for first, end in words for at in range(first, end, 4)]

    def tokenise(text: str) -> tuple[int, ...]:
        return tuple(ids.setdefault(text[a:b], len(ids)) for a, b in pieces(text))

    return TextMap(
        prompt=PROMPT,
        offsets=(*pieces(PROMPT), (0, 0)),
        length=TEXT_COLUMNS,
        ids=(*tokenise(PROMPT), -1),
        tokenise=tokenise,
    )
