"""What a segmenter is shown while a set is filmed: the clip that the network foresees, whatever the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.utils import logging
from numpy.typing import NDArray
from torch import Tensor

from generators.clip import Frames, Given, ShotRequest
from generators.controls.storyboarding import storyboard
from generators.models.base import Branch, Start, Text
from generators.models.cogvideox import CogVideoXVideoModel
from generators.models.ltx import LTXVideoModel
from generators.models.stepping import Stepper
from generators.models.tiny import tiny_pipeline
from generators.models.tiny_cogvideox import tiny_cogvideox_pipeline
from generators.models.tiny_ltx import tiny_ltx_pipeline
from generators.models.wan import WanVideoModel
from generators.sampler import Sample, Settings, sample

logging.set_verbosity_error()  # the stock condition pipeline warns of its own schedule

SETTINGS = Settings(steps=5, guidance=3.0)
"""Steps that divide the thousand trained ones: others leave some noise under CogVideoX's schedule."""
REQUEST = ShotRequest(prompt="A red fox runs.", frames=9, fps=25, width=32, height=32, seed=1)


class Camera:
    """A segmenter that keeps what it is shown, and finds the subject everywhere."""

    name = "camera"

    def __init__(self) -> None:
        self.shown: list[Frames] = []

    def __call__(self, frames: Frames, subject: str) -> NDArray[np.bool_]:
        self.shown.append(frames)
        return np.ones(frames.shape[:3], dtype=bool)


def model(family: str, kind: Any, scheduler: Any) -> Any:
    if family == "wan":
        return WanVideoModel.from_pipeline(tiny_pipeline(kind, scheduler=scheduler))
    pipe = tiny_ltx_pipeline(kind) if family == "ltx" else tiny_cogvideox_pipeline(kind, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return (LTXVideoModel if family == "ltx" else CogVideoXVideoModel).from_pipeline(pipe)


def knows(ours: Any, goal: Tensor, stepper: Stepper) -> Any:
    """A `predict` of a network that foresees the goal (B, C, F, h, w) from wherever it is asked."""
    times = stepper.timesteps.tolist()

    def predict(latents: Tensor, t: Tensor, text: Text, branches: Sequence[Branch], start: Start) -> Tensor:
        sigma = stepper.sigma(times.index(t.item()))
        if stepper.is_flow:
            prediction = (latents - goal) / sigma
        else:  # v = a eps - s x0, with x = a x0 + s eps
            kept = (1 - sigma**2) ** 0.5
            prediction = (kept * latents - goal) / sigma
        return torch.cat([prediction] * len(branches))

    return predict


def seen(ours: Any, asked: Sequence[ShotRequest], goal: Tensor, patch: pytest.MonkeyPatch) -> tuple[Camera, Sample]:
    """What the segmenter is shown of the steered half of the batch, at every step."""
    camera = Camera()
    batch = storyboard(
        asked,
        ["red fox"] * len(asked),
        anchors=len(asked),
        preserve=None,
        flow=None,
        share=(0.0, 1.0),
        segmenter=camera,
        every=1,
    )
    patch.setattr(ours, "predict", knows(ours, goal, ours.stepper(SETTINGS.steps, ours.layout(9, 32, 32))))
    return camera, sample(ours, batch, SETTINGS)


def goal_of(ours: Any, shots: int) -> Tensor:
    layout = ours.layout(9, 32, 32)
    shape = 2 * shots, layout.channels, layout.frames, layout.height, layout.width
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(9))


def pixels(ours: Any, latents: Tensor) -> NDArray[np.int16]:
    with torch.no_grad():
        video = ours.decode(latents, (torch.Generator().manual_seed(0),))[0]
    made: NDArray[np.int16] = (video.permute(0, 2, 3, 1).float().clamp(0, 1) * 255).round().numpy().astype(np.int16)
    return made


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_diffusion_prediction_is_solved_as_diffusers_solves_it(kind: Any) -> None:
    scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False)
    scheduler.set_timesteps(5)
    stepper, generator = Stepper(scheduler), torch.Generator().manual_seed(0)
    for i, t in enumerate(stepper.timesteps):
        latents, prediction = (torch.randn(1, 4, 3, 2, 2, generator=generator) for _ in range(2))
        expected = scheduler.step(prediction, int(t), latents, return_dict=True).pred_original_sample
        torch.testing.assert_close(stepper.clean(prediction, i, latents), expected, rtol=1e-4, atol=1e-4)
    scheduler.register_to_config(prediction_type="score")
    with pytest.raises(ValueError, match=r"prediction_type: expected epsilon, .*got 'score'"):
        stepper.clean(prediction, 0, latents)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "kind", "scheduler"),
    [
        ("wan", "world", "euler"),
        ("wan", "world", "unipc"),
        ("wan", "world", "stochastic"),
        ("ltx", "t2v", None),
        ("ltx", "condition", None),
        ("cogvideox", "t2v-2b", "ddim"),
        ("cogvideox", "t2v-2b", "dpm"),
    ],
)
def test_a_segmenter_is_shown_the_clip_the_network_foresees(
    family: str, kind: str, scheduler: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = model(family, kind, scheduler)
    asked = [REQUEST, replace(REQUEST, prompt="A red fox sleeps.", seed=2)]
    goal = goal_of(ours, 2)
    camera, made = seen(ours, asked, goal, monkeypatch)
    torch.testing.assert_close(made.latents, goal, atol=1e-3, rtol=1e-3)  # the network means what the scheduler takes
    first, second = (pixels(ours, goal[row : row + 1]) for row in (2, 3))
    assert np.abs(first - second).max() > 20
    assert len(camera.shown) == 2 * (SETTINGS.steps - 1)
    for number, frames in enumerate(camera.shown):
        assert np.abs(frames - (first, second)[number % 2]).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "kind", "scheduler"),
    [
        ("wan", "t2v-2.1", "euler"),
        ("wan", "world", "unipc"),
        ("ltx", "condition", None),
        ("cogvideox", "t2v-2b", "dpm"),
    ],
)
def test_given_frames_are_shown_as_they_were_given(
    family: str, kind: str, scheduler: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = model(family, kind, scheduler)
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    asked = [replace(REQUEST, given=(Given(first=0, frames=picture),))]
    goal = goal_of(ours, 1)
    camera, made = seen(ours, asked, goal, monkeypatch)
    start = made.start
    assert start.held is not None
    assert start.clean is not None
    assert start.held.any()
    known = torch.where(start.held, start.clean, goal)[1:]
    assert np.abs(pixels(ours, known) - pixels(ours, goal[1:])).max() > 20
    assert len(camera.shown) == SETTINGS.steps - 1
    for frames in camera.shown:
        assert np.abs(frames - pixels(ours, known)).max() <= 1
