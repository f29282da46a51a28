"""Video Storyboarding on a batch: what rows read of each other, when, and what is left alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.clip import Frames, ShotRequest
from generators.controls.base import AttentionCall, Control, Run, Shot, Step, attached
from generators.controls.storyboarding import StoryboardSteering, storyboard
from generators.controls.storyboarding_config import Storyboarding
from generators.controls.storyboarding_maths import dropped
from generators.errors import ControlRejected
from generators.models.base import Branch, Site
from generators.models.cogvideox import CogVideoXVideoModel
from generators.models.ltx import LTXVideoModel
from generators.models.tiny import TinyKind, tiny_pipeline
from generators.models.tiny_cogvideox import tiny_cogvideox_pipeline
from generators.models.tiny_ltx import tiny_ltx_pipeline
from generators.models.wan import WanVideoModel
from generators.sampler import Sample, Settings, controls_of, denoise, sample

PROMPTS = ("A red fox runs.", "A red fox sleeps.", "A red fox swims.")
OFF: dict[str, Any] = {"preserve": None, "flow": None, "share": None}
SETTINGS = Settings(steps=6, guidance=3.0)


@cache
def wan(kind: TinyKind = "world") -> WanVideoModel:
    return WanVideoModel.from_pipeline(tiny_pipeline(kind, scheduler="euler"))


def shots(count: int = 3, **changes: Any) -> list[ShotRequest]:
    asked = ShotRequest(prompt="x", frames=9, fps=8, width=32, height=32, seed=1)
    return [replace(asked, prompt=prompt, seed=i, **changes) for i, prompt in enumerate(PROMPTS[:count])]


def film(model: Any = None, count: int = 3, anchors: int = 2, **settings: Any) -> Sample:
    batch = storyboard(shots(count), ["red fox"] * count, anchors=anchors, **{"keyframes": 2} | settings)
    return sample(model or wan(), batch, SETTINGS)


class WholeFrame:
    """A segmenter that finds the subject everywhere, and counts how often it is asked."""

    name = "whole frame"

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, frames: Frames, subject: str) -> NDArray[np.bool_]:
        self.asked.append(frames.shape)
        return np.ones(frames.shape[:3], dtype=bool)


def test_a_batch_is_every_shot_twice_with_the_same_noise() -> None:
    batch = storyboard(shots(), ["red fox"] * 3)
    assert [request.seed for request in batch] == [0, 1, 2, 0, 1, 2]
    assert [len(request.controls) for request in batch] == [0, 0, 0, 1, 1, 1]
    steered = [c for request in batch[3:] for c in request.controls]
    assert [c.anchors for c in steered if isinstance(c, Storyboarding)] == [(3, 4)] * 3
    noise = wan().start(batch, wan().layout(9, 32, 32)).noise
    assert torch.equal(noise[:3], noise[3:])


def test_with_every_part_off_the_steered_copies_are_the_plain_ones() -> None:
    made = film(**OFF).latents
    assert torch.equal(made[:3], made[3:])


@pytest.mark.slow
def test_plain_copies_are_not_steered() -> None:
    plain = film(**OFF).latents[:3]
    torch.testing.assert_close(film().latents[:3], plain, atol=2e-5, rtol=1e-5)


def test_the_plain_copys_queries_change_nothing_until_something_else_differs() -> None:
    """Preservation alone: both copies start from one noise, so their queries are the same."""
    made = film(**OFF | {"preserve": (0.0, 1.0), "query_layers": "all"}).latents
    torch.testing.assert_close(made[3:], made[:3], atol=5e-5, rtol=1e-4)


def test_dropout_of_the_same_queries_changes_nothing_either() -> None:
    made = film(**OFF | {"preserve": (0.0, 1.0), "dropout": 0.5}).latents
    torch.testing.assert_close(made[3:], made[:3], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("part", ["share", "flow"])
def test_each_part_acts(part: str) -> None:
    window = {"share": (0.6, 0.99), "flow": (0.0, 0.99)}[part]
    settings: dict[str, Any] = OFF | {part: window}
    made = film(**settings).latents
    assert not torch.allclose(made[3:], made[:3], atol=1e-4)


def test_a_lone_anchor_reads_nobody() -> None:
    made = film(count=1, anchors=1, **OFF | {"share": (0.0, 1.0)}).latents
    torch.testing.assert_close(made[1:], made[:1], atol=2e-5, rtol=1e-5)


def test_without_a_segmenter_the_subject_is_where_its_words_are_read() -> None:
    made = film(share=(0.6, 0.99))
    steering = made.controls[3][0]
    assert isinstance(steering, StoryboardSteering)
    assert steering.mask is not None
    assert 0 < int(steering.mask.sum()) < len(steering.mask)
    assert steering.config.segmented_by == "attention"


@pytest.mark.slow
def test_a_segmenter_sees_predicted_clean_frames_every_few_steps() -> None:
    found = WholeFrame()
    made = film(segmenter=found, share=(0.1, 0.99), every=2)
    steering = made.controls[4][0]
    assert isinstance(steering, StoryboardSteering)
    assert steering.mask is not None
    assert bool(steering.mask.all())
    shared = len(steering.shared)
    assert set(found.asked) == {(9, 32, 32, 3)}
    assert 3 <= len(found.asked) < 3 * shared


@pytest.mark.slow
def test_the_batch_films_the_same_bits_twice() -> None:
    first, second = (film(dropout=0.3).latents for _ in range(2))
    assert torch.equal(first, second)


def call_of(run: Run, control: StoryboardSteering, row: int, step: int, site: Site, q: Tensor) -> AttentionCall:
    own = slice(row, row + 1)
    return AttentionCall(
        site=site, step=Step(index=step, of=6, sigma=0.9), row=row, layout=control.shot.layout,
        q=q[own], k=q[own], v=q[own], raw_q=q[own], raw_k=q[own], batch=(q, q, q), raw_batch=q, norm=lambda x: x,
        turn=lambda x: x,
    )  # fmt: skip


def prepared(**settings: Any) -> tuple[Run, StoryboardSteering]:
    """The last shot's steering as it stands before the first step, without filming."""
    batch = storyboard(shots(), ["red fox"] * 3, **{"keyframes": 2} | settings)
    run = Run([controls_of(wan(), request, SETTINGS) for request in batch])
    control = run.controls[5][0]
    assert isinstance(control, StoryboardSteering)
    control.meet(run.controls)
    control.begin(wan())
    return run, control


