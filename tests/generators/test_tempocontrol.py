"""TempoControl at work: the released loop re-derived in float64, the walk it reads by, and what it must leave alone."""

from __future__ import annotations

import math
import runpy
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor

from generators.clip import Event, Given, ShotRequest
from generators.controls.base import Control, Shot, Step, attached
from generators.controls.config import TempoControl, TSAttn, Word
from generators.controls.tempo_losses import Weights, objective
from generators.controls.tempocontrol import TempoSteering
from generators.errors import ControlRejected
from generators.models.base import Branch, Layout, Reader, Site
from generators.models.tiny import TinyKind, TinyScheduler, tiny_pipeline
from generators.models.wan import WanVideoModel
from generators.sampler import Sample, Settings, _StepProbe, sample
from generators.timeline import Timeline

PROMPT = "A delicate cat sits on the box, then the cat jumps up."
EVENTS = (
    Event(subject="cat", phrase="sits on the box", start=0, end=1.5),
    Event(subject="cat", phrase="jumps up", start=1.5, end=3.1),
)
FRAMES, HEIGHT, WIDTH = 25, 32, 48
LATE = Word(text="jumps up", latents=(0, 0, 0, 0, 1, 1, 1))


@cache
def model(kind: TinyKind = "t2v-2.1", scheduler: TinyScheduler = "euler") -> WanVideoModel:
    pipe = tiny_pipeline(kind, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return WanVideoModel.from_pipeline(pipe, gives_tokens_at_zero=True if kind == "world" else None)


def request(*controls: Any, **changes: Any) -> ShotRequest:
    asked = ShotRequest(
        prompt=PROMPT, frames=FRAMES, fps=8, width=WIDTH, height=HEIGHT, seed=1, events=EVENTS, controls=controls
    )
    return replace(asked, **changes)


def filmed(*requests: ShotRequest, steps: int = 5, ours: WanVideoModel | None = None, guidance: float = 1.0) -> Sample:
    return sample(ours or model(), requests, Settings(steps=steps, guidance=guidance))


def shot(asked: ShotRequest, *, steps: int = 5, layers: int = 3, layout: Layout | None = None) -> Shot:
    ours = model()
    return Shot(
        request=asked,
        text=ours.map_text(asked.prompt),
        timeline=Timeline(frames=asked.frames, fps=asked.fps),
        layout=layout or ours.layout(asked.frames, asked.height, asked.width),
        steps=steps,
        sites=tuple(Site(0, layer, "cross") for layer in range(layers)),
        device=torch.device("cpu"),
    )


def steering(result: Sample, request: int = 0) -> TempoSteering:
    (control,) = result.controls[request]
    assert isinstance(control, TempoSteering)
    return control


# ── the released loop, re-derived ──


class ToyProbe:
    """A small differentiable network in float64 that is read as a Wan would be: three layers, 40 padded columns."""

    def __init__(self, layout: Layout, tokens: int) -> None:
        generator = torch.Generator().manual_seed(5)
        patches = layout.channels * math.prod(layout.patch)
        self.layout = layout
        self.weights = [torch.randn(patches, 16, generator=generator, dtype=torch.float64) * 0.3 for _ in range(3)]
        self.keys = [torch.randn(1, 2, tokens, 8, generator=generator, dtype=torch.float64) for _ in range(3)]
        self.keys = [torch.cat([k, k.new_full((1, 2, 40, 8), 0.3)], dim=2) for k in self.keys]
        self.passes = 0

    def queries(self, latents: Tensor, layer: int) -> Tensor:
        frames, height, width = self.layout.grid
        patches = latents.view(-1, frames, height, 2, width, 2).permute(1, 2, 4, 0, 3, 5).flatten(3).flatten(0, 2)
        mixed = patches @ self.weights[layer] + (patches.roll(layer, 0) @ self.weights[0]).tanh()
        return mixed.view(1, -1, 2, 8).transpose(1, 2)

    def __call__(self, latents: Tensor, layers: Sequence[int], read: Reader, *, recompute: bool = True) -> list[Tensor]:
        self.passes += 1
        return [read(layer, self.queries(latents, layer), self.keys[layer]) for layer in layers]


def released_maps(toy: ToyProbe, latents: Tensor, ids: list[list[int]]) -> Tensor:
    total: Any = 0
    for layer in range(3):
        logits = toy.queries(latents, layer) @ toy.keys[layer].mT / 8**0.5
        total = total + torch.softmax(logits, -1)
    mean = (total / (3 - 1)).mean(1)[0]
    return torch.stack([mean[:, word].mean(-1).view(toy.layout.grid) for word in ids])


def released_pearson(maps: Tensor, mask: Tensor) -> Tensor:
    a = maps.mean((1, 2))
    a = (a - a.min()) / (a.max() - a.min() + 1e-6)
    x, y = a[1:-1], mask[1:-1]
    covariance = (x * y).mean() - x.mean() * y.mean()
    return covariance / (torch.sqrt(x.var(unbiased=False) + 1e-6) * torch.sqrt(y.var(unbiased=False) + 1e-6))


def released_loss(maps: Tensor, masks: Tensor) -> Tensor:
    parts: list[list[Tensor]] = [[], [], [], []]
    for one, mask in zip(maps, masks, strict=True):
        on, off = mask > 0.7, mask < 0.7
        parts[0].append(-released_pearson(one, mask))
        parts[1].append(-one[on].sum((1, 2)).mean() if on.any() else torch.zeros(()).double())
        parts[2].append(one[off].sum((1, 2)).mean() if off.any() else torch.zeros(()).double())
        share = one[on].flatten(1) / (one[on].flatten(1).sum(1, keepdim=True) + 1e-10)
        parts[3].append((-share * torch.log(share + 1e-10)).sum(1).mean())
    corr, up, down, entropy = (sum(part) / len(part) for part in parts)
    return corr + 0.3 * (up + down) + 10 * entropy


def released_edit(
    toy: ToyProbe, latents: Tensor, ids: list[list[int]], masks: Tensor, rate: float, tau: float
) -> Tensor:
    """One denoising step's edits: both early stops, AdamW written out."""
    if released_pearson(released_maps(toy, latents, ids)[0], masks[0]) >= tau:
        return latents
    z, m, v = latents.clone(), torch.zeros_like(latents), torch.zeros_like(latents)
    for i in range(1, 11):
        z = z.detach().requires_grad_()
        maps = released_maps(toy, z, ids)
        if released_pearson(maps[0], masks[0]) > tau:
            break
        (g,) = torch.autograd.grad(released_loss(maps, masks), z)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        z = z.detach() * (1 - rate * 0.01)
        z = z - rate * (m / (1 - 0.9**i)) / ((v / (1 - 0.999**i)).sqrt() + 1e-8)
    return z.detach()


CAT_IDS = [i for i in range(len(PROMPT)) if any(PROMPT[s : s + 3] == "cat" and s <= i < s + 3 for s in range(60))]
"""The tiny tokenizer has one token a letter; "delicate" counts too."""
JUMP_IDS = list(range(PROMPT.index("jumps"), PROMPT.index("jumps") + 5))
LAYOUT = Layout(channels=4, frames=7, height=6, width=8)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e-3, 0.05])
@pytest.mark.parametrize("late", [(0, 0, 0, 0, 1, 1, 1), (0.1, 0.2, 0.9, 0.4, 0.8, 1, 0.3)])
def test_the_official_preset_is_the_released_loop_to_twelve_digits(late: tuple[float, ...], rate: float) -> None:
    words = (Word(text="jumps", latents=late), Word(text="cat"))
    config = replace(TempoControl.official(words, "action"), rate=rate)
    described = shot(request(), layout=LAYOUT, steps=50)
    toy = ToyProbe(LAYOUT, described.text.tokens)
    control = TempoSteering(config, described)
    ours = slow = torch.randn(1, *LAYOUT.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    masks = torch.tensor([late, [1.0] * 7], dtype=torch.float64)
    with torch.no_grad():
        for index in range(12):
            step = Step(index=index, of=50, sigma=1.0)
            assert control.before_step_with(step, ours, toy) is ours
            ours = control.after_step_with(step, ours, toy)
    for _ in range(11):
        slow = released_edit(toy, slow, [JUMP_IDS, CAT_IDS], masks, rate, 0.85)
    assert (ours - slow).abs().max() < 1e-12
    moves = [len(entry.objectives) for entry in control.log]
    assert len(moves) == 11
    if rate == 1e-3:
        assert moves == [10] * 11
    else:  # both early stops are taken: inside the loop of one step, and before that of others
        assert 0 < moves[0] < 10
        assert 0 in moves
    assert toy.passes == sum(len(entry.correlations) for entry in control.log)  # not one pass that nobody uses


def test_published_hyper_parameters_come_with_their_task() -> None:
    action = TempoControl.official((LATE,), "action")
    assert (action.rate, action.magnitude, action.focus, action.enough, action.iterations) == (1e-3, 0.3, 10, 0.85, 10)
    sound = TempoControl.official((LATE,), "sound")
    assert (sound.magnitude, int(sound.steps * 50 + 1e-9), int(action.steps * 50 + 1e-9)) == (1.0, 4, 11)


# ── the walk on a real network ──


class WholeMaps(Control):
    """Keeps queries and keys of every text attention of an ordinary pass."""

    def __init__(self, described: Shot) -> None:
        super().__init__(described)
        self.calls: dict[int, tuple[Tensor, Tensor]] = {}

    def at(self, site: Site) -> bool:
        return site.kind == "cross"

    def observe(self, call: Any, out_BHND: Tensor, lse_BHN: Tensor) -> None:
        if self.shot.text.tokens + 1 == call.k.shape[2]:
            call = replace(call, k=call.k.repeat_interleave(call.counts.long(), 2))
        self.calls[call.site.layer] = (call.q, call.k)


def probe_of(ours: WanVideoModel, asked: Sequence[ShotRequest], run: Any, i: int = 0) -> tuple[Any, Tensor]:
    layout = ours.layout(FRAMES, HEIGHT, WIDTH)
    start = ours.start(asked, layout)
    text = ours.encode([r.prompt for r in asked], None)
    return _StepProbe(ours, text, start, ours.stepper(5, layout), i, 0), start.noise[:1]


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("kind", ["t2v-2.1", "t2v-2.2", "ti2v-2.2", "world"])
def test_a_walk_reads_what_a_whole_pass_asks_and_has_its_gradient(kind: TinyKind, recompute: bool) -> None:
    ours, asked = model(kind), request(height=64, width=64) if kind == "ti2v-2.2" else request()
    layout = ours.layout(asked.frames, asked.height, asked.width)
    start, text = ours.start([asked], layout), ours.encode([PROMPT], None)
    t = ours.stepper(5, layout).timesteps[1]
    weigh = [torch.randn(1, 2, layout.tokens, 24), torch.randn(1, 2, layout.tokens, 24)]
    flags = {name: p.requires_grad for name, p in ours.experts[0].named_parameters()}
    found, gradients = [], []
    for walked in (True, False):
        latents = start.noise.clone().requires_grad_()
        if walked:
            read = ours.read(latents, t, text, start, [0, 2], lambda layer, q, k: q, recompute=recompute)
        else:
            seen: dict[int, Tensor] = {}
            hooks = [
                block.attn2.norm_q.register_forward_hook(lambda m, a, out, i=i: seen.__setitem__(i, out))  # noqa: B023
                for i, block in enumerate(ours.expert(t).blocks)
            ]
            ours.predict(latents, t, text, [Branch.COND], start)
            for hook in hooks:
                hook.remove()
            read = [seen[i].unflatten(2, (2, 24)).transpose(1, 2) for i in (0, 2)]
        total = sum((a * b).sum() for a, b in zip(read, weigh, strict=True))
        gradients.append(torch.autograd.grad(total, latents)[0])
        found.append([x.detach() for x in read])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)
    assert all(p.grad is None and p.requires_grad == flags[name] for name, p in ours.experts[0].named_parameters())


