"""Several shots as one sequence on Wan: identities with stock passes, times of tokens, context."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.attention_groups import SceneMask
from generators.clip import Given, ShotRequest
from generators.controls.base import attached
from generators.errors import RequestRejected
from generators.models.base import Start
from generators.models.scenes import SceneSettings
from generators.models.tiny import TinyKind, TinyScheduler, tiny_pipeline
from generators.models.wan import WanVideoModel
from generators.models.wan_attention import TEXT_COLUMNS
from generators.models.wan_scenes import WanScenes
from generators.sampler import Settings, sample
from generators.scenes import sample_chain, sample_sets

SIDE = 32
SETTINGS = Settings(steps=2, guidance=5.0)
MASKS: tuple[SceneMask, ...] = get_args(SceneMask)
EXACT = 5e-14
"""Rounding of float64."""
PIXELS = np.random.default_rng(0).integers(0, 256, (9, SIDE, SIDE, 3), dtype=np.uint8)


@cache
def model(kind: TinyKind = "world", scheduler: TinyScheduler = "euler", zero: bool | None = True) -> WanVideoModel:
    pipe = tiny_pipeline(kind, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return WanVideoModel.from_pipeline(pipe, gives_tokens_at_zero=zero)


def shot(number: int, frames: int = 9, **changes: Any) -> ShotRequest:
    prompts = ("A fox jumps.", "A cat sleeps.", "The fox and the cat walk home.", "A red box falls.")
    asked = ShotRequest(
        prompt=prompts[number], negative_prompt="blurry", frames=frames, fps=8, width=SIDE, height=SIDE, seed=number
    )
    return replace(asked, **changes)


def finished(number: int) -> ShotRequest:
    return shot(number, given=(Given(first=0, frames=PIXELS),))


@cache
def double_model() -> WanVideoModel:
    pipe = tiny_pipeline("world", scheduler="euler")
    pipe.transformer.double()
    return WanVideoModel.from_pipeline(pipe, gives_tokens_at_zero=True)


@pytest.fixture
def exact_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' Wan blocks add and norm in float32, whose rounding no float64 equality survives."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


class Pass:
    """A pass over shots of 3, 2 and 3 latent frames."""

    def __init__(self, mask: SceneMask, dtype: torch.dtype = torch.float32) -> None:
        self.plain = model() if dtype == torch.float32 else double_model()
        layouts = [self.plain.layout(count, SIDE, SIDE) for count in (9, 5, 9)]
        self.sets = WanScenes(self.plain, layouts, SceneSettings(mask=mask))
        self.lengths = [layout.frames for layout in layouts]
        generator = torch.Generator().manual_seed(7)
        shape = (1, layouts[0].channels, sum(self.lengths), layouts[0].height, layouts[0].width)
        self.latents = torch.randn(shape, generator=generator, dtype=dtype)
        width = self.plain._config.text_dim
        self.states = torch.randn(1, 3 * TEXT_COLUMNS, width, generator=generator, dtype=dtype)

    def run(self, t: float, *context: int) -> Tensor:
        held = torch.cat([torch.full((1, 1, n, 1, 1), i in context) for i, n in enumerate(self.lengths)], dim=2)
        start = Start(noise=self.latents, held=held if context else None)
        network = self.plain.experts[0]
        with torch.no_grad(), attached(self.sets, [()]):
            inputs = self.sets._inputs(network, self.latents, torch.tensor(t), self.states, start)
            return network(**inputs, return_dict=False)[0]

    def stock(self, t: float, latents: Tensor, states: Tensor) -> Tensor:
        with torch.no_grad():
            return self.plain.experts[0](latents, torch.tensor([t]), states, return_dict=False)[0]


@pytest.mark.parametrize("mask", ["v4", "v5"])
def test_reading_everybodys_words_is_the_stock_network_bit_for_bit(mask: SceneMask) -> None:
    case = Pass(mask)
    assert torch.equal(case.run(600.0), case.stock(600.0, case.latents, case.states))


@pytest.mark.usefixtures("exact_blocks")
def test_the_first_mask_is_each_shot_alone_at_its_own_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Pass("v1", torch.float64)
    rope, together = case.plain.experts[0].rope, case.run(600.0)
    table = rope(case.latents)
    for scene, (first, frames) in enumerate(zip((0, 3, 5), case.lengths, strict=True)):
        tokens = case.sets.scenes.videos[scene] // frames
        own = tuple(x[:, first * tokens : (first + frames) * tokens] for x in table)
        monkeypatch.setattr(rope, "forward", lambda latents, own=own: own)
        video = case.latents[:, :, first : first + frames]
        words = case.states.split(TEXT_COLUMNS, dim=1)
        made = together[:, :, first : first + frames]
        assert (made - case.stock(600.0, video, words[scene])).abs().max() < EXACT
        assert (made - case.stock(600.0, video, words[scene - 1])).abs().max() > 1e-4


def test_words_are_heard_by_their_own_shot_first() -> None:
    """In one pass of several blocks video carries them on to the other shots, unless the mask is the first."""
    for mask, others_hear in (("v1", False), ("v2", True)):
        case = Pass(mask)  # type: ignore[arg-type]
        before = case.run(600.0)
        case.states[:, :TEXT_COLUMNS] += 1.0
        moved = (case.run(600.0) - before).abs().amax(dim=(0, 1, 3, 4))
        assert (moved[:3] > 1e-5).all()
        assert bool((moved[3:] > 1e-7).any()) == others_hear


@pytest.mark.usefixtures("exact_blocks")
def test_the_second_mask_is_a_dense_mask_over_words(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Pass("v2", torch.float64)
    ours = case.run(600.0)
    layouts, words = case.sets.layouts, torch.arange(3 * TEXT_COLUMNS) // TEXT_COLUMNS
    scene = torch.cat([torch.full((layout.tokens,), i) for i, layout in enumerate(layouts)])

    class Masked:
        def __init__(self, plain: Any) -> None:
            self.plain = plain

        def __call__(self, attn: Any, hidden: Tensor, states: Tensor, *rest: Any) -> Tensor:
            return self.plain(attn, hidden, states, scene[:, None] == words[None, :], None)

    network = case.plain.experts[0]
    for block in network.blocks:
        monkeypatch.setattr(block.attn2, "processor", Masked(block.attn2.processor))
    assert (ours - case.stock(600.0, case.latents, case.states)).abs().max() < EXACT


@pytest.mark.usefixtures("exact_blocks")
def test_context_at_time_zero_is_a_plain_pass_at_time_zero() -> None:
    case = Pass("v2", torch.float64)
    assert (case.run(0.0, 0, 1) - case.run(0.0)).abs().max() < EXACT
    assert (case.run(600.0, 0, 1) - case.run(600.0)).abs().max() > 1e-4


@pytest.mark.parametrize("scheduler", ["euler", "unipc", "stochastic"])
@pytest.mark.parametrize("kind", ["world", "t2v-2.2", "ti2v-2.2"])
def test_a_set_of_one_is_the_stock_pipeline_bit_for_bit(kind: TinyKind, scheduler: TinyScheduler) -> None:
    ours = model(kind, scheduler, None)
    together = sample_sets(ours, [[shot(0)], [shot(1)]], SETTINGS)
    assert torch.equal(together.sample.latents, sample(ours, [shot(0), shot(1)], SETTINGS).latents)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [True, False])
def test_context_is_kept_and_read(zero: bool) -> None:
    ours = model("world", "euler", zero)
    taken = sample_sets(ours, [[finished(0), finished(1), shot(2)]], SETTINGS)
    assert taken.sample.start.clean is not None
    assert torch.equal(taken.sample.latents[:, :, :6], taken.sample.start.clean[:, :, :6])
    assert bool((taken.sample.start.noise[:, :, :6] == 0).all()) == zero  # noised anew where zero is not known
    other = replace(finished(0), given=(Given(first=0, frames=PIXELS[::-1].copy()),))
    changed = sample_sets(ours, [[other, finished(1), shot(2)]], SETTINGS)
    assert not torch.equal(changed.shots[0][2], taken.shots[0][2])


@pytest.mark.slow
def test_a_chain_of_unequal_shots_goes_on() -> None:
    shots = list(sample_chain(model(), [shot(0), shot(1, 5), shot(2), shot(3, 5)], SETTINGS))
    assert [len(x.frames) for x in shots] == [9, 5, 9, 5]


def test_the_networks_are_as_they_were() -> None:
    ours = model("t2v-2.2", "unipc", None)
    before = [dict(network.attn_processors) for network in ours.experts]
    sample_sets(ours, [[shot(0), shot(1)]], SETTINGS, SceneSettings(mask="v1"))
    assert [dict(network.attn_processors) for network in ours.experts] == before


def test_picture_checkpoints_are_refused() -> None:
    with pytest.raises(RequestRejected, match="starts from a picture"):
        sample_sets(model("i2v-2.1", "unipc", None), [[shot(0), shot(1)]], SETTINGS)
