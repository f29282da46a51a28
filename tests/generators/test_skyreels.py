"""SkyReels-V2: the stock pipelines' bits, diffusion forcing as they go on from a clip, and what cannot be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.utils import logging
from PIL import Image

from generators.backends.opening import check_scenes
from generators.cast import CastSettings, sample_cast
from generators.clip import Event, Given, ShotRequest
from generators.controls.base import AttentionCall, Control, Run, Shot, Step, attached
from generators.controls.config import VSTAR, ControlConfig, MotionQueries, TempoControl, TSAttn
from generators.controls.motion_queries import noise_levels
from generators.errors import BackendUnavailable, ControlRejected, RequestRejected
from generators.models.base import Branch, Site
from generators.models.loading import made_for
from generators.models.skyreels import SkyReelsVideoModel
from generators.models.stepping import Draws
from generators.models.tiny_skyreels import TinySkyReelsKind, tiny_skyreels_pipeline
from generators.sampler import Settings, denoise, sample

SIDE, FRAMES = 32, 17
SETTINGS = Settings(steps=4, guidance=3.0)
PIXELS = np.random.default_rng(0).integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
PICTURE = (Given(first=0, frames=PIXELS[:1]),)
EVENTS = (
    Event(subject="fox", phrase="jumps over the box", start=0, end=1.0),
    Event(subject="fox", phrase="walks home", start=1.0, end=2.0),
)

logging.set_verbosity_error()  # the stock pipelines warn of much added noise, and of lengths


@cache
def pipeline(kind: TinySkyReelsKind) -> Any:
    pipe = tiny_skyreels_pipeline(kind)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def model(kind: TinySkyReelsKind, **options: Any) -> SkyReelsVideoModel:
    return SkyReelsVideoModel.from_pipeline(pipeline(kind), **options)


def request(seed: int = 1, **changes: Any) -> ShotRequest:
    asked = ShotRequest(
        prompt="A red fox jumps over the box, then the fox walks home.",
        negative_prompt="blurry",
        frames=FRAMES,
        fps=8,
        width=SIDE,
        height=SIDE,
        seed=seed,
        events=EVENTS,
    )
    return replace(asked, **changes)


def requests(count: int, **changes: Any) -> list[ShotRequest]:
    return [request(1, **changes), request(2, prompt="A cat sleeps.", events=(), **changes)][:count]


def stock(pipe: Any, asked: Sequence[ShotRequest], output: str = "latent", **options: Any) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(r.seed) for r in asked]
    call: dict[str, Any] = {
        "prompt": [r.prompt for r in asked],
        "negative_prompt": [r.negative_prompt for r in asked],
        "height": SIDE,
        "width": SIDE,
        "num_frames": asked[0].frames,
        "num_inference_steps": SETTINGS.steps,
        "guidance_scale": SETTINGS.guidance,
        "generator": generators if len(generators) > 1 else generators[0],
        "output_type": output,
    }
    frames: torch.Tensor = pipe(**call | options).frames
    return frames


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ["df", "t2v"])
def test_text_to_video_is_the_stock_pipeline_bit_for_bit(kind: TinySkyReelsKind, count: int, guidance: float) -> None:
    ours, asked = model(kind), requests(count)
    taken = sample(ours, asked, replace(SETTINGS, guidance=guidance))
    assert torch.equal(taken.latents, stock(ours.pipe, asked, guidance_scale=guidance))
    if guidance > 1:
        with torch.no_grad():
            video = ours.decode(taken.latents, taken.start.generators)
        assert torch.equal(video, stock(ours.pipe, asked, "pt"))
        assert video.std() > 0.01


@pytest.mark.parametrize("count", [1, 2])
def test_a_picture_checkpoint_is_the_stock_pipeline_bit_for_bit(count: int) -> None:
    ours, asked = model("i2v"), requests(count, given=PICTURE)
    expected = stock(ours.pipe, asked, image=Image.fromarray(PIXELS[0]))
    assert torch.equal(sample(ours, asked, SETTINGS).latents, expected)


@pytest.mark.parametrize("fps", [16, 24])
def test_a_network_that_is_told_the_frame_rate_is_told_it_as_the_stock_pipeline_does(fps: int) -> None:
    ours, asked = model("df-rate"), [request(fps=fps, events=())]
    assert torch.equal(sample(ours, asked, SETTINGS).latents, stock(ours.pipe, asked, fps=fps))


def test_a_batch_has_one_frame_rate_where_the_network_is_told_it() -> None:
    ours = model("df-rate")
    slow, fast = (request(fps=fps, events=()) for fps in (16, 24))
    both = sample(ours, [fast, replace(fast, seed=2)], SETTINGS).latents  # which the stock pipeline cannot
    torch.testing.assert_close(both[:1], sample(ours, [fast], SETTINGS).latents, atol=1e-4, rtol=1e-4)
    assert not torch.equal(sample(ours, [slow], SETTINGS).latents, sample(ours, [fast], SETTINGS).latents)
    with pytest.raises(RequestRejected, match="fps: this model is told whether it is 16"):
        sample(ours, [slow, fast], SETTINGS)


def test_other_solver_orders_and_bfloat16_keep_the_stock_bits() -> None:
    pipe = tiny_skyreels_pipeline("df")
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, solver_order=3)
    for dtype in (torch.float32, torch.bfloat16):
        pipe.to(dtype)
        ours = SkyReelsVideoModel.from_pipeline(pipe)
        assert torch.equal(sample(ours, requests(2), SETTINGS).latents, stock(pipe, requests(2)))


def stirring(seed: int) -> torch.Generator:
    """The generator that the stock pipeline draws a given frame's noise from, as one that can be handed to it."""
    torch.manual_seed(seed)
    return torch.default_generator