def test_the_loss_by_columns_with_checkpoints_is_the_loss_of_whole_maps() -> None:
    ours, asked = model(), request(TempoControl(words=(LATE, Word(text="cat")), layers="all", iterations=1))
    described = replace(shot(asked), sites=ours.sites)
    control, whole = TempoSteering(asked.controls[0], described), WholeMaps(described)  # type: ignore[arg-type]
    with torch.no_grad(), attached(ours, [[whole]]) as run:
        probe, latents = probe_of(ours, [asked], run)
        ours.predict(latents, probe.stepper.timesteps[0], probe.text, [Branch.COND], probe.start)
    with torch.no_grad(), attached(ours, [[control]]):
        control.before_step_with(Step(index=0, of=5, sigma=1.0), latents, probe)
    jumps = PROMPT.index("jumps up")
    cats = [i for first in (PROMPT.index(" cat") + 1, PROMPT.rindex("cat")) for i in range(first, first + 3)]
    assert PROMPT[cats[0] : cats[0] + 3] == "cat"
    maps = []
    for q, k in whole.calls.values():
        probability = (q.double() @ k.double().mT * q.shape[-1] ** -0.5).softmax(-1).mean(1)[0]
        words = (list(range(jumps, jumps + 8)), cats)
        maps.append(torch.stack([probability[:, w].mean(-1).view(described.layout.grid) for w in words]))
    expected = objective(torch.stack(maps).mean(0), control.targets_WF, Weights())
    assert control.log[0].objectives[0] == pytest.approx(float(expected), rel=1e-6)


