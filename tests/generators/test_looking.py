"""Looking: what it counts is what was computed, on every family, and no bit of a clip changes because of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.attention import scores
from generators.clip import Event, ShotRequest
from generators.controls.base import AttentionCall
from generators.controls.config import VSTAR, ControlConfig, Looking, TempoControl, TSAttn
from generators.controls.looking import Attention, LookingControl, attention_of, step_seconds
from generators.errors import ControlRejected
from generators.models.base import Layout, VideoModel
from generators.models.loading import take_apart
from generators.models.tiny import tiny_pipeline
from generators.models.tiny_cogvideox import tiny_cogvideox_pipeline
from generators.models.tiny_ltx import tiny_ltx_pipeline
from generators.models.tiny_unet import tiny_unet_pipeline
from generators.sampler import Sample, Settings, sample
from generators.timeline import Interval, Timeline

PROMPT = "A red fox jumps over the box, then the fox walks home."
PHRASES = ("jumps over the box", "walks home")
FILMED: dict[str, tuple[Callable[[], Any], int]] = {
    "wan": (lambda: tiny_pipeline("t2v-2.1", scheduler="euler"), 13),
    "wan with two experts": (lambda: tiny_pipeline("t2v-2.2"), 9),
    "cogvideox": (lambda: tiny_cogvideox_pipeline("t2v-5b"), 9),
    "ltx": (lambda: tiny_ltx_pipeline("t2v"), 9),
    "modelscope": (lambda: tiny_unet_pipeline("modelscope"), 4),
    "animatediff": (lambda: tiny_unet_pipeline("animatediff"), 4),
}
EVERY_ROW = TSAttn(steps=0.5, layers="all")


@cache
def model(family: str) -> VideoModel:
    pipe = FILMED[family][0]()
    pipe.set_progress_bar_config(disable=True)
    return take_apart(pipe)


def film(family: str, *controls: ControlConfig, **changes: Any) -> Sample:
    frames = FILMED[family][1]
    half, whole = frames / 16, frames / 8
    events = tuple(
        Event(subject="", phrase=phrase, start=start, end=end)
        for phrase, start, end in zip(PHRASES, (0.0, half), (half, whole), strict=True)
    )
    asked = ShotRequest(
        prompt=PROMPT, frames=frames, fps=8, width=32, height=32, seed=1, events=events, controls=controls
    )
    return sample(model(family), [replace(asked, **changes)], Settings(steps=2, guidance=3.0))


@pytest.mark.parametrize("family", FILMED)
def test_looking_changes_no_bit(family: str) -> None:
    looked = film(family, Looking())
    assert torch.equal(looked.latents, film(family).latents)
    assert attention_of(looked.controls[0]).steps == (0, 1)


@pytest.mark.parametrize("steering", [EVERY_ROW, VSTAR(), TempoControl(layers=2, iterations=1)])
def test_looking_at_a_steered_clip_changes_no_bit_of_it(steering: ControlConfig) -> None:
    assert torch.equal(film("wan", steering, Looking()).latents, film("wan", steering).latents)


@pytest.mark.parametrize("family", ["wan", "cogvideox", "ltx"])
@pytest.mark.parametrize("steering", [(), (EVERY_ROW,)], ids=["plain", "steered"])
def test_what_is_counted_is_the_softmax_that_was_computed(
    family: str, steering: tuple[ControlConfig, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[AttentionCall] = []
    look = LookingControl.observe

    def remember(self: LookingControl, call: AttentionCall, out_BHND: Tensor, lse_BHN: Tensor) -> None:
        calls.append(call)
        look(self, call, out_BHND, lse_BHN)

    monkeypatch.setattr(LookingControl, "observe", remember)
    (controls,) = film(family, *steering, Looking(steps=(0,))).controls
    words = controls[-1].shot.text.place(PHRASES)
    found = attention_of(controls).curves
    assert len(calls) == len(found)
    for call in calls:
        seen = [slow_curve(call, columns) for columns in words]
        np.testing.assert_allclose(found[0, call.site.layer], seen, rtol=2e-5)


def slow_curve(call: AttentionCall, columns: tuple[int, ...]) -> list[float]:
    """The whole map, biased, and its softmax: the share of a text's columns, mean over heads and space."""
    logits = scores(call.q.double(), call.k.double())
    for bias in call.biases:
        every, touched = slice(0, call.q.shape[2]), bias.columns
        assert touched is not None
        unbiased = scores(call.q.double(), call.over("text").k.double())
        logits[..., touched] += bias.values(every, unbiased)
    if call.counts is not None:
        logits = logits + call.counts.double().log()
    mass = logits.softmax(-1)[..., list(columns)].sum(-1).mean((0, 1))
    return [float(frame.mean()) for frame in mass.unflatten(0, (call.layout.grid[0], -1))]


