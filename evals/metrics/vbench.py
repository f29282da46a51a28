"""VBench's dimensions that rest on an encoder, as metrics; its normalisation and its totals.

Built with an encoder or with the reason why there is none; then every clip is not measured, for that reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evals.metrics.classical import ONE_FRAME, Cuts, Flicker, LightChange
from evals.metrics.consistency import consecutive, unit, within_shot
from evals.metrics.embedders import Embedder, TextEmbedder, Weights
from evals.metrics.flow import DynamicDegree, FlowMagnitude, StaticFlicker
from evals.metrics.score import Case, Metric, NotMeasured, Outcome, Score
from evals.metrics.smoothness import MotionSmoothness
from evals.metrics.tracks import TracksKept
from generators.clip import Frames

RANGES: Mapping[str, tuple[float, float]] = {
    "subject consistency": (0.1462, 1),
    "background consistency": (0.2615, 1),
    "temporal flickering": (0.6293, 1),
    "motion smoothness": (0.706, 0.9975),
    "dynamic degree": (0, 1),
    "aesthetic quality": (0, 1),
    "imaging quality": (0, 1),
    "object class": (0, 1),
    "multiple objects": (0, 1),
    "human action": (0, 1),
    "color": (0, 1),
    "spatial relationship": (0, 1),
    "scene": (0, 0.8222),
    "appearance style": (0.0009, 0.2855),
    "temporal style": (0, 0.364),
    "overall consistency": (0, 0.364),
}
"""Least and greatest value of every dimension; the first seven are quality, the other nine semantic."""
QUALITY = tuple(RANGES)[:7]
SEMANTIC = tuple(RANGES)[7:]
PUBLISHED = {
    "subject consistency (dino_vitb16)": "subject consistency",
    "background consistency (clip_vitb32)": "background consistency",
    **{name: name for name in RANGES},
}
"""Metrics that measure a dimension as VBench does. Ours of flicker, smoothness and motion rest on another flow."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """VBench's weighted means of normalised dimensions, in 0..1."""

    quality: float
    semantic: float

    @property
    def total(self) -> float:
        """Quality counts four times."""
        return (4 * self.quality + self.semantic) / 5


def normalised(dimension: str, value: float) -> float:
    """`(v - min) / (max - min)`. Raises KeyError for an unknown dimension."""
    low, high = RANGES[dimension]
    return (value - low) / (high - low)


def totals(values: Mapping[str, float]) -> Totals | NotMeasured:
    """Quality, with dynamic degree at half weight, and semantic; not measured unless all 16 dimensions are."""
    if missing := [name for name in RANGES if name not in values]:
        return NotMeasured(reason=f"not all dimensions were measured as published: {', '.join(missing)}")
    scaled = {name: normalised(name, values[name]) for name in RANGES}
    weights = {name: 0.5 if name == "dynamic degree" else 1.0 for name in QUALITY}
    quality = sum(scaled[name] * weight for name, weight in weights.items()) / sum(weights.values())
    return Totals(quality=quality, semantic=float(np.mean([scaled[name] for name in SEMANTIC])))


@dataclass(frozen=True, kw_only=True)
class WithinShot:
    """Subject consistency (DINO) or background consistency (CLIP): frames against the one before and the first."""

    dimension: str
    encoder: str
    embedder: Embedder | NotMeasured
    higher_is_better: bool = True

    @property
    def name(self) -> str:
        """Names the encoder."""
        return f"{self.dimension} ({self.encoder})"

    def measure(self, frames: Frames, fps: float, case: Case) -> Outcome:
        """0..1 by VBench's formula; over how many frames in the details."""
        if isinstance(self.embedder, NotMeasured):
            return self.embedder
        value = within_shot(self.embedder.embed(frames)) if len(frames) > 1 else None
        return ONE_FRAME if value is None else Score(value=value, details={"frames": len(frames) - 1.0})


@dataclass(frozen=True, kw_only=True)
class TextAlignment:
    """Mean CLIP cosine of frame and prompt, times 100; the cosine of neighbouring frames in the details."""

    encoder: str
    embedder: TextEmbedder | NotMeasured
    higher_is_better: bool = True

    @property
    def name(self) -> str:
        """Names the encoder."""
        return f"text alignment ({self.encoder})"

    def measure(self, frames: Frames, fps: float, case: Case) -> Outcome:
        """-100..100."""
        if isinstance(self.embedder, NotMeasured):
            return self.embedder
        if not case.prompt:
            return NotMeasured(reason="the case has no prompt")
        pictures = self.embedder.embed(frames)
        text = unit(self.embedder.embed_texts([case.prompt]))[0]
        steady = consecutive(pictures)
        details = {} if steady is None else {"temporal consistency": 100 * steady}
        return Score(value=100 * float((unit(pictures) @ text).mean()), details=details)


def quality_metrics(weights: Weights, flow: str = "dis") -> tuple[Metric, ...]:
    """What any clip is measured with; those without their weights say so."""
    return (
        WithinShot(dimension="subject consistency", encoder="dino_vitb16", embedder=weights.open("dino_vitb16")),
        WithinShot(dimension="background consistency", encoder="clip_vitb32", embedder=weights.open("clip_vitb32")),
        TextAlignment(encoder="clip_vitb32", embedder=weights.open_text("clip_vitb32")),
        Flicker(),
        StaticFlicker(flow=flow),
        MotionSmoothness(flow=flow),
        DynamicDegree(flow=flow),
        FlowMagnitude(flow=flow),
        TracksKept(),
        LightChange(),
        Cuts(),
    )