def test_the_pass_ends_after_the_last_layer_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, calls = model(), []
    forward = WanTransformerBlock.forward
    feeds = [
        block.ffn.register_forward_hook(lambda *_, i=i: calls.append(i))
        for i, block in enumerate(ours.experts[0].blocks)
    ]
    with torch.no_grad(), attached(ours, [[]]) as run:
        probe, latents = probe_of(ours, [request()], run)
        probe(latents, [1], lambda layer, q, k: q)
    for hook in feeds:
        hook.remove()
    assert calls == [0]
    assert WanTransformerBlock.forward is forward
    assert len(ours.experts[0].blocks) == 3
    assert not any(hooks for m in ours.experts[0].modules() for hooks in (m._forward_hooks,))


def test_a_failing_reader_leaves_the_network_as_it_was() -> None:
    ours = model()
    blocks, flags = ours.experts[0].blocks, [p.requires_grad for p in ours.experts[0].parameters()]

    def fail(layer: int, q: Tensor, k: Tensor) -> Tensor:
        raise ZeroDivisionError

    with torch.no_grad(), attached(ours, [[]]) as run:
        probe, latents = probe_of(ours, [request()], run)
        with torch.enable_grad(), pytest.raises(ZeroDivisionError):
            probe(latents.clone().requires_grad_(), [0, 1], fail)
    assert ours.experts[0].blocks is blocks
    assert [p.requires_grad for p in ours.experts[0].parameters()] == flags
    assert not any(m._forward_hooks for m in ours.experts[0].modules())


