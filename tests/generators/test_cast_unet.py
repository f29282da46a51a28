"""Sets of shots on UNets, for which Video Storyboarding was published: attention within frames, levels, both sweeps."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.anchors import Anchors
from generators.cast import CastSample, CastSettings, sample_cast
from generators.cast_rows import features_of
from generators.clip import ShotRequest
from generators.controls.base import AttentionCall, Run, Shot, Step
from generators.controls.storyboarding import StoryboardSteering, storyboard
from generators.controls.storyboarding_config import REFINED, Storyboarding
from generators.controls.storyboarding_maths import Refinement, mask_tokens, on_grid
from generators.errors import ControlRejected, RequestRejected
from generators.models.base import Branch, Layout, Site
from generators.models.tiny_unet import TinyUnetKind, TinyUnetScheduler, tiny_unet_pipeline
from generators.models.unet import UnetVideoModel
from generators.models.unet_attention import ControlledUnetAttention
from generators.sampler import Settings, controls_of, sample

SETTINGS = Settings(steps=8, guidance=1.0)
GUIDED = Settings(steps=8, guidance=3.0)
OFF: dict[str, Any] = {"preserve": None, "flow": None, "share": None, "refine": None}
FRAMES, HEIGHT, WIDTH = 5, 8, 8
"""Of the latents; keyframes are 0, 2 and 4."""
CLOSE = 1e-4
"""Batches of other sizes round differently, and these networks make 1e-6 of it."""
KINDS: tuple[TinyUnetKind, ...] = ("modelscope", "animatediff")


class Corner:
    """A segmenter for which the subject is the upper left corner, a column further to the right in every frame."""

    name = "corner"

    def __call__(self, frames: NDArray[np.uint8], subject: str) -> NDArray[np.bool_]:
        found = np.zeros(frames.shape[:3], dtype=bool)
        for number, frame in enumerate(found):
            frame[: frames.shape[1] // 2, : frames.shape[2] // 2 + 8 * number] = True
        return found


@cache
def unet(kind: TinyUnetKind = "modelscope", scheduler: TinyUnetScheduler = "ddim", eta: float = 0.0) -> UnetVideoModel:
    """In float64: random UNets this lively make a film of their own of float32's rounding."""
    pipe = tiny_unet_pipeline(kind, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    for network in (pipe.unet, pipe.text_encoder, pipe.vae):
        network.double()
    return UnetVideoModel.from_pipeline(pipe, eta=eta)


def shots(count: int = 3) -> list[ShotRequest]:
    asked = ShotRequest(prompt="x", frames=FRAMES, fps=8, width=8 * WIDTH, height=8 * HEIGHT, seed=0)
    what = ("runs", "naps", "eats", "sits")
    return [replace(asked, prompt=f"A red fox {what[i]}.", seed=i) for i in range(count)]


def filmed(
    asked: list[ShotRequest],
    *,
    model: UnetVideoModel | None = None,
    kept: Anchors | None = None,
    settings: Settings = SETTINGS,
    **changes: Any,
) -> CastSample:
    steering = {"keyframes": 2, "segmenter": Corner()} | changes.pop("steering", {})
    cast = CastSettings(steering=steering, **changes)
    return sample_cast(model or unet(), asked, ["red fox"] * len(asked), settings, cast, kept=kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scheduler", "eta"),
    [("modelscope", "ddim", 1.0), ("modelscope", "pndm", 0.0), ("animatediff", "ancestral", 0.0)],
)
def test_shots_with_their_plain_copys_queries_alone_are_the_plain_ones(
    kind: TinyUnetKind, scheduler: TinyUnetScheduler, eta: float
) -> None:
    """The second sweep starts over with the latents, the scheduler's memory and the noise of its first step."""
    model = unet(kind, scheduler, eta)
    plain = sample(model, shots(2), GUIDED).latents
    kept = filmed(shots(2), model=model, settings=GUIDED, steering=OFF | {"preserve": (0.0, 1.0)})
    torch.testing.assert_close(kept.latents, plain, atol=CLOSE, rtol=CLOSE)
    again = filmed(
        shots(2),
        model=model,
        settings=GUIDED,
        steering=OFF | {"preserve": (0.0, 1.0), "refine": REFINED, "alpha": 1e-14},
    )
    torch.testing.assert_close(again.latents, plain, atol=CLOSE, rtol=CLOSE)
    assert again.row_steps > kept.row_steps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scheduler", "settings"),
    [("modelscope", "euler", SETTINGS), ("animatediff", "pndm", SETTINGS), ("animatediff", "ancestral", GUIDED)],
)
def test_batches_and_kept_anchors_give_the_set_that_is_filmed_at_once(
    kind: TinyUnetKind, scheduler: TinyUnetScheduler, settings: Settings, tmp_path: Path
) -> None:
    """Of latents that no level halves evenly, and are not square; under schedulers that scale what they show."""
    model = unet(kind, scheduler)
    asked = [replace(shot, height=72, width=88) for shot in shots(4)]
    whole = filmed(asked, model=model, settings=settings, keep_anchors=True, weights="tiny")
    assert whole.notes == ()
    split = filmed(asked, model=model, settings=settings, at_once=3)
    torch.testing.assert_close(split.latents, whole.latents, atol=CLOSE, rtol=CLOSE)
    assert split.row_steps > whole.row_steps
    assert whole.anchors is not None
    whole.anchors.save(tmp_path / "anchors")
    kept = Anchors.load(tmp_path / "anchors")
    later = filmed(asked[3:], model=model, settings=settings, kept=kept, weights="tiny")
    torch.testing.assert_close(later.latents, whole.latents[3:], atol=CLOSE, rtol=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["preserve", "flow", "share", "refine"])
