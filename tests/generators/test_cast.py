"""Sets of shots that share a cast: two sweeps, what is kept between them, batches, and anchors for later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from evals.benchmarks.scene_costs import batch_rows, map_bytes, plan_rows, set_rows
from generators.anchors import Anchors
from generators.cast import CastSample, CastSettings, sample_cast
from generators.cast_memory import shots_at_once
from generators.cast_plan import Plan
from generators.clip import Given, Progress, ShotRequest
from generators.controls.base import AttentionCall, Control, Run, Step
from generators.controls.config import TempoControl, Word
from generators.controls.motion_queries import noise_levels
from generators.controls.steering import join, steer
from generators.controls.storyboarding import StoryboardSteering, storyboard
from generators.controls.storyboarding_config import REFINED, Storyboarding
from generators.controls.storyboarding_maths import Refinement
from generators.errors import ControlRejected, OutOfMemory, RequestRejected
from generators.models.base import Branch, Site
from generators.models.loading import take_apart
from generators.models.ltx import LTXVideoModel
from generators.models.tiny import TinyScheduler, tiny_pipeline
from generators.models.tiny_ltx import tiny_ltx_pipeline
from generators.models.tiny_skyreels import tiny_skyreels_pipeline
from generators.models.wan import WanVideoModel
from generators.sampler import Settings, controls_of, sample

SETTINGS = Settings(steps=8, guidance=3.0)
OFF: dict[str, Any] = {"preserve": None, "flow": None, "share": None, "refine": None}
CLOSE = 1e-4
"""How far shots may be from those of the unsplit set; batches of other sizes round differently."""


class Upper:
    """A segmenter for which the subject is the upper half, with a bite that moves from frame to frame."""

    name = "upper half"

    def __call__(self, frames: NDArray[np.uint8], subject: str) -> NDArray[np.bool_]:
        found = np.zeros(frames.shape[:3], dtype=bool)
        found[:, : frames.shape[1] // 2] = True
        return found


@cache
def wan(scheduler: TinyScheduler = "euler") -> WanVideoModel:
    return WanVideoModel.from_pipeline(tiny_pipeline("world", scheduler=scheduler))


def shots(count: int = 4) -> list[ShotRequest]:
    asked = ShotRequest(prompt="x", frames=9, fps=8, width=32, height=32, seed=1)
    what = ("runs", "naps", "eats", "sits")
    return [replace(asked, prompt=f"A red fox {what[i]}.", seed=i) for i in range(count)]


def filmed(
    asked: Sequence[ShotRequest], *, model: Any = None, kept: Anchors | None = None, on_step: Any = None, **changes: Any
) -> CastSample:
    steering = {"keyframes": 2, "segmenter": Upper()} | changes.pop("steering", {})
    cast = CastSettings(steering=steering, **changes)
    return sample_cast(model or wan(), asked, ["red fox"] * len(asked), SETTINGS, cast, kept=kept, on_step=on_step)


@cache
def whole() -> CastSample:
    """Four shots in one batch, nothing kept between the sweeps."""
    return filmed(shots(), keep_anchors=True)


@cache
def plain() -> Tensor:
    return sample(wan(), shots(), SETTINGS).latents


def steerings(made: CastSample) -> list[StoryboardSteering]:
    return [control for of_shot in made.controls for control in of_shot if isinstance(control, StoryboardSteering)]


# Sweeps


@pytest.mark.slow
def test_with_every_part_off_the_shots_are_the_plain_ones() -> None:
    made = filmed(shots(), steering=OFF)
    assert torch.equal(made.latents, plain())
    assert made.row_steps == 4 * SETTINGS.steps


@pytest.mark.slow
def test_without_refinement_a_set_is_one_batch_of_a_storyboard() -> None:
    settings: dict[str, Any] = {"keyframes": 2, "segmenter": Upper()}
    batch = sample(wan(), storyboard(shots(), ["red fox"] * 4, **settings), SETTINGS)
    made = filmed(shots(), steering={"refine": None})
    assert torch.equal(made.latents, batch.latents[4:])
    assert made.row_steps == 8 * SETTINGS.steps


@pytest.mark.slow
def test_refinement_changes_every_shot_and_finds_what_corresponds() -> None:
    once = filmed(shots(), steering={"refine": None})
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(whole().latents, once.latents, strict=True))
    for steering in steerings(whole()):
        assert steering.refinement is not None
        assert steering.mask is not None
        assert steering.refinement.near.any()
        assert not (steering.refinement.near & ~steering.mask).any()


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["euler", "unipc", "stochastic"])
def test_the_second_sweep_starts_over_where_the_first_was(scheduler: TinyScheduler) -> None:
    """A blend of nothing leaves the plain shots, if latents and the scheduler's memory are those of that step."""
    ours, steering = wan(scheduler), OFF | {"refine": REFINED, "alpha": 1e-12}
    made = filmed(shots(2), model=ours, steering=steering)
    torch.testing.assert_close(made.latents, sample(ours, shots(2), SETTINGS).latents, atol=CLOSE, rtol=CLOSE)
    assert made.row_steps > 2 * SETTINGS.steps