def test_layers_that_are_not_there_and_cached_networks_are_refused() -> None:
    ours = model()
    with torch.no_grad(), attached(ours, [[]]) as run:
        probe, latents = probe_of(ours, [request()], run)
        with pytest.raises(ControlRejected, match=r"expected some of 0..2, got \[3\]"):
            probe(latents, [3], lambda layer, q, k: q)
        with torch.inference_mode(), pytest.raises(ControlRejected, match="inference mode"):
            probe(latents, [0], lambda layer, q, k: q)
        ours.experts[0]._cache_config = "some"
        with pytest.raises(ControlRejected, match="disable_cache"):
            probe(latents, [0], lambda layer, q, k: q)
        ours.experts[0]._cache_config = None


# ── in the sampler ──


def test_moves_bring_the_words_to_their_time() -> None:
    config = TempoControl(words=(LATE,), steps=0.6, rate=0.02, iterations=6, layers="all", focus=0)
    log = steering(filmed(request(config))).log
    first, last = log[0].correlations[0][0], log[-1].correlations[-1][0]
    assert [entry.step for entry in log] == [0, 1, 2]
    assert last > first + 0.2
    assert all(list(entry.objectives) == sorted(entry.objectives, reverse=True) for entry in log)
    assert 0 < log[0].moved < 0.2


