"""Law 1 and law 2 for the UNet families: stock bits until a control acts, and nothing left behind."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.clip import Event, Given, ShotRequest
from generators.controls.base import AttentionCall, Control, Shot, attached
from generators.controls.config import VSTAR, ControlConfig
from generators.errors import BackendUnavailable, ControlRejected, RequestRejected
from generators.models.base import Branch, Site
from generators.models.tiny import tiny_pipeline
from generators.models.tiny_unet import TinyUnetKind, TinyUnetScheduler, tiny_unet, tiny_unet_pipeline
from generators.models.unet import UnetVideoModel
from generators.sampler import Settings, sample

KINDS: tuple[TinyUnetKind, ...] = ("modelscope", "animatediff")
PROMPT = "A red fox jumps, then walks home."
FRAMES, HEIGHT, WIDTH = 4, 16, 24
SETTINGS = Settings(steps=2, guidance=7.5)
EVENTS = (
    Event(subject="fox", phrase="jumps", start=0, end=0.25),
    Event(subject="fox", phrase="walks home", start=0.25, end=0.5),
)


@cache
def model(kind: TinyUnetKind, scheduler: TinyUnetScheduler = "ddim", eta: float = 0.0) -> UnetVideoModel:
    pipe = tiny_unet_pipeline(kind, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return UnetVideoModel.from_pipeline(pipe, eta=eta)


def request(*controls: ControlConfig, **changes: Any) -> ShotRequest:
    asked = ShotRequest(
        prompt=PROMPT,
        negative_prompt="blurry",
        frames=FRAMES,
        fps=8,
        width=WIDTH,
        height=HEIGHT,
        seed=1,
        events=EVENTS,
        controls=controls,
    )
    return replace(asked, **changes)


def stock(ours: UnetVideoModel, requests: list[ShotRequest], settings: Settings, output: str) -> Tensor:
    generators = [torch.Generator().manual_seed(r.seed) for r in requests]
    frames: Tensor = ours.pipe(
        prompt=[r.prompt for r in requests],
        negative_prompt=[r.negative_prompt for r in requests],
        height=HEIGHT,
        width=WIDTH,
        num_frames=requests[0].frames,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        eta=ours.eta,
        generator=generators,
        output_type=output,
    ).frames
    return frames


def assert_stock_bits(ours: UnetVideoModel, requests: list[ShotRequest], settings: Settings = SETTINGS) -> None:
    taken = sample(ours, requests, settings)
    assert torch.equal(taken.latents, stock(ours, requests, settings, "latent"))
    with torch.no_grad():
        video = ours.decode(taken.latents)
    assert torch.equal(video, stock(ours, requests, settings, "pt"))
    assert video.shape == (len(requests), FRAMES, 3, HEIGHT, WIDTH)
    assert video.std() > 0.01


@pytest.mark.parametrize("guidance", [1.0, 7.5])
@pytest.mark.parametrize("kind", KINDS)
def test_the_sampler_is_the_stock_pipeline_bit_for_bit(kind: TinyUnetKind, guidance: float) -> None:
    assert_stock_bits(model(kind), [request()], replace(SETTINGS, guidance=guidance))


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["euler", "ancestral", "pndm", "dpm"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_scheduler_gives_the_stock_bits(kind: TinyUnetKind, scheduler: TinyUnetScheduler) -> None:
    assert_stock_bits(model(kind, scheduler), [request()], replace(SETTINGS, steps=3))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ddim_with_noise_in_every_step_gives_the_stock_bits(kind: TinyUnetKind) -> None:
    ours = model(kind, eta=1.0)
    assert_stock_bits(ours, [request()])
    assert not torch.equal(
        sample(ours, [request()], SETTINGS).latents, sample(model(kind), [request()], SETTINGS).latents
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_the_stock_batch_bit_for_bit(kind: TinyUnetKind) -> None:
    assert_stock_bits(model(kind), [request(), request(seed=2, prompt="A cat sleeps.")])


def test_noise_in_every_step_of_a_batch_comes_from_each_requests_own_generator() -> None:
    ours = model("modelscope", eta=1.0)
    alone = sample(ours, [request(seed=2)], SETTINGS).latents
    second = sample(ours, [request(), request(seed=2)], SETTINGS).latents[1:]
    torch.testing.assert_close(alone, second, atol=1e-4, rtol=1e-4)


def test_long_clips_are_decoded_in_the_stock_pipelines_chunks() -> None:
    ours, asked = model("animatediff"), request(frames=17)
    settings = Settings(steps=1, guidance=1.0)
    with torch.no_grad():
        video = ours.decode(sample(ours, [asked], settings).latents)
    assert torch.equal(video, stock(ours, [asked], settings, "pt"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_loaded_and_films(kind: TinyUnetKind, tmp_path: Path) -> None:
    ours = UnetVideoModel.from_pretrained(str(tiny_unet(kind, tmp_path / kind)))
    assert ours.is_animatediff == (kind == "animatediff")
    torch.testing.assert_close(
        sample(ours, [request()], SETTINGS).latents,
        sample(model(kind), [request()], SETTINGS).latents,
        atol=1e-3,
        rtol=1e-3,
    )


def test_a_missing_folder_and_another_family_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="nowhere"):
        UnetVideoModel.from_pretrained(str(tmp_path / "nowhere"))
    with pytest.raises(BackendUnavailable, match="expected a TextToVideoSDPipeline .* got WanPipeline"):
        UnetVideoModel.from_pipeline(tiny_pipeline("t2v-2.1"))


def test_extensions_that_rewrite_the_loop_are_refused() -> None:
    pipe = tiny_unet_pipeline("animatediff")
    pipe.enable_free_init()
    with pytest.raises(BackendUnavailable, match="disable_free_init"):
        UnetVideoModel.from_pipeline(pipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 12}, "height: expected a multiple of 8"),
        ({"width": 4}, "width"),
        ({"frames": 33}, "frames: expected 1 to 32, got 33"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, int], message: str) -> None:
    size = {"frames": FRAMES, "height": HEIGHT, "width": WIDTH} | changes
    with pytest.raises(RequestRejected, match=message):
        model("animatediff").layout(**size)


def test_modelscope_has_no_longest_clip() -> None:
    assert model("modelscope").layout(64, HEIGHT, WIDTH).grid == (64, 2, 3)


@pytest.mark.parametrize(("kind", "temporal"), [("modelscope", 20), ("animatediff", 26)])
def test_sites_are_the_attentions_of_every_level(kind: TinyUnetKind, temporal: int) -> None:
    sites = model(kind).sites
    assert len(sites) == len(set(sites))
    over_time = [site for site in sites if site.kind == "temporal"]
    assert [site.layer for site in over_time] == list(range(temporal))
    assert {site.level for site in over_time} == {0, 1, 2, 3}
    assert {(s.layer, s.level) for s in sites if s.kind == "self"} == {
        (s.layer, s.level) for s in sites if s.kind == "cross"
    }


class Idle(Control):
    """Everywhere, changing nothing."""

    def at(self, site: Site) -> bool:
        return True

    def acts(self, step: Any, branch: Branch) -> bool:
        return branch is Branch.COND


class Seen(Idle):
    """Notes the shapes of its calls."""

    calls: list[AttentionCall]

    def observe(self, call: AttentionCall, out_BHND: Tensor, lse_BHN: Tensor) -> None:
        assert out_BHND.shape == (*call.q.shape[:3], call.v.shape[-1])
        assert lse_BHN.shape == call.q.shape[:3]
        self.calls.append(call)


def shot(ours: UnetVideoModel) -> Shot:
    return Shot.of(ours, request(), 2)


def predict(ours: UnetVideoModel, controls: list[Control]) -> Tensor:
    asked = request()
    text = ours.encode([asked.prompt], ["blurry"])
    start = ours.start([asked], ours.layout(FRAMES, HEIGHT, WIDTH))
    with torch.no_grad(), attached(ours, [controls]) as run:
        run.branches = (Branch.UNCOND, Branch.COND)
        return ours.predict(start.noise, torch.tensor(900), text, run.branches, start)


@pytest.mark.parametrize("kind", KINDS)
def test_controlled_attention_with_nothing_to_change_agrees_with_the_stock_one(kind: TinyUnetKind) -> None:
    ours = model(kind)
    plain, idle = predict(ours, []), predict(ours, [Idle(shot(ours))])
    assert torch.equal(plain[0], idle[0])  # the unconditional rows are at rest
    torch.testing.assert_close(plain, idle, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_sees_each_level_as_its_own_grid(kind: TinyUnetKind) -> None:
    ours = model(kind)
    seen = Seen(shot(ours))
    seen.calls = []
    predict(ours, [seen])
    assert len(seen.calls) == len(ours.sites)
    grids = {0: (FRAMES, 2, 3), 1: (FRAMES, 1, 2), 2: (FRAMES, 1, 1), 3: (FRAMES, 1, 1)}
    for call in seen.calls:
        frames, height, width = call.layout.grid
        assert call.layout.grid == grids[call.site.level]
        rows = {"self": (frames, height * width), "temporal": (height * width, frames)}
        rows["cross"] = (1, frames * height * width)
        assert (call.q.shape[0], call.q.shape[2]) == rows[call.site.kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_steers_a_unet_and_is_gone_after(kind: TinyUnetKind) -> None:
    ours = model(kind)
    before = list(ours.pipe.unet.attn_processors.values())
    plain = sample(ours, [request()], SETTINGS).latents
    steered = sample(ours, [request(VSTAR())], SETTINGS).latents
    assert not torch.allclose(plain, steered)
    assert all(a is b for a, b in zip(before, ours.pipe.unet.attn_processors.values(), strict=True))
    assert torch.equal(plain, sample(ours, [request()], SETTINGS).latents)


def test_a_processor_that_is_not_diffusers_own_is_refused_and_nothing_is_left_behind() -> None:
    ours = UnetVideoModel.from_pipeline(tiny_unet_pipeline("modelscope"))
    module = ours.pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1

    class Foreign:
        def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
            raise AssertionError

    module.set_processor(Foreign())
    before = list(ours.pipe.unet.attn_processors.values())
    with pytest.raises(ControlRejected, match="got Foreign"), attached(ours, [[Idle(shot(ours))]]):
        pass
    assert all(a is b for a, b in zip(before, ours.pipe.unet.attn_processors.values(), strict=True))


@pytest.mark.parametrize("scheduler", ["ddim", "euler"])
def test_given_frames_are_held_and_the_others_still_move(scheduler: TinyUnetScheduler) -> None:
    ours = model("modelscope", scheduler)
    pixels = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    given = (Given(first=1, frames=pixels),)
    taken = sample(ours, [request(given=given)], SETTINGS)
    assert taken.start.held is not None
    assert taken.start.clean is not None
    assert taken.start.held.flatten().tolist() == [False, True, True, False]
    assert torch.equal(taken.latents[:, :, 1:3], taken.start.clean[:, :, 1:3])
    assert not torch.allclose(taken.latents, sample(ours, [request()], SETTINGS).latents)


def test_a_unet_has_one_holder_at_a_time() -> None:
    ours = model("modelscope")
    with ours.held(), pytest.raises(RuntimeError, match="one holder"), attached(ours, [[]]):
        pass


def test_an_unconditional_pass_without_negative_text_is_refused() -> None:
    ours = model("modelscope")
    text = ours.encode([PROMPT], None)
    start = ours.start([request()], ours.layout(FRAMES, HEIGHT, WIDTH))
    with pytest.raises(ValueError, match=r"text.uncond"):
        ours.predict(start.noise, torch.tensor(900), text, (Branch.UNCOND,), start)


def test_an_unknown_tiny_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        tiny_unet_pipeline("videocrafter")  # type: ignore[arg-type]
