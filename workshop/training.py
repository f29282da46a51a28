"""Training the bundled model and writing it out, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agents.errors import UsageError
from generators.training.config import (
    RUN_FOLDER,
    DenoiserTraining,
    LatentShards,
    Machine,
    RoleTraining,
    Schedule,
    VaeTraining,
)
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
    learning_rate: float | None = None,
    often: Sequence[str] = (),
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    compiled: bool = False,
    on_progress: OnTrainingProgress | None = None,
) -> TrainingOutcome:
    """Train a part of the bundled model, or go on training it; both parts work on the folder's latent code.

    `often` is how often the denoiser's clips begin with a verb, as `jump=2`; by default as in `LatentShards`.
    """
    if part == "vae" and (compiled or often):
        option = "--compile" if compiled else "--often"
        raise UsageError(f"{option}: belongs to the denoiser; leave it out for the vae")
    config: VaeTraining | DenoiserTraining = VaeTraining() if part == "vae" else DenoiserTraining()
    schedule = _schedule(config.schedule, steps, decay_steps, minutes)
    machine = Machine(device=device, threads=threads, compile=compiled)
    config = replace(config, out=out or config.out, seed=seed, schedule=schedule, machine=machine)
    config = replace(config, learning_rate=_rate(config.learning_rate, learning_rate))
    if isinstance(config, DenoiserTraining):
        if often:
            config = replace(config, shards=_shards(config.shards, often))
        from generators.training.denoiser import train_denoiser

        return train_denoiser(config, on_progress)
    from generators.training.vae import train_vae

    return train_vae(config, on_progress)


def _rate(usual: float, asked: float | None) -> float:
    if asked is not None and not 0 < asked < 1:
        raise UsageError(f"--learning-rate: expected between 0 and 1, got {asked}")
    return usual if asked is None else asked


def _shards(usual: LatentShards, often: Sequence[str]) -> LatentShards:
    try:
        weights = {verb: float(weight) for verb, weight in (told.split("=", 1) for told in often)}
    except ValueError as error:
        raise UsageError(f"--often: expected VERB=WEIGHT, such as jump=2; got {', '.join(often)}") from error
    try:
        return replace(usual, often=weights)
    except ValueError as error:
        raise UsageError(f"--often: {error}") from error


def train_world_text(
    *,
    out: Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    on_progress: OnTrainingProgress | None = None,
) -> TrainingOutcome:
    """Teach the bundled model's text encoder who does what to whom, or go on; before the denoiser, or between."""
    of = DenoiserTraining()
    of = replace(of, out=out or of.out, seed=seed, machine=Machine(threads=threads))
    config = RoleTraining(denoiser=of)
    config = replace(config, schedule=_schedule(config.schedule, steps, steps, minutes))
    config = replace(config, learning_rate=_rate(config.learning_rate, learning_rate))
    from generators.training.roles import train_roles

    return train_roles(config, on_progress)


def train_reader(
    *,
    out: Path | None = None,
    to: Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    on_progress: OnTrainingProgress | None = None,
) -> TrainingOutcome:
    """Teach the network that reads clips of the world (FVD-SW), or go on: half an hour on two cores."""
    from evals.world.reader_training import ReaderTraining
    from evals.world.reader_training import train_reader as train

    usual = ReaderTraining()
    schedule = _schedule(usual.schedule, steps, steps, minutes)
    machine = Machine(device=device, threads=threads)
    config = replace(usual, out=out or usual.out, to=to or usual.to, seed=seed, schedule=schedule, machine=machine)
    return train(config, on_progress)


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


def mean_world(weights: Sequence[Path], to: Path) -> Path:
    """Write the mean of exported models that went apart from one training run."""
    from generators.training.mean import mean_weights

    return mean_weights(weights, to)


def import_world(weights: Path | None = None, out: Path | None = None) -> Path:
    """Lay out a training run from exported weights, by default those of the box, to go on where only they are left."""
    from generators.backends import WEIGHTS
    from generators.training.export import import_weights

    return import_weights(weights or WEIGHTS / "world", out or RUN_FOLDER)
