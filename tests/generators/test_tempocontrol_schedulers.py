"""Moves of TempoControl outlive the scheduler that takes the step."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from generators.controls.config import TempoControl
from generators.models.cogvideox import CogVideoXVideoModel
from generators.models.tiny import tiny_pipeline
from generators.models.tiny_cogvideox import TinyCogVideoXScheduler, tiny_cogvideox_pipeline
from generators.models.wan import WanVideoModel
from tests.generators.test_tempocontrol import FRAMES, HEIGHT, LATE, WIDTH, filmed, model, request


@cache
def stepped_by(scheduler: str) -> WanVideoModel | CogVideoXVideoModel:
    if scheduler.startswith("CogVideoX"):
        kind: TinyCogVideoXScheduler = "dpm" if scheduler.endswith("DPM") else "ddim"
        return CogVideoXVideoModel.from_pipeline(tiny_cogvideox_pipeline("t2v-5b", scheduler=kind))
    pipe = tiny_pipeline("t2v-2.1", scheduler="unipc" if scheduler == "UniPC" else "euler")
    if scheduler == "DPM++":
        pipe.scheduler = DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        )
    return WanVideoModel.from_pipeline(pipe)


def share_left(scheduler: str, at: int, *, told: bool) -> float:
    """How much of a move before step `at` of 50 the finished latents hold, where predictions stay what they were."""
    ours = stepped_by(scheduler)
    layout = ours.layout(FRAMES, HEIGHT, WIDTH)
    ends = []
    for moves in (False, True):
        stepper = ours.stepper(50, layout)
        assert stepper.keeps_edits
        draws = tuple(torch.Generator().manual_seed(row) for row in range(2))
        latents = torch.randn(2, *layout.shape, generator=torch.Generator().manual_seed(0))
        for i in range(50):
            if moves and i == at:
                came, latents = latents, latents.clone()
                latents[0] += 0.01
                if told:
                    stepper.edited(came, latents, i)
            latents = stepper.step(torch.full_like(latents, 0.3), i, latents, draws)
        ends.append(latents)
    assert torch.equal(ends[0][1], ends[1][1])
    return float((ends[1] - ends[0])[0].mean() / 0.01)


@pytest.mark.parametrize("at", [0, 5, 10])
@pytest.mark.parametrize("scheduler", ["Euler", "DPM++", "UniPC"])
def test_moves_survive_the_scheduler(scheduler: str, at: int) -> None:
    assert share_left(scheduler, at, told=True) == pytest.approx(1, abs=0.01)


def test_moves_that_unipc_is_not_told_of_are_built_away_and_others_need_no_telling() -> None:
    assert share_left("UniPC", 5, told=False) == pytest.approx(0.0082, abs=0.0005)  # as in the released code
    assert share_left("UniPC", 10, told=False) == pytest.approx(0.0100, abs=0.0005)
    assert share_left("DPM++", 5, told=False) == share_left("DPM++", 5, told=True)


@pytest.mark.parametrize("at", [0, 5, 10])
@pytest.mark.parametrize("scheduler", ["CogVideoX-DDIM", "CogVideoX-DPM"])
def test_under_cogvideox_a_move_is_turned_by_ddim_and_thinned_by_the_noise_of_dpm(scheduler: str, at: int) -> None:
    """With a = cos(angle) clip and sin(angle) noise, and v held fixed, DDIM leaves the product of cos(turn) of a move;
    the noise that DPM draws takes the place of what was noise in it, which leaves a."""
    stepper = stepped_by(scheduler).stepper(50, stepped_by(scheduler).layout(FRAMES, HEIGHT, WIDTH))
    clip = [float(stepper.scheduler.alphas_cumprod[int(t)]) ** 0.5 for t in stepper.timesteps] + [1.0]
    turns = [math.cos(math.acos(now) - math.acos(then)) for now, then in zip(clip[at:], clip[at + 1 :], strict=False)]
    expected = clip[at] if scheduler.endswith("DPM") else math.prod(turns)
    assert share_left(scheduler, at, told=True) == pytest.approx(expected, rel=0.005, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["before", "after"])
def test_under_unipc_the_control_moves_only_its_own_row_and_is_heard(order: Any) -> None:
    ours = model(scheduler="unipc")
    config = TempoControl(words=(LATE,), rate=0.02, layers=1, order=order, steps=0.6, enough=1.0)
    plain = filmed(request(seed=3), request(), ours=ours)
    kept = filmed(request(seed=3), request(config), ours=ours)
    lost = filmed(request(seed=3), request(replace(config, survive=False)), ours=ours)
    assert torch.equal(plain.latents[0], kept.latents[0])
    far, near = ((x.latents[1] - plain.latents[1]).abs().mean() for x in (kept, lost))
    assert far > 2 * near
