"""Law 1 (no control: the stock pipeline's bits), law 2 (detached means gone) and what a batch promises."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline
from PIL import Image

from generators.clip import Event, Given, Progress, ShotRequest
from generators.controls.base import attached
from generators.controls.config import ControlConfig, TSAttn
from generators.errors import ControlRejected, RequestRejected, ShootingCancelled
from generators.models.base import Branch
from generators.models.tiny import TinyKind, TinyScheduler, tiny_pipeline
from generators.models.wan import WanVideoModel
from generators.sampler import Settings, hold, sample

SIDE, FRAMES = 32, 9
PROMPT = "A red fox jumps over the box, then the fox walks home."
SETTINGS = Settings(steps=3, guidance=5.0)
PIXELS = np.random.default_rng(0).integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
PICTURE = (Given(first=0, frames=PIXELS[:1]),)
EVENTS = (
    Event(subject="fox", phrase="jumps over the box", start=0, end=0.5),
    Event(subject="fox", phrase="walks home", start=0.5, end=1.1),
)


@cache
def model(kind: TinyKind, scheduler: TinyScheduler = "unipc") -> WanVideoModel:
    pipe = tiny_pipeline(kind, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return WanVideoModel.from_pipeline(pipe, gives_tokens_at_zero=True if kind == "world" else None)


def request(seed: int = 1, **changes: Any) -> ShotRequest:
    asked = ShotRequest(
        prompt=PROMPT, negative_prompt="blurry", frames=FRAMES, fps=8, width=SIDE, height=SIDE, seed=seed, events=EVENTS
    )
    return replace(asked, **changes)


def stock(pipe: Any, requests: list[ShotRequest], output: str, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return pipe(
            prompt=[r.prompt for r in requests],
            negative_prompt=[r.negative_prompt for r in requests],
            height=SIDE,
            width=SIDE,
            num_frames=FRAMES,
            num_inference_steps=SETTINGS.steps,
            guidance_scale=options.pop("guidance", SETTINGS.guidance),
            generator=[torch.Generator().manual_seed(r.seed) for r in requests],
            output_type=output,
            **options,
        ).frames


def assert_stock_bits(ours: WanVideoModel, pipe: Any, requests: list[ShotRequest], **options: Any) -> None:
    settings = replace(
        SETTINGS, guidance=options.get("guidance", SETTINGS.guidance), guidance_2=options.get("guidance_scale_2")
    )
    taken = sample(ours, requests, settings)
    assert torch.equal(taken.latents, stock(pipe, requests, "latent", **options))
    with torch.no_grad():
        video = ours.decode(taken.latents)
    assert torch.equal(video, stock(pipe, requests, "pt", **options))
    assert video.std() > 0.01


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
@pytest.mark.parametrize("kind", ["t2v-2.1", "t2v-2.2", "ti2v-2.2", "world"])
def test_text_to_video_is_the_stock_pipeline_bit_for_bit(kind: TinyKind, scheduler: TinyScheduler) -> None:
    ours = model(kind, scheduler)
    assert_stock_bits(ours, ours.pipe, [request()])


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
@pytest.mark.parametrize("kind", ["i2v-2.1", "i2v-2.2"])
def test_picture_to_video_is_the_stock_pipeline_bit_for_bit(kind: TinyKind, scheduler: TinyScheduler) -> None:
    ours = model(kind, scheduler)
    assert_stock_bits(ours, ours.pipe, [request(given=PICTURE)], image=Image.fromarray(PIXELS[0]))


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
def test_ti2v_from_a_picture_is_the_stock_pipeline_bit_for_bit(scheduler: TinyScheduler) -> None:
    ours = model("ti2v-2.2", scheduler)
    parts = {k: v for k, v in ours.pipe.components.items() if k in ("vae", "text_encoder", "tokenizer", "transformer")}
    pictures = WanImageToVideoPipeline(**parts, scheduler=ours.pipe.scheduler, expand_timesteps=True)
    pictures.set_progress_bar_config(disable=True)
    assert_stock_bits(ours, pictures, [request(given=PICTURE)], image=Image.fromarray(PIXELS[0]))


def test_two_experts_have_their_own_guidance_as_in_the_stock_pipeline() -> None:
    ours = model("t2v-2.2")
    assert_stock_bits(ours, ours.pipe, [request()], guidance_scale_2=2.0)


def test_guidance_off_is_the_stock_pipeline_bit_for_bit() -> None:
    ours = model("t2v-2.1")
    assert_stock_bits(ours, ours.pipe, [request()], guidance=1.0)


@pytest.mark.slow
def test_a_batch_is_the_stock_batch_bit_for_bit() -> None:
    ours = model("t2v-2.1")
    assert_stock_bits(ours, ours.pipe, [request(1), request(2, prompt="A cat sleeps."), request(3)])


@pytest.mark.parametrize("kind", ["t2v-2.1", "world"])
def test_stochastic_steps_are_stock_s_bit_for_bit_where_its_global_noise_is_the_clip_s_own(kind: TinyKind) -> None:
    ours, asked = model(kind, "stochastic"), request()
    taken = sample(ours, [asked], SETTINGS)
    own = torch.Generator().manual_seed(asked.seed)
    torch.randn(taken.start.noise.shape, generator=own)  # both begin with the same noise
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(own.get_state())
        assert torch.equal(taken.latents, stock(ours.pipe, [asked], "latent"))


def test_stochastic_steps_do_not_hang_on_the_batch_nor_on_what_was_drawn_before() -> None:
    ours = model("world", "stochastic")
    alone = sample(ours, [request(2)], SETTINGS).latents
    torch.rand(1)
    assert torch.equal(alone, sample(ours, [request(2)], SETTINGS).latents)
    together = sample(ours, [request(1), request(2)], SETTINGS).latents
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together[:1], alone, atol=0.1)


def test_a_request_gets_the_same_noise_in_any_batch() -> None:
    ours = model("t2v-2.1")
    alone = sample(ours, [request(7)], SETTINGS)
    third = sample(ours, [request(1), request(2), request(7)], SETTINGS)
    assert torch.equal(alone.start.noise[0], third.start.noise[2])
    torch.testing.assert_close(alone.latents[0], third.latents[2], atol=1e-4, rtol=1e-4)


def test_filming_twice_gives_the_same_bits() -> None:
    ours = model("t2v-2.1")
    assert torch.equal(sample(ours, [request()], SETTINGS).latents, sample(ours, [request()], SETTINGS).latents)


def processors(ours: WanVideoModel) -> list[Any]:
    return [p for expert in ours.experts for p in expert.attn_processors.values()]


def test_a_detached_control_leaves_the_same_processors_and_the_same_bits() -> None:
    ours = model("t2v-2.2")
    before, plain = processors(ours), sample(ours, [request()], SETTINGS).latents
    steered = sample(ours, [request(controls=(TSAttn(),))], SETTINGS).latents
    after = processors(ours)
    assert all(a is b for a, b in zip(before, after, strict=True))
    assert not torch.equal(plain, steered)
    assert torch.equal(plain, sample(ours, [request()], SETTINGS).latents)


def test_a_control_is_gone_after_an_exception_too() -> None:
    ours = model("t2v-2.1")
    before = processors(ours)

    def fail(progress: Progress) -> None:
        assert any(a is not b for a, b in zip(before, processors(ours), strict=True))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sample(ours, [request(controls=(TSAttn(),))], SETTINGS, on_step=fail)
    assert all(a is b for a, b in zip(before, processors(ours), strict=True))
    sample(ours, [request()], SETTINGS)


def test_one_model_has_one_holder_at_a_time() -> None:
    ours = model("t2v-2.1")

    def again(progress: Progress) -> None:
        sample(ours, [request()], SETTINGS)

    with pytest.raises(RuntimeError, match="one holder at a time"):
        sample(ours, [request()], SETTINGS, on_step=again)


def test_a_second_attach_raises_and_leaves_the_first_in_place() -> None:
    ours = model("t2v-2.1")
    with attached(ours, []):
        before = processors(ours)
        with pytest.raises(RuntimeError, match="one holder at a time"), attached(ours, []):
            pass
        assert all(a is b for a, b in zip(before, processors(ours), strict=True))
    with attached(ours, []):
        pass


def test_every_step_is_reported() -> None:
    seen: list[Progress] = []
    sample(model("t2v-2.1"), [request()], SETTINGS, on_step=seen.append)
    assert seen == [Progress(step=i, of=3) for i in (1, 2, 3)]


def test_filming_stops_between_two_steps_when_cancelled() -> None:
    stop, seen = threading.Event(), []

    def after_two(progress: Progress) -> None:
        seen.append(progress.step)
        if progress.step == 2:
            stop.set()

    with pytest.raises(ShootingCancelled):
        sample(model("t2v-2.1"), [request()], SETTINGS, on_step=after_two, cancelled=stop)
    assert seen == [1, 2]


def test_an_unknown_control_is_refused_with_those_that_exist() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Telepathy(ControlConfig):
        pass

    with pytest.raises(ControlRejected, match="expected one of TSAttn, .*got Telepathy"):
        sample(model("t2v-2.1"), [request(controls=(Telepathy(),))], SETTINGS)


def test_the_same_control_twice_is_refused() -> None:
    with pytest.raises(ControlRejected, match="twice"):
        sample(model("t2v-2.1"), [request(controls=(TSAttn(), TSAttn(strength=2)))], SETTINGS)


def test_a_batch_of_two_sizes_is_refused() -> None:
    with pytest.raises(RequestRejected, match="one size and length"):
        sample(model("t2v-2.1"), [request(), request(frames=5, events=())], SETTINGS)


@pytest.mark.slow
def test_given_latents_are_held_clean_on_a_model_trained_for_it_and_noised_on_others() -> None:
    given = (Given(first=0, frames=PIXELS[:5]),)
    for kind in ("world", "ti2v-2.2", "t2v-2.1", "t2v-2.2"):
        ours = model(kind)
        taken = sample(ours, [request(given=given)], SETTINGS)
        clean = taken.start.clean
        assert clean is not None
        assert torch.equal(taken.latents[:, :, :2], clean[:, :, :2])
        assert not torch.equal(taken.latents[:, :, 2:], sample(ours, [request()], SETTINGS).latents[:, :, 2:])
        stepper = ours.stepper(SETTINGS.steps, ours.layout(FRAMES, SIDE, SIDE))
        sigma = stepper.sigma(1)
        assert 0 < sigma < 1
        noisy = hold(taken.latents, taken.start, stepper.noised(clean, taken.start.noise, 1))
        expected = (1 - sigma) * clean[:, :, :2] + sigma * taken.start.noise[:, :, :2]
        torch.testing.assert_close(noisy[:, :, :2], expected)


@pytest.mark.parametrize("kind", ["world", "ti2v-2.2"])
def test_finished_tokens_stand_at_timestep_zero_and_the_others_at_t(kind: TinyKind) -> None:
    ours = model(kind)
    seen: list[torch.Tensor] = []
    hook = ours.experts[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["timestep"]), with_kwargs=True
    )
    try:
        sample(ours, [request(given=(Given(first=0, frames=PIXELS[:5]),)), request(2)], SETTINGS)
    finally:
        hook.remove()
    tokens = ours.layout(FRAMES, SIDE, SIDE).tokens
    assert all(t.shape == (2, tokens) for t in seen)
    assert all((t[0, : 2 * tokens // 3] == 0).all() and (t[0, 2 * tokens // 3 :] > 0).all() for t in seen)
    assert all((t[1] > 0).all() for t in seen)


def test_time_stays_scalar_where_nothing_is_given_and_on_models_not_trained_for_tokens() -> None:
    for kind, given in (("world", ()), ("t2v-2.1", (Given(first=0, frames=PIXELS[:5]),))):
        ours = model(kind)
        seen: list[torch.Tensor] = []
        hook = ours.experts[0].register_forward_pre_hook(
            lambda module, args, kwargs, seen=seen: seen.append(kwargs["timestep"]), with_kwargs=True
        )
        sample(ours, [request(given=given)], SETTINGS)
        hook.remove()
        assert {t.shape for t in seen} == {(1,)}


def test_a_window_is_filmed_again_between_frames_given_on_both_sides() -> None:
    ours = model("world")
    given = (Given(first=0, frames=PIXELS[:1]), Given(first=5, frames=PIXELS[5:]))
    taken = sample(ours, [request(given=given)], SETTINGS)
    held, clean = taken.start.held, taken.start.clean
    assert held is not None
    assert clean is not None
    assert held.flatten().tolist() == [True, False, True]
    assert torch.equal(taken.latents[:, :, [0, 2]], clean[:, :, [0, 2]])


def test_given_frames_that_cover_no_whole_latent_frame_are_refused() -> None:
    with pytest.raises(RequestRejected, match="cover a whole latent frame"):
        sample(model("world"), [request(given=(Given(first=2, frames=PIXELS[2:5]),))], SETTINGS)


def test_each_expert_films_its_own_noise_levels() -> None:
    ours = model("t2v-2.2")
    timesteps = ours.stepper(SETTINGS.steps, ours.layout(FRAMES, SIDE, SIDE)).timesteps
    used = [ours.expert(t) for t in timesteps]
    assert used[0] is ours.pipe.transformer
    assert used[-1] is ours.pipe.transformer_2
    assert ours.guidance(timesteps[-1], 5.0, 2.0, SETTINGS.steps) == 2.0


def test_the_unconditional_branch_reads_the_negative_prompt() -> None:
    ours = model("t2v-2.1")
    text = ours.encode([PROMPT], ["blurry"])
    start = ours.start([request()], ours.layout(FRAMES, SIDE, SIDE))
    t = ours.stepper(3, ours.layout(FRAMES, SIDE, SIDE)).timesteps[0]
    with torch.no_grad():
        cond, uncond = (ours.predict(start.noise, t, text, [branch], start) for branch in Branch)
    assert not torch.equal(cond, uncond)
