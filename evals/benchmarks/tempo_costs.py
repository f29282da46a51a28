"""What TempoControl costs beside the released loop, and whether a prefix of the blocks leads as far as all of them.

FLOPs and bytes are counted at full size without computing: the tensors are fake, the networks, the walk, the read-out
and the released loop are real code. Only optimisation passes and probes count, for the same number of moves; the plain
denoising is the same on both sides. Trajectories are computed, on a model that is handed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel, _get_qkv_projections
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from generators.clip import ShotRequest
from generators.controls.base import Control, Probe, Shot, attached
from generators.controls.config import TempoControl
from generators.controls.tempo_losses import Weights, objective
from generators.controls.tempo_readout import WordColumns, layer_agreement, word_attention
from generators.controls.tempocontrol import TempoSteering
from generators.costs import measured
from generators.models.walking import frozen
from generators.models.wan import WanVideoModel
from generators.models.wan_attention import TEXT_COLUMNS
from generators.models.wan_walk import WalkedWan, walk
from generators.sampler import Settings, denoise


@dataclass(frozen=True, kw_only=True)
class Size:
    """A Wan at a clip's size."""

    model: str
    heads: int
    feed: int
    blocks: int
    latents: tuple[int, int, int] = (21, 60, 104)
    """Latent frames, height, width: 81 frames of 480 x 832."""
    head_width: int = 128
    text_width: int = 4096

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along time, height and width."""
        frames, height, width = self.latents
        return frames, height // 2, width // 2


WAN_1_3B = Size(model="Wan-1.3B", heads=12, feed=8960, blocks=30)
WAN_14B = Size(model="Wan-14B", heads=40, feed=13824, blocks=40)

MOVES, PROBES = 110, 50
"""Of the released loop at its settings: eleven steps of ten moves, and a probe at each of fifty steps."""
WORDS = ((3, 4), (9,))
TOKENS = 24


@dataclass(frozen=True, kw_only=True)
class TempoCost:
    """All optimisation passes and probes of one clip; ratios are to the released loop with as many moves."""

    model: str
    loop: str
    blocks: int
    """Read, from the first."""
    flops: int
    flops_ratio: float
    readout_bytes: int
    """Most alive for the read-out alone: one block's work, and what every block leaves for the loss."""
    readout_ratio: float
    """To the maps of all blocks, heads x tokens x 512."""
    peak_bytes: int
    """Most alive in one move, activations included, weights not."""


def measure(size: Size = WAN_1_3B, prefixes: Sequence[int] = (), *, moves: int = MOVES) -> list[TempoCost]:
    """The released loop, ours over all blocks with and without computing blocks again, and ours over each prefix."""
    with FakeTensorMode():
        network, inputs, latents = _network(size)
        released, peak = _released_flops(network, inputs, latents, size, moves)
        forward = _forward_flops(network, inputs)
        whole_maps = size.blocks * _map_bytes(size)
        rows = [_row(size, "released", size.blocks, released, released, whole_maps, peak)]
        wanted = [("ours", size.blocks, True), ("ours, activations kept", size.blocks, False)]
        wanted += [(f"ours, first {count} blocks", count, True) for count in prefixes]
        for loop, blocks, recompute in wanted:
            flops, peak = _move(network, inputs, latents, size, blocks, recompute)
            probes = 0 if blocks == size.blocks else forward
            rows.append(_row(size, loop, blocks, moves * flops + probes, released, _readout_bytes(size, blocks), peak))
    return rows


def _row(size: Size, loop: str, blocks: int, flops: int, released: int, readout: int, peak: int) -> TempoCost:
    return TempoCost(
        model=size.model,
        loop=loop,
        blocks=blocks,
        flops=flops,
        flops_ratio=flops / released,
        readout_bytes=readout,
        readout_ratio=readout / (size.blocks * _map_bytes(size)),
        peak_bytes=peak,
    )


def _map_bytes(size: Size) -> int:
    """One block's map in bfloat16."""
    frames, height, width = size.grid
    return size.heads * frames * height * width * TEXT_COLUMNS * 2


