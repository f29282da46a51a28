"""VSTAR's released method, derived again: float64, stock pipelines, processors written from the formulas alone."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.attention_bands import gaussian_table
from generators.controls.config import VSTAR
from generators.controls.vstar import VSTARControl
from generators.models.tiny_unet import TinyUnetKind, tiny_unet_pipeline
from generators.models.unet import UnetVideoModel
from tests.generators.test_vstar import FRAMES, STATES, UNETS, both, shot


def published_band(frames: int, sigma: float) -> Tensor:
    """Normal densities along the diagonals, over that of the main one."""

    def density(x: float) -> float:
        return math.exp(-(x**2) / (2 * sigma**2)) / math.sqrt(2 * math.pi * sigma**2)

    table = [[density(j - i) / density(0) for j in range(frames)] for i in range(frames)]
    return torch.tensor(table, dtype=torch.float64)


class Published:
    """A whole attention from its formulas; `clock` counts the steps done."""

    def __init__(self, clock: list[int], band: Tensor | None, contexts: Tensor | None) -> None:
        self.clock, self.band, self.contexts = clock, band, contexts

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if self.contexts is not None:  # unconditional half first, then a context a frame
            states = torch.cat([states[: len(states) // 2], self.contexts])
        q, k, v = (
            x.reshape(len(x), x.shape[1], attn.heads, -1).permute(0, 2, 1, 3)
            for x in (attn.to_q(hidden_states), attn.to_k(states), attn.to_v(states))
        )
        phi = torch.einsum("bhnd,bhmd->bhnm", q, k) / math.sqrt(q.shape[-1])
        if self.band is not None and self.clock[0] <= 13:
            phi = phi + phi.max(dim=-1, keepdim=True).values * self.band
        out = torch.einsum("bhnm,bhmd->bhnd", torch.softmax(phi, dim=-1), v)
        projected: Tensor = attn.to_out[1](attn.to_out[0](out.permute(0, 2, 1, 3).flatten(2)))
        return projected


def temporal_names(unet: Any, blocks: tuple[str, ...]) -> set[str]:
    return {
        name
        for name in unet.attn_processors
        if name.startswith(blocks) and ("temp_attentions" in name or "motion_modules" in name)
    }


def published_contexts(pipe: Any) -> Tensor:
    """A context for every frame, (F, M, D), piecewise between truncated key frames."""
    states, _ = pipe.encode_prompt(list(STATES), torch.device("cpu"), 1, False)
    keys = np.linspace(0, FRAMES - 1, len(STATES), dtype=np.int8).tolist()
    contexts = torch.empty(FRAMES, *states.shape[1:], dtype=torch.float64)
    for s, (begin, end) in enumerate(zip(keys, keys[1:], strict=False)):
        for frame in range(begin, end + 1):
            beta = (frame - begin) / (end - begin)
            contexts[frame] = (1 - beta) * states[s] + beta * states[s + 1]
    return contexts


@cache
def doubled(kind: TinyUnetKind) -> UnetVideoModel:
    pipe = tiny_unet_pipeline(kind)
    for part in (pipe.unet, pipe.text_encoder, pipe.vae):
        part.to(torch.float64)
    return UnetVideoModel.from_pipeline(pipe)


@pytest.mark.slow
@pytest.mark.parametrize("with_text", [False, True])
@pytest.mark.parametrize("kind", UNETS)
def test_the_official_preset_is_the_released_method_derived_again_in_float64(
    kind: TinyUnetKind, with_text: bool
) -> None:
    ours = doubled(kind)
    network = ours.pipe.unet
    config = VSTAR(preset="official", synopsis=STATES if with_text else (), sigmas=(1.0, 4.0))
    control = VSTARControl(config, shot(ours))
    taken = {step: both(ours, [control], step) for step in (0, 13, 14)}
    plain = both(ours, [], 0)

    clock = [0]
    contexts = published_contexts(ours.pipe) if with_text else None
    top = temporal_names(network, ("down_blocks.0", "up_blocks.3"))
    below = temporal_names(network, ("down_blocks.1", "up_blocks.2"))
    former = dict(network.attn_processors)
    processors = dict(former)
    for name in processors:
        if name in top | below:
            processors[name] = Published(clock, published_band(FRAMES, 1.0 if name in top else 4.0), None)
        elif name.endswith("attn2.processor") and ".attentions." in name and with_text:
            processors[name] = Published(clock, None, contexts)
    network.set_attn_processor(processors)
    try:
        for step, ours_made in taken.items():
            clock[0] = step
            expected = both(ours, [], step)
            error = (ours_made - expected).abs().max() / expected.abs().max()
            assert error < 1e-12, f"step {step}: relative error {error}"
    finally:
        network.set_attn_processor(former)
    assert (taken[13] - plain).abs().max() > 1e-3
    assert torch.equal(taken[14], plain) != with_text


def test_a_band_of_densities_is_the_gaussian_of_the_paper() -> None:
    for sigma in (1.0, 4.0, 8.0):
        torch.testing.assert_close(gaussian_table(64, sigma), published_band(64, sigma), atol=2e-16, rtol=1e-12)