@pytest.mark.parametrize("part", ["preserve", "flow"])
def test_dropped_tokens_keep_their_own_queries_and_only_they(part: str) -> None:
    site, step, row = Site(0, 2, "self"), 2, 5
    settings: dict[str, Any] = OFF | {part: (0.0, 1.0)}
    run, every = prepared(**settings)
    q = torch.randn(6, 2, every.shot.layout.tokens, 24)
    whole = every.edit(call_of(run, every, row, step, site, q)).q
    run, control = prepared(**settings, dropout=0.4)
    call = call_of(run, control, row, step, site, q)
    made = control.edit(call).q
    own = dropped(q.shape[2], 0.4, seed=control.shot.request.seed, step=step, layer=2)
    assert 0 < int(own.sum()) < len(own)
    assert torch.equal(made[:, :, own], call.q[:, :, own])
    assert torch.equal(made[:, :, ~own], whole[:, :, ~own])
    if part == "preserve":
        assert torch.equal(whole, q[2:3])
    injected = (whole != call.q).any(-1).any(1)[0]
    assert bool((injected & own).any())
    assert bool((injected & ~own).any())


class Compares(Control):
    """Makes queries of raw ones by both ways in turn, beside those that the attention made."""

    def __init__(self, shot: Shot) -> None:
        super().__init__(shot)
        self.made: list[tuple[Tensor, Tensor]] = []

    def at(self, site: Site) -> bool:
        return site.kind in ("self", "joint")

    def edit(self, call: AttentionCall) -> AttentionCall:
        assert call.norm is not None
        assert call.turn is not None
        self.made.append((call.turn(call.norm(call.raw_q)), call.q))
        return call


