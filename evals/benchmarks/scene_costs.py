"""What steering across shots costs: Motion by Queries and Video Storyboarding beside plain clips, and `scene_rows`.

FLOPs are counted on a tiny random Wan pipeline (of a set on a UNet as well), whole generations with encoding and
decoding, at two lengths of schedule; both are straight lines in the number of steps, so the published number follows
exactly. Of a set of shots the passes follow from the plan of its two sweeps, on published schedules; its FLOPs are
counted at one short length, without the decodings in which the subject is looked for, which are counted beside. Knows
nothing of quality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from evals.benchmarks.scene_rows import SceneRow, grouped_rows, window_rows
from generators.cast import CastSample, CastSettings, sample_cast
from generators.cast_memory import STEERED
from generators.cast_plan import Keeps, Plan
from generators.clip import ShotRequest
from generators.controls.config import ControlConfig, MotionQueries
from generators.controls.motion_queries import MotionSteering, noise_levels
from generators.controls.noise_windows import ddpm_sigma
from generators.controls.storyboarding_config import Storyboarding
from generators.controls.storyboarding_maths import key_frames
from generators.costs import measured
from generators.models.base import Branch
from generators.models.loading import take_apart
from generators.models.tiny import tiny_pipeline
from generators.models.tiny_unet import tiny_unet_pipeline
from generators.models.wan import WanVideoModel
from generators.sampler import Sample, Settings, sample

STEPS = 50
"""Published length of the schedule."""
COUNTED = (5, 10)
"""Lengths that are counted; shares of a fifth steer whole steps of both."""
MOTION_LIMIT = 1.25
CAST_LIMITS: dict[Keeps, float] = {"nothing": 3.4, "flow maps": 2.7}
"""Of a set in two sweeps, by what is kept from one to the other."""
HALF = 1 / 2
"""Of a frame, where the subject is: one of the clip's two rows of tokens."""
SHOTS, SET_SETTINGS = 5, Settings(steps=8, guidance=1.0)
"""Without guidance: both branches take the same, in a set as in plain shots."""


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
    makers: list[Callable[[], list[SceneRow]]] = [
        *(partial(motion_rows, case) for case in cases),
        plan_rows,
        set_rows,
        unet_rows,
        batch_rows,
        grouped_rows,
        window_rows,
    ]
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


class Band:
    """A segmenter for which the upper part of every frame is the subject, as far as it is told. Counts its looks."""

    def __init__(self, share: float) -> None:
        self.share, self.looks = share, 0
        self.name = f"upper {share:.0%}"

    def __call__(self, frames: NDArray[np.uint8], subject: str) -> NDArray[np.bool_]:
        """(frames, height, width)."""
        self.looks += 1
        found = np.zeros(frames.shape[:3], dtype=bool)
        found[:, : round(self.share * frames.shape[1])] = True
        return found