@pytest.mark.parametrize("given_time", [0.0, 20.0])
def test_a_video_prefix_is_the_stock_pipeline_bit_for_bit(given_time: float) -> None:
    ours, pipe = model("df", given_time=given_time), pipeline("df-v2v")
    asked = request(given=(Given(first=0, frames=PIXELS[:9]),))
    expected = stock(
        pipe,
        [asked],
        video=[Image.fromarray(frame) for frame in PIXELS[:9]],
        generator=stirring(asked.seed),
        overlap_history=9,
        base_num_frames=FRAMES,
        addnoise_condition=given_time,
        output_type="latent",
    )
    assert torch.equal(sample(ours, [asked], SETTINGS).latents, expected)


@pytest.mark.parametrize("given_time", [0.0, 20.0])
def test_a_first_picture_is_the_stock_pipeline_bit_for_bit(given_time: float) -> None:
    ours, asked = model("df-i2v", given_time=given_time), request(given=PICTURE)
    picture = Image.fromarray(PIXELS[0])
    expected = stock(ours.pipe, [asked], image=picture, generator=stirring(asked.seed), addnoise_condition=given_time)
    assert torch.equal(sample(ours, [asked], SETTINGS).latents, expected)


@pytest.mark.parametrize("given_time", [0.0, 20.0])
def test_the_second_segment_of_a_long_clip_is_the_stock_pipelines_bit_for_bit(given_time: float) -> None:
    ours, (asked,) = model("df", given_time=given_time), requests(1)
    base, overlap, total = 5, 2, 8  # latent frames
    long = stock(
        ours.pipe,
        [asked],
        num_frames=4 * (total - 1) + 1,
        base_num_frames=4 * (base - 1) + 1,
        overlap_history=4 * (overlap - 1) + 1,
        addnoise_condition=given_time,
        generator=stirring(asked.seed),
    )
    generator = torch.Generator().manual_seed(asked.seed)
    layout = ours.layout(FRAMES, SIDE, SIDE)
    with torch.no_grad(), attached(ours, [[]]) as run:
        text, start = ours.encode([asked.prompt], [asked.negative_prompt]), ours.start([asked], layout)
        torch.randn(start.noise.shape, generator=generator)  # the first segment's
        held = torch.arange(base).view(1, 1, -1, 1, 1) < overlap
        clean = torch.zeros_like(start.noise)
        clean[:, :, :overlap] = long[:, :, base - overlap : base]
        noise = torch.randn(start.noise.shape, generator=generator)
        start = replace(start, noise=noise, held=held, clean=clean, generators=(generator,))
        second = denoise(ours, text, start, SETTINGS, run, ours.stepper(SETTINGS.steps, layout))
    assert long.shape[2] == total
    assert torch.equal(second[:, :, :overlap], long[:, :, base - overlap : base])
    assert torch.equal(second[:, :, overlap:], long[:, :, base:])