def _network(size: Size) -> tuple[Any, dict[str, Any], Tensor]:
    """A bfloat16 transformer of this size, what one conditional pass reads, and the latents it came from."""
    with _default_dtype(torch.bfloat16):
        network: Any = WanTransformer3DModel(
            num_attention_heads=size.heads,
            attention_head_dim=size.head_width,
            text_dim=size.text_width,
            ffn_dim=size.feed,
            num_layers=size.blocks,
        )
    latents = torch.randn(1, 16, *size.latents, requires_grad=True)
    inputs = {
        "hidden_states": latents.to(torch.bfloat16),
        "timestep": torch.tensor([900.0]),
        "encoder_hidden_states": torch.randn(1, TEXT_COLUMNS, size.text_width, dtype=torch.bfloat16),
        "encoder_hidden_states_image": None,
    }
    return network, inputs, latents


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    former = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(former)


def _forward_flops(network: Any, inputs: dict[str, Any]) -> int:
    with measured() as meter, torch.no_grad():
        network(**inputs, return_dict=False)
    return meter.laps[0].flops


def _move(
    network: Any, inputs: dict[str, Any], latents: Tensor, size: Size, blocks: int, recompute: bool
) -> tuple[int, int]:
    """One of our moves: walk, objective, gradient of the latents: FLOPs and peak bytes."""
    columns, counts = _columns(), _counts()

    def read(layer: int, q: Tensor, k: Tensor) -> Tensor:
        return word_attention(q, k[:, :, : TOKENS + 1], columns, counts_M=counts)[0]

    with measured() as meter, torch.enable_grad():
        maps = walk(network, inputs, range(blocks), read, WalkedWan, recompute=recompute)
        loss = objective(torch.stack(maps).mean(0).unflatten(1, size.grid), _targets(size), Weights())
        torch.autograd.grad(loss, latents)
        del maps, loss
    return meter.laps[0].flops, meter.laps[0].peak_bytes


def _columns() -> WordColumns:
    return WordColumns.of(WORDS, torch.device("cpu"))


def _counts() -> Tensor:
    counts = torch.ones(TOKENS + 1)
    counts[-1] = TEXT_COLUMNS - TOKENS
    return counts


