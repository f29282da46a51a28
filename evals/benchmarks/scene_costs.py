"""What steering across shots costs: Motion by Queries and Video Storyboarding beside plain clips.

FLOPs are counted on a tiny random Wan pipeline, whole generations with encoding and decoding, at two lengths of
schedule; both are straight lines in the number of steps, so the published number follows exactly. A
storyboard is counted at one length. Bytes are those of the queries that are held. Knows nothing of quality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from generators.clip import ShotRequest
from generators.controls.config import ControlConfig, MotionQueries
from generators.controls.motion_queries import MotionSteering
from generators.controls.storyboarding import storyboard
from generators.costs import measured
from generators.models.tiny import tiny_pipeline
from generators.models.wan import WanVideoModel
from generators.sampler import Sample, Settings, sample

STEPS = 50
"""Published length of the schedule."""
COUNTED = (5, 10)
"""Lengths that are counted; shares of a fifth steer whole steps of both."""
MOTION_LIMIT = 1.25
SET_LIMIT = 3.4
"""Of a set filmed with nothing cached, with a second sweep for refinement, which is not in what is counted here."""
SHOTS, SET_STEPS = 5, 10


@dataclass(frozen=True, kw_only=True)
class SceneRow:
    """One measure of one method. A `limit` is what it must not exceed."""

    method: str
    measure: str
    value: float
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class MotionCase:
    """A way to record, with the share of steps that it is published with."""

    name: str
    record: Literal["one", "each"]
    steps: float


MOTION = (
    MotionCase(name="one level, 60 % of steps (Wan)", record="one", steps=0.6),
    MotionCase(name="each level, 40 % of steps (LTX, UNet)", record="each", steps=0.4),
)


def measure(cases: Sequence[MotionCase] = MOTION, on_row: Callable[[SceneRow], None] | None = None) -> list[SceneRow]:
    """All rows, told as they come. Loads torch and diffusers."""
    rows = []
    makers: list[Callable[[], list[SceneRow]]] = [*(partial(motion_rows, case) for case in cases), set_rows]
    for make in makers:
        for row in make():
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def motion_rows(case: MotionCase) -> list[SceneRow]:
    """FLOPs over those of a plain clip, passes over the source and bytes of its queries."""
    control = MotionQueries(frames=_clip(), record=case.record, steps=case.steps, layers="all")
    ratio = flops_at(STEPS, control) / flops_at(STEPS)
    (steering,) = _generate(COUNTED[1], control).controls[0]
    assert isinstance(steering, MotionSteering)
    method = f"Motion by Queries, {case.name}"
    layout = steering.shot.layout
    network = _model().experts[0]
    a_layer = layout.tokens * network.config.num_attention_heads * network.config.attention_head_dim
    return [
        SceneRow(method=method, measure="flops over plain", value=ratio, limit=MOTION_LIMIT),
        SceneRow(method=method, measure=f"passes over the source in {COUNTED[1]} steps", value=steering.passes),
        SceneRow(
            method=method,
            measure="queries held, in layers of tokens x width",
            value=steering.most_bytes / (4 * a_layer),
            limit=len(network.blocks),
        ),
    ]


class Everywhere:
    """A segmenter for which everything is the subject: the dearest case."""

    name = "everywhere"

    def __call__(self, frames: NDArray[np.uint8], subject: str) -> NDArray[np.bool_]:
        """All true, (frames, height, width)."""
        return np.ones(frames.shape[:3], dtype=bool)


def set_rows() -> list[SceneRow]:
    """FLOPs of a lock-step batch of five shots and their steered copies, over those of the five shots.

    The subject fills every frame, and the decoding that finds it is counted.
    """
    plain = [_request(seed=shot, frames=9) for shot in range(SHOTS)]
    batch = storyboard(plain, ["red fox"] * SHOTS, keyframes=2, segmenter=Everywhere())
    settings = Settings(steps=SET_STEPS, guidance=5.0)

    def flops(requests: Sequence[ShotRequest]) -> int:
        with measured() as meter:
            sample(_model(), requests, settings)
        return meter.laps[0].flops

    ratio = flops(batch) / flops(plain)
    return [SceneRow(method="Video Storyboarding, one sweep", measure="flops over plain", value=ratio, limit=SET_LIMIT)]


def flops_at(steps: int, *controls: ControlConfig) -> float:
    """Of a whole generation of so many steps, on the straight line through the two that are counted."""
    few, many = (_flops(length, controls) for length in COUNTED)
    return few + (many - few) * (steps - COUNTED[0]) / (COUNTED[1] - COUNTED[0])


@cache
def _flops(steps: int, controls: tuple[ControlConfig, ...]) -> int:
    with measured() as meter, torch.no_grad():
        _model().decode(_generate(steps, *controls).latents)
    return meter.laps[0].flops


def _generate(steps: int, *controls: ControlConfig) -> Sample:
    return sample(_model(), [_request(controls=controls)], Settings(steps=steps, guidance=5.0))


def _request(*, seed: int = 1, frames: int = 5, controls: tuple[ControlConfig, ...] = ()) -> ShotRequest:
    return ShotRequest(
        prompt="a red fox walks", frames=frames, fps=8, width=32, height=32, seed=seed, controls=controls
    )


@cache
def _model() -> WanVideoModel:
    return WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.1", scheduler="euler"))


def _clip() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