def times(ours: SkyReelsVideoModel, asked: Sequence[ShotRequest]) -> list[torch.Tensor]:
    """What the network is told of time, pass by pass."""
    seen: list[torch.Tensor] = []
    hook = ours.pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["timestep"]), with_kwargs=True
    )
    try:
        sample(ours, asked, SETTINGS)
    finally:
        hook.remove()
    return seen


@pytest.mark.parametrize("given_time", [0.0, 20.0])
def test_a_window_is_filmed_again_between_frames_at_a_time_of_their_own(given_time: float) -> None:
    around = (Given(first=0, frames=PIXELS[:5]), Given(first=13, frames=PIXELS[13:]))
    ours, asked = model("df", given_time=given_time), [request(given=around), request(2)]
    seen = times(ours, asked)
    assert {t.shape for t in seen} == {(2, 5)}
    assert all((t[0, [0, 1, 4]] == given_time).all() and (t[0, 2:4] == t[1, 0]).all() for t in seen)
    assert all(len(t[1].unique()) == 1 and t[1, 0] > 500 for t in seen[:2])
    taken = sample(ours, asked, SETTINGS)
    assert taken.start.clean is not None
    assert torch.equal(taken.latents[0, :, [0, 1, 4]], taken.start.clean[0, :, [0, 1, 4]])
    torch.testing.assert_close(taken.latents[1:], sample(ours, asked[1:], SETTINGS).latents, atol=1e-4, rtol=1e-4)


def test_a_clip_with_given_frames_is_the_same_again() -> None:
    asked = [request(given=(Given(first=0, frames=PIXELS[:5]),)), request(2)]
    first, again = (sample(model("df"), asked, SETTINGS).latents for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, sample(model("df", given_time=0.0), asked, SETTINGS).latents)


def test_plain_checkpoints_hold_noised_latents_at_one_time_for_all_frames() -> None:
    ours, given = model("t2v"), (Given(first=0, frames=PIXELS[:5]),)
    assert {t.shape for t in times(ours, [request(given=given)])} == {(1,)}
    taken = sample(ours, [request(given=given)], SETTINGS)
    assert taken.start.clean is not None
    assert torch.equal(taken.latents[:, :, :2], taken.start.clean[:, :, :2])


