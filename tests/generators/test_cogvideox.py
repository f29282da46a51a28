"""CogVideoX: law 1 against the stock pipelines, what is given, and the steering of joint attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from PIL import Image

from generators.attention import Bias
from generators.clip import Event, Given, ShotRequest
from generators.controls.base import AttentionCall, Control, Shot, Step, attached
from generators.controls.config import TempoControl, TSAttn
from generators.controls.tempocontrol import TempoSteering
from generators.errors import BackendUnavailable, RequestRejected
from generators.models.base import Branch, Site, Start
from generators.models.cogvideox import CogVideoXVideoModel
from generators.models.tiny_cogvideox import (
    COLUMNS,
    TinyCogVideoXKind,
    TinyCogVideoXScheduler,
    tiny_cogvideox,
    tiny_cogvideox_pipeline,
)
from generators.sampler import Settings, denoise, sample

SIDE, FRAMES = 32, 9
PROMPT = "A red fox jumps over the box, then the fox walks home."
SETTINGS = Settings(steps=3, guidance=6.0)
PIXELS = np.random.default_rng(0).integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
PICTURE = (Given(first=0, frames=PIXELS[:1]),)
EVENTS = (
    Event(subject="fox", phrase="jumps over the box", start=0, end=0.5),
    Event(subject="fox", phrase="walks home", start=0.5, end=1.1),
)
KINDS: tuple[TinyCogVideoXKind, ...] = ("t2v-2b", "t2v-5b", "t2v-1.5", "i2v-5b", "i2v-1.5")


@cache
def pipeline(kind: TinyCogVideoXKind, scheduler: TinyCogVideoXScheduler = "ddim") -> Any:
    pipe = tiny_cogvideox_pipeline(kind, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def model(
    kind: TinyCogVideoXKind, scheduler: TinyCogVideoXScheduler = "ddim", *, dynamic: bool = False
) -> CogVideoXVideoModel:
    return CogVideoXVideoModel.from_pipeline(pipeline(kind, scheduler), dynamic_guidance=dynamic)


def request(seed: int = 1, **changes: Any) -> ShotRequest:
    asked = ShotRequest(
        prompt=PROMPT, negative_prompt="blurry", frames=FRAMES, fps=8, width=SIDE, height=SIDE, seed=seed, events=EVENTS
    )
    return replace(asked, **changes)


def requests(kind: TinyCogVideoXKind, count: int) -> list[ShotRequest]:
    given = PICTURE if kind.startswith("i2v") else ()
    return [request(1, given=given), request(2, given=given, prompt="A cat sleeps.")][:count]


def stock(pipe: Any, asked: Sequence[ShotRequest], output: str, guidance: float, *, dynamic: bool) -> torch.Tensor:
    pictures = {"image": [Image.fromarray(r.given[0].frames[0]) for r in asked]} if asked[0].given else {}
    with torch.no_grad():
        return pipe(
            prompt=[r.prompt for r in asked],
            negative_prompt=[r.negative_prompt for r in asked],
            height=SIDE,
            width=SIDE,
            num_frames=FRAMES,
            num_inference_steps=SETTINGS.steps,
            guidance_scale=guidance,
            use_dynamic_cfg=dynamic,
            generator=[torch.Generator().manual_seed(r.seed) for r in asked],
            max_sequence_length=COLUMNS,
            output_type=output,
            **pictures,
        ).frames


def assert_stock_bits(
    ours: CogVideoXVideoModel, asked: Sequence[ShotRequest], guidance: float, *, decoded: bool = True
) -> None:
    dynamic = ours.dynamic_guidance
    latents = sample(ours, asked, replace(SETTINGS, guidance=guidance)).latents
    assert torch.equal(latents.transpose(1, 2), stock(ours.pipe, asked, "latent", guidance, dynamic=dynamic))
    if decoded:
        with torch.no_grad():
            video = ours.decode(latents)
        assert torch.equal(video, stock(ours.pipe, asked, "pt", guidance, dynamic=dynamic))
        assert video.float().std() > 0.01


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
@pytest.mark.parametrize("kind", KINDS)
def test_filming_is_the_stock_pipeline_bit_for_bit(kind: TinyCogVideoXKind, scheduler: TinyCogVideoXScheduler) -> None:
    assert_stock_bits(model(kind, scheduler), requests(kind, 1), 6.0)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_two_is_the_stock_batch_bit_for_bit(
    kind: TinyCogVideoXKind, scheduler: TinyCogVideoXScheduler
) -> None:
    assert_stock_bits(model(kind, scheduler), requests(kind, 2), 6.0, decoded=kind == "t2v-1.5")


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
@pytest.mark.parametrize("kind", KINDS)
def test_guidance_off_is_the_stock_pipeline_bit_for_bit(
    kind: TinyCogVideoXKind, scheduler: TinyCogVideoXScheduler
) -> None:
    for count in (1, 2):
        assert_stock_bits(model(kind, scheduler), requests(kind, count), 1.0, decoded=False)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
@pytest.mark.parametrize("kind", KINDS)
def test_dynamic_guidance_is_the_stock_pipelines_bit_for_bit(
    kind: TinyCogVideoXKind, scheduler: TinyCogVideoXScheduler
) -> None:
    for count in (1, 2):
        assert_stock_bits(model(kind, scheduler, dynamic=True), requests(kind, count), 6.0, decoded=False)


def test_dynamic_guidance_changes_the_clip() -> None:
    asked = requests("t2v-5b", 1)
    plain, dynamic = (sample(model("t2v-5b", dynamic=yes), asked, SETTINGS).latents for yes in (False, True))
    assert not torch.equal(plain, dynamic)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
def test_bfloat16_is_the_stock_pipeline_bit_for_bit(scheduler: TinyCogVideoXScheduler) -> None:
    pipe = tiny_cogvideox_pipeline("i2v-1.5", scheduler=scheduler).to(torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    assert_stock_bits(CogVideoXVideoModel.from_pipeline(pipe), requests("i2v-1.5", 2), 6.0)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
def test_moves_of_latents_in_bfloat16_are_as_large_as_in_float32(
    scheduler: TinyCogVideoXScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    move = TempoSteering._moved

    def recorded(control: TempoSteering, step: Step, latents: torch.Tensor, probe: Any) -> torch.Tensor:
        seen.append((latents, move(control, step, latents, probe)))
        return seen[-1][1]

    monkeypatch.setattr(TempoSteering, "_moved", recorded)
    asked = [request(frames=25, controls=(TempoControl(layers="all", steps=1.0),))]
    logs = []
    for dtype in (torch.float32, torch.bfloat16):
        pipe = tiny_cogvideox_pipeline("t2v-5b", scheduler=scheduler).to(dtype)
        ours = CogVideoXVideoModel.from_pipeline(pipe)
        filmed = sample(ours, asked, SETTINGS)
        (control,) = filmed.controls[0]
        assert isinstance(control, TempoSteering)
        logs.append([entry.moved for entry in control.log])
        assert all((before != after).float().mean() > 0.99 for before, after in seen)
        assert filmed.latents.dtype == dtype
        with torch.no_grad():
            assert ours.decode(filmed.latents).isfinite().all()
        assert not torch.equal(filmed.latents, sample(ours, [request(frames=25)], SETTINGS).latents)
    assert logs[1] == pytest.approx(logs[0], rel=0.05)


def test_a_folder_films_the_same_bits_whenever_it_is_loaded(tmp_path: Path) -> None:
    from generators.models.loading import open_model

    folder = tiny_cogvideox("t2v-5b", tmp_path / "cog")
    first, second = (sample(open_model(str(folder)), [request()], SETTINGS).latents for _ in range(2))
    assert torch.equal(first, second)


def test_another_family_is_refused_by_name() -> None:
    with pytest.raises(BackendUnavailable, match="expected a CogVideoXPipeline .* got FlowMatchEuler"):
        CogVideoXVideoModel.from_pipeline(FlowMatchEulerDiscreteScheduler())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "frames", "height", "width", "message"),
    [
        ("t2v-5b", 9, 40, 32, "height: expected a multiple of 16, got 40"),
        ("t2v-5b", 10, 32, 32, "frames: expected 8k"),
        ("t2v-1.5", 13, 32, 32, "frames: expected 8k"),
        ("i2v-5b", 9, 48, 32, "positions are for 32 x 32 alone, got 48 x 32"),
        ("t2v-1.5", 9, 32, 48, "positions are for 32 x 32 at most, got 32 x 48"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    kind: TinyCogVideoXKind, frames: int, height: int, width: int, message: str
) -> None:
    with pytest.raises(RequestRejected, match=message):
        model(kind).layout(frames, height, width)


def test_layout_counts_the_tokens_the_transformer_sees() -> None:
    plain, padded = (model(kind).layout(17, 32, 16) for kind in ("t2v-5b", "t2v-1.5"))
    assert (plain.shape, plain.grid, plain.lead) == ((4, 5, 4, 2), (5, 2, 1), 0)
    assert (padded.shape, padded.grid, padded.lead) == ((4, 6, 4, 2), (3, 2, 1), 1)
    assert [padded.latent(step) for step in range(3)] == [0, 2, 4]
    assert [plain.latent(step) for step in range(5)] == [0, 1, 2, 3, 4]


def test_sites_are_the_joint_attentions_of_every_block() -> None:
    assert model("t2v-5b").sites == (Site(0, 0, "joint"), Site(0, 1, "joint"))


def test_text_maps_tell_columns_of_the_prompt_as_it_is_tokenised() -> None:
    ours, prompt = model("t2v-5b"), "A  fox &amp; a box"
    columns = ours.map_text(prompt).columns("fox")
    ids = ours.pipe.tokenizer(prompt)["input_ids"]
    assert ours.pipe.tokenizer.decode([ids[i] for i in columns]) == "fox"


def test_a_picture_checkpoint_without_a_picture_films_from_grey_and_says_so() -> None:
    start = sample(model("i2v-5b"), [request()], SETTINGS).start
    assert "plain grey" in start.notes[0]
    assert sample(model("i2v-5b"), requests("i2v-5b", 1), SETTINGS).start.notes == ()


@pytest.mark.parametrize("kind", KINDS)
def test_given_frames_are_held_as_noised_latents(kind: TinyCogVideoXKind) -> None:
    ours = model(kind)
    taken = sample(ours, [request(given=(Given(first=0, frames=PIXELS[:5]),)), request(2)], SETTINGS)
    lead = ours.layout(FRAMES, SIDE, SIDE).lead
    held, clean = taken.start.held, taken.start.clean
    assert held is not None
    assert clean is not None
    assert held[:, 0, lead:, 0, 0].tolist() == [[True, True, False], [False, False, False]]
    assert not held[:, :, :lead].any()
    assert torch.equal(taken.latents[0, :, lead : lead + 2], clean[0, :, lead : lead + 2])
    assert clean[0, :, lead : lead + 2].std() > 0


def test_given_frames_go_through_the_vae_and_back() -> None:
    ours = model("t2v-1.5")
    start = ours.start([request(given=(Given(first=0, frames=PIXELS),))], ours.layout(FRAMES, SIDE, SIDE))
    assert start.clean is not None
    video = torch.from_numpy(PIXELS).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        expected = ours.pipe.vae.encode(video).latent_dist.mode() * ours.pipe.vae_scaling_factor_image
    torch.testing.assert_close(start.clean[:, :, 1:], expected)


def test_a_request_gets_the_same_noise_in_any_batch() -> None:
    ours = model("t2v-5b", "dpm")
    alone, third = sample(ours, [request(7)], SETTINGS), sample(ours, [request(1), request(7)], SETTINGS)
    torch.testing.assert_close(alone.latents[0], third.latents[1], atol=1e-4, rtol=1e-4)


class Lift:
    """A bias on some text columns that depends on the row's own logits."""

    def __init__(self, columns: Sequence[int], size: float) -> None:
        self.columns = torch.tensor(columns)
        self.size = size

    def values(self, rows: slice, logits_BHnM: torch.Tensor) -> torch.Tensor:
        return self.size * logits_BHnM.amax(-1, keepdim=True)


