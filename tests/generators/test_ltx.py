"""LTX-Video: law 1 against the stock pipelines, frames held at timestep 0, and the steering of both attentions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXConditionPipeline
from diffusers.pipelines.ltx.pipeline_ltx_image2video import LTXImageToVideoPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.utils import logging
from PIL import Image

from generators.attention import Bias
from generators.clip import Event, Given, ShotRequest
from generators.controls.base import AttentionCall, Control, Shot, Step, attached
from generators.controls.config import TSAttn
from generators.errors import BackendUnavailable, RequestRejected
from generators.models.base import Branch, Site
from generators.models.ltx import LTXVideoModel
from generators.models.tiny_ltx import TinyLTXKind, tiny_ltx_pipeline
from generators.sampler import Settings, sample

SIDE, FRAMES = 32, 17
PROMPT = "A red fox jumps over the box, then the fox walks home."
SETTINGS = Settings(steps=3, guidance=3.0)
PIXELS = np.random.default_rng(0).integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
PREFIX = [[Image.fromarray(frame) for frame in PIXELS[:9]]]
PICTURE = (Given(first=0, frames=PIXELS[:1]),)
EVENTS = (
    Event(subject="fox", phrase="jumps over the box", start=0, end=1.0),
    Event(subject="fox", phrase="walks home", start=1.0, end=2.0),
)

logging.set_verbosity_error()  # the stock condition pipeline warns of its own schedule


@cache
def pipeline(kind: TinyLTXKind) -> Any:
    pipe = tiny_ltx_pipeline(kind)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def model(kind: TinyLTXKind) -> LTXVideoModel:
    return LTXVideoModel.from_pipeline(pipeline(kind))


def request(seed: int = 1, **changes: Any) -> ShotRequest:
    asked = ShotRequest(
        prompt=PROMPT, negative_prompt="blurry", frames=FRAMES, fps=8, width=SIDE, height=SIDE, seed=seed, events=EVENTS
    )
    return replace(asked, **changes)


def requests(count: int, given: tuple[Given, ...] = ()) -> list[ShotRequest]:
    return [request(1, given=given), request(2, given=given, prompt="A cat sleeps.")][:count]


def stock(pipe: Any, asked: Sequence[ShotRequest], output: str, guidance: float, **options: Any) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(r.seed) for r in asked]
    with torch.no_grad():
        return pipe(
            prompt=[r.prompt for r in asked],
            negative_prompt=[r.negative_prompt for r in asked],
            height=SIDE,
            width=SIDE,
            num_frames=FRAMES,
            frame_rate=asked[0].fps,
            num_inference_steps=SETTINGS.steps,
            guidance_scale=guidance,
            generator=generators if len(generators) > 1 else generators[0],
            output_type=output,
            **options,
        ).frames


def assert_stock_bits(
    ours: LTXVideoModel, pipe: Any, asked: Sequence[ShotRequest], guidance: float, **options: Any
) -> None:
    taken = sample(ours, asked, replace(SETTINGS, guidance=guidance))
    latents = taken.latents
    expected = stock(pipe, asked, "latent", guidance, **options)
    assert torch.equal(latents if expected.ndim == 5 else pipe._pack_latents(latents), expected)
    if guidance > 1:
        with torch.no_grad():
            video = ours.decode(latents, taken.start.generators)
        assert torch.equal(video, stock(pipe, asked, "pt", guidance, **options))
        assert video.std() > 0.01


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ["t2v", "t2v-0.9.1", "condition"])
def test_text_to_video_is_the_stock_pipeline_bit_for_bit(kind: TinyLTXKind, count: int, guidance: float) -> None:
    assert_stock_bits(model(kind), pipeline(kind), requests(count), guidance)


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ["t2v", "i2v"])
def test_picture_to_video_is_the_stock_pipeline_bit_for_bit(kind: TinyLTXKind, count: int, guidance: float) -> None:
    ours = model(kind)
    pictures = LTXImageToVideoPipeline(**ours.pipe.components)
    pictures.set_progress_bar_config(disable=True)
    image = [Image.fromarray(PIXELS[0])] * count
    assert_stock_bits(ours, pictures, requests(count, PICTURE), guidance, image=image)


@pytest.mark.parametrize("kind", ["t2v", "condition"])
def test_stochastic_steps_are_stock_s_bit_for_bit_where_its_global_noise_is_the_clip_s_own(kind: TinyLTXKind) -> None:
    pipe = copy.deepcopy(pipeline(kind))
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, stochastic_sampling=True)
    asked = requests(1)
    taken = sample(LTXVideoModel.from_pipeline(pipe), asked, replace(SETTINGS, guidance=3.0))
    own = torch.Generator().manual_seed(asked[0].seed)
    torch.randn(taken.start.noise.shape, generator=own)  # both begin with the same noise
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(own.get_state())
        expected = stock(pipe, asked, "latent", 3.0)
    assert torch.equal(taken.latents if expected.ndim == 5 else pipe._pack_latents(taken.latents), expected)


@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_a_video_prefix_is_the_stock_condition_pipeline_bit_for_bit(guidance: float) -> None:
    ours, given = model("condition"), (Given(first=0, frames=PIXELS[:9]),)
    assert_stock_bits(ours, ours.pipe, requests(1, given), guidance, video=PREFIX)


def test_given_frames_are_stirred_as_much_as_one_likes() -> None:
    pipe, asked = pipeline("condition"), requests(1, (Given(first=0, frames=PIXELS[:9]),))
    for scale in (0.0, 0.4):
        ours = LTXVideoModel.from_pipeline(pipe, given_noise=scale)
        assert_stock_bits(ours, pipe, asked, 3.0, video=PREFIX, image_cond_noise_scale=scale)


def test_a_decoder_that_is_told_a_timestep_draws_on_after_the_given_frames_were_stirred() -> None:
    parts = pipeline("condition").components | {"vae": pipeline("t2v-0.9.1").vae}
    pipe = LTXConditionPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    ours = LTXVideoModel.from_pipeline(pipe, decode_timestep=0.05)
    asked = requests(1, (Given(first=0, frames=PIXELS[:9]),))
    assert_stock_bits(ours, pipe, asked, 3.0, video=PREFIX, decode_timestep=0.05)


def test_a_step_stirs_with_one_draw_however_often_it_is_read() -> None:
    ours = model("condition")
    layout = ours.layout(FRAMES, SIDE, SIDE)
    stepper, generators = ours.stepper(3, layout), [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    clean, held = torch.ones(2, *layout.shape), torch.zeros(2, 1, layout.frames, 1, 1, dtype=torch.bool)
    held[0, :, 0] = True
    first, again = (stepper.stirred(clean, held, 0, generators) for _ in range(2))
    alone = stepper.stirred(clean[:1], held[:1], 0, generators[:1])
    assert torch.equal(first, again)
    assert torch.equal(first[:1], alone)
    assert not torch.equal(first[0], clean[0])
    assert torch.equal(first[1], clean[1])  # nothing of it is given: nothing is drawn
    later = stepper.stirred(clean, held, 2, generators)
    assert 0 < (later[0] - 1).std() < 0.6 * (first[0] - 1).std()


def test_bfloat16_is_the_stock_pipeline_bit_for_bit() -> None:
    pipe = tiny_ltx_pipeline("t2v").to(torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    ours, pictures = LTXVideoModel.from_pipeline(pipe), LTXImageToVideoPipeline(**pipe.components)
    pictures.set_progress_bar_config(disable=True)
    assert_stock_bits(ours, pipe, requests(2), 3.0)
    assert_stock_bits(ours, pictures, requests(1, PICTURE), 3.0, image=[Image.fromarray(PIXELS[0])])


def test_a_decoder_that_is_told_a_timestep_decodes_as_the_stock_pipeline_does() -> None:
    pipe, asked = pipeline("t2v-0.9.1"), requests(2)
    ours = LTXVideoModel.from_pipeline(pipe, decode_timestep=0.05, decode_noise=0.025)
    taken = sample(ours, asked, SETTINGS)
    with torch.no_grad():
        video = ours.decode(taken.latents, taken.start.generators)
        with pytest.raises(ValueError, match="decode_noise needs one a clip"):
            ours.decode(taken.latents)
    assert torch.equal(video, stock(pipe, asked, "pt", 3.0, decode_timestep=0.05, decode_noise_scale=0.025))


def test_the_frame_rate_changes_the_clip_and_is_one_for_a_batch() -> None:
    ours = model("t2v")
    slow, fast = (sample(ours, [request(fps=fps, events=())], SETTINGS).latents for fps in (8, 24))
    assert not torch.equal(slow, fast)
    with pytest.raises(RequestRejected, match="fps: expected one in a batch"):
        sample(ours, [request(), request(fps=24, events=())], SETTINGS)


def test_another_family_is_refused_by_name() -> None:
    with pytest.raises(BackendUnavailable, match="expected an LTXPipeline, .* got FlowMatchEuler"):
        LTXVideoModel.from_pipeline(FlowMatchEulerDiscreteScheduler())


@pytest.mark.parametrize(
    ("frames", "height", "width", "message"),
    [(17, 48, 32, "height: expected a multiple of 32"), (17, 32, 16, "width"), (13, 32, 32, "frames: expected 8k")],
)
def test_sizes_that_do_not_fit_are_refused(frames: int, height: int, width: int, message: str) -> None:
    with pytest.raises(RequestRejected, match=message):
        model("t2v").layout(frames, height, width)


def test_layout_counts_the_tokens_the_transformer_sees() -> None:
    layout = model("t2v").layout(17, 64, 96)
    assert (layout.shape, layout.grid, layout.tokens) == ((8, 3, 2, 3), (3, 2, 3), 18)


def test_finished_tokens_stand_at_timestep_zero_and_the_others_at_t() -> None:
    ours, seen = model("t2v"), []
    hook = ours.network.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["timestep"]), with_kwargs=True
    )
    given = (Given(first=9, frames=PIXELS[9:]),)
    try:
        taken = sample(ours, [request(given=given), request(2)], SETTINGS)
    finally:
        hook.remove()
    assert all(t.shape == (4, 3) for t in seen)
    assert all((t[[0, 2], 2] == 0).all() and (t[[0, 2], :2] > 0).all() and (t[[1, 3]] > 0).all() for t in seen)
    assert taken.start.clean is not None
    assert torch.equal(taken.latents[0, :, 2], taken.start.clean[0, :, 2])


def test_time_stays_scalar_where_nothing_is_given() -> None:
    ours, seen = model("t2v"), []
    hook = ours.network.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["timestep"]), with_kwargs=True
    )
    sample(ours, [request()], SETTINGS)
    hook.remove()
    assert {t.shape for t in seen} == {(2,)}


class Lift:
    """A bias on some columns that depends on the row's own logits."""

    def __init__(self, columns: Sequence[int]) -> None:
        self.columns = torch.tensor(columns)

    def values(self, rows: slice, logits_BHnM: torch.Tensor) -> torch.Tensor:
        return logits_BHnM.amax(-1, keepdim=True)


