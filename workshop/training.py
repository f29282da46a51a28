"""Training the bundled model and writing it out, from Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agents.errors import UsageError
from generators.training.config import RUN_FOLDER, DenoiserTraining, Machine, VaeTraining

if TYPE_CHECKING:
    from generators.training.loop import OnTrainingProgress, TrainingOutcome


def train_world(
    part: Literal["vae", "denoiser"],
    *,
    out: Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    decay_steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    compiled: bool = False,
    on_progress: OnTrainingProgress | None = None,
) -> TrainingOutcome:
    """Train a part of the bundled model, or go on training it; both parts work on the folder's latent code."""
    if compiled and part == "vae":
        raise UsageError("--compile: only the denoiser's blocks can be compiled; leave it out for the vae")
    config: VaeTraining | DenoiserTraining = VaeTraining() if part == "vae" else DenoiserTraining()
    usual = config.schedule
    steps = usual.steps if steps is None else steps
    decay_steps = min(usual.decay_steps, steps) if decay_steps is None else decay_steps
    try:
        schedule = replace(usual, steps=steps, decay_steps=decay_steps, minutes=minutes)
    except ValueError as error:
        raise UsageError(str(error)) from error
    machine = Machine(device=device, threads=threads, compile=compiled)
    config = replace(config, out=out or config.out, seed=seed, schedule=schedule, machine=machine)
    if isinstance(config, DenoiserTraining):
        from generators.training.denoiser import train_denoiser

        return train_denoiser(config, on_progress)
    from generators.training.vae import train_vae

    return train_vae(config, on_progress)


def export_world(out: Path | None = None, to: Path | None = None) -> Path:
    """Write what was trained as a stock diffusers folder with a model card; by default where `bundled` looks."""
    from generators.backends import WEIGHTS
    from generators.training.export import export

    return export(out or RUN_FOLDER, to or WEIGHTS / "world")