def plan_rows() -> list[SceneRow]:
    """Passes of a set over those of its plain shots, sub-batching apart: the same for any number of shots.

    On Wan's schedule, and on the one that the published windows are written for; and bytes of correspondences.
    """
    wan = noise_levels(_model().stepper(STEPS, _model().layout(9, 32, 32)))  # the tiny pipeline shifts by 3, as Wan
    ddpm = [ddpm_sigma(t) for t in range(1000 - 1000 // STEPS, -1, -1000 // STEPS)]
    rows = []
    for keeps, limit in CAST_LIMITS.items():
        for name, levels in (("Wan, shift 3", wan), ("DDPM", ddpm)):
            plan = Plan(_steering(), levels, keeps)
            measure = f"passes over plain, {STEPS} steps, {name}"
            rows.append(SceneRow(method=_named(keeps), measure=measure, value=plan.over_plain, limit=limit))
    plan = Plan(_steering(), wan, "flow maps")
    rows.append(
        SceneRow(
            method=_named("flow maps"),
            measure=f"bytes of maps, {SHOTS} shots of Wan 1.3B at 832x480x81",
            value=SHOTS * map_bytes(plan, frames=21, tokens=30 * 52, layers=10),
        )
    )
    return rows


def map_bytes(plan: Plan, *, frames: int, tokens: int, layers: int, spacing: int = 5) -> int:
    """Bytes of one shot's int16 maps: both branches, `tokens` of a latent frame, `layers` that lead queries."""
    between = frames - len(key_frames(frames, spacing))
    steps = len(plan.led & set(plan.first) & set(plan.second))
    return steps * layers * len(Branch) * between * 2 * tokens * 2


def set_rows() -> list[SceneRow]:
    """FLOPs of whole five-shot sets over those of the five shots, looks for the subject counted apart."""
    plain = _flops_of(lambda: sample(_model(), _shots(), SET_SETTINGS))
    rows = []
    cases: tuple[tuple[Keeps, float], ...] = (("nothing", 1.0), ("nothing", HALF), ("flow maps", HALF))
    for keeps, share in cases:
        band, method, limit = Band(share), _named(keeps), CAST_LIMITS[keeps] if share < 1 else None
        made, flops = _set(band, keeps)
        told = f"flops over plain, {SET_SETTINGS.steps} steps, subject in {share:.0%} of a frame"
        ratio = (flops - band.looks * _look_flops()) / plain
        rows.append(SceneRow(method=method, measure=told, value=ratio, limit=limit))
        if share < 1:
            passes = made.row_steps / (SHOTS * SET_SETTINGS.steps)
            rows += [
                SceneRow(method=method, measure="passes over plain, as filmed", value=passes, limit=limit),
                SceneRow(method=method, measure="looks for the subject, each one decoding", value=band.looks),
                SceneRow(method=method, measure="bytes of maps, as filmed", value=made.map_bytes),
            ]
    return rows


def unet_rows() -> list[SceneRow]:
    """The same set on a UNet: FLOPs over those of its passes, which are the plan's."""
    model = take_apart(tiny_unet_pipeline("modelscope"))
    shots = [replace(shot, width=64, height=64) for shot in _shots()]
    band = Band(HALF)
    with measured() as meter:
        made = sample_cast(model, shots, _subjects(), SET_SETTINGS, _cast(band))
    latents = torch.zeros(1, *model.layout(shots[0].frames, 64, 64).shape)
    looks = band.looks * _flops_of(lambda: model.decode(latents))
    passes = made.row_steps / (SHOTS * SET_SETTINGS.steps)
    plain = _flops_of(lambda: sample(model, shots, SET_SETTINGS))
    told = f"flops over those of its passes, subject in {HALF:.0%} of a frame"
    value = (meter.laps[0].flops - looks) / (plain * passes)
    return [SceneRow(method="Video Storyboarding on a UNet", measure=told, value=value)]


def batch_rows() -> list[SceneRow]:
    """The same set in batches of three shots, and the peak memory of one more shot over that of one more clip."""
    made = sample_cast(_model(), _shots(), _subjects(), SET_SETTINGS, _cast(Band(HALF), at_once=3))

    def cast_peak(count: int) -> int:
        cast = _cast(Band(1.0))
        return _peak_of(lambda: sample_cast(_model(), _shots()[:count], _subjects()[:count], SET_SETTINGS, cast))

    def plain_peak(count: int) -> int:
        return _peak_of(lambda: sample(_model(), _shots()[:count], SET_SETTINGS))

    each = (cast_peak(3) - cast_peak(2)) / (plain_peak(3) - plain_peak(2))
    passes = made.row_steps / (SHOTS * SET_SETTINGS.steps)
    method = "Video Storyboarding, in batches"
    return [
        SceneRow(method=method, measure="passes over plain, five shots, three at once", value=passes),
        SceneRow(method=method, measure="peak bytes of a further shot over those of a clip", value=each, limit=STEERED),
    ]


def _named(keeps: Keeps) -> str:
    return f"Video Storyboarding, {'nothing kept' if keeps == 'nothing' else 'int16 flow maps'}"


def _cast(band: Band, keeps: Keeps = "nothing", at_once: int | None = None) -> CastSettings:
    return CastSettings(keeps=keeps, at_once=at_once, steering={"segmenter": band, "keyframes": 2})


def _steering() -> Storyboarding:
    return Storyboarding(place=1, vanilla=0, anchors=(1,), subject="red fox", **CastSettings().of_control)


def _set(band: Band, keeps: Keeps) -> tuple[CastSample, int]:
    with measured() as meter:
        made = sample_cast(_model(), _shots(), _subjects(), SET_SETTINGS, _cast(band, keeps))
    return made, meter.laps[0].flops


@cache
def _look_flops() -> int:
    """Of decoding one clip."""
    latents = torch.zeros(1, *_model().layout(9, 32, 32).shape)
    return _flops_of(lambda: _model().decode(latents))


def _flops_of(work: Callable[[], object]) -> int:
    with measured() as meter, torch.no_grad():
        work()
    return meter.laps[0].flops


def _peak_of(work: Callable[[], object]) -> int:
    with measured() as meter:
        work()
    return meter.laps[0].peak_bytes


def _shots() -> list[ShotRequest]:
    return [_request(seed=shot, frames=9) for shot in range(SHOTS)]


def _subjects() -> list[str]:
    return ["red fox"] * SHOTS


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
