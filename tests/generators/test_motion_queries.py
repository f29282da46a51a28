"""Motion by Queries: what is recorded, where it is asked, what is left alone, and what it costs."""

from __future__ import annotations

import runpy
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from evals.benchmarks.scene_costs import MOTION, MotionCase, motion_rows
from generators.clip import Frames, Given, ShotRequest
from generators.controls.base import AttentionCall, Run, Shot, Step, attached
from generators.controls.config import MotionQueries, TempoControl, Word
from generators.controls.motion_queries import (
    Heard,
    MotionSteering,
    _moments,
    _moved,
    resolved,
)
from generators.controls.motion_source import SourceClip
from generators.controls.noise_windows import ddpm_window
from generators.errors import ControlRejected
from generators.models.base import Branch, Layout, SeesClips, Site
from generators.models.cogvideox import CogVideoXVideoModel
from generators.models.ltx import LTXVideoModel
from generators.models.tiny import TinyKind, tiny_pipeline
from generators.models.tiny_cogvideox import tiny_cogvideox_pipeline
from generators.models.tiny_ltx import tiny_ltx_pipeline
from generators.models.tiny_unet import tiny_unet_pipeline
from generators.models.unet import UnetVideoModel
from generators.models.wan import WanVideoModel
from generators.sampler import Sample, Settings, sample

PROMPT = "A fox jumps over the box."
STEPS = 4


@cache
def wan(kind: TinyKind = "world") -> WanVideoModel:
    return WanVideoModel.from_pipeline(tiny_pipeline(kind, scheduler="euler"))