def test_a_lone_shot_has_nobody_to_take_from() -> None:
    made = filmed(shots(1), anchors=1, steering=OFF | {"share": (0.0, 1.0), "features": 0.0, "refine": REFINED})
    torch.testing.assert_close(made.latents, plain()[:1], atol=CLOSE, rtol=CLOSE)


def test_networks_keep_no_hook_also_after_an_error() -> None:
    def fail(progress: Progress) -> None:
        if progress.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filmed(shots(2), on_step=fail)
    assert not any(module._forward_hooks for module in wan().experts[0].modules())
    assert {type(p).__name__ for p in wan().experts[0].attn_processors.values()} == {"WanAttnProcessor"}


@pytest.mark.slow
def test_progress_counts_the_steps_of_both_sweeps() -> None:
    told: list[Progress] = []
    filmed(shots(3), at_once=3, on_step=told.append)
    plan = plan_of()
    assert [one.step for one in told] == list(range(1, len(plan.first) + len(plan.second) + 1))
    assert {one.of for one in told} == {len(told)}


# What is kept between sweeps


def plan_of(keeps: Any = "nothing", **changes: Any) -> Plan:
    config = Storyboarding(
        place=1, vanilla=0, anchors=(1,), subject="red fox", **CastSettings(steering=changes).of_control
    )
    return Plan(config, noise_levels(wan().stepper(SETTINGS.steps, wan().layout(9, 32, 32))), keeps)


@pytest.mark.slow
@pytest.mark.parametrize("keeps", ["nothing", "flow maps"])
def test_a_set_takes_the_passes_that_are_planned(keeps: Any) -> None:
    made = filmed(shots(), keeps=keeps)
    assert made.row_steps == pytest.approx(plan_of(keeps).over_plain * 4 * SETTINGS.steps)


@pytest.mark.slow
def test_kept_maps_stand_for_the_plain_copies() -> None:
    """Where the first sweep had stopped, the last maps stay."""
    made = filmed(shots(), keeps="flow maps")
    assert made.row_steps < whole().row_steps
    assert made.map_bytes == 4 * map_bytes(plan_of("flow maps"), frames=3, tokens=4, layers=1, spacing=2)
    assert (made.latents - whole().latents).abs().max() < 0.1 * (whole().latents - plain()).abs().max()
    assert whole().map_bytes == 0


@pytest.mark.slow
def test_maps_kept_at_every_step_are_those_of_the_plain_copies() -> None:
    """A first sweep that reads features at the end has every step's maps: nothing is missing from the second."""
    steering: dict[str, Any] = {"features": 0.0}
    made, every = (filmed(shots(3), steering=steering, keeps=keeps) for keeps in ("flow maps", "nothing"))
    assert made.row_steps < every.row_steps
    assert (every.latents - filmed(shots(3), steering=steering | {"flow": None}).latents).abs().max() > 100 * CLOSE
    torch.testing.assert_close(made.latents, every.latents, atol=CLOSE, rtol=CLOSE)


def test_published_windows_cost_what_was_promised() -> None:
    rows = [row for row in plan_rows() if row.limit is not None]
    assert {row.limit for row in rows} == {3.4, 2.7}
    assert all(row.value <= (row.limit or 0) for row in rows), rows
    assert [row.value for row in rows if "DDPM" in row.measure] == pytest.approx([3.40, 2.64])


