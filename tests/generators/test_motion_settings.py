"""When and where Motion by Queries steers, how a clip is fitted, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from generators.controls.motion_queries import (
    chosen_layers,
    noise_levels,
    recorded_steps,
    steered_steps,
)
from generators.controls.motion_source import fitted
from generators.controls.noise_windows import ddpm_sigma, ddpm_window
from generators.errors import ControlRejected
from generators.models.base import Site
from generators.models.stepping import Stepper
from tests.generators.test_motion_queries import clip, moving, request


@pytest.mark.parametrize(
    ("t", "sigma"),
    [(981, 0.929), (950, 0.916), (801, 0.837), (750, 0.804), (601, 0.696), (590, 0.688), (401, 0.539), (261, 0.420)],
)
def test_published_timesteps_become_the_noise_levels_of_equal_signal_to_noise(t: int, sigma: float) -> None:
    assert ddpm_sigma(t) == pytest.approx(sigma, abs=6e-4)


def flow_levels(shift: float, steps: int = 50) -> list[float]:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    return noise_levels(Stepper(scheduler))


def test_the_papers_wan_window_is_what_its_unet_window_converts_to() -> None:
    levels = flow_levels(3.0)
    by_share = steered_steps(moving(steps=0.58), levels)
    by_window = steered_steps(moving(window=ddpm_window(601)), levels)
    assert len(by_share) == 29
    assert len(by_window) in (28, 29)
    assert levels[len(by_share)] == pytest.approx(0.685, abs=0.01)


def test_a_diffusion_schedule_is_counted_by_its_signal_to_noise() -> None:
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    scheduler.set_timesteps(50)
    levels = noise_levels(Stepper(scheduler))
    assert levels[0] == pytest.approx(0.929, abs=1e-3)
    assert steered_steps(moving(window=ddpm_window(600)), levels) == tuple(range(20))
    assert steered_steps(moving(window=ddpm_window(750)), levels) == tuple(range(12))
    assert steered_steps(moving(window=ddpm_window(550, 950)), levels) == tuple(range(2, 22))


def test_a_window_between_two_steps_is_refused() -> None:
    with pytest.raises(ControlRejected, match=r"no step lies in 0\.700\.\.0\.701; the steps are at 1\.000"):
        steered_steps(moving(window=(0.7, 0.701)), flow_levels(3.0, steps=4))


def test_the_clip_is_looked_at_where_steering_ends_once_for_each_network() -> None:
    levels, experts = [1.0, 0.95, 0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1, 1, 1]
    settings = moving(record="one")
    assert recorded_steps(settings, (0, 1, 2, 3, 4), levels, [0] * 6) == dict.fromkeys(range(5), 4)
    assert recorded_steps(settings, (0, 1, 2, 3, 4), levels, experts) == {0: 2, 1: 2, 2: 2, 3: 4, 4: 4}
    low = moving(record="one", level=0.62)
    assert recorded_steps(low, (0, 1), levels, [0] * 6) == {0: 5, 1: 5}
    assert recorded_steps(low, (0, 1), levels, experts) == {0: 2, 1: 2}
    assert recorded_steps(moving(record="each"), (0, 1), levels, experts) == {0: 0, 1: 1}


@pytest.mark.parametrize(("blocks", "first"), [(30, 20), (40, 27), (8, 6), (3, 2), (1, 0)])
def test_the_last_third_of_the_blocks_is_steered(blocks: int, first: int) -> None:
    sites = [Site(0, layer, kind) for layer in range(blocks) for kind in ("self", "cross")]
    assert sorted(chosen_layers("last third", sites)) == list(range(first, blocks))


# The clip is made to fit


def test_each_frame_shown_twice_fills_twice_as_many_and_one() -> None:
    frames = clip(16)
    made = fitted(frames, 33, 32, 32, "double")
    assert [int((frames == one).all(axis=(1, 2, 3)).argmax()) for one in made] == [i // 2 for i in range(32)] + [15]


def test_a_clip_is_stretched_over_the_new_one_and_cut_about_its_middle() -> None:
    frames = np.zeros((3, 20, 60, 3), np.uint8)
    frames[:, :, 20:40] = [[[[10]]], [[[20]]], [[[30]]]]
    made = fitted(frames, 5, 10, 10)
    assert made.shape == (5, 10, 10, 3)
    assert made[:, 5, 5, 0].tolist() == [10, 10, 20, 30, 30]
    assert made[4, :, 1:9].min() == 30


@pytest.mark.parametrize("timing", ["double", "exact"])
def test_a_clip_of_another_length_is_refused_unless_it_may_be_stretched(timing: Any) -> None:
    with pytest.raises(ControlRejected, match=f"timing='{timing}'"):
        fitted(clip(4), 5, 32, 32, timing)


# Settings are values


def test_requests_tell_clips_apart_by_their_pixels() -> None:
    other = clip()
    other[0, 0, 0, 0] ^= 1
    same, changed = moving(frames=clip()), moving(frames=other)
    assert same == moving()
    assert same != changed
    assert len({same, moving(), changed}) == 2
    assert request(same).digest() == request(moving()).digest()
    assert request(same).digest() != request(changed).digest()
    assert request(moving(frames=clip(4))).digest() != request(same).digest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": clip(1)}, "at least 2 uint8 frames"),
        ({"steps": 0.4, "window": (0.5, 1.0)}, "steps or window"),
        ({"window": (0.5, 0.5)}, "0 <= low < high <= 1"),
        ({"level": 0.5, "record": "each"}, "record='one'"),
        ({"layers": ()}, "numbers of blocks"),
        ({"strength": 0.0}, "strength"),
        ({"timing": "loop"}, "timing"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        moving(**changes)
