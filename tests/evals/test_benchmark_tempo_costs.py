"""The bench of TempoControl: what it counts, and that what it counts is what a film pays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evals.benchmarks import tempo_costs as tempo
from generators.clip import ShotRequest
from generators.controls.config import TempoControl, Word
from generators.costs import measured
from generators.models.tiny import tiny_pipeline
from generators.models.wan import WanVideoModel
from generators.sampler import Settings, sample

SMALL = replace(tempo.WAN_1_3B, model="six blocks", blocks=6)
WORD = Word(text="walks", latents=(0, 0, 0, 0, 1, 1, 1))
REQUEST = ShotRequest(prompt="A red fox walks.", frames=25, fps=8, width=48, height=32, seed=1)


@pytest.mark.slow
def test_ours_stays_under_its_share_of_the_released_loop() -> None:
    released, ours, kept, half = tempo.measure(SMALL, prefixes=(3,))
    assert released.flops_ratio == 1
    assert kept.flops_ratio < ours.flops_ratio <= 0.75
    assert half.flops_ratio <= 0.45
    assert half.blocks == 3
    assert max(row.readout_ratio for row in (ours, kept, half)) <= 0.1
    assert half.peak_bytes < ours.peak_bytes < kept.peak_bytes
    assert ours.peak_bytes < released.peak_bytes / 2


@pytest.mark.slow
def test_a_film_pays_for_its_moves_what_the_bench_counts() -> None:
    model = WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.1", scheduler="euler"))
    flops = []
    for iterations in (1, 2, 4):
        control = TempoControl(words=(WORD,), layers="all", iterations=iterations, steps=0.01, enough=1.0)
        with measured() as meter:
            sample(model, [replace(REQUEST, controls=(control,))], Settings(steps=1, guidance=1.0))
        flops.append(meter.laps[0].flops)
    with measured() as meter:
        sample(model, [REQUEST], Settings(steps=1, guidance=1.0))
    plain = meter.laps[0].flops
    move = flops[1] - flops[0]
    assert flops[2] - flops[1] == 2 * move
    assert flops[0] - plain == move  # no pass that nobody uses


@pytest.mark.slow
def test_steps_after_the_last_that_acts_cost_what_a_plain_step_costs() -> None:
    model = WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.1", scheduler="euler"))
    laps = []
    for controls in ((TempoControl(words=(WORD,), steps=0.34),), ()):
        with measured() as meter:
            asked = replace(REQUEST, controls=controls)
            sample(model, [asked], Settings(steps=3, guidance=1.0), on_step=lambda progress, m=meter: m.lap())
        laps.append([lap.flops for lap in meter.laps[:3]])
    steered, plain = laps
    assert steered[0] > 2 * plain[0]
    assert steered[1:] == plain[1:]


def test_the_prefix_and_all_blocks_are_followed_side_by_side() -> None:
    model = WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.1", scheduler="euler"))
    config = TempoControl(words=(WORD,), rate=0.01, iterations=2, enough=1.0, steps=0.5)
    whole, prefix = tempo.trajectories(model, REQUEST, config, Settings(steps=4, guidance=1.0))
    assert whole.blocks == 3
    assert 1 <= prefix.blocks <= 3
    assert len(whole.objectives) == len(prefix.objectives) == len(whole.correlations) == 4
    assert whole.objectives[0] == pytest.approx(prefix.objectives[0], rel=1e-6)
    assert whole.objectives[-1] < whole.objectives[0]
    assert prefix.objectives[-1] < prefix.objectives[0]
    assert len(whole.agreement) == 3
    assert all(-1 <= value <= 1.0001 for value in whole.agreement)