def clip(frames: int = 5, height: int = 32, width: int = 32, seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def moving(**changes: Any) -> MotionQueries:
    settings: dict[str, Any] = {"frames": clip()} | changes
    return MotionQueries(**settings)


def request(*controls: Any, **changes: Any) -> ShotRequest:
    asked = ShotRequest(
        prompt=PROMPT, negative_prompt="blurry", frames=5, fps=8, width=32, height=32, seed=1, controls=controls
    )
    return replace(asked, **changes)


def film(*controls: Any, model: Any = None, guidance: float = 3.0, steps: int = STEPS, **changes: Any) -> Sample:
    return sample(model or wan(), [request(*controls, **changes)], Settings(steps=steps, guidance=guidance))


def steering(made: Sample) -> MotionSteering:
    (control,) = (c for c in made.controls[0] if isinstance(c, MotionSteering))
    return control


def one_pass(model: Any, config: MotionQueries | None, branch: Branch, step: int) -> Tensor:
    """What the network predicts for noise, in one branch at one step of four."""
    asked = request()
    controls = [] if config is None else [MotionSteering(config, Shot.of(model, asked, STEPS))]
    layout = model.layout(asked.frames, asked.height, asked.width)
    text, start = model.encode([PROMPT], ["blurry"]), model.start([asked], layout)
    with torch.no_grad(), attached(model, [controls]) as run:
        run.before_step(Step(index=step, of=STEPS, sigma=0.9), start.noise, lambda request: None)  # type: ignore[arg-type, return-value]
        run.branches = (branch,)
        predicted: Tensor = model.predict(start.noise, torch.tensor(900.0), text, (branch,), start)
    return predicted


# Windows, levels and layers


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(ControlRejected, match=r"layers: expected some of 0\.\.2, got \(7,\)"):
        film(moving(layers=(7,)))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_source_that_would_be_seen_in_pure_noise_alone_is_refused(steps: int) -> None:
    with pytest.raises(ControlRejected, match=f"of {steps} steps those that are steered read nothing but noise"):
        film(moving(), steps=steps)
    film(moving(steps=1.0, record="each"), steps=2)


def test_a_model_that_cannot_be_shown_a_clip_says_so() -> None:
    class Blind(WanVideoModel):
        encode_clip = None  # type: ignore[assignment]

    with pytest.raises(ControlRejected, match="Blind cannot be shown a clip"):
        film(moving(), model=Blind.from_pipeline(wan().pipe))


# Steering


@pytest.mark.slow
def test_the_clip_changes_what_is_filmed() -> None:
    plain, moved = film().latents, film(moving()).latents
    assert not torch.allclose(plain, moved, atol=1e-3)
    assert not torch.allclose(moved, film(moving(frames=clip(seed=9))).latents, atol=1e-4)


def seen_at(model: Any, step: int, source: float | None, **changes: Any) -> Tensor:
    """What one conditional pass predicts in the middle of the schedule; the source is `source` times the same clip.

    The latents are the clip at the step's noise level, on the noise that the source is shown with. None: unsteered.
    """
    asked = replace(request(), frames=9)
    layout = model.layout(asked.frames, asked.height, asked.width)
    text, start, stepper = model.encode([PROMPT], None), model.start([asked], layout), model.stepper(STEPS, layout)
    clean = torch.randn(start.noise.shape, generator=torch.Generator().manual_seed(3))
    latents = stepper.noised(clean, start.noise, step)
    settings = {"steps": 1.0, "record": "each", "layers": "all", "seed": "request", "renoise": 0, "prompt": PROMPT}
    config = moving(**{**settings, "frames": clip(9), **changes})
    control = None if source is None else MotionSteering(config, Shot.of(model, asked, STEPS))
    with torch.no_grad(), attached(model, [[control] if control else []]) as run:
        if control is not None and source is not None:
            control._source.clean = source * clean
        run.before_step(Step(index=step, of=STEPS, sigma=stepper.sigma(step)), latents, lambda request: None)  # type: ignore[arg-type, return-value]
        run.branches = (Branch.COND,)
        shown = stepper.scaled(latents, step)
        predicted: Tensor = model.predict(shown, stepper.timesteps[step], text, (Branch.COND,), start)
        assert control is None or control.passes == 2  # of the first step, and of this one
    return predicted


@pytest.mark.parametrize("values", ["own", "channels", "layer"])
@pytest.mark.parametrize("family", ["wan", "ltx", "modelscope", "animatediff", "cogvideox"])
def test_a_source_that_is_the_clip_itself_changes_nothing(family: str, values: Any) -> None:
    """The same latents, prompt and noise ask the model's own queries; another clip or another prompt does not."""
    model = of_family(family)
    plain, own = seen_at(model, 2, None), seen_at(model, 2, 1.0, values=values)
    rounding = 2e-5 * plain.abs().max()
    assert (own - plain).abs().max() < rounding
    assert (seen_at(model, 2, -1.0, values=values) - plain).abs().max() > 100 * rounding
    assert (seen_at(model, 2, 1.0, values=values, prompt="Rain.") - plain).abs().max() > 100 * rounding


@cache
def of_family(family: str) -> Any:
    if family == "wan":
        return wan()
    if family == "ltx":
        return LTXVideoModel.from_pipeline(tiny_ltx_pipeline("t2v"))
    if family == "cogvideox":
        return CogVideoXVideoModel.from_pipeline(tiny_cogvideox_pipeline("t2v-5b"))
    return UnetVideoModel.from_pipeline(tiny_unet_pipeline(family))  # type: ignore[arg-type]


@pytest.mark.slow
def test_another_seed_is_other_noise() -> None:
    def bits(seed: Any) -> Tensor:
        return film(moving(seed=seed), guidance=1.0).latents

    assert torch.equal(bits(None), bits("other"))
    assert not torch.equal(bits("request"), bits("other"))
    assert torch.equal(bits("request"), bits(1))


def test_the_unconditional_branch_is_left_alone_bit_by_bit() -> None:
    for step in (0, STEPS - 1):
        plain, moved = (one_pass(wan(), config, Branch.UNCOND, step) for config in (None, moving(layers="all")))
        assert torch.equal(plain, moved)


@pytest.mark.slow
def test_steps_outside_the_window_are_left_alone_bit_by_bit() -> None:
    config = moving(layers="all", steps=0.5)
    steered = [
        not torch.equal(one_pass(wan(), None, Branch.COND, i), one_pass(wan(), config, Branch.COND, i))
        for i in range(STEPS)
    ]
    assert steered == [True, True, False, False]


@pytest.mark.parametrize("record", ["one", "each"])
def test_the_same_seed_records_the_same_bits(record: Any) -> None:
    first, second = (film(moving(record=record), guidance=1.0) for _ in range(2))
    assert torch.equal(first.latents, second.latents)


def test_strength_stands_between_the_clips_queries_and_the_own() -> None:
    plain, half, full = (
        one_pass(wan(), config, Branch.COND, 0) for config in (None, moving(strength=0.5), moving(strength=1.0))
    )
    assert (half - plain).norm() < (full - plain).norm()
    assert not torch.equal(half, plain)


def test_given_frames_keep_their_own_queries() -> None:
    model, asked = (
        wan("ti2v-2.2"),
        request(moving(), width=64, height=64, given=(Given(first=0, frames=clip(1, 64, 64)),)),
    )
    control = MotionSteering(moving(), Shot.of(model, asked, STEPS))
    with attached(model, [[control]]):
        own, heard = torch.zeros(1, 2, 8, 24), torch.ones(1, 2, 8, 24)
        site = Site(0, 2, "self")
        control._heard = {site: Heard(q=heard)}
        call = AttentionCall(
            site=site, step=Step(index=0, of=STEPS, sigma=1.0), row=0, layout=control.shot.layout,
            q=own, k=own, v=own, raw_q=own, raw_k=own,
        )  # fmt: skip
        asks = control.edit(call).q[0, 0, :, 0]
    assert asks.tolist() == [0.0] * 4 + [1.0] * 4


def test_a_picture_to_video_checkpoint_sees_the_clips_own_first_frame() -> None:
    asked: dict[str, Any] = {"given": (Given(first=0, frames=clip(1, seed=5)),)}
    plain, moved = (film(*controls, model=wan("i2v-2.2"), **asked).latents for controls in ((), (moving(),)))
    assert not torch.allclose(plain, moved, atol=1e-4)


def test_each_network_of_a_pair_is_shown_the_clip() -> None:
    made = steering(film(moving(steps=1.0), model=wan("t2v-2.2")))
    assert set(made.looks.values()) == {max(i for i in made.looks if made.looks[i] == made.looks[0]), STEPS - 1}
    assert made.passes == 2


def test_another_control_may_not_read_a_step_before_the_clip_is_looked_at() -> None:
    tempo = TempoControl(words=(Word(text="fox", seconds=((0.0, 1.0),)),), steps=1.0, iterations=1, layers="all")
    each = moving(record="each", steps=1.0)
    film(each, tempo, frames=17, guidance=1.0, steps=2)
    with pytest.raises(ControlRejected, match="name MotionQueries first"):
        film(tempo, each, frames=17, guidance=1.0, steps=2)


@pytest.mark.parametrize("fails", [False, True])
def test_detached_means_gone(fails: bool) -> None:
    model = wan()
    before = [(block.attn1.processor, block.attn2.processor) for block in model.pipe.transformer.blocks]

    def filmed() -> None:
        with attached(model, [[MotionSteering(moving(), Shot.of(model, request(moving()), STEPS))]]):
            if fails:
                raise KeyError("a fault")

    if fails:
        with pytest.raises(KeyError, match="a fault"):
            filmed()
    else:
        filmed()
    assert before == [(block.attn1.processor, block.attn2.processor) for block in model.pipe.transformer.blocks]
    assert torch.equal(film().latents, film().latents)


def test_nobody_else_acts_while_the_clip_is_looked_at() -> None:
    model = wan()
    mine, other = (MotionSteering(moving(), Shot.of(model, request(moving()), STEPS)) for _ in range(2))
    other.looks, other._layers = {-1: 0}, frozenset(range(9))
    run = Run([[mine, other]])
    mine._listens, mine._layers = True, frozenset({2})
    with run.only(0):
        assert other in run.acting(Site(0, 2, "self"))[0]
        with run.only(0, mine):
            assert run.acting(Site(0, 2, "self")) == {0: [mine]}
        assert other in run.acting(Site(0, 2, "self"))[0]


# What it costs


def test_memory_holds_one_level_however_many_are_recorded() -> None:
    one, each = (steering(film(moving(record=record, steps=0.75))) for record in ("one", "each"))
    layout = wan().layout(5, 32, 32)
    assert one.most_bytes == each.most_bytes == layout.tokens * 2 * 24 * 4
    assert (one.passes, each.passes) == (1, 3)
    assert not one._heard


@pytest.mark.slow
@pytest.mark.parametrize("case", MOTION, ids=lambda case: case.record)
def test_a_moved_clip_costs_at_most_a_quarter_more_than_a_plain_one(case: MotionCase) -> None:
    for row in motion_rows(case):
        assert row.value > 0
        assert row.limit is None or row.value <= row.limit, row
    assert motion_rows(case)[0].value > 1


def test_the_example_films_at_tiny_size() -> None:
    path = Path(__file__).resolve().parents[2] / "examples" / "steer_motion_queries.py"
    film_it = runpy.run_path(str(path))["film"]
    pipe = quiet(tiny_pipeline("t2v-2.1", scheduler="euler"))
    video = film_it(pipe, clip(4, 40, 64), PROMPT, frames=5, width=32, height=32, steps=4)
    assert video.shape == (1, 5, 3, 32, 32)


# Values: a slow reference


@pytest.mark.parametrize("over", ["channels", "layer"])
def test_values_are_moved_to_the_clips_mean_and_spread(over: str) -> None:
    torch.manual_seed(0)
    own, source = torch.randn(2, 3, 7, 4) * 3 + 1, torch.randn(2, 3, 7, 4) * 0.5 - 2
    mean, spread = _moments(source, over_channels=over == "layer")
    call = AttentionCall(
        site=Site(0, 0, "self"), step=Step(index=0, of=1, sigma=1.0), row=0,
        layout=Layout(channels=1, frames=2, height=2, width=2),
        q=own, k=own, v=own, raw_q=own, raw_k=own,
    )  # fmt: skip
    made = _moved(call, Heard(q=own, mean=mean, spread=spread)).double().numpy()
    v, s = own.double().numpy(), source.double().numpy()
    groups = [(slice(None), h, slice(None), d) for h in range(3) for d in range(4)] if over == "channels" else [...]
    for group in groups:
        expected = (v[group] - v[group].mean()) / v[group].std() * s[group].std() + s[group].mean()
        np.testing.assert_allclose(made[group], expected, atol=1e-5)


# Other families


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_ltx_records_every_step_of_the_first_two_fifths_on_the_requests_noise() -> None:
    model = LTXVideoModel.from_pipeline(quiet(tiny_ltx_pipeline("t2v")))
    sized = {"frames": 9, "width": 64, "height": 64}
    plain = film(model=model, steps=5, **sized).latents
    moved = film(moving(), model=model, steps=5, **sized)
    control = steering(moved)
    assert (control.steered, control.passes, control.settings.values) == ((0, 1), 2, "channels")
    assert not torch.allclose(plain, moved.latents, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["modelscope", "animatediff"])
def test_a_unets_frames_ask_as_the_clips_frames_do(kind: Any) -> None:
    model = UnetVideoModel.from_pipeline(quiet(tiny_unet_pipeline(kind)))
    plain = film(model=model, width=16, height=16, steps=5).latents
    moved = film(moving(), model=model, width=16, height=16, steps=5)
    control = steering(moved)
    assert control.settings.window == ddpm_window(600)
    assert control.steered == tuple(range(len(control.steered)))
    assert control.passes == len(control.steered) + 2
    assert {
        site.kind for site in control.shot.sites if control.acts_at(site, Step(index=0, of=5, sigma=1.0), Branch.COND)
    } == {"self"}
    assert not torch.allclose(plain, moved.latents, atol=1e-4)


def source_of(model: Any, **changes: Any) -> SourceClip:
    asked = replace(request(), width=16, height=16)
    settings = resolved(moving(frames=clip(5, 16, 16), prompt=PROMPT, **changes), model.family)
    return SourceClip(model, settings.frames, Shot.of(model, asked, STEPS), settings, nullcontext)


def test_a_renoised_source_is_what_ddim_makes_of_its_last_two_steps_without_eta() -> None:
    model = UnetVideoModel.from_pipeline(quiet(tiny_unet_pipeline("modelscope")), eta=1.0)
    source, clean = source_of(model), source_of(model, renoise=0).clean
    assert resolved(moving(), model.family).renoise == 2
    scheduler = DDIMScheduler.from_config(dict(model.pipe.scheduler.config))
    scheduler.set_timesteps(STEPS)
    latents = scheduler.add_noise(clean, source.start.noise, scheduler.timesteps[-2:-1])
    for t in scheduler.timesteps[-2:]:
        with torch.no_grad():
            predicted = model.predict(latents, t, source.text, (Branch.COND,), source.start)
        made = scheduler.step(predicted, t, latents, eta=0.0)
        latents = made.prev_sample
    torch.testing.assert_close(source.clean, made.pred_original_sample, atol=1e-4, rtol=1e-4)
    assert (source.clean - clean).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["ddim", "ancestral", "stochastic flow"])