def test_steering_towards_its_time_is_seen_in_an_events_curve() -> None:
    plain, steered = (attention_of(film("wan", *c, Looking()).controls[0]) for c in ((), (EVERY_ROW,)))
    assert all(steered.inside(i) > plain.inside(i) + 0.05 for i in (0, 1))


def test_only_chosen_steps_and_layers_are_looked_at() -> None:
    found = attention_of(film("wan", Looking(steps=(1,), layers=(0, 2))).controls[0])
    assert sorted(found.curves) == [(1, 0), (1, 2)]


def test_of_every_call_no_more_than_a_curve_is_kept() -> None:
    (control,) = film("wan", Looking()).controls[0]
    held = [value for owner in (vars(control)["curves"], vars(control)["_maps"]) for value in owner.values()]
    events, frames, places, calls = 2, 4, 4, 6
    assert sum(tensor.numel() for tensor in held) == events * frames * (calls + places)


def test_maps_of_every_level_of_a_unet_end_on_the_finest_grid() -> None:
    found = attention_of(film("modelscope", Looking()).controls[0])
    assert found.maps.shape == (2, 4, 4, 4)
    assert float(found.maps.mean()) == pytest.approx(float(found.curve.mean()), rel=0.1)


def test_the_part_inside_an_interval_counts_seconds() -> None:
    found = Attention(
        events=(Event(subject="", phrase="a", start=1.0, end=3.0),),
        intervals=(Interval(0, 0.5), Interval(0.5, 2.5), Interval(2.5, 4.5)),
        curves={(0, 0): np.array([[4.0, 1.0, 2.0]], np.float32), (0, 1): np.array([[4.0, 3.0, 2.0]], np.float32)},
        maps=np.zeros((1, 3, 1, 1), np.float32),
    )
    assert found.curve.tolist() == [[4.0, 2.0, 2.0]]
    assert found.inside(0) == pytest.approx((2.0 * 1.5 + 2.0 * 0.5) / (2.0 + 4.0 + 4.0))


def test_steps_of_a_grid_with_patches_in_time_know_their_seconds() -> None:
    layout = Layout(channels=16, frames=4, height=4, width=4, patch=(2, 2, 2), lead=1)
    timeline = Timeline(frames=9, fps=8)
    seconds = [step_seconds(step, layout, timeline) for step in range(layout.grid[0])]
    assert seconds == [Interval(0.0, 0.125), Interval(0.125, 1.125)]


@pytest.mark.parametrize(
    ("looking", "changes", "said"),
    [
        (Looking(steps=(0, 2)), {}, r"Looking.steps: expected some of 0, 1, got 2"),
        (Looking(layers=(7,)), {}, r"Looking.layers: expected some of 0 to 2, got 7"),
        (Looking(), {"events": ()}, "at least one event"),
        (
            Looking(),
            {"events": (Event(subject="", phrase="jump over a box", start=0, end=1),)},
            "event 'jump over a box' does not stand in the prompt .*did you mean 'jumps over the box'",
        ),
    ],
)
def test_what_cannot_be_looked_at_is_refused(looking: Looking, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ControlRejected, match=said):
        film("wan", looking, **changes)


def test_numbers_below_nought_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Looking.layers: expected numbers from 0 on"):
        Looking(layers=(-1,))


def test_words_of_a_prompt_that_no_frame_reads_cannot_be_looked_at() -> None:
    with pytest.raises(ControlRejected, match="VSTAR gives every frame a text of its own, and Looking"):
        film("wan", VSTAR(synopsis=("a fox jumps", "a fox walks")), Looking())


def test_a_clip_nobody_looked_at_has_no_attention_to_show() -> None:
    with pytest.raises(ControlRejected, match="expected Looking among them"):
        attention_of(film("wan").controls[0])
