"""TS-Attn on whole models: a slow reference of the default on the padded map, where it acts, and where it must not."""

from __future__ import annotations

import runpy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.attention import attend
from generators.clip import Event, Given, Progress, ShotRequest
from generators.controls.base import AttentionCall, Control, Shot, Step, attached
from generators.controls.config import TSAttn
from generators.controls.ts_attn import TSAttnControl
from generators.controls.ts_attn_bias import SeparableBias
from generators.costs import Cost, measured
from generators.errors import ControlRejected
from generators.models.base import Branch, Site, VideoModel
from generators.models.loading import take_apart
from generators.models.tiny import TinyKind, tiny_pipeline
from generators.models.tiny_cogvideox import TinyCogVideoXKind, tiny_cogvideox_pipeline
from generators.models.tiny_ltx import tiny_ltx_pipeline
from generators.models.wan import WanVideoModel
from generators.sampler import Settings, sample
from generators.timeline import Timeline
from generators.tokens import find_spans

PROMPT = "A red fox jumps over the box, then the fox walks home."
EVENTS = (
    Event(subject="fox", phrase="jumps over the box", start=0, end=1.0),
    Event(subject="fox", phrase="walks home", start=1.0, end=2.0),
)
SIDE, FRAMES = 64, 17
FELT = 0.05
"""What a steered clip differs by at least: far more than two ways to compute one attention do."""


@cache
def model(kind: TinyKind = "t2v-2.1") -> WanVideoModel:
    return WanVideoModel.from_pipeline(tiny_pipeline(kind, scheduler="euler"))


@cache
def other_family(kind: str) -> VideoModel:
    if kind == "ltx":
        return take_apart(tiny_ltx_pipeline("t2v"))
    return take_apart(tiny_cogvideox_pipeline(cast(TinyCogVideoXKind, kind)))


def any_family(kind: str) -> VideoModel:
    return model(cast(TinyKind, kind)) if kind in get_args(TinyKind) else other_family(kind)


def request(*controls: TSAttn, **changes: Any) -> ShotRequest:
    asked = ShotRequest(
        prompt=PROMPT, frames=FRAMES, fps=8, width=SIDE, height=SIDE, seed=1, events=EVENTS, controls=controls
    )
    return replace(asked, **changes)


def shot(asked: ShotRequest, steps: int = 10, kind: TinyKind = "t2v-2.1") -> Shot:
    ours = model(kind)
    return Shot(
        request=asked,
        text=ours.map_text(asked.prompt),
        timeline=Timeline(frames=asked.frames, fps=asked.fps),
        layout=ours.layout(asked.frames, asked.height, asked.width),
        steps=steps,
        sites=ours.sites,
        device=torch.device("cpu"),
    )


# ── a slow reference of the whole default preset, on full 512-column maps in float64 ──


