"""What TempoControl minimises: words followed in time, strong where present, weak where absent, concentrated in space.

F frames, H x W tokens of a frame, W words. Maps are one word's attention, (F, H, W); a target, (F,), is presence in
0..1. Everything is differentiable and keeps its dtype. Knows nothing of models, prompts or optimisers. Equation numbers
are those of arXiv 2510.02226 as its released code names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from generators.controls.tempo_targets import PRESENT

PUBLISHED_TOKENS = 30 * 52
"""Tokens of a frame for which the published weights were chosen (480 x 832)."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of the three terms (eq. 9)."""

    correlation: float = 1.0
    magnitude: float = 0.3
    focus: float = 10.0


def time_course(maps_FHW: Tensor) -> Tensor:
    """Mean attention of each frame, stretched to 0..1 over the clip (eq. 2-3): (F,)."""
    mean_F = maps_FHW.mean(dim=(-2, -1))
    low, high = mean_F.amin(), mean_F.amax()
    return (mean_F - low) / (high - low + 1e-6)


def correlation(maps_FHW: Tensor, target_F: Tensor) -> Tensor:
    """Pearson correlation of time course and target (eq. 4), without the clip's first and last frame: a scalar."""
    return pearson(time_course(maps_FHW)[1:-1], target_F[1:-1])


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Correlation of two series; 0, with zero gradient, where one of them does not vary."""
    x, y = x - x.mean(), y - y.mean()
    return (x * y).mean() / (((x * x).mean() + 1e-6).sqrt() * ((y * y).mean() + 1e-6).sqrt())


def magnitude(maps_FHW: Tensor, target_F: Tensor) -> Tensor:
    """Attention of an absent frame less that of a present one, summed over space (eq. 5-6): a scalar."""
    total_F = maps_FHW.sum(dim=(-2, -1))
    return _mean_over(total_F, target_F < PRESENT) - _mean_over(total_F, target_F > PRESENT)


def spread(maps_FHW: Tensor, target_F: Tensor) -> Tensor:
    """Entropy over space of the present frames (eq. 8): a scalar; 0 would be one token that has it all."""
    share_FN = maps_FHW.flatten(1) / (maps_FHW.sum(dim=(-2, -1)) + 1e-10).unsqueeze(-1)
    entropy_F = -(share_FN * (share_FN + 1e-10).log()).sum(-1)
    return _mean_over(entropy_F, target_F > PRESENT)


def objective(
    maps_WFHW: Tensor, targets_WF: Tensor, weights: Weights, *, tokens: int | None = PUBLISHED_TOKENS
) -> Tensor:
    """The weighted sum (eq. 9), each term a mean over the words: a scalar.

    `tokens` scales the magnitude to frames of so many tokens, so that one set of weights serves every size; None leaves
    it as it comes.
    """
    scale = 1.0 if tokens is None else tokens / maps_WFHW[0, 0].numel()

    def mean(terms: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(terms)).mean()

    pairs = list(zip(maps_WFHW, targets_WF, strict=True))
    follows = mean([correlation(maps, target) for maps, target in pairs])
    strong = mean([magnitude(maps, target) for maps, target in pairs]) * scale
    wide = mean([spread(maps, target) for maps, target in pairs])
    return -weights.correlation * follows + weights.magnitude * strong + weights.focus * wide


def _mean_over(values_F: Tensor, frames_F: Tensor) -> Tensor:
    """Mean over some frames; of none, 0."""
    return (values_F * frames_F).sum() / frames_F.sum().clamp(min=1)
