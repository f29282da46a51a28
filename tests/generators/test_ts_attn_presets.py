"""Whole attentions in float64 against independent re-derivations: the released code with its faults, and the paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from torch import Tensor

from generators.clip import Event, ShotRequest
from generators.controls.base import AttentionCall, Run, Shot, Step
from generators.controls.config import TSAttn
from generators.controls.steering import steer
from generators.controls.ts_attn import TSAttnControl
from generators.controls.ts_attn_bias import SeparableBias, row_statistics
from generators.controls.ts_attn_flags import Axis
from generators.errors import ControlRejected
from generators.models.base import Layout, Site
from generators.models.tiny import tiny_pipeline
from generators.models.wan_attention import ControlledWanAttention
from generators.timeline import Timeline
from generators.tokens import map_text

PROMPT = "A cat and a dog meet, the dog sits down, then runs home and at last eats."
PHRASES = ("sits down", "runs home", "eats")
FRAMES, GRID = 17, (5, 6, 7)
HEADS, WIDTH = 2, 12
SITE = Site(0, 1, "cross")


def described(events: tuple[Event, ...], *, sites: tuple[Site, ...] = (SITE,)) -> Shot:
    request = ShotRequest(prompt=PROMPT, frames=FRAMES, fps=8, width=112, height=96, seed=1, events=events)
    return Shot(
        request=request,
        text=map_text(tiny_pipeline("t2v-2.1").tokenizer, PROMPT, 512),
        timeline=Timeline(frames=FRAMES, fps=8),
        layout=Layout(channels=16, frames=5, height=12, width=14),
        steps=10,
        sites=sites,
        device=torch.device("cpu"),
    )


def dogs_events(*, subject: str = "dog") -> tuple[Event, ...]:
    times = ((0, 0.6), (0.6, 1.5), (1.5, 2.125))
    return tuple(Event(subject=subject, phrase=p, start=a, end=b) for p, (a, b) in zip(PHRASES, times, strict=True))


def attention() -> Any:
    torch.manual_seed(3)
    module = WanAttention(dim=HEADS * WIDTH, heads=HEADS, dim_head=WIDTH, cross_attention_dim_head=WIDTH).double()
    for parameter in module.parameters():  # wide, so that neither logits nor regions degenerate
        torch.nn.init.normal_(parameter, std=0.6)
    return module


def inputs(tokens: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(4)
    video = torch.randn(1, GRID[0] * GRID[1] * GRID[2], HEADS * WIDTH, dtype=torch.float64)
    text = torch.randn(1, 512, HEADS * WIDTH, dtype=torch.float64)
    text[:, tokens:] = text[:, -1:]
    return video, text


def ours(config: TSAttn, shot: Shot) -> Tensor:
    module, (video, text) = attention(), inputs(shot.text.tokens)
    run = Run([[TSAttnControl(config, shot)]])
    run.step = Step(index=0, of=10, sigma=1.0)
    module.set_processor(ControlledWanAttention(WanAttnProcessor(), SITE, run))
    with torch.no_grad():
        out: Tensor = module(video, text, None, None)
    return out


def rms(x: Tensor, norm: Any) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight


def split(x: Tensor) -> Tensor:
    return x[0].view(x.shape[1], HEADS, WIDTH).transpose(0, 1)


def projections() -> dict[str, Tensor]:
    """(H, N or 512, d): q and k before and after their norm, v."""
    module, (video, text) = attention(), inputs(len(PROMPT) + 1)
    q, k, v = module.to_q(video), module.to_k(text), module.to_v(text)
    found = {"raw_q": q, "raw_k": k, "q": rms(q, module.norm_q), "k": rms(k, module.norm_k), "v": v}
    return {name: split(x).detach() for name, x in found.items()}


def finished(parts: dict[str, Tensor], bias: Tensor) -> Tensor:
    out = (parts["q"] @ parts["k"].mT / WIDTH**0.5 + bias).softmax(-1) @ parts["v"]
    return attention().to_out[0](out.transpose(0, 1).reshape(1, -1, HEADS * WIDTH)).detach()


def spans(phrase: str) -> list[int]:
    """Columns of every occurrence; the tokenizer is byte-level, so a column is a letter."""
    starts = [i for i in range(len(PROMPT)) if PROMPT.startswith(phrase, i)]
    return sorted({i + n for i in starts for n in range(len(phrase))})


def on(columns: list[int]) -> Tensor:
    mask = torch.zeros(512, dtype=torch.float64)
    mask[columns] = 1
    return mask


def published(subject: str, phrases: tuple[str, ...], shares: list[float]) -> Tensor:
    """The released block, from its description: raw probe, 512 columns, token segments, the offset that grows by 1."""
    parts = projections()
    sim = parts["raw_q"] @ parts["raw_k"].mT / WIDTH**0.5
    probability = sim.softmax(-1)
    a = probability.mean(0)[:, spans(subject)].mean(-1)
    a = (a - a.min()) / (a.max() - a.min() + 1e-6)
    region = a > a.sort(descending=True).values[: int(len(a) * 0.5)].mean()
    frames = region.view(GRID)
    lonely = torch.zeros_like(frames)
    for t, y, x in frames.nonzero().tolist():
        near = frames[t, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        lonely[t, y, x] = near.sum() == 1
    region = (frames & ~lonely).flatten().double()
    counts = [round(share * len(a)) for share in shares]
    counts[-1] = len(a) - sum(counts[:-1])
    pieces, first = [], 0
    for i, count in enumerate(counts):
        rows = sim[:, i : i + count]  # the fault: the offset grows by 1 an event, not by `count`
        low, top, mean = rows.amin(-1, True), rows.amax(-1, True), rows.mean(-1, True)
        p = rows.softmax(-1)
        p = (p - p.amin(-1, True)) / (p.amax(-1, True) - p.amin(-1, True) + 1e-12)
        alpha = 1 + 0.5 * (1 - p)
        own = ((on(spans(phrases[i])) + on(spans(subject))) > 0).double()
        bias = alpha * (top - mean) * own
        for j, other in enumerate(phrases):
            if j != i:
                bias = bias + alpha * (low - mean) * on(spans(other))
        pieces.append(bias * region[first : first + count].view(-1, 1))
        first += count
    return finished(parts, torch.cat(pieces, dim=1))


SHARES = [0.45, 0.33, 0.22]


def test_official_equals_the_released_code_to_1e_12() -> None:
    config = TSAttn(preset="official", intervals=tuple(SHARES))
    expected = published("dog", PHRASES, SHARES)
    torch.testing.assert_close(ours(config, described(dogs_events())), expected, atol=1e-12, rtol=1e-12)
    assert (ours(TSAttn(), described(dogs_events())) - expected).abs().max() > 0.1


def test_official_adds_both_biases_on_a_column_of_two_events() -> None:
    phrases = ("the dog sits down", "dog sits", "runs home")
    events = tuple(replace(e, phrase=p) for e, p in zip(dogs_events(), phrases, strict=True))
    config = TSAttn(preset="official", intervals=tuple(SHARES))
    expected = published("dog", phrases, SHARES)
    torch.testing.assert_close(ours(config, described(events)), expected, atol=1e-12, rtol=1e-12)


def test_official_knows_the_last_subject_alone_with_everyones_events() -> None:
    config = TSAttn(preset="official", intervals=tuple(SHARES))
    cat, *dogs = dogs_events()
    both = described((replace(cat, subject="cat"), *dogs))
    assert torch.equal(ours(config, both), ours(config, described(dogs_events())))
    assert not torch.equal(ours(TSAttn(), both), ours(TSAttn(), described(dogs_events())))


def test_official_takes_shares_from_events_that_follow_each_other() -> None:
    lengths = [event.end - event.start for event in dogs_events()]
    shares = [length / sum(lengths) for length in lengths]
    found = ours(TSAttn(preset="official"), described(dogs_events()))
    torch.testing.assert_close(found, published("dog", PHRASES, shares), atol=1e-12, rtol=1e-12)


def paper() -> Tensor:
    """Equations 1 to 10 and 12 with the axes of the code: normed logits, own rows, whole frames, per head and row."""
    parts, shot = projections(), described(dogs_events())
    sim = parts["q"] @ parts["k"].mT / WIDTH**0.5
    a = sim[:, :, spans("dog")].mean(dim=(0, 2))
    frames = (a >= a.mean()).view(GRID)
    bias = torch.zeros_like(sim)
    for n in range(sim.shape[1]):
        t, y, x = n // (GRID[1] * GRID[2]), n // GRID[2] % GRID[1], n % GRID[2]
        if not frames[t, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].all():
            continue
        centre = shot.timeline.centre(t)
        for event in dogs_events():
            s = sim[:, n]
            p = s.softmax(-1)
            p = (p - p.amin(-1, True)) / (p.amax(-1, True) - p.amin(-1, True))
            if event.start <= centre < event.end:
                value = (1 + 0.5 * (1 - p)) * (s.amax(-1, True) - s.mean(-1, True))
            else:
                value = (1 + 0.5 * p) * (s.amin(-1, True) - s.mean(-1, True))
            bias[:, n, spans(event.phrase)] = value[:, spans(event.phrase)]
    assert bias.any()
    return finished(parts, bias)


def test_paper_equals_its_equations_to_1e_12() -> None:
    torch.testing.assert_close(ours(TSAttn(preset="paper"), described(dogs_events())), paper(), atol=1e-12, rtol=1e-12)


def test_every_flag_changes_the_attention() -> None:
    """Told apart from the default on one attention; a flag that does nothing would be a promise not kept."""
    shot = described(dogs_events())
    plain = ours(TSAttn(), shot)
    changes: list[dict[str, Any]] = [
        {"probe": "normed"}, {"region": False}, {"region_map": "logits"}, {"threshold": "mean"}, {"erosion": "full"},
        {"erosion": "none"}, {"rearrangement": False}, {"reinforcement": False}, {"lowered": "mirrored"},
        {"subject_tokens": False}, {"statistics": "offset"}, {"padding": False}, {"edges": "token"},
        {"intervals": "uniform"}, {"strength": 0.5},
    ]  # fmt: skip
    for change in changes:
        assert not torch.equal(ours(TSAttn(**change), shot), plain), change


# ── joint attention ──


def joint_call(shot: Shot) -> AttentionCall:
    torch.manual_seed(5)
    rows, words = shot.layout.tokens, shot.text.tokens + 3  # padding in joint attention is no one vector
    q, k, v = (2 * torch.randn(1, HEADS, n, WIDTH, dtype=torch.float64) for n in (rows, words + rows, words + rows))
    return AttentionCall(
        site=Site(0, 1, "joint"), step=Step(index=0, of=10, sigma=1.0), row=0, layout=shot.layout,
        q=q, k=k, v=v, raw_q=q * 3, raw_k=k, text=slice(words),
    )  # fmt: skip


@pytest.mark.parametrize("axis", ["text", "all"])
def test_in_joint_attention_words_are_biased_by_the_real_logits_over_the_text_alone_or_all(axis: Axis) -> None:
    shot = described(dogs_events(), sites=(Site(0, 1, "joint"),))
    call = joint_call(shot)
    config = TSAttn(region=False, axis=axis)
    with torch.no_grad():
        found = steer(call, [TSAttnControl(config, shot)])
    logits = call.q[0] @ call.k[0].mT / WIDTH**0.5
    assert call.text is not None
    seen = slice(None) if axis == "all" else call.text
    over, p = logits[..., seen], logits.softmax(-1)
    low, top, mean = over.amin(-1, True), over.amax(-1, True), over.mean(-1, True)
    least, most = p[..., seen].amin(-1, True), p[..., seen].amax(-1, True)
    alpha = 1 + 0.5 * (1 - (p - least) / (most - least))
    bias = torch.zeros_like(logits)
    per_frame = GRID[1] * GRID[2]
    for n in range(shot.layout.tokens):
        centre = shot.timeline.centre(n // per_frame)
        for event in dogs_events():
            columns = spans(event.phrase)
            away = top - mean if event.start <= centre < event.end else low - mean
            bias[:, n, columns] = (alpha * away)[:, n, columns]
        named = spans("dog")
        bias[:, n, named] = (alpha * (top - mean))[:, n, named]
    expected = (logits + bias).softmax(-1) @ call.v[0]
    torch.testing.assert_close(found[0], expected, atol=1e-10, rtol=1e-10)


def test_statistics_over_video_columns_walk_the_rows_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    shot = described(dogs_events(), sites=(Site(0, 1, "joint"),))
    control = TSAttnControl(TSAttn(axis="all", padding=False, probe="raw"), shot)
    with torch.no_grad():
        whole = steer(joint_call(shot), [control])
        monkeypatch.setattr("generators.controls.ts_attn_bias.rows_at_once", lambda q, k: 5)
        torch.testing.assert_close(steer(joint_call(shot), [control]), whole, atol=1e-12, rtol=1e-12)


def test_statistics_of_other_rows_are_theirs_over_text_and_video_alike() -> None:
    shot = described(dogs_events(), sites=(Site(0, 1, "joint"),))
    call = joint_call(shot)
    asked = TSAttn(axis="all", statistics="offset", intervals="uniform", edges="token", region=False)
    [bias] = TSAttnControl(asked, shot).biases(call.over("text"))
    assert isinstance(bias, SeparableBias)
    source, columns = bias.plan.source, bias.columns
    assert source is not None
    q, everything = call.q[0, :, source], call.q[0, :, source] @ call.k[0].mT / WIDTH**0.5
    found = bias.values(slice(None), torch.zeros(1, HEADS, *everything.shape[1:]))[0]
    over = row_statistics(everything)
    lift, lower = (side[bias.plan.segment] for side in (bias.plan.lift, bias.plan.lower))
    text = q @ call.over("text").k[0].mT / WIDTH**0.5
    p = (text[..., columns] - over.top).exp()
    least = (over.low - over.top).exp()
    scale = 1 + 0.5 * (1 - (p - least) / (1 - least))
    wanted = scale * (lift * (over.top - over.mean) + lower * (over.low - over.mean))
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)


def test_video_columns_count_only_where_text_and_video_are_read_together() -> None:
    with pytest.raises(ControlRejected, match="axis='all' would change nothing"):
        TSAttnControl(TSAttn(axis="all"), described(dogs_events()))


def test_a_setting_of_later_versions_changes_no_digest_of_those_who_do_not_ask_for_it() -> None:
    assert "axis" not in TSAttn().plain()
    assert TSAttn(axis="all").plain()["axis"] == "all"


def test_official_is_refused_where_nothing_is_published() -> None:
    with pytest.raises(ControlRejected, match="nothing is published for joint attention"):
        TSAttnControl(TSAttn(preset="official"), described(dogs_events(), sites=(Site(0, 1, "joint"),)))


def test_a_model_whose_frames_read_the_text_alone_is_refused() -> None:
    with pytest.raises(ControlRejected, match="reads the whole clip"):
        TSAttnControl(TSAttn(), described(dogs_events(), sites=(SITE, Site(0, 2, "temporal"))))
