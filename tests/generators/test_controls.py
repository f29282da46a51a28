"""The phases of a controlled attention and of a step, each seen through the smallest control that uses it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from generators.attention import Bias, attend
from generators.clip import ShotRequest
from generators.controls import CONTROLS, build_control
from generators.controls.base import AttentionCall, Control, Run, Shot, Step, attached
from generators.controls.config import ControlConfig, TSAttn
from generators.controls.steering import compact_padding, steer
from generators.errors import ControlRejected
from generators.models.base import Branch, Site
from generators.models.tiny import TinyScheduler, tiny_pipeline
from generators.models.wan import WanVideoModel
from generators.sampler import Settings, denoise
from generators.timeline import Timeline

REQUEST = ShotRequest(prompt="a fox", frames=9, fps=8, width=32, height=32, seed=1)


@cache
def model(scheduler: TinyScheduler = "euler") -> WanVideoModel:
    return WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.1", scheduler=scheduler))


def shot() -> Shot:
    return Shot(
        request=REQUEST,
        text=model().map_text(REQUEST.prompt),
        timeline=Timeline(frames=9, fps=8),
        layout=model().layout(9, 32, 32),
        steps=2,
        sites=model().sites,
        device=torch.device("cpu"),
    )


def predict(controls: Sequence[Control] = ()) -> Tensor:
    ours = model()
    text = ours.encode([REQUEST.prompt], None)
    start = ours.start([REQUEST], shot().layout)
    with torch.no_grad(), attached(ours, [controls]):
        return ours.predict(start.noise, torch.tensor(900.0), text, [Branch.COND], start)


class Everywhere(Control):
    """At home in every attention."""

    def at(self, site: Site) -> bool:
        return True


class SelfOnly(Control):
    """At home in self-attention, changing nothing."""

    def at(self, site: Site) -> bool:
        return site.kind == "self"


@dataclass
class Far:
    """Pushes one column out of sight."""

    columns: Tensor

    def values(self, rows: slice, logits_BHnM: Tensor) -> Tensor:
        return torch.tensor(-torch.inf)


class Blind(Everywhere):
    """Hides the first column."""

    def biases(self, call: AttentionCall) -> Sequence[Bias]:
        return [Far(torch.tensor([0]))]


class Doubled(Everywhere):
    """Attends to its own keys and values once more, which changes nothing."""

    def extra(self, call: AttentionCall) -> Sequence[tuple[Tensor, Tensor]]:
        return [(call.k, call.v)]


class Zeroed(Everywhere):
    """Zero values, then one as output."""

    def edit(self, call: AttentionCall) -> AttentionCall:
        return replace(call, v=call.v * 0)

    def output(self, call: AttentionCall, out_BHND: Tensor) -> Tensor:
        assert not out_BHND.any()
        return out_BHND + 1


def call() -> AttentionCall:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, n, 4, dtype=torch.float64) for n in (6, 5, 5))
    step = Step(index=0, of=1, sigma=1.0)
    return AttentionCall(
        site=Site(0, 0, "cross"), step=step, row=0, layout=shot().layout, q=q, k=k, v=v, raw_q=q, raw_k=k
    )


def test_a_control_that_overrides_nothing_gives_the_attention_of_its_call() -> None:
    here = call()
    torch.testing.assert_close(steer(here, [Everywhere(shot())]), attend(here.q, here.k, here.v)[0])


def test_biases_extra_keys_edits_and_outputs_come_in_their_order() -> None:
    here = call()
    torch.testing.assert_close(steer(here, [Blind(shot())]), attend(here.q, here.k[:, :, 1:], here.v[:, :, 1:])[0])
    torch.testing.assert_close(steer(here, [Doubled(shot())]), attend(here.q, here.k, here.v)[0])
    assert torch.equal(steer(here, [Zeroed(shot())]), torch.ones(1, 2, 6, 4, dtype=torch.float64))


def test_compacting_equal_padding_changes_nothing_but_the_number_of_columns() -> None:
    here = call()
    padded = replace(
        here,
        **{
            name: torch.cat([getattr(here, name), *[getattr(here, name)[:, :, -1:]] * 7], 2)
            for name in ("k", "v", "raw_k")
        },
    )
    compact = compact_padding(padded, tokens=4)
    assert compact.k.shape[2] == 5
    torch.testing.assert_close(steer(compact, []), steer(padded, []))
    assert compact_padding(here, tokens=4) is here


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_controlled_attention_with_nothing_to_change_agrees_with_the_stock_one(kind: str) -> None:
    class Idle(Control):
        def at(self, site: Site) -> bool:
            return site.kind == kind

    torch.testing.assert_close(predict([Idle(shot())]), predict(), atol=1e-4, rtol=1e-4)


def test_padding_that_is_not_one_vector_is_attended_to_column_by_column() -> None:
    ours = model()
    seen: list[int] = []

    class Counts(Everywhere):
        def observe(self, call: AttentionCall, out_BHND: Tensor, lse_BHN: Tensor) -> None:
            if call.site.kind == "cross":
                seen.append(call.k.shape[2])

    text = ours.encode([REQUEST.prompt], None)
    start = ours.start([REQUEST], shot().layout)
    uneven = replace(text, cond=text.cond + torch.randn_like(text.cond))
    for states in (text, uneven):
        with torch.no_grad(), attached(ours, [[Counts(shot())]]):
            ours.predict(start.noise, torch.tensor(900.0), states, [Branch.COND], start)
    assert seen == [shot().text.tokens + 1] * 3 + [512] * 3


def test_a_control_is_asked_only_where_and_when_it_acts() -> None:
    run = Run([[SelfOnly(shot())], []])
    assert list(run.acting(Site(0, 0, "self"))) == [0]
    assert not run.acting(Site(0, 0, "cross"))
    run.branches = [Branch.UNCOND]
    assert not run.acting(Site(0, 0, "self"))
    run.branches = [Branch.UNCOND, Branch.COND]  # one pass for both: the conditional rows come second
    assert list(run.acting(Site(0, 0, "self"))) == [2]
    assert run.request(2) == 0


def test_only_the_sites_of_the_controls_are_touched() -> None:
    ours = model()
    with attached(ours, [[SelfOnly(shot())]]):
        changed = {k for k, p in ours.experts[0].attn_processors.items() if type(p).__name__ != "WanAttnProcessor"}
    assert changed == {f"blocks.{i}.attn1.processor" for i in range(3)}


class Nudge(Control):
    """Adds to the latents around every step."""

    edits_latents = True

    def before_step(self, step: Step, latents: Tensor) -> Tensor:
        return latents + 1

    def after_step(self, step: Step, latents: Tensor) -> Tensor:
        return latents * 0 if step.index == step.of - 1 else latents


def denoised(scheduler: TinyScheduler, controls: Sequence[Sequence[Control]], *, steps: int = 2) -> Tensor:
    ours = model(scheduler)
    requests = [REQUEST] * len(controls)
    text = ours.encode([r.prompt for r in requests], None)
    start = ours.start(requests, shot().layout)
    with torch.no_grad(), attached(ours, controls) as run:
        settings, stepper = Settings(steps=steps, guidance=1.0), ours.stepper(steps, shot().layout)
        return denoise(ours, text, start, settings, run, stepper)


def test_latents_can_be_edited_around_a_step_in_their_own_row_only() -> None:
    edited, plain = denoised("euler", [[Nudge(shot())], []])
    assert not edited.any()
    assert torch.equal(plain, denoised("euler", [[], []])[1])


def test_editing_latents_under_a_scheduler_that_forgets_edits_is_refused() -> None:
    from diffusers.schedulers.scheduling_deis_multistep import DEISMultistepScheduler

    ours = WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.1", scheduler="unipc"))
    ours.pipe.scheduler = DEISMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    start, text = ours.start([REQUEST], shot().layout), ours.encode([REQUEST.prompt], None)
    stepper, settings = ours.stepper(2, shot().layout), Settings(steps=2, guidance=1.0)
    refused = pytest.raises(ControlRejected, match="Nudge edits latents, which DEISMultistepScheduler throws away")
    with torch.no_grad(), attached(ours, [[Nudge(shot())]]) as run, refused:
        denoise(ours, text, start, settings, run, stepper)
    with torch.no_grad(), attached(ours, [[]]) as run:
        denoise(ours, text, start, settings, run, stepper)


class Push(Control):
    """Moves the latents once, before the third step of four."""

    edits_latents = True

    def before_step(self, step: Step, latents: Tensor) -> Tensor:
        return latents + 0.1 if step.index == 2 else latents


class UntoldPush(Push):
    edits_survive = False


def test_a_scheduler_with_a_corrector_is_told_of_edits_and_keeps_them() -> None:
    plain, kept, lost = (
        denoised("unipc", [[control(shot()) for control in controls], []], steps=4)
        for controls in ((), (Push,), (UntoldPush,))
    )
    assert torch.equal(plain[1], kept[1])
    kept_share, lost_share = (float((x - plain)[0].mean()) / 0.1 for x in (kept, lost))
    assert kept_share > lost_share + 0.5  # what is left untold is what the network answers


def test_every_kind_of_settings_has_its_control_in_the_table() -> None:
    assert set(CONTROLS) == set(ControlConfig.__subclasses__()) & set(CONTROLS)
    assert TSAttn in CONTROLS
    with pytest.raises(ControlRejected, match="expected one of TSAttn, .*got ControlConfig"):
        build_control(ControlConfig(), shot())


def test_importing_the_settings_reads_no_torch(checkout: Path) -> None:
    code = "import sys, generators.clip, generators.controls, generators.backends; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=checkout, check=False).returncode == 0
