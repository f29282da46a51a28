"""What VSTAR's regularisation costs, in floating-point operations and live bytes: ratios to the same work without it.

`unet_costs` counts one pass of a whole network at any size, on tensors that hold nothing; `band_costs` one attention
over space and time, from the widths of a block; `band_seconds` is the clock of the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch

from generators.attention import attend
from generators.attention_bands import KnownBand, RowBand, attend_factored, gaussian_table, known_band
from generators.attention_plain import attend_plain
from generators.clip import ShotRequest
from generators.controls.base import Control, Shot, Step, attached
from generators.controls.config import VSTAR
from generators.controls.vstar import VSTARControl
from generators.costs import Cost, measured, processor_seconds
from generators.models.base import Branch, Start, Text
from generators.models.tiny_unet import TinyUnetKind, tiny_unet_pipeline
from generators.models.unet import UnetVideoModel
from generators.timeline import Timeline

Way = Literal["constant", "sampled", "rowmax", "rowmax, chunked"]
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True, kw_only=True)
class BandCosts:
    """One attention over space and time with a band, beside the same attention without."""

    plain: Cost
    banded: dict[Way, Cost]
    probes: dict[Way, Cost]
    """What finding the band's sizes takes, before the attention; nothing where it is found on the way."""

    def flops(self, way: Way) -> float:
        """Operations over those of the plain attention."""
        return self.banded[way].flops / self.plain.flops


def band_costs(*, frames: int, per_frame: int, heads: int, width: int, dtype: torch.dtype = torch.float32) -> BandCosts:
    """Count an attention of `frames * per_frame` tokens; `rowmax, chunked` is the slow reference."""
    bed = _Bed(frames, per_frame, heads, width, dtype)
    return BandCosts(
        plain=_cost(bed.plain),
        banded={way: _cost(partial(bed.banded, way)) for way in WAYS},
        probes={way: _cost(partial(bed.sizes, way)) for way in WAYS},
    )


def band_seconds(*, frames: int, per_frame: int, heads: int, width: int, pairs: int) -> dict[Way, list[float]]:
    """Time of the banded attention over the plain one's, interleaved pairs of this thread's own processor time."""
    bed = _Bed(frames, per_frame, heads, width, torch.float32)
    return {
        way: [processor_seconds(partial(bed.banded, way)) / processor_seconds(bed.plain) for _ in range(pairs)]
        for way in WAYS
    }  # fmt: skip


class _Bed:
    """Queries, keys and values of one attention, and VSTAR's band for them."""

    def __init__(self, frames: int, per_frame: int, heads: int, width: int, dtype: torch.dtype) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            q, k, v = torch.randn(3, 1, heads, frames * per_frame, width, dtype=dtype).unbind()
        self.qkv = q, k, v
        self.band = RowBand(table_FF=gaussian_table(frames, frames / 16), per_frame=per_frame, scale=0.25)

    def plain(self) -> None:
        attend_plain(*self.qkv)

    def sizes(self, way: Way) -> KnownBand | None:
        q, k, _ = self.qkv
        magnitude: Any = 4.0 if way == "constant" else way
        return None if way == "rowmax, chunked" else known_band(self.band, q, k, magnitude)

    def banded(self, way: Way) -> None:
        q, k, v = self.qkv
        sized = self.sizes(way)
        if sized is None:
            attend(q, k, v, [self.band])
        else:
            attend_factored(q, k, v, [sized])


def unet_costs(kind: TinyUnetKind, unet: Any, *, frames: int, height: int, width: int) -> tuple[Cost, Cost]:
    """One pass of both branches through a network, plain and regularised; a network on the meta device costs nothing.

    `height` and `width` are pixels.
    """
    pipe = tiny_unet_pipeline(kind)
    pipe.unet = unet
    model = UnetVideoModel.from_pipeline(pipe)
    asked = ShotRequest(prompt="a fox", frames=frames, fps=8, width=width, height=height, seed=0)
    shot = Shot(
        request=asked,
        text=model.map_text(asked.prompt),
        timeline=Timeline(frames=frames, fps=8, stride=1),
        layout=model.layout(frames, height, width),
        steps=25,
        sites=model.sites,
        device=unet.device,
    )
    return _pass_cost(model, shot, []), _pass_cost(model, shot, [VSTARControl(VSTAR(), shot)])


def _pass_cost(model: UnetVideoModel, shot: Shot, controls: list[Control]) -> Cost:
    unet = model.pipe.unet
    states = torch.zeros(1, 77, unet.config.cross_attention_dim, device=unet.device, dtype=unet.dtype)
    text = Text(cond=states, uncond=states, maps=(shot.text,))
    noise = torch.zeros(1, *shot.layout.shape, device=unet.device, dtype=unet.dtype)
    branches = (Branch.UNCOND, Branch.COND)
    with torch.no_grad(), attached(model, [controls]) as run:
        run.branches, run.step = branches, Step(index=0, of=25, sigma=1.0)
        t = torch.tensor(900, device=unet.device)
        return _cost(lambda: model.predict(noise, t, text, branches, Start(noise=noise)))


def _cost(work: Callable[[], object]) -> Cost:
    with measured() as meter:
        work()
    return meter.laps[0]
