"""Metrics without weights, on clips whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest

from evals.metrics.classical import Boundaries, Cuts, Flicker, LightChange, boundary_match, cuts, flicker
from evals.metrics.flow import (
    FLOWS,
    DynamicDegree,
    FlowField,
    FlowMagnitude,
    Grey,
    StaticFlicker,
    dis,
    dynamic_degree,
    farneback,
    grey,
    is_static,
    magnitudes,
    motion_energy,
    movement_second,
    top_share,
)
from evals.metrics.frame_indices import every_k
from evals.metrics.score import Case, NotMeasured, Score
from evals.metrics.smoothness import MotionSmoothness, mean_frame, smoothness, warped
from generators.clip import Frames

CASE = Case(name="a", prompt="a square moves")


def texture(height: int = 64, width: int = 96, seed: int = 0) -> Frames:
    """A smooth random picture, so that flow has something to hold on to."""
    import cv2

    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    soft = cv2.GaussianBlur(noise, (0, 0), 3).astype(np.float32)
    return ((soft - soft.min()) / (soft.max() - soft.min()) * 255).astype(np.uint8)


def panned(pixels: float, frames: int = 9) -> Frames:
    """The picture moved so many whole pixels a frame, rolling round."""
    return np.stack([np.roll(texture(), round(pixels * i), axis=1) for i in range(frames)])


def value(outcome: object) -> float:
    assert isinstance(outcome, Score), outcome
    return outcome.value


def test_a_clip_that_stands_still_has_no_flicker_no_motion_and_no_cut() -> None:
    still = np.repeat(texture()[None], 9, axis=0)
    assert flicker(still) == 1.0
    assert value(DynamicDegree().measure(still, 8, CASE)) == 0
    assert value(FlowMagnitude().measure(still, 8, CASE)) == pytest.approx(0, abs=0.02)
    assert value(MotionSmoothness().measure(still, 8, CASE)) == pytest.approx(1, abs=0.002)
    assert value(Cuts().measure(still, 8, CASE)) == 0
    assert value(LightChange().measure(np.repeat(still, 3, axis=0), 8, CASE)) == 0


def test_flicker_is_the_mean_difference_of_neighbours() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (5, 8, 9, 3), dtype=np.uint8)
    slow = np.mean([np.abs(frames[i + 1].astype(int) - frames[i]).mean() for i in range(4)])
    assert flicker(frames) == pytest.approx((255 - slow) / 255, abs=1e-12)
    assert flicker(np.stack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)])) == 0


def test_one_frame_is_not_measured() -> None:
    one = texture()[None]
    for metric in (Flicker(), FlowMagnitude(), MotionSmoothness(), Cuts(), DynamicDegree(), LightChange()):
        assert isinstance(metric.measure(one, 8, CASE), NotMeasured), metric


@pytest.mark.parametrize("flow", [dis, farneback])
def test_flow_finds_a_known_shift(flow: object) -> None:
    first, second = grey(panned(2, 2))
    assert callable(flow)
    inner = flow(first, second)[12:-12, 16:-16]
    assert np.median(inner[..., 0]) == pytest.approx(2, abs=0.3)
    assert np.median(inner[..., 1]) == pytest.approx(0, abs=0.3)


def test_the_top_share_is_the_mean_of_the_largest() -> None:
    field = np.arange(100, dtype=np.float32).reshape(10, 10)
    assert top_share(field, 0.05) == np.mean([95, 96, 97, 98, 99])
    assert top_share(field, 0.001) == 99


def test_dynamic_degree_flips_exactly_at_its_threshold() -> None:
    threshold = 6.0 * 64 / 256
    for top, moving in ((threshold, False), (threshold + 1e-6, True)):
        assert dynamic_degree([top] * 8, 9, (64, 96)) is moving


def test_dynamic_degree_rounds_its_count_to_even() -> None:
    """round(4 * 10 / 16) = round(2.5) = 2 pairs are enough."""
    assert not dynamic_degree([9, 0, 0, 0, 0, 0, 0, 0, 0], 10, (64, 64))
    assert dynamic_degree([9, 9, 0, 0, 0, 0, 0, 0, 0], 10, (64, 64))


def test_a_clip_of_two_frames_counts_as_dynamic_and_of_one_not_as_published() -> None:
    assert dynamic_degree([0.0], 2, (64, 64))
    assert not dynamic_degree([], 1, (64, 64))


def test_a_moving_picture_is_dynamic_and_a_slow_one_is_not() -> None:
    assert value(DynamicDegree().measure(panned(4), 8, CASE)) == 1
    assert value(DynamicDegree().measure(panned(0.25), 8, CASE)) == 0


STATIC = 3.0 * 64 / 256
"""Pixels that a pair of frames of 64 x 96 may move and be still."""


def test_the_static_filter_flips_exactly_at_its_threshold() -> None:
    allowed = 2  # round(2 * 16 / 16)
    for top, static in ((STATIC, True), (STATIC + 1e-6, False)):
        assert is_static([top] * 15, (0.0, 0.0), 16, (64, 96)) is static
        assert is_static([top] * (allowed + 1) + [0.0] * 12, (0.0, 0.0), 16, (96, 64)) is static
    assert is_static([9.0] * allowed + [STATIC] * 13, (0.0, 0.0), 16, (64, 96))


@pytest.mark.parametrize("way", [0, 1], ids=["first to last", "last to first"])
def test_the_static_filter_looks_at_each_way_between_first_and_last(way: int) -> None:
    furthest = STATIC * 2 * 2
    for moved, static in ((furthest, True), (furthest + 1e-6, False)):
        wraps = (moved, 0.0) if way == 0 else (0.0, moved)
        assert is_static([0.0] * 15, wraps, 16, (64, 96)) is static


def test_the_static_filter_rounds_its_count_to_even() -> None:
    """round(2 * 20 / 16) = round(2.5) = 2 pairs may move, and the ends by twice as many thresholds."""
    assert is_static([9.0] * 2 + [0.0] * 17, (0.0, 0.0), 20, (64, 96))
    assert not is_static([9.0] * 3 + [0.0] * 16, (0.0, 0.0), 20, (64, 96))
    assert not is_static([0.0] * 19, (STATIC * 5, 0.0), 20, (64, 96))


@pytest.mark.parametrize("second", [0, 2, 4])
def test_the_second_that_moves_most_is_found(second: int) -> None:
    offsets = np.concatenate([[0], np.cumsum([3 if i // 8 == second else 0 for i in range(40)])])
    clip = np.stack([np.roll(texture(), int(o), axis=1) for o in offsets])
    assert movement_second(clip, 8) == second


def test_the_second_of_movement_agrees_with_a_slow_reference() -> None:
    frames = np.concatenate([panned(1, 12), panned(3, 9)])
    stride = max(9 // 4, 1)
    sums: dict[int, list[float]] = {}
    for i, one in enumerate(magnitudes(frames[every_k(len(frames), stride)], farneback)):
        sums.setdefault(min(i * stride // 9, 4), []).append(float(one.mean()))
    assert movement_second(frames, 9.7) == max(range(5), key=lambda s: (np.mean(sums.get(s, [0.0])), -s))


def test_a_still_clip_peaks_in_its_first_second() -> None:
    assert movement_second(np.repeat(texture()[None], 20, axis=0), 4) == 0


def test_cuts_are_found_where_the_picture_changes() -> None:
    clip = np.concatenate([np.repeat(texture(seed=s)[None], 5, axis=0) for s in range(3)])
    dark = clip.copy()
    dark[5:10] //= 6
    assert cuts(dark) == (5, 10)
    assert cuts(dark, shortest=6) == (10,)
    assert cuts(panned(1)) == ()


@pytest.mark.parametrize(
    ("found", "promised", "precision", "recall"),
    [
        ([5, 10], [5, 10], 1, 1),
        ([4, 11], [5, 10], 1, 1),
        ([3], [5], 0, 0),
        ([5, 6], [5], 0.5, 1),
        ([], [5], 0, 0),
        ([], [], 1, 1),
    ],
)
def test_boundaries_match_one_to_one_within_a_frame(
    found: list[int], promised: list[int], precision: float, recall: float
) -> None:
    assert boundary_match(found, promised) == Boundaries(precision=precision, recall=recall)


def test_smoothness_foretells_odd_frames_from_even_ones() -> None:
    frames = np.random.default_rng(2).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    slow = [np.abs(frames[i].astype(int) - mean_frame(frames[i - 1], frames[i + 1])).mean() for i in (1, 3)]
    assert smoothness(frames, mean_frame) == pytest.approx((255 - np.mean(slow)) / 255, abs=1e-12)


def test_warping_foretells_a_pan_better_than_averaging_and_jitter_worse() -> None:
    smooth, shaky = panned(2), panned(2)
    shaky[1::2] = np.roll(shaky[1::2], 5, axis=1)
    assert smoothness(smooth, warped) > smoothness(smooth, mean_frame) + 0.01
    assert smoothness(shaky, warped) < smoothness(smooth, warped) - 0.01


@pytest.mark.parametrize("flow", ["dis", "farneback"])
def test_smoothness_is_foretold_along_the_flow_it_names(flow: str) -> None:
    metric = MotionSmoothness(flow=flow)
    assert metric.name == f"motion smoothness ({flow} warp)"
    slow = smoothness(panned(2), lambda before, after: warped(before, after, FLOWS[flow]))
    assert value(metric.measure(panned(2), 8, CASE)) == slow
    assert MotionSmoothness() == MotionSmoothness(flow="dis")


def test_light_that_changes_is_named() -> None:
    clip = np.repeat(np.full((1, 8, 8, 3), 100, np.uint8), 17, axis=0)
    clip[8:] = 151
    found = LightChange().measure(clip, 8, CASE)
    assert isinstance(found, Score)
    assert found.details == {"brightness": pytest.approx(51 / 255 / 2), "contrast": 0.0, "saturation": 0.0}


def test_flicker_as_published_is_that_of_clips_whose_flow_passes_the_filter() -> None:
    still = np.repeat(texture()[None], 9, axis=0)
    trembling = still.copy()
    trembling[::2] = np.clip(trembling[::2].astype(int) + 6, 0, 255)
    metric = StaticFlicker()
    assert metric.name == "temporal flickering (static clips by dis)"
    assert value(metric.measure(still, 8, CASE)) == 1
    assert value(metric.measure(trembling, 8, CASE)) == flicker(trembling) < 1
    moved = metric.measure(panned(4), 8, CASE)
    assert moved == NotMeasured(reason="the clip moves: the filter lets static clips pass alone")
    assert isinstance(metric.measure(still[:1], 8, CASE), NotMeasured)


def test_the_static_filter_is_fed_the_top_two_per_cent_of_every_pair_and_of_both_wraps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flow that reads how far apart two flat frames are, in its upper 2 % alone."""
    size = (20, 50)
    told: list[object] = []

    def apart(first: Grey, second: Grey) -> FlowField:
        found = np.zeros((*size, 2), np.float32)
        forwards = float(second.mean()) - float(first.mean())
        found.reshape(-1, 2)[:20, 0] = forwards if forwards > 0 else 2 * forwards
        return found

    def remember(tops: object, wraps: object, frames: int, shape: object) -> bool:
        told.append((tops, wraps, frames, shape))
        return True

    monkeypatch.setitem(FLOWS, "apart", apart)
    monkeypatch.setattr("evals.metrics.flow.is_static", remember)
    clip = np.stack([np.full((*size, 3), level, np.uint8) for level in (0, 3, 5, 12)])
    StaticFlicker(flow="apart").measure(clip, 8, CASE)
    assert told == [([3, 2, 7], (12, 24), 4, size)]


def test_motion_energy_has_an_entry_a_latent_frame_and_none_in_the_first() -> None:
    """81 frames and 21 entries: four pairs an entry from the second on, as a causal autoencoder packs them."""

    def apart(first: Grey, second: Grey) -> FlowField:
        return np.full((*first.shape, 2), [float(second[0, 0]) - float(first[0, 0]), 0.0], np.float32)

    levels = np.random.default_rng(3).integers(0, 256, 81)
    clip = np.stack([np.full((4, 4, 3), level, np.uint8) for level in levels])
    steps = np.abs(np.diff(levels))
    assert motion_energy(clip, 21, apart) == [0.0, *(float(np.mean(steps[4 * i : 4 * i + 4])) for i in range(20))]
    assert motion_energy(clip[:3], 5, apart) == [0.0, 0.0, float(steps[0]), 0.0, float(steps[1])]