def test_a_renoised_source_draws_no_noise(kind: Any) -> None:
    if kind == "stochastic flow":
        model: Any = WanVideoModel.from_pipeline(tiny_pipeline("world", scheduler="stochastic"))
    else:
        model = UnetVideoModel.from_pipeline(quiet(tiny_unet_pipeline("modelscope", scheduler=kind)), eta=1.0)
    source = source_of(model, renoise=2)
    before = [generator.get_state() for generator in source.start.generators]
    clean = model.encode_clip(clip(5, 16, 16))
    with torch.no_grad():
        first, second = (source._settled(clean, 2) for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(x.get_state(), y) for x, y in zip(source.start.generators, before, strict=True))


@pytest.mark.parametrize("kind", ["t2v-2b", "i2v-1.5"])
def test_cogvideox_hears_video_and_not_its_text(kind: Any) -> None:
    model = CogVideoXVideoModel.from_pipeline(quiet(tiny_cogvideox_pipeline(kind)))
    sized: dict[str, Any] = {"frames": 9, "width": 32, "height": 32}
    if model.joins_channels:
        sized["given"] = (Given(first=0, frames=clip(1, seed=5)),)
    plain, moved = film(model=model, **sized), film(moving(values="layer", layers="all"), model=model, **sized)
    assert not torch.allclose(plain.latents, moved.latents, atol=1e-5)
    assert steering(moved).passes == 1