def slow_region(prob_HNM: Tensor, subject: list[int], grid: tuple[int, int, int]) -> Tensor:
    mass = prob_HNM.mean(0)[:, subject].mean(-1)
    upper = sorted(mass.tolist(), reverse=True)[: len(mass) // 2]
    on = (mass > sum(upper) / len(upper)).view(grid).tolist()
    kept = torch.zeros(grid, dtype=torch.bool)
    for t in range(grid[0]):
        for y in range(grid[1]):
            for x in range(grid[2]):
                around = [
                    on[t][j][i]
                    for j in range(max(y - 1, 0), min(y + 2, grid[1]))
                    for i in range(max(x - 1, 0), min(x + 2, grid[2]))
                    if (j, i) != (y, x)
                ]
                kept[t, y, x] = on[t][y][x] and any(around)
    return kept.flatten()


def slow_bias(logits_HNM: Tensor, asked: ShotRequest, described: Shot) -> Tensor:
    text, timeline, layout = described.text, described.timeline, described.layout
    bias = torch.zeros_like(logits_HNM)
    prob = logits_HNM.softmax(-1)
    for name in dict.fromkeys(event.subject for event in asked.events):
        own = [event for event in asked.events if event.subject == name]
        subject = sorted(
            {c for k in range(len(find_spans(text.prompt, name))) for c in text.columns(name, occurrence=k)}
        )
        region = slow_region(prob, subject, layout.grid)
        for n in range(layout.tokens):
            centre = timeline.centre(n // (layout.grid[1] * layout.grid[2]))
            mine = next(event for event in own if event.start <= centre < event.end)
            lifted = {*subject, *text.columns(mine.phrase)}
            lowered = {c for event in own for c in text.columns(event.phrase)} - lifted
            for h in range(len(logits_HNM)):
                s, p = logits_HNM[h, n], prob[h, n]
                scaled = (p - p.min()) / (p.max() - p.min() + 1e-12)
                for c in lifted if region[n] else ():
                    bias[h, n, c] += (1 + 0.5 * (1 - scaled[c])) * (s.max() - s.mean())
                for c in lowered if region[n] else ():
                    bias[h, n, c] += (1 + 0.5 * (1 - scaled[c])) * (s.min() - s.mean())
    return bias


class Recorder(Control):
    """Keeps one call, and what came out of it."""

    calls: list[tuple[AttentionCall, Tensor]]

    def at(self, site: Site) -> bool:
        return site.kind in ("cross", "joint")

    def observe(self, call: AttentionCall, out_BHND: Tensor, lse_BHN: Tensor) -> None:
        self.calls.append((call, out_BHND))


def first_steered_call(asked: ShotRequest, config: TSAttn, kind: str = "t2v-2.1") -> tuple[AttentionCall, Tensor]:
    ours = any_family(kind)
    described = Shot.of(ours, asked, 10)
    recorder = Recorder(described)
    recorder.calls = []
    with torch.no_grad(), attached(ours, [[TSAttnControl(config, described), recorder]]) as run:
        text = ours.encode([asked.prompt], None)
        start = ours.start([asked], described.layout)
        run.step = Step(index=0, of=10, sigma=1.0)
        ours.predict(start.noise, torch.tensor(1000.0), text, [Branch.COND], start)
    return next((call, out) for call, out in recorder.calls if call.site.layer == 1)


TWO_CASTS = replace(
    request(),
    prompt="A red fox jumps over the box, then the fox walks home while a cat sleeps and then eats.",
    events=(
        *(replace(event, end=event.end + 0.2) for event in EVENTS[1:]),
        replace(EVENTS[0]),
        Event(subject="cat", phrase="sleeps", start=0, end=1.5),
        Event(subject="cat", phrase="eats", start=1.5, end=2.125),
    ),
)


@pytest.mark.parametrize(
    ("kind", "side", "columns"),
    [("t2v-2.1", SIDE, 512), ("i2v-2.1", SIDE, 512), ("ti2v-2.2", SIDE, 512), ("ltx", 128, None), ("t2v-5b", SIDE, 64)],
)
@pytest.mark.parametrize("probe", ["raw", "normed"])
def test_the_default_preset_agrees_with_a_slow_reference_on_the_whole_map(
    kind: str, side: int, columns: int | None, probe: Any
) -> None:
    """Padding included where the family reads it; of joint attention the columns of text, before one softmax."""
    asked = replace(request() if columns == 64 else TWO_CASTS, width=side, height=side)
    described = Shot.of(any_family(kind), asked, 10)
    call, steered = first_steered_call(asked, TSAttn(probe=probe), kind)
    text, tokens = call.over("text"), described.text.tokens
    counts = [1.0] * text.k.shape[2] if text.counts is None else text.counts.tolist()
    assert sum(counts) == (columns or tokens)
    repeats = torch.tensor(counts).long()
    q, k, raw_q, raw_k = (x.double() for x in (text.q, text.k, text.raw_q, text.raw_k))
    probed = (q @ k.mT if probe == "normed" else raw_q @ raw_k.mT).repeat_interleave(repeats, 3)
    scale = q.shape[-1] ** -0.5
    bias = slow_bias(probed[0] * scale, asked, described)
    assert (bias > 0).any()
    assert (bias < 0).any()
    keys, values = (
        torch.cat([own.double().repeat_interleave(repeats, 2), whole.double()[:, :, own.shape[2] :]], 2)
        for own, whole in ((text.k, call.k), (text.v, call.v))
    )
    logits = q @ keys.mT * scale
    plain = logits.softmax(-1) @ values
    logits[..., : bias.shape[-1]] += bias
    expected = logits.softmax(-1) @ values
    torch.testing.assert_close(steered.double(), expected, atol=2e-4, rtol=2e-4)
    assert (expected - plain).abs().max() > 0.1


# ── where it acts, and where it must not ──


def outputs_by_site(asked: ShotRequest, kind: TinyKind, steps: int = 10) -> list[Tensor]:
    """What every cross-attention gave, in call order: layers, conditional then unconditional, step by step."""
    ours, seen = model(kind), []
    hooks = [
        block.attn2.register_forward_hook(lambda module, args, out: seen.append(out))
        for expert in ours.experts
        for block in expert.blocks
    ]
    try:
        sample(ours, [asked], Settings(steps=steps, guidance=3.0))
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def test_first_steered_pass_changes_odd_layers_only_and_never_what_came_before() -> None:
    plain, steered = (outputs_by_site(asked, "t2v-2.1", steps=1) for asked in (request(), request(TSAttn())))
    cond, uncond = slice(0, 3), slice(3, 6)
    assert [torch.equal(a, b) for a, b in zip(plain[cond], steered[cond], strict=True)] == [True, False, False]
    assert (steered[1] - plain[1]).abs().max() > FELT
    assert all(torch.equal(a, b) for a, b in zip(plain[uncond], steered[uncond], strict=True))


def test_a_pass_off_its_steps_is_bit_equal_to_the_plain_model() -> None:
    ours = model()
    described = shot(request())
    control = TSAttnControl(TSAttn(steps=0.2), described)
    text = ours.encode([PROMPT], ["blurry"])
    start = ours.start([request()], described.layout)
    t = torch.tensor(800.0)
    with torch.no_grad():
        plain = ours.predict(start.noise, t, text, [Branch.COND], start)
        with attached(ours, [[control]]) as run:
            run.step = Step(index=2, of=10, sigma=0.8)
            idle = ours.predict(start.noise, t, text, [Branch.COND], start)
            run.step = Step(index=1, of=10, sigma=0.9)
            steered = ours.predict(start.noise, t, text, [Branch.COND], start)
            run.branches = [Branch.UNCOND]
            uncond = ours.predict(start.noise, t, text, [Branch.COND], start)
    assert torch.equal(plain, idle)
    assert torch.equal(plain, uncond)
    assert (steered - plain).abs().max() > FELT


@pytest.mark.parametrize(("share", "steps", "acting"), [(0.2, 40, 8), (0.5, 40, 20), (0.2, 4, 1), (0.29, 100, 29)])
def test_the_first_share_of_the_steps_acts_and_at_least_one(share: float, steps: int, acting: int) -> None:
    control = TSAttnControl(TSAttn(steps=share), shot(request(), steps=steps))
    on = [control.acts(Step(index=i, of=steps, sigma=1.0), Branch.COND) for i in range(steps)]
    assert on == [i < acting for i in range(steps)]
    assert not control.acts(Step(index=0, of=steps, sigma=1.0), Branch.UNCOND)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t2v-2.1", "i2v-2.1", "t2v-2.2", "i2v-2.2", "ti2v-2.2", "world"])
def test_every_kind_of_wan_can_be_steered_by_every_preset(kind: TinyKind) -> None:
    settings, side = Settings(steps=1, guidance=3.0), 128 if kind == "ti2v-2.2" else SIDE
    plain = sample(model(kind), [request(width=side, height=side)], settings).latents
    for preset in ("default", "official", "paper"):
        asked = request(TSAttn(preset=preset), width=side, height=side)
        steered = sample(model(kind), [asked], settings).latents
        assert steered.isfinite().all()
        assert (steered - plain).abs().max() > FELT


def test_both_experts_are_steered_while_the_share_lasts() -> None:
    """Picture to video acts over half of the steps, which crosses into the low-noise expert."""
    given = (Given(first=0, frames=np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8)),)
    changed: set[int] = set()

    class Watch(Recorder):
        def observe(self, call: AttentionCall, out_BHND: Tensor, lse_BHN: Tensor) -> None:
            if not torch.equal(out_BHND, attend(call.q, call.k, call.v, counts_M=call.counts)[0]):
                changed.add(call.site.expert)

    ours, asked = model("i2v-2.2"), request(TSAttn(), given=given)
    described = shot(asked, kind="i2v-2.2")
    control = TSAttnControl(TSAttn(), described)
    with torch.no_grad(), attached(ours, [[control, Watch(described)]]) as run:
        text, start = ours.encode([PROMPT], None), ours.start([asked], described.layout)
        for index in range(10):
            run.step = Step(index=index, of=10, sigma=1.0)
            if control.acts(run.step, Branch.COND) and index in (0, 4):
                ours.predict(start.noise, torch.tensor(999.0 if index == 0 else 700.0), text, [Branch.COND], start)
    assert changed == {0, 1}


@pytest.mark.parametrize(
    ("config", "words", "picture"),
    [
        (TSAttn(), 8, 20),
        (TSAttn(preset="paper"), 8, 16),
        (TSAttn(steps=0.7), 28, 28),
        (TSAttn(steps=0.7, picture_steps=0.3), 28, 12),
    ],
)
def test_a_clip_that_begins_with_a_picture_has_its_own_share(config: TSAttn, words: int, picture: int) -> None:
    given = (Given(first=0, frames=np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8)),)
    for asked, acting in ((request(), words), (request(given=given), picture)):
        assert TSAttnControl(config, shot(asked, steps=40)).last_step == acting


