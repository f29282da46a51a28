"""What an accelerator must not change. Skipped without one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evals.world.requests import request_of
from evals.world.splits import cases
from generators.backends import BackendConfig, open_backend
from generators.training.config import Machine
from generators.training.vae import train_vae
from generators.world.renderer import render
from tests.generators.test_training_vae import SlidingSquares, tiny_training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator"),
]


def test_scripts_are_drawn_alike() -> None:
    scripts = [case.script for events in (1, 2) for case in cases("seen", events, 8, seed=1)]
    here, there = render(scripts), render(scripts, "cuda").cpu()
    assert (here.int() - there.int()).abs().max() <= 1
    assert (here != there).float().mean() < 0.01


def test_the_box_films_alike() -> None:
    request = request_of(cases("seen", 1, 1, seed=1)[0], 4)
    here, there = (
        open_backend(BackendConfig(device=device, dtype="float32", steps=4)).shoot([request])[0].frames.astype(int)
        for device in ("cpu", "cuda")
    )
    assert np.abs(here - there).mean() < 1


def test_training_takes_the_same_way(tmp_path: Path) -> None:
    def losses(device: str) -> list[float]:
        config = tiny_training(tmp_path / device, steps=3)
        train_vae(replace(config, machine=Machine(device=device, precision="float32")), source=SlidingSquares())
        rows = (tmp_path / device / "vae" / "log.jsonl").read_text().splitlines()
        return [json.loads(row)["loss"] for row in rows]

    assert losses("cuda") == pytest.approx(losses("cpu"), rel=1e-2)