METHODS: dict[str, tuple[ControlConfig, ...]] = {
    "TS-Attn": (TSAttn(steps=1.0, layers="all", region=False),),
    "VSTAR": (VSTAR(),),
    "TempoControl": (TempoControl(),),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_steers_a_clip_that_goes_on_and_leaves_nothing_behind(method: str) -> None:
    ours = model("df")
    asked = request(frames=33, fps=16, given=(Given(first=0, frames=PIXELS[:5]),))
    before, plain = list(ours.pipe.transformer.attn_processors.values()), sample(ours, [asked], SETTINGS).latents
    steered = sample(ours, [replace(asked, controls=METHODS[method])], SETTINGS).latents
    assert steered.isfinite().all()
    assert (steered - plain).abs().max() > 1e-4
    assert all(a is b for a, b in zip(before, ours.pipe.transformer.attn_processors.values(), strict=True))
    assert torch.equal(plain, sample(ours, [asked], SETTINGS).latents)


def test_a_clip_lends_its_motion() -> None:
    ours, asked = model("df"), request()
    moved = sample(ours, [replace(asked, controls=(MotionQueries(frames=PIXELS),))], SETTINGS)
    assert (moved.latents - sample(ours, [asked], SETTINGS).latents).abs().max() > 1e-4


@pytest.mark.slow
def test_a_set_whose_shots_begin_with_given_frames_keeps_them_and_shares_its_subject() -> None:
    ours, settings = model("df"), replace(SETTINGS, steps=8)
    asked = [
        request(seed, prompt=f"A red fox {verb}.", events=(), given=PICTURE)
        for seed, verb in ((1, "runs"), (2, "naps"))
    ]
    levels = noise_levels(ours.stepper(settings.steps, ours.layout(FRAMES, SIDE, SIDE)))
    middle = (levels[3] + levels[4]) / 2
    windows = {"preserve": (middle, 1.0), "flow": (0.0, middle), "share": (middle, 1.0), "refine": (middle, 1.0)}
    cast = CastSettings(steering={**windows, "features": levels[4], "keyframes": 2})
    made = sample_cast(ours, asked, ["red fox"] * 2, settings, cast)
    assert made.start.clean is not None
    assert torch.equal(made.latents[:, :, 0], made.start.clean[:, :, 0])
    assert not torch.allclose(made.latents, sample(ours, asked, settings).latents, atol=1e-3)


class Spy(Control):
    """Steers by nothing, everywhere, and keeps what it saw."""

    def __init__(self, shot: Shot) -> None:
        super().__init__(shot)
        self.seen: dict[Site, AttentionCall] = {}

    def at(self, site: Site) -> bool:
        return True

    def acts(self, step: Step, branch: Branch) -> bool:
        return branch is Branch.COND

    def observe(self, call: AttentionCall, out_BHND: torch.Tensor, lse_BHN: torch.Tensor) -> None:
        self.seen[call.site] = call


def conditional(ours: SkyReelsVideoModel, controls: Sequence[Control], asked: ShotRequest) -> torch.Tensor:
    with torch.no_grad(), attached(ours, [controls]) as run:
        start, text = _begun(ours, asked, run)
        return ours.predict(start.noise, torch.tensor(900), text, run.branches, start)


def _begun(ours: SkyReelsVideoModel, asked: ShotRequest, run: Run) -> tuple[Any, Any]:
    run.step, run.branches = Step(index=0, of=4, sigma=1.0), (Branch.COND,)
    return ours.start([asked], ours.layout(FRAMES, SIDE, SIDE)), ours.encode([asked.prompt], None)


@pytest.mark.parametrize("kind", ["df", "t2v", "i2v"])
def test_a_control_that_changes_nothing_gives_what_the_stock_attention_gives(kind: TinySkyReelsKind) -> None:
    ours, asked = model(kind), request(given=PICTURE)
    spy = Spy(Shot.of(ours, asked, SETTINGS.steps))
    torch.testing.assert_close(conditional(ours, [spy], asked), conditional(ours, [], asked), atol=1e-5, rtol=1e-4)
    assert set(spy.seen) == set(ours.sites)


@pytest.mark.parametrize("layers", [(0,), (2,), (0, 1)])
@pytest.mark.parametrize("kind", ["df", "t2v"])
def test_a_pass_read_in_part_asks_what_the_whole_pass_asks(kind: TinySkyReelsKind, layers: tuple[int, ...]) -> None:
    ours, asked, seen = model(kind), request(given=PICTURE), {}

    def read(layer: int, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        seen[layer] = (q.detach(), k.detach())
        return (q @ k.transpose(-1, -2)).softmax(-1)[..., 3].mean()

    spy = Spy(Shot.of(ours, asked, SETTINGS.steps))
    conditional(ours, [spy], asked)
    grads = []
    with torch.no_grad(), attached(ours, [[]]) as run:
        start, text = _begun(ours, asked, run)
    for recompute in (True, False):
        latents = start.noise.clone().requires_grad_()
        masses = ours.read(latents, torch.tensor(900), text, start, layers, read, recompute=recompute)
        torch.stack(masses).sum().backward()
        assert latents.grad is not None
        grads.append(latents.grad)
    assert grads[0].abs().sum() > 0
    torch.testing.assert_close(grads[0], grads[1])
    for layer in layers:
        call = spy.seen[Site(0, layer, "cross")]
        torch.testing.assert_close(seen[layer][0], call.q, atol=1e-4, rtol=1e-4)
        columns = call.k.shape[2]
        torch.testing.assert_close(seen[layer][1][:, :, :columns], call.k, atol=1e-4, rtol=1e-4)


def test_causal_blocks_are_filmed_as_the_stock_pipeline_does_and_refused_with_a_control() -> None:
    pipe = tiny_skyreels_pipeline("df")
    pipe.set_progress_bar_config(disable=True)
    pipe.transformer._set_ar_attention(5)
    ours = SkyReelsVideoModel.from_pipeline(pipe)
    asked = [request(frames=37, events=())]
    plain = sample(ours, asked, SETTINGS).latents
    assert torch.equal(plain, stock(pipe, asked))
    assert not torch.equal(plain, sample(model("df"), asked, SETTINGS).latents)
    for controls in METHODS.values():
        with pytest.raises(ControlRejected, match=r"causal blocks of 5 \(num_frame_per_block\)"):
            sample(ours, [request(controls=controls)], SETTINGS)
    with pytest.raises(RequestRejected, match="expected 5 latent frames or a multiple"):
        ours.layout(13, SIDE, SIDE)
    with pytest.raises(BackendUnavailable, match="causal blocks of 5 .*set it to 1 in the transformer's config"):
        made_for(ours)


def test_a_step_that_is_read_twice_draws_its_noise_once() -> None:
    draws, one, two = Draws(), torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    first = draws.at(0, one, lambda: torch.randn(3, generator=one))
    assert draws.at(0, one, lambda: torch.randn(3, generator=one)) is first
    assert torch.equal(draws.at(0, two, lambda: torch.randn(3, generator=two)), first)  # another clip's, its own draw
    later = draws.at(1, one, lambda: torch.randn(3, generator=one))
    assert torch.equal(later, draws.at(1, two, lambda: torch.randn(3, generator=two)))
    assert not torch.equal(later, first)


def test_what_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(BackendUnavailable, match="expected one of SkyReelsV2Pipeline, .* got FlowMatchEuler"):
        SkyReelsVideoModel.from_pipeline(FlowMatchEulerDiscreteScheduler())
    with pytest.raises(BackendUnavailable, match="cannot film several shots in one sequence"):
        check_scenes(model("df"), asked=True)
    with pytest.raises(ValueError, match="given_time: expected at least 0 and less than 1000, got -1"):
        model("df", given_time=-1)
    with pytest.raises(
        ValueError, match="given_time: expected a pipeline of diffusion forcing, got a SkyReelsV2Pipeline"
    ):
        model("t2v", given_time=20.0)
    with pytest.raises(ValueError, match="expected one of"):
        tiny_skyreels_pipeline("t2v-9")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frames", "height", "width", "message"),
    [(9, 40, 32, "height: expected a multiple of 16"), (9, 32, 8, "width"), (10, 32, 32, "frames: expected 4k")],
)
def test_sizes_that_do_not_fit_are_refused(frames: int, height: int, width: int, message: str) -> None:
    with pytest.raises(RequestRejected, match=message):
        model("df").layout(frames, height, width)