def test_each_part_changes_every_shot(part: str) -> None:
    model = unet("animatediff")
    without = filmed(shots(2), model=model, steering={part: None})
    assert (without.latents - filmed(shots(2), model=model).latents).abs().amax((1, 2, 3, 4)).min() > 1e-3


@pytest.mark.slow
def test_maps_kept_at_every_step_are_those_of_the_plain_copies() -> None:
    keeps: tuple[Any, ...] = ("flow maps", "nothing")
    made, every = (filmed(shots(2), steering={"features": 0.0}, keeps=one) for one in keeps)
    assert made.row_steps < every.row_steps
    assert made.map_bytes > 0
    torch.testing.assert_close(made.latents, every.latents, atol=CLOSE, rtol=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_segmenter_the_words_of_every_level_tell_where_the_subject_is(kind: TinyUnetKind) -> None:
    made = filmed(shots(2), model=unet(kind), steering={"segmenter": None})
    assert "attention to its words, which is coarse" in made.notes[0]
    for (control,) in made.controls:
        assert isinstance(control, StoryboardSteering)
        assert control.mask is not None
        assert control.mask.shape == (FRAMES * HEIGHT * WIDTH,)


@pytest.mark.parametrize("level", [0, 2])
def test_what_a_level_reads_in_words_is_seen_on_the_grid_of_the_latents(level: int) -> None:
    model = unet()
    control = steering_of(model, segmenter=None)
    control.in_sweeps = True
    control.begin(model)
    step = Step(index=max(control.shared) - 1, of=SETTINGS.steps, sigma=0.9)
    site = next(site for site in model.sites if (site.kind, site.level) == ("cross", level))
    assert control.acts_at(site, step, Branch.COND)
    layout, columns = control.shot.layout.halved(level), control.shot.text.columns("red fox")
    q = torch.zeros(1, 1, layout.tokens, 2, dtype=torch.float64)
    k = torch.zeros(1, 1, control.shot.text.tokens, 2, dtype=torch.float64)
    frames, height, width = layout.grid
    upper = torch.arange(layout.tokens) % (height * width) < height // 2 * width
    q[0, 0, upper, 0] = 9.0  # the upper half reads the subject's words
    k[0, 0, list(columns), 0] = 1.0
    control.observe(call_of(control, site, step, q, k), q, q[..., 0])
    control.predicted(step, lambda: torch.zeros(1))
    control.before_step(replace(step, index=step.index + 1), torch.zeros(1))
    assert control.mask is not None
    seen = control.mask.view(frames, HEIGHT, WIDTH)
    assert seen[:, : HEIGHT // 2 - 1].all()
    assert not seen[:, HEIGHT // 2 + 1 :].any()


def call_of(control: StoryboardSteering, site: Site, step: Step, q: Tensor, k: Tensor) -> AttentionCall:
    layout = control.shot.layout.halved(site.level)
    return AttentionCall(site=site, step=step, row=1, layout=layout, q=q, k=k, v=k, raw_q=q, raw_k=k)


# Layers


def steering_of(model: UnetVideoModel, **settings: Any) -> StoryboardSteering:
    config = Storyboarding(place=1, vanilla=0, anchors=(1,), subject="red fox", **{"refine": REFINED} | settings)
    return StoryboardSteering(config, Shot.of(model, shots(1)[0], SETTINGS.steps))


@pytest.mark.parametrize("kind", KINDS)
def test_queries_are_kept_everywhere_anchors_read_on_the_way_up_and_one_level_is_refined(kind: TinyUnetKind) -> None:
    model = unet(kind)
    control = steering_of(model)
    control.in_sweeps = True
    control.begin(model)
    spatial = [site for site in model.sites if site.kind == "self"]
    levels = {site.layer: site.level for site in spatial}
    assert control._query_layers == set(levels)
    assert control._share_layers == {site.layer for site in spatial if site.way == "up"}
    assert {levels[layer] for layer in control._share_layers} == {0, 1, 2}
    assert control._refine_layers == {layer for layer, level in levels.items() if level == 1}
    assert control.refined_grid == (FRAMES, HEIGHT // 2, WIDTH // 2)
    assert control.dilution == 1
    assert steering_of(model, dilution=2.0).dilution == 2
    first = Step(index=0, of=SETTINGS.steps, sigma=1.0)
    assert not any(control.acts_at(site, first, b) for site in model.sites if site.kind == "temporal" for b in Branch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"refine_layers": "all"}, "work on one size.* halved 0, 1, 2, 3 times"),
        ({"refine_layers": (0, 2)}, "work on one size"),
        ({"refine_layers": ()}, r"refine_layers: expected some of 0\.\."),
        ({"share_layers": (99,)}, r"share_layers: expected some of 0\.\."),
    ],
)
def test_layers_that_cannot_be_refined_or_are_missing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ControlRejected, match=message):
        steering_of(unet(), **settings)
    if settings.get("refine_layers") == "all":
        assert steering_of(unet(), **settings, refine=None).refined_level == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_correspondences_are_read_where_the_way_up_reaches_the_refined_size(kind: TinyUnetKind) -> None:
    """DIFT's up block 1 of four: its output has the height and width of level 1. Rows and frames in their order."""
    model = unet(kind)
    network: Any = model.network
    layout = model.layout(FRAMES, 8 * HEIGHT, 8 * WIDTH)
    control = steering_of(model)
    run = Run([[], [control]])
    run.branches = (Branch.UNCOND, Branch.COND)
    seen: list[Tensor] = []
    network.up_blocks[1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    text = model.encode(["A red fox.", "A cat."], ["", ""])
    start = model.start(shots(2), layout)
    with torch.no_grad(), features_of(model, control.config, layout, 1, run, hear=True) as heard:
        model.predict(start.noise, torch.tensor(261), text, run.branches, start)
    network.up_blocks[1]._forward_hooks.clear()
    assert heard["states"].shape[:2] == (2, FRAMES)
    assert heard["states"].shape[3:] == (HEIGHT // 2, WIDTH // 2)
    assert torch.equal(heard["states"][1, 3], seen[0][3 * FRAMES + 3].float())


def test_another_feature_block_is_resized_to_the_refined_grid() -> None:
    made = filmed(shots(2), steering={"feature_layer": 2})
    (control,) = made.controls[0]
    assert isinstance(control, StoryboardSteering)
    assert control.refinement is not None
    assert control.refinement.place.shape == (FRAMES * HEIGHT * WIDTH // 4,)
    with pytest.raises(RequestRejected, match=r"feature_layer: expected one of 0\.\.3, got 4"):
        filmed(shots(2), steering={"feature_layer": 4})


# Masks on levels


@pytest.mark.parametrize(("level", "size"), [(0, (9, 11)), (1, (5, 6)), (2, (3, 3)), (3, (2, 2))])
def test_a_level_halves_height_and_width_and_rounds_up(level: int, size: tuple[int, int]) -> None:
    layout = Layout(channels=4, frames=FRAMES, height=9, width=11, patch=(1, 1, 1))
    assert layout.halved(level).grid == (FRAMES, *size)


def test_a_mask_on_a_level_is_on_where_more_than_half_of_the_cell_is() -> None:
    mask = torch.rand(FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) < 0.5
    made = on_grid(mask.flatten(), (FRAMES, HEIGHT, WIDTH), (FRAMES, HEIGHT // 2, WIDTH // 2))
    slow = [
        mask[f, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].sum() > 2
        for f in range(FRAMES)
        for y in range(HEIGHT // 2)
        for x in range(WIDTH // 2)
    ]
    assert made.tolist() == [bool(one) for one in slow]
    assert on_grid(mask.flatten(), (FRAMES, HEIGHT, WIDTH), (FRAMES, HEIGHT, WIDTH)).equal(mask.flatten())
    pixels = mask.repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert mask_tokens(pixels, [range(f, f + 1) for f in range(FRAMES)], (FRAMES, HEIGHT, WIDTH)).equal(mask.flatten())


# One attention, against loops


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", ["preserve", "flow"])
@pytest.mark.parametrize("middle", [False, True])
def test_an_attention_within_frames_is_that_of_plain_loops(kind: TinyUnetKind, queries: str, middle: bool) -> None:
    model = unet(kind)
    windows: dict[str, Any] = {"preserve": None, "flow": None} | {queries: (0.0, 1.0)}
    batch = storyboard(
        shots(), ["red fox"] * 3, share=(0.0, 1.0), refine=REFINED, segmenter=Corner(), keyframes=2, middle=middle,
        **windows,
    )  # fmt: skip
    controls = [controls_of(model, request, SETTINGS) for request in batch]
    generator = torch.Generator().manual_seed(0)
    grid = (FRAMES, HEIGHT // 2, WIDTH // 2)
    tokens = grid[1] * grid[2]
    masks, found = [], []
    for shot, (control,) in enumerate(controls[3:]):
        assert isinstance(control, StoryboardSteering)
        control.in_sweeps = True
        control.meet(controls)
        control.begin(model)
        cells = torch.rand(*grid, generator=generator) < 0.5
        masks.append(cells.flatten(1))
        control.mask = cells.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten()
        anchor, place = (torch.randint(most, (FRAMES * tokens,), generator=generator) for most in (2, FRAMES * tokens))
        near = torch.rand(FRAMES * tokens, generator=generator) < 0.4
        found.append(Refinement(near, anchor if shot == 2 else torch.zeros_like(anchor), place))
        control.refinement = found[shot]
    run = Run(controls)
    run.branches = (Branch.UNCOND, Branch.COND)
    run.step = Step(index=max(controls[3][0].refined), of=SETTINGS.steps, sigma=0.9)  # type: ignore[attr-defined]
    site = next(site for site in model.sites if (site.kind, site.level, site.way) == ("self", 1, "up"))
    attn = model._modules[site]
    states = torch.randn(12 * FRAMES, tokens, attn.to_q.in_features, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        made = ControlledUnetAttention(attn.processor, attn, site, run)(attn, states)
        plain = attn.processor(attn, states)
        slow = looped(attn, states.unflatten(0, (12, FRAMES)), masks, found, queries, FRAMES // 2 if middle else None)
    rows = made.unflatten(0, (12, FRAMES))
    for row in range(12):
        if row % 6 < 3:
            torch.testing.assert_close(rows[row], plain.unflatten(0, (12, FRAMES))[row], atol=1e-12, rtol=1e-12)
        else:
            torch.testing.assert_close(rows[row], slow[row], atol=1e-12, rtol=1e-12)


def looped(
    attn: Any, states_RFnC: Tensor, masks: list[Tensor], found: list[Refinement], queries: str, also: int | None
) -> dict[int, Tensor]:
    """Steered rows (F, n, C) of both branches, from the module's own projections, token by token."""
    heads, (_, frames, tokens, _) = attn.heads, states_RFnC.shape
    q, k, v = (to(states_RFnC).unflatten(-1, (heads, -1)) for to in (attn.to_q, attn.to_k, attn.to_v))
    read = {0: [1], 1: [0], 2: [0, 1]}
    outs: dict[int, Tensor] = {}
    for branch in (0, 6):
        for shot, anchors in read.items():
            row = branch + 3 + shot
            asked = q[branch + shot] if queries == "preserve" else led(q[branch + shot], q[row])
            out = torch.empty(frames, tokens, *q.shape[3:], dtype=torch.float64)
            for f in range(frames):
                keys, values = [k[row, f]], [v[row, f]]
                for a in anchors:
                    for frame in sorted({f, f if also is None else also}):
                        keys.append(k[branch + 3 + a, frame][masks[a][frame]])
                        values.append(v[branch + 3 + a, frame][masks[a][frame]])
                for head in range(heads):
                    logits = asked[f, :, head] @ torch.cat(keys)[:, head].T / math.sqrt(q.shape[-1])
                    out[f, :, head] = logits.softmax(-1) @ torch.cat(values)[:, head]
            outs[row] = out.flatten(2).flatten(0, 1)
        before = {row: out.clone() for row, out in outs.items()}
        for shot, anchors in read.items():
            row = branch + 3 + shot
            for p in range(frames * tokens):
                if found[shot].near[p]:
                    taken = before[branch + 3 + anchors[int(found[shot].anchor[p])]][int(found[shot].place[p])]
                    outs[row][p] = 0.8 * taken + 0.2 * before[row][p]
    return {
        row: attn.to_out[0](out.unflatten(0, (frames, tokens))) / attn.rescale_output_factor
        for row, out in outs.items()
    }


def led(plain_FnHD: Tensor, own_FnHD: Tensor) -> Tensor:
    """Queries of frames 1 and 3 from where their tokens are in the keyframes beside them, found in the plain copy."""
    made = own_FnHD.clone()
    w = 1 / (1 + math.exp(-0.5))
    for frame in (1, 3):
        for p in range(plain_FnHD.shape[1]):
            best = []
            for key in (frame - 1, frame + 1):
                alike = torch.cosine_similarity(plain_FnHD[frame, p].flatten(), plain_FnHD[key].flatten(1), dim=1)
                best.append(int(alike.argmax()))
            made[frame, p] = w * own_FnHD[frame - 1, best[0]] + (1 - w) * own_FnHD[frame + 1, best[1]]
    return made


def test_the_subject_of_a_frame_is_read_from_the_anchors_same_frame_alone() -> None:
    """Keys of the anchor's other frames may be anything."""
    model = unet()
    controls = [controls_of(model, r, SETTINGS) for r in storyboard(shots(2), ["red fox"] * 2, segmenter=Corner())]
    for (control,) in controls[2:]:
        assert isinstance(control, StoryboardSteering)
        control.meet(controls)
        control.begin(model)
        control.mask = torch.ones(FRAMES * HEIGHT * WIDTH, dtype=torch.bool)
    site = next(site for site in model.sites if site.kind == "self" and site.way == "up" and site.level == 2)
    control = controls[2][0]
    assert isinstance(control, StoryboardSteering)
    control.shared, control.preserved, control.led, control.refined = (frozenset(steps) for steps in ((0,), (), (), ()))
    attn: Any = model._modules[site]
    run = Run(controls)
    run.step = Step(index=0, of=SETTINGS.steps, sigma=0.9)
    tokens = math.prod(control.shot.layout.halved(2).grid[1:])
    states = torch.randn(4 * FRAMES, tokens, attn.to_q.in_features, dtype=torch.float64)
    changed = states.clone()
    changed[3 * FRAMES + 2 :] += 1.0  # the other anchor, from its third frame on
    with torch.no_grad():
        made, other = (ControlledUnetAttention(attn.processor, attn, site, run)(attn, x) for x in (states, changed))
    moved = (made - other).abs().amax((1, 2)).unflatten(0, (4, FRAMES))[2]
    assert moved[:2].max() == 0
    assert moved[2:].min() > 1e-4