@pytest.mark.slow
def test_counted_sets_stay_within_their_limits() -> None:
    rows = [*set_rows(), *batch_rows()]
    limited = [row for row in rows if row.limit is not None]
    assert len(limited) >= 5
    assert all(row.value <= (row.limit or 0) for row in limited), limited


# Batches, and anchors for later


@pytest.mark.slow
def test_a_set_in_batches_is_the_set_at_once() -> None:
    made = filmed(shots(), at_once=3)
    assert (made.latents - whole().latents).abs().max() < CLOSE
    assert torch.equal(made.start.noise, whole().start.noise)
    assert [len(of_shot) for of_shot in made.compositions] == [6] * 4
    assert made.compositions[0] == made.compositions[2] != made.compositions[3]


@pytest.mark.slow
def test_edits_of_latents_reach_a_set_and_are_made_once_in_batches() -> None:
    moving = TempoControl(words=(Word(text="fox", seconds=((0.0, 1.0),)),), rate=0.05, layers="all", enough=1.0)
    edited = [replace(shot, frames=17, controls=(moving,)) for shot in shots()]
    unedited = [replace(shot, frames=17) for shot in shots()]
    together = filmed(edited)
    assert (together.latents - filmed(unedited).latents).abs().amax((1, 2, 3, 4)).min() > 100 * CLOSE
    assert (filmed(edited, at_once=3).latents - together.latents).abs().max() < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ltx", "skyreels"])
def test_reading_a_step_leaves_the_noise_on_given_frames_as_it_was(family: str) -> None:
    pipe = tiny_ltx_pipeline("condition") if family == "ltx" else tiny_skyreels_pipeline("df")
    given = Given(first=0, frames=np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8))
    plain = [replace(shot, frames=25, given=(given,)) for shot in shots(2)]
    looking = TempoControl(words=(Word(text="fox", seconds=((0.0, 1.0),)),), layers="all", enough=-1.0)
    read = [replace(shot, controls=(looking,)) for shot in plain]
    model = take_apart(pipe)
    assert torch.equal(filmed(read, model=model).latents, filmed(plain, model=model).latents)


@pytest.mark.slow
def test_what_fits_is_filmed_at_once() -> None:
    room = 200 * 2**20
    most = shots_at_once(wan(), shots(1)[0], SETTINGS, free=room)
    assert most > shots_at_once(wan(), shots(1)[0], SETTINGS, free=room // 2) >= 1
    with pytest.raises(OutOfMemory, match="a shot of 32x32, 9 frames takes"):
        shots_at_once(wan(), shots(1)[0], SETTINGS, free=1000)


# Families, notes, refusals


@pytest.mark.slow
def test_ltx_films_sets_with_every_part_in_one_pass_of_both_branches() -> None:
    pipe = tiny_ltx_pipeline("t2v")
    pipe.set_progress_bar_config(disable=True)
    ours = LTXVideoModel.from_pipeline(pipe)
    asked = [replace(request, fps=25, width=96, height=64) for request in shots(3)]
    levels = noise_levels(ours.stepper(SETTINGS.steps, ours.layout(9, 64, 96)))
    middle = (levels[3] + levels[4]) / 2
    windows = {"preserve": (middle, 1.0), "flow": (0.0, middle), "share": (middle, 1.0), "refine": (middle, 1.0)}
    steering = {**windows, "features": levels[4], "keyframes": 1 if ours.layout(9, 64, 96).grid[0] < 3 else 2}
    made = filmed(asked, model=ours, steering=steering)
    assert not torch.allclose(made.latents, sample(ours, asked, SETTINGS).latents, atol=1e-3)
    split = filmed([*asked, replace(asked[0], seed=9)], model=ours, steering=steering, at_once=3)
    assert (split.latents[:3] - made.latents).abs().max() < CLOSE


def test_a_set_without_a_segmenter_says_so() -> None:
    (note,) = filmed(shots(2), steering={"segmenter": None}).notes
    assert "attention to its words, which is coarse" in note
    assert whole().notes == ()


class Nobody:
    """A segmenter that never finds the subject, or only in the first shot of two."""

    name = "nobody"

    def __init__(self, *, in_first: bool = False) -> None:
        self.in_first, self.calls = in_first, 0

    def __call__(self, frames: NDArray[np.uint8], subject: str) -> NDArray[np.bool_]:
        self.calls += 1
        return np.full(frames.shape[:3], self.in_first and self.calls % 2 == 1)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [None, 3])