@pytest.mark.parametrize("preset", ["default", "official", "paper"])
def test_an_idle_step_costs_not_one_operation_more(preset: Any) -> None:
    ours, described = model(), shot(request())
    text, start = ours.encode([PROMPT], None), ours.start([request()], described.layout)

    def cost(branch: Branch, step: int) -> Cost:
        with measured() as meter, torch.no_grad(), attached(ours, [[control]]) as run:
            run.step, run.branches = Step(index=step, of=10, sigma=0.5), [branch]
            ours.predict(start.noise, torch.tensor(500.0), text, [Branch.COND], start)
        return meter.laps[0]

    control = TSAttnControl(TSAttn(preset=preset), described)
    with measured() as plain, torch.no_grad():
        ours.predict(start.noise, torch.tensor(500.0), text, [Branch.COND], start)
    assert cost(Branch.COND, 5).flops == cost(Branch.UNCOND, 0).flops == plain.laps[0].flops


def test_a_neighbour_in_the_batch_is_not_steered() -> None:
    settings = Settings(steps=2, guidance=3.0)
    alone = sample(model(), [request()], settings).latents
    pair = sample(model(), [request(TSAttn()), request()], settings).latents
    torch.testing.assert_close(pair[1], alone[0], atol=1e-4, rtol=1e-4)
    assert (pair[0] - alone[0]).abs().max() > 1e-2


