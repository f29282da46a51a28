"""Optical flow without weights, and what is read from flow: dynamic degree, still clips, the second of movement.

The rules are VBench's and TempoControl's; VBench's own flow is RAFT, so numbers from DIS or Farneback carry the name
of their flow and do not compare with published ones. A flow is float32 (H, W, 2) in pixels from one frame to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from evals.metrics.classical import ONE_FRAME, flicker
from evals.metrics.frame_indices import every_k, target_fps
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from generators.clip import Frames

Grey = NDArray[np.uint8]
FlowField = NDArray[np.float32]
FlowOf = Callable[[Grey, Grey], FlowField]
SMALLEST = 16
"""Pixels a side below which DIS has no pyramid to work on."""


def grey(frames: Frames) -> list[Grey]:
    """Luma of every frame (H, W)."""
    return [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames]


def farneback(first: Grey, second: Grey) -> FlowField:
    """Farneback with TempoControl's settings: pyramid 0.5, 3 levels, window 15, 3 rounds, polynomial 5 / 1.2."""
    start = np.zeros((*first.shape, 2), np.float32)
    return np.asarray(cv2.calcOpticalFlowFarneback(first, second, start, 0.5, 3, 15, 3, 5, 1.2, 0), np.float32)


def dis(first: Grey, second: Grey) -> FlowField:
    """Dense inverse search, OpenCV's medium preset. Raises ValueError for frames of fewer than 16 pixels a side."""
    if min(first.shape) < SMALLEST:
        raise ValueError(f"dis: expected at least {SMALLEST} pixels a side, got {first.shape}")
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(first, second, np.zeros((*first.shape, 2), np.float32)), np.float32)


FLOWS: dict[str, FlowOf] = {"dis": dis, "farneback": farneback}


def magnitudes(frames: Frames, flow: FlowOf) -> list[NDArray[np.float32]]:
    """Pixels moved, for every pixel of every consecutive pair."""
    pictures = grey(frames)
    return [np.linalg.norm(flow(a, b), axis=-1) for a, b in zip(pictures[:-1], pictures[1:], strict=True)]


def top_share(magnitude: NDArray[np.float32], share: float) -> float:
    """Mean of the `int(share * pixels)` largest values, at least one."""
    flat = magnitude.ravel()
    count = max(1, int(share * flat.size))
    return float(np.partition(flat, flat.size - count)[-count:].mean())


def dynamic_degree(tops: Sequence[float], frames: int, size: tuple[int, int]) -> bool:
    """VBench: dynamic as soon as `round(4 N / 16)` pairs move more than `6 min(H, W) / 256` pixels.

    `tops` is the mean of the top 5 % per pair, `frames` N counts sampled frames, `size` is (H, W). Rounding is to
    even. As published, a clip of two frames needs no pair at all and counts as dynamic.
    """
    enough, threshold = round(4 * frames / 16), 6.0 * min(size) / 256
    over = 0
    for top in tops:
        over += top > threshold
        if over >= enough:
            return True
    return False


def is_static(tops: Sequence[float], wraps: tuple[float, float], frames: int, size: tuple[int, int]) -> bool:
    """VBench's static filter over the mean of the top 2 % per pair; `wraps` is (first to last, last to first)."""
    threshold, allowed = 3.0 * min(size) / 256, round(2 * frames / 16)
    return sum(top > threshold for top in tops) <= allowed and max(wraps) <= threshold * allowed * 2


@dataclass(frozen=True, kw_only=True)
class StaticFlicker:
    """VBench's temporal flickering as published: of clips that its static filter lets pass, at their own rate."""

    flow: str = "dis"
    higher_is_better: bool = True

    @property
    def name(self) -> str:
        """Names the flow of the filter."""
        return f"temporal flickering (static clips by {self.flow})"

    def measure(self, frames: Frames, fps: float, case: Case) -> Outcome:
        """1 for a still clip."""
        if len(frames) < 2:
            return ONE_FRAME
        flow, pictures = FLOWS[self.flow], grey(frames[[0, -1]])
        tops = [top_share(one, 0.02) for one in magnitudes(frames, flow)]
        there, back = (np.linalg.norm(flow(a, b), axis=-1) for a, b in (pictures, pictures[::-1]))
        size = frames.shape[1], frames.shape[2]
        if not is_static(tops, (top_share(there, 0.02), top_share(back, 0.02)), len(frames), size):
            return NotMeasured(reason="the clip moves: the filter lets static clips pass alone")
        return Score(value=flicker(frames))


@dataclass(frozen=True, kw_only=True)
class DynamicDegree:
    """Share of clips that move, at about 8 frames a second; the raw flow in the details."""

    flow: str = "dis"
    higher_is_better: bool | None = None

    @property
    def name(self) -> str:
        """Names the flow."""
        return f"dynamic degree ({self.flow})"

    def measure(self, frames: Frames, fps: float, case: Case) -> Outcome:
        """1 or 0."""
        picked = frames[target_fps(len(frames), fps, 8)]
        if len(picked) < 3:
            return NotMeasured(reason="fewer than 3 frames at 8 frames a second")
        size = frames.shape[1], frames.shape[2]
        tops = [top_share(one, 0.05) for one in magnitudes(picked, FLOWS[self.flow])]
        moving = dynamic_degree(tops, len(picked), size)
        return Score(value=float(moving), details={"top 5 % flow": float(np.mean(tops))})


@dataclass(frozen=True, kw_only=True)
class FlowMagnitude:
    """EvalCrafter's flow score: pixels moved from frame to frame, over all pixels and pairs."""

    flow: str = "dis"
    higher_is_better: bool | None = None

    @property
    def name(self) -> str:
        """Names the flow."""
        return f"flow magnitude ({self.flow}, px)"

    def measure(self, frames: Frames, fps: float, case: Case) -> Outcome:
        """Pixels."""
        if len(frames) < 2:
            return ONE_FRAME
        return Score(value=float(np.mean([one.mean() for one in magnitudes(frames, FLOWS[self.flow])])))


def movement_second(frames: Frames, fps: float, seconds: int = 5, flow: FlowOf = farneback) -> int:
    """TempoControl: the second that moves most. Empty seconds are 0, ties go to the earlier one.

    Pairs are taken at stride `max(int(fps) // 4, 1)`; later seconds fall into the last.
    """
    rate = max(int(fps), 1)
    stride = max(rate // 4, 1)
    moved = [float(one.mean()) for one in magnitudes(frames[every_k(len(frames), stride)], flow)]
    buckets: list[list[float]] = [[] for _ in range(seconds)]
    for pair, amount in enumerate(moved):
        buckets[min(pair * stride // rate, seconds - 1)].append(amount)
    return int(np.argmax([float(np.mean(bucket)) if bucket else 0.0 for bucket in buckets]))


def motion_energy(frames: Frames, entries: int, flow: FlowOf = farneback) -> list[float]:
    """Mean pixels moved in every latent frame of a causal autoencoder: the first entry is one frame and moves nothing,
    the others share the pairs evenly (81 frames and 21 entries: four each). An entry without a pair is 0."""
    pairs = [float(one.mean()) for one in magnitudes(frames, flow)]
    buckets: list[list[float]] = [[] for _ in range(entries)]
    for pair, amount in enumerate(pairs, 1):
        buckets[-(-pair * (entries - 1) // len(pairs))].append(amount)
    return [float(np.mean(bucket)) if bucket else 0.0 for bucket in buckets]