class Steering(Control):
    """Acts in the first step of the conditional branch, in one kind of attention of the first block."""

    kind = "cross"
    lifts = True
    everywhere = False

    def __init__(self, shot: Shot) -> None:
        super().__init__(shot)
        self.seen: list[AttentionCall] = []
        self.outs: list[torch.Tensor] = []

    def at(self, site: Site) -> bool:
        return site.kind == self.kind and (site.layer == 0 or self.everywhere)

    def acts(self, step: Step, branch: Branch) -> bool:
        return branch is Branch.COND and step.index == 0

    def biases(self, call: AttentionCall) -> Sequence[Bias]:
        return (Lift((1, 2)),) if self.lifts else ()

    def observe(self, call: AttentionCall, out_BHND: torch.Tensor, lse_BHN: torch.Tensor) -> None:
        self.seen.append(call)
        self.outs.append(out_BHND)


def predictions(ours: LTXVideoModel, controls: Sequence[Sequence[Control]], step: int = 0) -> torch.Tensor:
    """Of one joined pass over two requests: rows uncond 0, uncond 1, cond 0, cond 1."""
    asked = requests(2)
    with torch.no_grad(), attached(ours, controls) as run:
        text = ours.encode([r.prompt for r in asked], [r.negative_prompt for r in asked])
        start = ours.start(asked, ours.layout(FRAMES, SIDE, SIDE))
        run.step, run.branches = Step(index=step, of=3, sigma=1.0), (Branch.UNCOND, Branch.COND)
        return ours.predict(start.noise, torch.tensor(999.0), text, run.branches, start)


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_a_steered_row_is_one_softmax_over_what_it_may_read(kind: str) -> None:
    ours = model("t2v")
    control = Steering(Shot.of(ours, request(), SETTINGS.steps))
    control.kind = kind
    predictions(ours, [[control], []])
    (call,), (out,) = control.seen, control.outs
    assert call.k.shape[2] == (call.layout.tokens if kind == "self" else len(PROMPT) + 1)
    q, k, v = (x.double() for x in (call.q, call.k, call.v))
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    logits[..., [1, 2]] += logits.amax(-1, keepdim=True)
    torch.testing.assert_close(out.double(), logits.softmax(-1) @ v, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_a_control_that_changes_nothing_gives_what_the_stock_attention_gives(kind: str) -> None:
    ours = model("t2v")
    control = Steering(Shot.of(ours, request(), SETTINGS.steps))
    control.kind, control.lifts, control.everywhere = kind, False, True
    plain, idle = predictions(ours, [[], []]), predictions(ours, [[control], []])
    torch.testing.assert_close(plain, idle, atol=1e-5, rtol=1e-4)
    assert len(control.seen) == 2


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_the_unconditional_row_and_the_neighbour_keep_their_bits_beside_a_steered_row(kind: str) -> None:
    ours = model("t2v")
    control = Steering(Shot.of(ours, request(), SETTINGS.steps))
    control.kind = kind
    plain, lifted = predictions(ours, [[], []]), predictions(ours, [[control], []])
    assert torch.equal(plain[[0, 1, 3]], lifted[[0, 1, 3]])
    assert not torch.equal(plain[2], lifted[2])


def test_a_step_at_which_nobody_acts_keeps_its_bits() -> None:
    ours = model("t2v")
    control = Steering(Shot.of(ours, request(), SETTINGS.steps))
    assert torch.equal(predictions(ours, [[], []], 1), predictions(ours, [[control], []], 1))
    assert control.seen == []


def test_a_detached_control_leaves_the_same_processors_and_the_same_bits() -> None:
    ours, asked = model("t2v"), [request()]
    before, plain = list(ours.network.attn_processors.values()), sample(ours, asked, SETTINGS).latents
    steered = sample(ours, [request(controls=(TSAttn(steps=1.0, region=False),))], SETTINGS).latents
    assert (steered - plain).abs().max() > 1e-3
    after = list(ours.network.attn_processors.values())
    assert all(a is b for a, b in zip(before, after, strict=True))
    assert torch.equal(plain, sample(ours, asked, SETTINGS).latents)


@pytest.mark.parametrize("layers", [(0,), (1,), (0, 1)])
def test_a_pass_read_in_part_asks_what_the_whole_pass_asks(layers: tuple[int, ...]) -> None:
    ours, seen = model("t2v"), {}

    def read(layer: int, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        seen[layer] = (q.detach(), k.detach())
        return (q @ k.transpose(-1, -2)).softmax(-1)[..., 3].mean()

    spy = Steering(Shot.of(ours, request(), SETTINGS.steps))
    spy.lifts, spy.everywhere = False, True
    with torch.no_grad(), attached(ours, [[spy]]) as run:
        text, start = ours.encode([PROMPT], None), ours.start([request()], ours.layout(FRAMES, SIDE, SIDE))
        run.step = Step(index=0, of=3, sigma=1.0)
        ours.predict(start.noise, torch.tensor(999.0), text, (Branch.COND,), start)
    grads = []
    for recompute in (True, False):
        latents = start.noise.clone().requires_grad_()
        with torch.enable_grad():
            masses = ours.read(latents, torch.tensor(999.0), text, start, layers, read, recompute=recompute)
            torch.stack(masses).sum().backward()
        assert latents.grad is not None
        grads.append(latents.grad)
    assert grads[0].abs().sum() > 0
    torch.testing.assert_close(grads[0], grads[1])
    for layer in layers:
        torch.testing.assert_close(seen[layer][0], spy.seen[layer].q, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(seen[layer][1], spy.seen[layer].k, atol=1e-4, rtol=1e-4)