def test_a_set_whose_subject_nobody_saw_says_so(at_once: int | None) -> None:
    (note,) = filmed(shots(), at_once=at_once, steering={"segmenter": Nobody()}).notes
    assert "seen in no frame of any anchor" in note
    assert filmed(shots(2), steering={"segmenter": Nobody(in_first=True)}).notes == ()
    assert filmed(shots(2), steering=OFF | {"segmenter": Nobody()}).notes == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at_once": 2}, "at least 3 shots"),
        ({"keeps": "flow maps", "steering": {"refine": None}}, "there are none"),
        ({"steering": {"refine": (0.99, 0.999)}}, "no step lies"),
        ({"steering": {"share": (0.0, 0.95)}}, "below both windows"),
        ({"steering": {"feature_layer": 9}}, r"one of 0\.\.2"),
        ({"anchors": 5}, "1 to 4 anchors"),
        ({"anchors": 0}, "at least 1"),
        ({"at_once": 0}, "at_once"),
        ({"keeps": "everything"}, "nothing, flow maps"),
    ],
)
def test_sets_that_cannot_be_filmed_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestRejected, match=message):
        filmed(shots(), **changes)


def test_one_batch_alone_cannot_refine() -> None:
    with pytest.raises(ControlRejected, match="sample_cast"):
        sample(wan(), storyboard(shots(2), ["red fox"] * 2, refine=REFINED), SETTINGS)


# One attention of a set, in float64, against loops

FRAMES, TOKENS, HEADS, WIDTH = 3, 4, 2, 6
Controls = list[list[Control]]


def attention_of_a_set(
    order: str, middle: bool, queries: str
) -> tuple[Controls, Tensor, Tensor, list[Tensor], list[Refinement]]:
    """Controls, raw q, k and v (3, 12, H, N, D), the outputs of all rows, masks, and what each steered shot takes."""
    windows: dict[str, Any] = {"preserve": None, "flow": None} | {queries: (0.0, 1.0)}
    batch = storyboard(
        shots(3), ["red fox"] * 3, share=(0.0, 1.0), refine=REFINED, segmenter=Upper(), keyframes=2,
        order=order, middle=middle, query_layers=(2,), share_layers=(2,), refine_layers=(2,),
        **windows,
    )  # fmt: skip
    controls = [controls_of(wan(), request, SETTINGS) for request in batch]
    generator = torch.Generator().manual_seed(0)
    count = FRAMES * TOKENS
    masks, found = [], []
    for place, (steering,) in enumerate(controls[3:]):
        assert isinstance(steering, StoryboardSteering)
        steering.in_sweeps = True
        steering.meet(controls)
        steering.begin(wan())
        masks.append(torch.rand(count, generator=generator) < 0.5)
        near = masks[place] & (torch.rand(count, generator=generator) < 0.7)
        others = 2 if place == 2 else 1
        anchor, where = (torch.randint(most, (count,), generator=generator) for most in (others, count))
        found.append(Refinement(near, anchor, where))
        steering.mask, steering.refinement = masks[place], found[place]
    qkv = torch.randn(3, 12, HEADS, count, WIDTH, generator=generator, dtype=torch.float64)
    return controls, qkv, steered(controls, qkv), masks, found


def normed(raw_BHND: Tensor) -> Tensor:
    """A norm over the width, with weights: these change which queries are alike, and do not pass through a blend."""
    weight = torch.linspace(-1.5, 2.5, WIDTH, dtype=torch.float64)
    return raw_BHND / raw_BHND.pow(2).mean(-1, keepdim=True).sqrt() * weight


def turned(q_BHND: Tensor) -> Tensor:
    """Another factor on every place."""
    return q_BHND * torch.linspace(0.5, 1.5, FRAMES * TOKENS, dtype=torch.float64).view(-1, 1)