def test_more_strength_moves_the_clip_further() -> None:
    settings = Settings(steps=2, guidance=3.0)
    plain = sample(model(), [request()], settings).latents
    near, far = (
        (sample(model(), [request(TSAttn(strength=s))], settings).latents - plain).abs().mean() for s in (0.01, 1.0)
    )
    assert near < far


def test_separated_rows_put_their_attention_on_their_own_event() -> None:
    """The point of it all: with the control, rows of the second half look more at the second event's words."""
    call, _ = first_steered_call(request(), TSAttn(region=False, probe="normed", subject_tokens=False))
    control = TSAttnControl(TSAttn(region=False, probe="normed", subject_tokens=False), shot(request()))
    biases = control.biases(call)
    text = shot(request()).text
    first, second = (torch.tensor(text.columns(event.phrase)) for event in EVENTS)
    one_hot = torch.zeros_like(call.v)
    one_hot[:, :, first, 0] = 1
    one_hot[:, :, second, 1] = 1
    plain, _ = attend(call.q, call.k, one_hot, counts_M=call.counts)
    steered, _ = attend(call.q, call.k, one_hot, biases, counts_M=call.counts)
    rows = call.layout.tokens // 5
    early, late = slice(0, 2 * rows), slice(3 * rows, None)
    assert (steered[:, :, early, 0] > plain[:, :, early, 0]).all()
    assert (steered[:, :, early, 1] < plain[:, :, early, 1]).all()
    assert (steered[:, :, late, 1] > plain[:, :, late, 1]).all()
    assert (steered[:, :, late, 0] < plain[:, :, late, 0]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"events": ()}, "at least one event"),
        ({"events": (replace(EVENTS[0], phrase="flies"),)}, "event 'flies' does not stand in the prompt"),
        ({"events": (replace(EVENTS[0], subject="wolf"),)}, "subject 'wolf' does not stand in the prompt"),
        ({"prompt": "very " * 120 + PROMPT}, "cuts the prompt after 512 tokens"),
        ({"events": (replace(EVENTS[0], start=2.15, end=2.2),)}, "starts at 2.15 s"),
    ],
)
def test_a_control_that_cannot_act_says_so_before_any_work(changes: dict[str, Any], message: str) -> None:
    seen: list[Progress] = []
    with pytest.raises(ControlRejected, match=message):
        sample(model(), [request(TSAttn(), **changes)], Settings(steps=2, guidance=3.0), on_step=seen.append)
    assert not seen


