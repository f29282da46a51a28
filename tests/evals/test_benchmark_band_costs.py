"""What VSTAR costs in floating-point operations, and that its example runs."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel

from evals.benchmarks.band_costs import band_costs, unet_costs
from generators.clip import Progress, ShotRequest
from generators.controls.config import VSTAR, ControlConfig
from generators.costs import Meter, measured
from generators.models.tiny_unet import TinyUnetKind, tiny_unet, tiny_unet_pipeline
from generators.models.unet import UnetVideoModel
from generators.sampler import Settings, sample


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["modelscope", "animatediff"])
def test_regularising_a_unet_costs_no_more_than_two_hundredths(kind: TinyUnetKind) -> None:
    plain, regularised = unet_costs(kind, tiny_unet_pipeline(kind).unet, frames=16, height=32, width=32)
    assert plain.flops > 1e7
    assert 1 <= regularised.flops / plain.flops <= 1.02


@pytest.mark.slow
def test_regularising_modelscope_at_full_size_costs_no_more_than_two_hundredths() -> None:
    with torch.device("meta"):
        full: Any = UNet3DConditionModel()
    plain, regularised = unet_costs("modelscope", full, frames=16, height=256, width=256)
    assert plain.flops > 1e12
    assert 1 <= regularised.flops / plain.flops <= 1.02


def request(*controls: ControlConfig) -> ShotRequest:
    return ShotRequest(prompt="a fox", frames=5, fps=8, width=16, height=16, seed=1, controls=controls)


def lapped(meter: Meter, progress: Progress) -> None:
    meter.lap()


@pytest.mark.slow
def test_steps_that_are_not_regularised_cost_nothing() -> None:
    ours, laps = UnetVideoModel.from_pipeline(tiny_unet_pipeline("modelscope")), {}
    ours.pipe.set_progress_bar_config(disable=True)
    for name, controls in {"plain": (), "tar": (VSTAR(steps=0.5),)}.items():
        with measured() as meter:
            sample(ours, [request(*controls)], Settings(steps=3, guidance=6.0), on_step=partial(lapped, meter))
        laps[name] = [lap.flops for lap in meter.laps]
    assert laps["tar"][1:3] == laps["plain"][1:3]


@pytest.mark.parametrize(
    ("way", "most"), [("constant", 1.2), ("sampled", 1.3), ("rowmax", 1.7), ("rowmax, chunked", 1)]
)
def test_a_band_over_the_frames_of_a_wan_head_costs_what_the_documents_say(way: Any, most: float) -> None:
    ratio = band_costs(frames=21, per_frame=40, heads=2, width=128).flops(way)
    assert 1 <= ratio <= most
    page = Path(__file__).resolve().parents[2] / "docs" / "methods" / "vstar.md"
    assert f"| {ratio:.2f} |" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_films_from_a_plain_pipeline(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "examples" / "steer_vstar.py"
    folder = tiny_unet("modelscope", tmp_path / "model")
    words = [sys.executable, str(script), str(folder), str(tmp_path / "clip.mp4"), "16", "2"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "clip.mp4").stat().st_size > 1000