def steered(controls: Controls, qkv: Tensor) -> Tensor:
    """What the phases of one controlled attention make of all rows of both branches, before and in the last."""
    run = Run(controls)
    run.branches = (Branch.UNCOND, Branch.COND)
    steering = controls[3][0]
    assert isinstance(steering, StoryboardSteering)
    run.step = Step(index=max(steering.refined), of=8, sigma=0.9)
    site, (raw, k, v) = Site(0, 2, "self"), qkv
    q = turned(normed(raw))
    outs = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    acting = run.acting(site)
    assert sorted(acting) == [3, 4, 5, 9, 10, 11]
    for row, of_row in acting.items():
        own = slice(row, row + 1)
        call = AttentionCall(
            site=site, step=run.step, row=row, layout=run.layout(row), q=q[own], k=k[own], v=v[own], raw_q=raw[own],
            raw_k=k[own], batch=(q, k, v), raw_batch=raw, norm=normed, turn=turned, branch=run.branch(row),
        )  # fmt: skip
        outs[own] = steer(call, of_row)
    join(run, acting, site, outs)
    return outs


def led(raw: Tensor, place: int, shot: int) -> Tensor:
    """Queries (H, N, D) of a steered row by loops: the middle frame's led from both others, found in the plain copy."""
    plain, own = (normed(raw[row]).view(HEADS, FRAMES, TOKENS, WIDTH) for row in (place + shot, place + 3 + shot))
    made = own.clone()
    for p in range(TOKENS):
        best = []
        for key in (0, 2):
            asked = plain[:, 1, p].flatten()
            alike = [torch.cosine_similarity(asked, plain[:, key, o].flatten(), dim=0) for o in range(TOKENS)]
            best.append(max(range(TOKENS), key=lambda o: float(alike[o])))
        w = 1 / (1 + math.exp(-0.5))
        made[:, 1, p] = w * own[:, 0, best[0]] + (1 - w) * own[:, 2, best[1]]
    return turned(made.flatten(1, 2))


@pytest.mark.parametrize("queries", ["preserve", "flow"])
@pytest.mark.parametrize("middle", [False, True])
@pytest.mark.parametrize("order", ["simultaneous", "sequential"])
def test_an_attention_of_a_set_is_that_of_plain_loops(order: str, middle: bool, queries: str) -> None:
    _, (raw, k, v), made, masks, found = attention_of_a_set(order, middle, queries)
    count = FRAMES * TOKENS
    q = turned(normed(raw))
    slow = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    read = {0: [1], 1: [0], 2: [0, 1]}
    for branch in (0, 6):
        for shot, anchors in read.items():
            asked = q[branch + shot] if queries == "preserve" else led(raw, branch, shot)
            for head in range(HEADS):
                for p in range(count):
                    keys = [(branch + 3 + shot, j, 1.0) for j in range(count)]
                    frames = {p // TOKENS, FRAMES // 2 if middle else p // TOKENS}
                    for a in anchors:
                        seen = [j for j in range(count) if masks[a][j] and j // TOKENS in frames]
                        keys += [(branch + 3 + a, j, math.sqrt(FRAMES)) for j in seen]
                    logits = [float(asked[head, p] @ k[r, head, j]) / math.sqrt(WIDTH) for r, j, _ in keys]
                    weights = [g * math.exp(logit) for logit, (_, _, g) in zip(logits, keys, strict=True)]
                    mixed = sum(
                        (w * v[r, head, j] for w, (r, j, _) in zip(weights, keys, strict=True)), torch.zeros(WIDTH)
                    )
                    slow[branch + 3 + shot, head, p] = mixed / sum(weights)
        before = slow.clone()
        for shot, anchors in read.items():
            source = slow if order == "sequential" else before
            own = slow[branch + 3 + shot].clone()
            for p in range(count):
                if found[shot].near[p]:
                    taken = source[branch + 3 + anchors[int(found[shot].anchor[p])], :, int(found[shot].place[p])]
                    own[:, p] = 0.8 * taken + 0.2 * own[:, p]
            slow[branch + 3 + shot] = own
    torch.testing.assert_close(made, slow, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("branch", list(Branch))
def test_both_branches_of_guidance_are_refined(branch: Branch) -> None:
    controls = attention_of_a_set("simultaneous", False, "preserve")[0]
    steering = controls[4][0]
    assert isinstance(steering, StoryboardSteering)
    site = Site(0, 2, "self")
    assert all(steering.acts_at(site, Step(index=i, of=8, sigma=0.5), branch) for i in steering.refined)