def test_moves_stop_when_the_words_are_on_time_and_then_change_no_bit() -> None:
    config = TempoControl(words=(LATE,), enough=-1.0, layers="all", steps=1.0)
    result = filmed(request(config))
    assert torch.equal(result.latents, filmed(request()).latents)
    assert [(len(entry.correlations), entry.objectives, entry.moved) for entry in steering(result).log] == [
        (1, (), 0.0)
    ] * 5


def test_every_timed_word_must_be_on_time_and_words_that_stay_are_not_asked() -> None:
    described = shot(request())
    config = TempoControl(words=(LATE, Word(text="sits", latents=(1, 1, 1, 0, 0, 0, 0)), Word(text="cat")), enough=0.5)
    every = TempoSteering(config, described)
    assert every.timed == (True, True, False)
    assert every._is_enough((0.6, 0.7, 0.0))
    assert not every._is_enough((0.6, 0.4, 0.0))
    assert TempoSteering(replace(config, stop="first"), described)._is_enough((0.6, 0.4, 0.0))
    assert not TempoSteering(replace(config, words=(Word(text="cat"),)), described)._is_enough((1.0,))


def test_only_the_first_share_of_the_steps_is_touched() -> None:
    result = filmed(request(TempoControl(steps=0.4, layers=1)))
    assert [entry.step for entry in steering(result).log] == [0, 1]
    assert [entry.step for entry in steering(filmed(request(TempoControl(steps=0.01)), steps=4)).log] == [0]


def test_the_first_blocks_are_measured_once_and_then_read_alone() -> None:
    result = filmed(request(TempoControl(words=(LATE,), steps=0.4)))
    found = steering(result)
    assert found.layers == tuple(range(len(found.layers)))
    assert found._measured
    assert steering(filmed(request(TempoControl(words=(LATE,), layers=2)))).layers == (0, 1)
    with pytest.raises(ControlRejected, match="layers: expected at most 3, got 4"):
        filmed(request(TempoControl(layers=4)))


def test_only_its_own_request_of_a_batch_is_moved() -> None:
    config = TempoControl(rate=0.01, layers=2)
    plain = filmed(request(seed=3), request(seed=4), request(seed=5))
    moved = filmed(request(seed=3), request(config, seed=4), request(seed=5))
    assert torch.equal(plain.latents[[0, 2]], moved.latents[[0, 2]])
    assert not torch.equal(plain.latents[1], moved.latents[1])
    alone = filmed(request(config, seed=4))
    torch.testing.assert_close(moved.latents[1], alone.latents[0], atol=1e-3, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["i2v-2.1", "t2v-2.2", "world"])
