from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from generators.clip import Given, ShotRequest
from generators.costs import compare_with_stock, measured
from generators.models.skyreels import SkyReelsVideoModel
from generators.models.tiny import TinyKind, tiny_pipeline
from generators.models.tiny_skyreels import TinySkyReelsKind, tiny_skyreels_pipeline
from generators.models.wan import WanShaped, WanVideoModel


def test_flops_of_a_product_and_of_attention_are_counted() -> None:
    a, b = torch.zeros(8, 16), torch.zeros(16, 4)
    q = torch.zeros(1, 2, 32, 16)
    with measured() as meter:
        a @ b
        meter.lap()
        F.scaled_dot_product_attention(q, q, q)
    assert [lap.flops for lap in meter.laps] == [2 * 8 * 16 * 4, 2 * (2 * 2 * 32 * 32 * 16)]


def test_peak_bytes_are_of_tensors_alive_together_and_made_inside() -> None:
    outside = torch.zeros(1000)
    with measured() as meter:
        total = outside
        for _ in range(5):
            total = total + 1  # two alive at once: the new one and the one before
        view = total.view(10, 100)
        meter.lap()
        small = view[0] + 1
    assert [lap.peak_bytes for lap in meter.laps] == [2 * 4000, 4000 + 400]
    assert small.shape == (100,)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t2v-2.1", "i2v-2.1", "t2v-2.2", "ti2v-2.2", "world"])
def test_a_step_costs_what_the_stock_pipelines_costs(kind: TinyKind) -> None:
    assert_costs_the_same(WanVideoModel.from_pipeline(tiny_pipeline(kind)), given=kind.startswith("i2v"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["df", "t2v", "i2v"])
def test_a_step_of_skyreels_costs_what_the_stock_pipelines_costs(kind: TinySkyReelsKind) -> None:
    assert_costs_the_same(SkyReelsVideoModel.from_pipeline(tiny_skyreels_pipeline(kind)), given=kind == "i2v")


def assert_costs_the_same(model: WanShaped, *, given: bool) -> None:
    model.pipe.set_progress_bar_config(disable=True)
    picture = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    ratios = compare_with_stock(
        model,
        ShotRequest(
            prompt="a red fox walks",
            negative_prompt="blurry",
            frames=17,
            fps=8,
            width=64,
            height=64,
            seed=1,
            given=(Given(first=0, frames=picture),) if given else (),
        ),
    )
    assert ratios.stock.flops > 1e6
    assert ratios.flops == pytest.approx(1, abs=0.03)
    assert 0.5 < ratios.peak_bytes < 1.03