def test_an_event_without_subject_steers_every_row() -> None:
    control = TSAttnControl(TSAttn(), shot(request(events=tuple(replace(e, subject="") for e in EVENTS))))
    assert not len(control.plans[0].subject_columns)


@pytest.mark.parametrize("kind", ["ltx", "t2v-2b", "t2v-5b", "t2v-1.5"])
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_other_families_are_steered_in_the_conditional_branch(kind: str, preset: Any) -> None:
    ours, settings = other_family(kind), Settings(steps=2, guidance=3.0)
    side = {"ltx": 128, "t2v-1.5": 32}.get(kind, SIDE)
    # 2 x 2 tokens a frame are all that t2v-1.5 has positions for: few have neighbours
    config = TSAttn(preset=preset, erosion="none" if kind == "t2v-1.5" else None)
    asked = [request(*controls, width=side, height=side) for controls in ((), (config,))]
    plain, steered = (sample(ours, [one], settings).latents for one in asked)
    assert steered.isfinite().all()
    assert (steered - plain).abs().max() > FELT
    again = sample(ours, asked[:1], settings).latents
    assert torch.equal(plain, again)


def test_the_share_of_every_region_is_kept_and_the_empty_ones_are_noted() -> None:
    settings = Settings(steps=2, guidance=3.0)
    (wide,) = sample(model(), [request(TSAttn(layers="all"))], settings).controls[0]
    assert isinstance(wide, TSAttnControl)
    ((name, shares),) = wide.region_shares().items()
    assert name == "fox"
    assert {site.layer for site in shares} == {0, 1, 2}
    assert all(0.02 < share < 0.5 for share in shares.values())
    assert wide.notes == ()
    ltx = other_family("ltx")
    plain, alone, all_rows = (
        sample(ltx, [request(*controls, width=32, height=32)], settings)
        for controls in ((), (TSAttn(),), (TSAttn(region=False),))
    )
    torch.testing.assert_close(alone.latents, plain.latents)  # one token a frame: each is alone
    assert (all_rows.latents - plain.latents).abs().max() > 1e-3
    ((note,),) = (control.notes for control in alone.controls[0])
    assert "the region of 'fox' was empty" in note
    assert all_rows.controls[0][0].notes == ()


def test_the_share_of_a_region_is_that_of_its_rows() -> None:
    call, _ = first_steered_call(TWO_CASTS, TSAttn())
    control = TSAttnControl(TSAttn(), shot(TWO_CASTS))
    for bias in control.biases(call):
        assert isinstance(bias, SeparableBias)
        assert bias.region is not None
        inside = sum(bias.region.tolist()) / call.layout.tokens
        assert control.region_shares()[bias.plan.subject] == {call.site: pytest.approx(inside)}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TSAttn(preset="official", intervals="uniform"), r"TSAttn.preset='official': nothing is published for LTX"),
        (TSAttn(padding=False), r"TSAttn.padding=False would change nothing: LTX hides the padding"),
    ],
)
def test_what_means_nothing_in_ltx_is_refused_there_before_any_work(config: TSAttn, message: str) -> None:
    seen: list[Progress] = []
    asked, settings = request(config, width=128, height=128), Settings(steps=2, guidance=3.0)
    with pytest.raises(ControlRejected, match=message):
        sample(other_family("ltx"), [asked], settings, on_step=seen.append)
    assert not seen
    assert sample(model(), [request(config)], settings).latents.isfinite().all()


def test_the_example_steers_a_plain_pipeline() -> None:
    example = runpy.run_path(str(Path(__file__).resolve().parents[2] / "examples" / "steer_ts_attn.py"))
    plain = tiny_pipeline("t2v-2.2", scheduler="euler")
    with torch.no_grad():
        video = example["steer"](plain, frames=17, fps=3, width=SIDE, height=SIDE, steps=2)
    assert video.shape == (17, 3, SIDE, SIDE)
    assert not any("Controlled" in type(b.attn2.processor).__name__ for b in plain.transformer.blocks)


def test_a_model_without_an_odd_cross_attention_is_refused() -> None:
    described = replace(shot(request()), sites=(Site(0, 0, "cross"), Site(0, 1, "self")))
    with pytest.raises(ControlRejected, match="TSAttn.layers='odd'"):
        TSAttnControl(TSAttn(), described)
    TSAttnControl(TSAttn(layers="all"), described)