class Steering(Control):
    """Lifts words for every video token in the first steps of the conditional branch."""

    columns: Sequence[int] = (2, 3, 4)
    size = 1.0
    first, last = 0, 1

    def __init__(self, shot: Shot) -> None:
        super().__init__(shot)
        self.seen: list[AttentionCall] = []
        self.outs: list[torch.Tensor] = []

    def at(self, site: Site) -> bool:
        return site.layer == 0

    def acts(self, step: Step, branch: Branch) -> bool:
        return branch is Branch.COND and self.first <= step.index < self.last

    def biases(self, call: AttentionCall) -> Sequence[Bias]:
        return (Lift(self.columns, self.size),) if call.reads == "text" and self.size else ()

    def observe(self, call: AttentionCall, out_BHND: torch.Tensor, lse_BHN: torch.Tensor) -> None:
        self.seen.append(call)
        self.outs.append(out_BHND)


def steered(ours: CogVideoXVideoModel, asked: Sequence[ShotRequest], controls: Sequence[Sequence[Control]]) -> Any:
    layout = ours.layout(FRAMES, SIDE, SIDE)
    with torch.no_grad(), attached(ours, controls) as run:
        text = ours.encode([r.prompt for r in asked], [r.negative_prompt for r in asked])
        start = ours.start(asked, layout)
        return denoise(ours, text, start, SETTINGS, run, ours.stepper(SETTINGS.steps, layout))