@pytest.mark.parametrize(
    "model",
    [
        WanVideoModel.from_pipeline(tiny_pipeline("world", scheduler="euler")),
        LTXVideoModel.from_pipeline(tiny_ltx_pipeline("t2v")),
        UnetVideoModel.from_pipeline(tiny_unet_pipeline("modelscope")),
        CogVideoXVideoModel.from_pipeline(tiny_cogvideox_pipeline("t2v-1.5")),
    ],
    ids=lambda model: str(model.family),
)
def test_every_family_can_be_shown_a_clip_of_its_layout(model: Any) -> None:
    shown = clip(9, 32, 32)
    assert sees_clips(model)
    latents = model.encode_clip(shown)
    assert latents.shape == (1, *model.layout(9, 32, 32).shape)
    assert torch.equal(latents, model.encode_clip(shown))
    held = model.start(
        [request(frames=9, width=32, height=32, given=(Given(first=0, frames=shown),))], layout_of(model)
    )
    own = held.held.expand_as(held.clean)
    if model.family != "ltx":  # which samples what it holds, as its pipelines do
        torch.testing.assert_close(latents.to(held.clean)[own], held.clean[own])


def sees_clips(model: object) -> bool:
    return isinstance(model, SeesClips)


def layout_of(model: Any) -> Layout:
    found: Layout = model.layout(9, 32, 32)
    return found
