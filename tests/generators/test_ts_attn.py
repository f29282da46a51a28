"""TS-Attn against golden values of the published functions, and against a slow float64 reference of the default."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.attention import attend
from generators.clip import Event, Progress, ShotRequest
from generators.controls.base import AttentionCall, Control, Shot, Step, attached
from generators.controls.config import TSAttn
from generators.controls.ts_attn import TSAttnControl, event_bias, subject_region
from generators.errors import ControlRejected
from generators.models.base import Branch, Site
from generators.models.tiny import TinyKind, tiny_pipeline
from generators.models.wan import WanVideoModel
from generators.sampler import Settings, sample
from generators.timeline import Timeline

PROMPT = "A red fox jumps over the box, then the fox walks home."
EVENTS = (
    Event(subject="fox", phrase="jumps over the box", start=0, end=1.0),
    Event(subject="fox", phrase="walks home", start=1.0, end=2.0),
)
SIDE, FRAMES = 64, 17


@cache
def model(kind: TinyKind = "t2v-2.1") -> WanVideoModel:
    return WanVideoModel.from_pipeline(tiny_pipeline(kind, scheduler="euler"))


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


# Golden values of the published function: rows 0-2 are event a's (column 2), rows 3-5 event b's (column 3); the
# subject is column 1; row 1 lies outside the region.
GOLDEN_FIXED = [
    [1.569156, 1.3, -2.394938],
    [0, 0, 0],
    [1.2, 1.765193, -1.95],
    [2.4, -1.865669, 2.132193],
    [1.927906, -1.7, 1.95],
    [2.500690, -1.2, 2.419391],
]
GOLDEN_OFFICIAL = [
    *GOLDEN_FIXED[:3],
    [0.9, -0.4, 0.9],
    [1.2, -1.912292, 1.8],
    [2.4, -1.865669, 2.132193],
]
GOLDEN_PAPER = [
    [0, 1.3, -1.855062],
    [0, 0, 0],
    [0, 1.765193, -1.3],
    [0, -1.634331, 2.132193],
    [0, -2.55, 1.95],
    [0, -0.8, 2.419391],
]
REGION = torch.tensor([1, 0, 1, 1, 1, 1])
COLUMNS = torch.tensor([1, 2, 3])


def golden_logits() -> Tensor:
    n, m = torch.arange(6).view(-1, 1), torch.arange(5).view(1, -1)
    return (((3 * n**2 + 5 * m**2 + n * m) % 7 - 3) / 2).double().unsqueeze(0)


def golden_signs(subject: int) -> Tensor:
    own_a, own_b = [subject, 1, -1], [subject, -1, 1]
    return torch.tensor([own_a] * 3 + [own_b] * 3) * REGION.unsqueeze(-1)


def close(bias_HnC: Tensor, golden: list[list[float]]) -> None:
    torch.testing.assert_close(bias_HnC[0], torch.tensor(golden).double(), atol=1e-6, rtol=0)


def test_the_bias_has_the_golden_values_of_the_code_with_its_row_offset_fixed() -> None:
    close(event_bias(golden_logits(), COLUMNS, golden_signs(subject=1)), GOLDEN_FIXED)


def test_statistics_of_the_rows_that_the_released_code_reads_give_its_values() -> None:
    # segment i of the released code reads rows from i on, instead of from its own first row
    read = golden_logits()[:, [0, 1, 2, 1, 2, 3]]
    close(event_bias(read, COLUMNS, golden_signs(subject=1)), GOLDEN_OFFICIAL)


def test_the_mirrored_scale_without_subject_tokens_gives_the_papers_values() -> None:
    close(event_bias(golden_logits(), COLUMNS, golden_signs(subject=0), mirrored=True), GOLDEN_PAPER)


def test_counted_padding_gives_the_bias_of_the_padding_written_out() -> None:
    logits = torch.randn(2, 6, 5, dtype=torch.float64)
    written_out = torch.cat([logits, *[logits[..., -1:]] * 9], dim=-1)
    counts = torch.tensor([1, 1, 1, 1, 10])
    torch.testing.assert_close(
        event_bias(logits, COLUMNS, golden_signs(1), counts_M=counts),
        event_bias(written_out, COLUMNS, golden_signs(1)),
    )


def test_a_row_whose_logits_are_all_equal_gets_no_bias() -> None:
    assert not event_bias(torch.ones(1, 6, 5), COLUMNS, golden_signs(1)).any()


def test_the_region_is_above_the_mean_of_the_upper_half_without_lonely_pixels() -> None:
    mass = torch.zeros(2, 4, 4)
    mass[0, 0, 0] = 9.0  # alone in its frame
    mass[1, 2:, 2:] = 9.0
    mass[1, 1, 1] = 9.0  # touches the block at a corner
    region = subject_region(mass.flatten(), (2, 4, 4)).view(2, 4, 4)
    expected = torch.zeros(2, 4, 4, dtype=torch.bool)
    expected[1, 2:, 2:] = True
    expected[1, 1, 1] = True
    assert torch.equal(region, expected)


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
        subject = sorted({c for k in range(text.occurrences(name)) for c in text.columns(name, occurrence=k)})
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
        return site.kind == "cross"

    def observe(self, call: AttentionCall, out_BHND: Tensor, lse_BHN: Tensor) -> None:
        self.calls.append((call, out_BHND))


def first_steered_call(asked: ShotRequest, config: TSAttn) -> tuple[AttentionCall, Tensor]:
    described = shot(asked)
    recorder = Recorder(described)
    recorder.calls = []
    ours = model()
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


@pytest.mark.parametrize("probe", ["raw", "normed"])
def test_the_default_preset_agrees_with_a_slow_reference_on_the_whole_padded_map(probe: Any) -> None:
    config = TSAttn(probe=probe)
    call, steered = first_steered_call(TWO_CASTS, config)
    tokens = shot(TWO_CASTS).text.tokens
    assert call.counts is not None
    assert call.counts.tolist() == [1.0] * tokens + [512.0 - tokens]
    repeats = call.counts.long()
    q, k, v = (x.double() for x in (call.q, call.k.repeat_interleave(repeats, 2), call.v.repeat_interleave(repeats, 2)))
    probe_q, probe_k = (
        (q, k) if probe == "normed" else (call.raw_q.double(), call.raw_k.double().repeat_interleave(repeats, 2))
    )
    scale = q.shape[-1] ** -0.5
    bias = slow_bias((probe_q @ probe_k.mT * scale)[0], TWO_CASTS, shot(TWO_CASTS))
    assert (bias > 0).any()
    assert (bias < 0).any()
    expected = (q @ k.mT * scale + bias).softmax(-1) @ v
    torch.testing.assert_close(steered.double(), expected, atol=2e-4, rtol=2e-4)
    plain, _ = attend(q, k, v)
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
    assert not torch.equal(plain, steered)


@pytest.mark.parametrize(("share", "steps", "acting"), [(0.2, 40, 8), (0.5, 40, 20), (0.2, 4, 1), (0.29, 100, 29)])
def test_the_first_share_of_the_steps_acts_and_at_least_one(share: float, steps: int, acting: int) -> None:
    control = TSAttnControl(TSAttn(steps=share), shot(request(), steps=steps))
    on = [control.acts(Step(index=i, of=steps, sigma=1.0), Branch.COND) for i in range(steps)]
    assert on == [i < acting for i in range(steps)]
    assert not control.acts(Step(index=0, of=steps, sigma=1.0), Branch.UNCOND)


@pytest.mark.parametrize("kind", ["t2v-2.1", "i2v-2.1", "t2v-2.2", "i2v-2.2", "ti2v-2.2", "world"])
def test_every_kind_of_wan_can_be_steered(kind: TinyKind) -> None:
    settings = Settings(steps=2, guidance=3.0)
    plain, steered = (sample(model(kind), [asked], settings).latents for asked in (request(), request(TSAttn())))
    assert steered.isfinite().all()
    assert not torch.equal(plain, steered)


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


def test_a_model_without_an_odd_cross_attention_is_refused() -> None:
    described = replace(shot(request()), sites=(Site(0, 0, "cross"), Site(0, 1, "self")))
    with pytest.raises(ControlRejected, match="TSAttn.layers='odd'"):
        TSAttnControl(TSAttn(), described)
    TSAttnControl(TSAttn(layers="all"), described)


def test_events_with_one_phrase_stand_for_its_occurrences_in_order() -> None:
    asked = request(
        prompt="The fox jumps. The fox jumps.", events=tuple(replace(event, phrase="jumps") for event in EVENTS)
    )
    described = shot(asked)
    plan = TSAttnControl(TSAttn(subject_tokens=False), described).plans[0]
    first, second = described.text.columns("jumps"), described.text.columns("jumps", occurrence=1)
    assert plan.columns.tolist() == [*first, *second]
    assert plan.sign[0].tolist() == [1] * 5 + [-1] * 5
    assert plan.sign[-1].tolist() == [-1] * 5 + [1] * 5


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"steps": 1.5}, {"strength": 0}, {"preset": "paper"}, {"probe": "x"}, {"layers": "even"}]
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"TSAttn.{next(iter(wrong))}: expected"):
        TSAttn(**wrong)