def test_other_kinds_of_wan_are_moved_too(kind: TinyKind) -> None:
    import numpy as np

    ours = model(kind)
    picture = np.full((1, HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    given = () if kind == "t2v-2.2" else (Given(first=0, frames=picture),)
    plain = request(given=given)
    moved = filmed(replace(plain, controls=(TempoControl(rate=0.01),)), ours=ours, steps=2, guidance=3.0)
    assert not torch.equal(moved.latents, filmed(plain, ours=ours, steps=2, guidance=3.0).latents)
    if kind == "world":
        assert moved.start.clean is not None
        assert torch.equal(moved.latents[:, :, 0], moved.start.clean[:, :, 0])
    assert torch.equal(filmed(plain, ours=ours).latents, filmed(plain, ours=ours).latents)


def test_detached_the_model_films_the_same_bits_as_before() -> None:
    ours = model()
    before, plain = list(ours.experts[0].attn_processors.values()), filmed(request()).latents
    filmed(request(TempoControl(rate=0.01), TSAttn()))
    assert all(a is b for a, b in zip(before, ours.experts[0].attn_processors.values(), strict=True))
    assert torch.equal(plain, filmed(request()).latents)


def test_the_requests_other_controls_act_in_what_is_read_and_other_requests_take_no_part() -> None:
    config = TempoControl(words=(LATE,), layers="all", iterations=1)
    alone = steering(filmed(request(config))).log[0].objectives[0]
    with_ts = filmed(request(seed=9), request(TSAttn(steps=1.0), config))
    found = next(c for c in with_ts.controls[1] if isinstance(c, TempoSteering)).log[0].objectives[0]
    assert found != pytest.approx(alone, rel=1e-6)
    single = filmed(request(TSAttn(steps=1.0), config))
    same = next(c for c in single.controls[0] if isinstance(c, TempoSteering)).log[0].objectives[0]
    assert found == pytest.approx(same, rel=1e-4)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (TempoControl(), {"events": ()}, "expected words, or a request with at least one event"),
        (TempoControl(words=(Word(text="dog"),)), {}, "word 'dog' does not stand in the prompt"),
        (TempoControl(words=(Word(text="cat", occurrence=2),)), {}, "expected occurrence 0 to 1, got 2"),
        (TempoControl(words=(Word(text="cat"),)), {"frames": 9, "events": ()}, "at least 4 steps in time, got 3"),
        (TempoControl(words=(Word(text="CAT"),), mentions="substrings"), {}, "prompt's own case"),
        (TempoControl(words=(Word(text="cat", seconds=((9, 10),)),)), {}, "starts at 9 s"),
    ],
)
def test_what_it_cannot_act_on_is_refused(config: TempoControl, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ControlRejected, match=message):
        filmed(request(config, **changes))


def test_a_family_that_cannot_be_read_is_refused() -> None:
    class Unreadable:
        def __getattr__(self, name: str) -> Any:
            if name == "read":
                raise AttributeError(name)
            return getattr(model(), name)

    with pytest.raises(ControlRejected, match="TempoControl reads passes with gradients, which Unreadable cannot"):
        sample(Unreadable(), [request(TempoControl())], Settings(steps=2, guidance=1.0))  # type: ignore[arg-type]


def test_targets_of_a_grid_that_packs_latent_frames_are_their_means() -> None:
    packed = Layout(channels=4, frames=8, height=4, width=4, patch=(2, 2, 2), lead=1)
    control = TempoSteering(TempoControl(words=(LATE,)), shot(request(), layout=packed))
    assert control.targets_WF.tolist() == [[0, 0, 0.5, 1]]


def test_the_example_films_with_a_plain_pipeline() -> None:
    example = runpy.run_path(str(Path(__file__).resolve().parents[2] / "examples" / "steer_tempocontrol.py"))
    plain = tiny_pipeline("t2v-2.1")
    assert example["film"](plain, frames=17, width=WIDTH, height=HEIGHT, steps=2).shape == (1, 17, 3, HEIGHT, WIDTH)
    assert len(plain.transformer.blocks) == 3