@pytest.mark.parametrize("kind", KINDS)
def test_a_steered_video_row_is_one_softmax_over_text_and_video(kind: TinyCogVideoXKind) -> None:
    ours, asked = model(kind), requests(kind, 1)
    control = Steering(Shot.of(ours, asked[0], SETTINGS.steps))
    steered(ours, asked, [[control]])
    (call,), (out,) = control.seen, control.outs
    assert call.text is not None
    assert (call.q.shape[2], call.k.shape[2]) == (call.layout.tokens, COLUMNS + call.layout.tokens)
    q, k, v = (x.double() for x in (call.q, call.k, call.v))
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    top = logits[..., call.text].amax(-1, keepdim=True)
    logits[..., list(control.columns)] += control.size * top
    torch.testing.assert_close(out.double(), logits.softmax(-1) @ v, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_that_changes_nothing_gives_what_the_stock_attention_gives(kind: TinyCogVideoXKind) -> None:
    ours, asked = model(kind), requests(kind, 2)
    idle = Steering(Shot.of(ours, asked[0], SETTINGS.steps))
    idle.size, idle.last = 0.0, SETTINGS.steps
    plain = sample(ours, asked, SETTINGS).latents
    torch.testing.assert_close(steered(ours, asked, [[idle], []]), plain, atol=1e-4, rtol=1e-4)
    assert len(idle.seen) == SETTINGS.steps


def predictions(ours: CogVideoXVideoModel, controls: Sequence[Sequence[Control]], step: int) -> torch.Tensor:
    """Of one joined pass over two requests: rows uncond 0, uncond 1, cond 0, cond 1."""
    asked = requests("t2v-5b", 2)
    layout = ours.layout(FRAMES, SIDE, SIDE)
    with torch.no_grad(), attached(ours, controls) as run:
        text = ours.encode([r.prompt for r in asked], [r.negative_prompt for r in asked])
        start = ours.start(asked, layout)
        run.step, run.branches = Step(index=step, of=3, sigma=1.0), (Branch.UNCOND, Branch.COND)
        return ours.predict(start.noise, torch.tensor(999), text, run.branches, start)


def test_the_unconditional_row_and_the_neighbour_keep_their_bits_beside_a_steered_row() -> None:
    ours = model("t2v-5b")
    plain = predictions(ours, [[], []], 0)
    lifted = predictions(ours, [[Steering(Shot.of(ours, request(), SETTINGS.steps))], []], 0)
    assert torch.equal(plain[[0, 1, 3]], lifted[[0, 1, 3]])
    assert not torch.equal(plain[2], lifted[2])


def test_a_step_at_which_nobody_acts_keeps_its_bits() -> None:
    ours = model("t2v-5b")
    control = Steering(Shot.of(ours, request(), SETTINGS.steps))
    assert torch.equal(predictions(ours, [[], []], 1), predictions(ours, [[control], []], 1))
    assert control.seen == []


def test_a_detached_control_leaves_the_same_processors_and_the_same_bits() -> None:
    ours, asked = model("t2v-5b"), requests("t2v-5b", 1)
    before, plain = list(ours.network.attn_processors.values()), sample(ours, asked, SETTINGS).latents
    assert not torch.equal(plain, sample(ours, [replace(asked[0], controls=(TSAttn(steps=1.0),))], SETTINGS).latents)
    after = list(ours.network.attn_processors.values())
    assert all(a is b for a, b in zip(before, after, strict=True))
    assert torch.equal(plain, sample(ours, asked, SETTINGS).latents)


def test_fused_projections_are_steered_as_well() -> None:
    ours, asked = CogVideoXVideoModel.from_pipeline(tiny_cogvideox_pipeline("t2v-5b")), requests("t2v-5b", 1)
    apart = steered(ours, asked, [[Steering(Shot.of(ours, asked[0], SETTINGS.steps))]])
    ours.network.fuse_qkv_projections()
    fused = steered(ours, asked, [[Steering(Shot.of(ours, asked[0], SETTINGS.steps))]])
    torch.testing.assert_close(apart, fused, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [(0,), (1,), (0, 1)])
def test_a_pass_read_in_part_asks_what_the_whole_pass_asks(kind: TinyCogVideoXKind, layers: tuple[int, ...]) -> None:
    ours, asked = model(kind), requests(kind, 1)
    spies = [Steering(Shot.of(ours, asked[0], SETTINGS.steps)) for _ in range(1)]
    for spy in spies:
        spy.size = 0.0
        spy.at = lambda site: True  # type: ignore[method-assign]
    found, grad, start = read_in_part(ours, asked[0], layers, recompute=True)
    direct, direct_grad, _ = read_in_part(ours, asked[0], layers, recompute=False)
    layout = ours.layout(FRAMES, SIDE, SIDE)
    with torch.no_grad(), attached(ours, [spies]) as run:
        text = ours.encode([asked[0].prompt], None)
        run.step = Step(index=0, of=3, sigma=1.0)
        ours.predict(start.noise, torch.tensor(999), text, (Branch.COND,), start)
    for layer, (q, k) in zip(layers, found, strict=True):
        call = spies[0].seen[layer].over("text")
        assert q.shape[2] == layout.tokens
        torch.testing.assert_close(q, call.q, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(k, call.k, atol=1e-4, rtol=1e-4)
    assert grad.abs().sum() > 0
    torch.testing.assert_close(grad, direct_grad)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(found, direct, strict=True))
    assert len(ours.network.transformer_blocks) == 2
    assert all(parameter.requires_grad for parameter in ours.network.parameters())


def read_in_part(
    ours: CogVideoXVideoModel, asked: ShotRequest, layers: Sequence[int], *, recompute: bool
) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor, Start]:
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def read(layer: int, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        seen[layer] = (q.detach(), k.detach())
        return (q @ k.transpose(-1, -2)).softmax(-1)[..., 3].mean()

    layout = ours.layout(FRAMES, SIDE, SIDE)
    with torch.no_grad():
        text = ours.encode([asked.prompt], None)
        start = ours.start([asked], layout)
    latents = start.noise.clone().requires_grad_()
    with torch.enable_grad():
        masses = ours.read(latents, torch.tensor(999), text, start, layers, read, recompute=recompute)
        torch.stack(masses).sum().backward()
    assert latents.grad is not None
    return [seen[layer] for layer in layers], latents.grad, start