@pytest.mark.parametrize("family", ["wan", "ltx", "cogvideox"])
def test_raw_queries_normed_and_turned_are_those_of_the_attention(family: str) -> None:
    pipe = {"ltx": lambda: tiny_ltx_pipeline("t2v"), "cogvideox": lambda: tiny_cogvideox_pipeline("t2v-5b")}.get(family)
    kind: Any = {"ltx": LTXVideoModel, "cogvideox": CogVideoXVideoModel}.get(family)
    model: Any = wan() if pipe is None else kind.from_pipeline(pipe())
    shot = Shot.of(model, shots(1)[0], 2)
    control, settings = Compares(shot), Settings(steps=2, guidance=1.0)
    with torch.no_grad(), attached(model, [[control]]) as run:
        text, start = model.encode([shot.request.prompt], None), model.start([shot.request], shot.layout)
        denoise(model, text, start, settings, run, model.stepper(2, shot.layout))
    assert control.made
    for ours, theirs in control.made:
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("offset", [0, 6])
def test_rows_are_read_in_their_own_branch_of_guidance(offset: int) -> None:
    made = film()
    control = made.controls[5][0]
    assert isinstance(control, StoryboardSteering)
    q = torch.randn(12, 2, control.shot.layout.tokens, 24)
    site = Site(0, 2, "self")
    call = call_of(Run(made.controls), control, offset + 5, 0, site, q)
    assert torch.equal(control.edit(call).q, q[offset + 2 : offset + 3])


def test_the_windows_part_preservation_from_flow() -> None:
    control = film().controls[3][0]
    assert isinstance(control, StoryboardSteering)
    assert control.preserved | control.led == frozenset(range(6))
    assert not control.preserved & control.led
    site = Site(0, 2, "self")
    assert all(control.acts_at(site, Step(index=i, of=6, sigma=0.5), b) for i in range(6) for b in Branch)


def test_joint_attention_shares_video_and_leaves_text() -> None:
    pipe = tiny_cogvideox_pipeline("t2v-2b")
    pipe.set_progress_bar_config(disable=True)
    model = CogVideoXVideoModel.from_pipeline(pipe)
    made = film(model, flow=None, share=(0.3, 0.99), segmenter=WholeFrame()).latents
    assert not torch.allclose(made[3:], made[:3], atol=1e-5)
    led = film(model, **OFF | {"flow": (0.0, 0.99)}).latents
    assert not torch.allclose(led[3:], led[:3], atol=1e-5)


def test_a_model_without_self_attention_is_refused() -> None:
    shot = Shot.of(wan(), shots(1)[0], SETTINGS.steps)
    config = Storyboarding(place=1, vanilla=0, anchors=(1,), subject="red fox")
    with pytest.raises(ControlRejected, match="no self-attention over a frame or a clip"):
        StoryboardSteering(config, replace(shot, sites=tuple(s for s in shot.sites if s.kind == "cross")))


def test_a_request_out_of_its_batch_is_refused() -> None:
    batch = storyboard(shots(), ["red fox"] * 3)
    with pytest.raises(ControlRejected, match="expected to stand at place 3"):
        sample(wan(), batch[3:], SETTINGS)
    with pytest.raises(ControlRejected, match="request 4 is not one"):
        sample(wan(), [*batch[:4], batch[1], batch[5]], SETTINGS)
    with pytest.raises(ControlRejected, match="a subject for each of 3 shots"):
        storyboard(shots(), ["red fox"])


def test_a_subject_that_the_prompt_lacks_is_refused() -> None:
    with pytest.raises(ControlRejected, match="blue cat"):
        sample(wan(), storyboard(shots(), ["blue cat"] * 3), SETTINGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vanilla": 3}, "not steered by this"),
        ({"anchors": (0, 4)}, "not steered by this"),
        ({"subject": " "}, "subject"),
        ({"dropout": 1.0}, "dropout"),
        ({"dilution": 0.0}, "dilution"),
        ({"keyframes": 0}, "keyframes"),
        ({"share": (0.9, 0.5)}, "noise levels"),
        ({"refine": (0.3, 0.9)}, "features"),
        ({"alpha": 0.0}, "alpha"),
        ({"order": "random"}, "simultaneous"),
        ({"query_layers": "last half"}, "query_layers: expected 'all', 'last third'"),
        ({"share_layers": [1]}, "share_layers: expected 'all', 'last two thirds'"),
        ({"refine_layers": (1.5,)}, "refine_layers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Storyboarding(**{"place": 3, "vanilla": 0, "anchors": (3, 4), "subject": "fox"} | changes)


def test_requests_tell_segmenters_apart_by_name() -> None:
    one, other = (storyboard(shots(), ["red fox"] * 3, segmenter=s)[3] for s in (None, WholeFrame()))
    assert one.digest() != other.digest()
    assert other.digest() == storyboard(shots(), ["red fox"] * 3, segmenter=WholeFrame())[3].digest()