def _targets(size: Size) -> Tensor:
    target = torch.zeros(len(WORDS), size.latents[0])
    target[:, size.latents[0] // 2 :] = 1
    return target


def _readout_bytes(size: Size, blocks: int) -> int:
    """One block's read-out, there and back, and the rows of words that every block leaves."""
    frames, height, width = size.grid
    tokens = frames * height * width
    q = torch.randn(1, size.heads, tokens, size.head_width, dtype=torch.bfloat16, requires_grad=True)
    k = torch.randn(1, size.heads, TOKENS + 1, size.head_width, dtype=torch.bfloat16)
    columns, counts = _columns(), _counts()
    with measured() as meter, torch.enable_grad():
        rows = word_attention(q, k, columns, counts_M=counts)
        torch.autograd.grad(rows.sum(), q)
    return meter.laps[0].peak_bytes + blocks * len(WORDS) * tokens * 4


# ── the released loop ──


class _MapProcessor:
    """Text attention as the released code computes it: the whole map, kept."""

    _attention_backend = None
    _parallel_config = None

    def __init__(self, kept: list[Tensor]) -> None:
        self.kept = kept

    def __call__(self, attn: Any, hidden: Tensor, text: Tensor, mask: None = None, rotary: None = None) -> Tensor:
        q, k, v = _get_qkv_projections(attn, hidden, text)
        q, k, v = (x.unflatten(2, (attn.heads, -1)).transpose(1, 2) for x in (attn.norm_q(q), attn.norm_k(k), v))
        whole = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        self.kept.append(whole)
        out: Tensor = attn.to_out[1](attn.to_out[0]((whole @ v).transpose(1, 2).flatten(2)))
        return out


def _released_flops(network: Any, inputs: dict[str, Any], latents: Tensor, size: Size, moves: int) -> tuple[int, int]:
    """All moves and probes of the released loop, and the peak bytes of one move.

    A move is a conditional pass under one checkpoint of the whole network with every map, the unconditional pass that
    its loss does not use, and the way back; a probe is a conditional pass with every map.
    """
    kept: list[Tensor] = []
    former = [block.attn2.processor for block in network.blocks]
    for block in network.blocks:
        block.attn2.set_processor(_MapProcessor(kept))

    def conditional(hidden: Tensor) -> Tensor:
        kept.clear()
        network(**(inputs | {"hidden_states": hidden}), return_dict=False)
        total = torch.stack([whole.mean(1) for whole in kept]).sum(0) / (len(kept) - 1)
        kept.clear()
        return total

    with frozen(network), measured() as meter:
        with torch.no_grad():
            conditional(inputs["hidden_states"])
        meter.lap()
        with torch.enable_grad():
            total = checkpoint(conditional, inputs["hidden_states"], use_reentrant=False, preserve_rng_state=False)
            words = torch.stack([total[0, :, list(word)].mean(-1) for word in WORDS])
            loss = objective(words.unflatten(1, size.grid), _targets(size), Weights(), tokens=None)
            torch.autograd.grad(loss, latents)
            del total, words, loss
    for block, processor in zip(network.blocks, former, strict=True):
        block.attn2.set_processor(processor)
    probe, move = meter.laps
    unconditional = _forward_flops(network, inputs)
    return moves * (move.flops + unconditional) + PROBES * probe.flops, move.peak_bytes


# ── what a prefix leads to ──


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One clip steered by one choice of blocks; objectives are over all blocks, whichever steered."""

    blocks: int
    objectives: tuple[float, ...]
    """At every reading, in order of steps."""
    correlations: tuple[float, ...]
    """The worst timed word's, over all blocks, likewise."""
    agreement: tuple[float, ...]
    """Each block's time course with that of all, at the first reading."""


class _Judged(TempoSteering):
    """Steers as told, and notes what all blocks say at every reading."""

    def __init__(self, config: TempoControl, shot: Shot) -> None:
        super().__init__(config, shot)
        self.everything = replace(config, layers="all")
        self.judge = TempoSteering(self.everything, shot)
        self.objectives: list[float] = []
        self.correlations: list[float] = []
        self.agreement: tuple[float, ...] = ()

    def _maps(self, latents: Tensor, probe: Probe) -> Tensor:
        with torch.no_grad():
            read = torch.stack(probe(latents.detach(), self.judge.layers, self._read))
            every = read.unflatten(2, self.shot.layout.grid)
        self.agreement = self.agreement or tuple(layer_agreement(every))
        self.objectives.append(float(self._objective(every.mean(0))))
        timed = zip(self._correlations(every.mean(0)), self.timed, strict=True)
        self.correlations.append(min((value for value, is_timed in timed if is_timed), default=0.0))
        return super()._maps(latents, probe)


def trajectories(
    model: WanVideoModel, request: ShotRequest, config: TempoControl, settings: Settings
) -> tuple[Trajectory, Trajectory]:
    """The same clip steered over all blocks, and over the prefix that is measured on it."""
    return _steered(model, request, replace(config, layers="all"), settings), _steered(
        model, request, replace(config, layers="measured"), settings
    )


def _steered(model: WanVideoModel, request: ShotRequest, config: TempoControl, settings: Settings) -> Trajectory:
    layout = model.layout(request.frames, request.height, request.width)
    control = _Judged(config, Shot.of(model, request, settings.steps))
    controls: list[list[Control]] = [[control]]
    negatives = [request.negative_prompt] if settings.guidance > 1 else None
    with torch.no_grad(), attached(model, controls) as run:
        text, start = model.encode([request.prompt], negatives), model.start([request], layout)
        denoise(model, text, start, settings, run, model.stepper(settings.steps, layout))
    return Trajectory(
        blocks=len(control.layers),
        objectives=tuple(control.objectives),
        correlations=tuple(control.correlations),
        agreement=control.agreement,
    )
