"""What a control costs: one attention with it beside the same attention without, and a whole clip beside a plain one.

Ratios are medians of interleaved pairs with the interval of their median; time is processor time of one thread,
which a busy machine hardly touches. FLOPs and bytes are counted. A method joins by one entry in `METHODS`: which
attention it is measured on, and its settings. Weights are random, sizes those of real models with fewer tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor

from evals.benchmarks.cost_rows import ControlRow, band_rows, tempo_rows, timed_row, trajectory_rows, unet_rows
from generators.clip import Event, ShotRequest
from generators.controls import build_control
from generators.controls.base import Run, Shot, Step
from generators.controls.config import VSTAR, ControlConfig, TSAttn
from generators.costs import Cost, measured, processor_seconds
from generators.models.base import Layout, Site
from generators.models.tiny import tiny_pipeline
from generators.models.wan import WanVideoModel
from generators.models.wan_attention import TEXT_COLUMNS, ControlledWanAttention
from generators.sampler import Settings, sample
from generators.timeline import Timeline
from generators.tokens import TextMap

PROMPT = "A red fox jumps over the wooden box, then the fox walks home along the river."
PHRASES = ("jumps over the wooden box", "walks home along the river")
STATES = ("A red fox jumps over the wooden box.", "The red fox walks home along the river.")
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


TIME_LIMIT, MAPS_LIMIT, CLIP_LIMIT = 1.5, 0.1, 1.01
"""Of one controlled cross-attention over the plain one; of its extra memory; of a whole clip's operations."""


def measure_all(*, pairs: int = 7, on_row: Callable[[ControlRow], None] | None = None) -> list[ControlRow]:
    """The whole table: what steers while denoising, VSTAR's band, and TempoControl's passes."""
    rows = measure(pairs=pairs, on_row=on_row)
    for row in (*unet_rows(), *band_rows(pairs=pairs), *synopsis_rows(), *tempo_rows(), *trajectory_rows()):
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows


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
    a_map = width.heads * bed.layout.tokens * TEXT_COLUMNS * dtype.itemsize
    extra = costs["controlled"].peak_bytes - costs["plain"].peak_bytes
    told: dict[str, Any] = {"method": name, "model": width.model, "tokens": bed.layout.tokens}
    idle, plain = costs["idle"], costs["plain"]
    return [
        timed_row(ratios, limit=TIME_LIMIT, **told),
        ControlRow(measure="flops", ratio=costs["controlled"].flops / plain.flops, **told),
        ControlRow(measure="extra_maps", ratio=extra / a_map, limit=MAPS_LIMIT, **told),
        ControlRow(measure="idle_flops", ratio=idle.flops / plain.flops, limit=1.0, **told),
        ControlRow(measure="idle_bytes", ratio=idle.peak_bytes / plain.peak_bytes, limit=1.0, **told),
    ]


def synopsis_rows(steps: int = 10) -> list[ControlRow]:
    """FLOPs of a whole clip whose frames read texts of their own, mixed before attention or after it."""
    rows: list[ControlRow] = []
    blends: tuple[Literal["embeddings", "outputs"], ...] = ("embeddings", "outputs")
    for blend in blends:
        method = Method(config=VSTAR(synopsis=STATES, regularise=False, blend=blend), site=Site(0, 1, "cross"))
        rows += clip_rows(f"VSTAR synopsis, {blend} mixed", method, steps, limit=None)
    return rows


def clip_rows(name: str, method: Method, steps: int = 10, limit: float | None = CLIP_LIMIT) -> list[ControlRow]:
    """FLOPs of denoising one whole clip with a tiny random model, both branches of guidance."""
    model = WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.1", scheduler="euler"))
    settings = Settings(steps=steps, guidance=3.0)

    def flops(controls: tuple[ControlConfig, ...]) -> int:
        with measured() as meter:
            sample(model, [_request(Layout(channels=16, frames=5, height=8, width=8), controls)], settings)
        return meter.laps[0].flops

    ratio = flops((method.config,)) / flops(())
    return [ControlRow(method=name, model="tiny", measure="clip_flops", ratio=ratio, limit=limit)]


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
        return processor_seconds(self._forward)

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
