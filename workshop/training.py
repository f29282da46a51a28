"""Training the bundled model and writing it out, from Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agents.errors import UsageError
from generators.training.config import RUN_FOLDER, DenoiserTraining, Machine, Schedule, VaeTraining
from generators.training.distil_config import DistilTraining

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
    schedule = _schedule(config.schedule, steps, decay_steps, minutes)
    machine = Machine(device=device, threads=threads, compile=compiled)
    config = replace(config, out=out or config.out, seed=seed, schedule=schedule, machine=machine)
    if isinstance(config, DenoiserTraining):
        from generators.training.denoiser import train_denoiser

        return train_denoiser(config, on_progress)
    from generators.training.vae import train_vae

    return train_vae(config, on_progress)


def distil_world(
    film_steps: int = 8,
    guidance: float = 3.0,
    *,
    out: Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    decay_steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    on_progress: OnTrainingProgress | None = None,
) -> TrainingOutcome:
    """Teach adapters to film in few steps, without guidance, what the run's denoiser films in many; or go on."""
    from generators.training.distil import train_distilled

    try:
        config = DistilTraining(film_steps=film_steps, guidance=guidance, seed=seed, out=out or RUN_FOLDER)
    except ValueError as error:
        raise UsageError(str(error)) from error
    schedule = _schedule(config.schedule, steps, decay_steps, minutes)
    return train_distilled(
        replace(config, schedule=schedule, machine=Machine(device=device, threads=threads)), on_progress
    )


def _schedule(usual: Schedule, steps: int | None, decay_steps: int | None, minutes: float | None) -> Schedule:
    steps = usual.steps if steps is None else steps
    decay_steps = min(usual.decay_steps, steps) if decay_steps is None else decay_steps
    try:
        return replace(usual, steps=steps, decay_steps=decay_steps, minutes=minutes)
    except ValueError as error:
        raise UsageError(str(error)) from error


def export_world(out: Path | None = None, to: Path | None = None) -> Path:
    """Write what was trained as a stock diffusers folder with a model card; by default where `bundled` looks."""
    from generators.backends import WEIGHTS
    from generators.training.export import export

    return export(out or RUN_FOLDER, to or WEIGHTS / "world")
