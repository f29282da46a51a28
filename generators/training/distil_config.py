"""Settings of the distillation of the bundled model into few steps. Plain and frozen; knows no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from generators.training.config import RUN_FOLDER, GivenSegments, LatentShards, Machine, Schedule
from generators.training.scenes_config import ATTENTION, Lora

EVERY_LAYER = (*ATTENTION, "ffn.net.0.proj", "ffn.net.2")
"""The projections of every attention and both layers of every feed-forward."""


@dataclass(frozen=True, kw_only=True)
class DistilTraining:
    """Adapters that film in few steps and without guidance, taught by the trained nets of the same run."""

    out: Path = RUN_FOLDER
    seed: int = 0
    film_steps: int = 8
    """Steps that a film takes afterwards."""
    substeps: int = 3
    """Guided steps of the teacher that one step of a film stands for."""
    guidance: float = 3.0
    lora: Lora = field(default_factory=lambda: Lora(rank=32, targets=EVERY_LAYER))
    shards: LatentShards = field(default_factory=LatentShards)
    given: GivenSegments = field(default_factory=GivenSegments)
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=600, warmup=20, decay_steps=400, sample_every=100)
    )
    machine: Machine = field(default_factory=Machine)
    batch: int = 32
    learning_rate: float = 5e-4
    ema: float = 0.99
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.film_steps < 1:
            raise ValueError(f"DistilTraining.film_steps: expected at least 1, got {self.film_steps}")
        if self.substeps < 1:
            raise ValueError(f"DistilTraining.substeps: expected at least 1, got {self.substeps}")
        if self.guidance < 0:
            raise ValueError(f"DistilTraining.guidance: expected at least 0, got {self.guidance}")
        if self.batch < 1:
            raise ValueError(f"DistilTraining.batch: expected at least 1 clip, got {self.batch}")
        if self.machine.compile:
            raise ValueError("DistilTraining.machine: expected no compiled blocks, whose layers get adapters")

    @property
    def folder(self) -> Path:
        """Where checkpoint, log, pictures and what was learnt are."""
        return self.out / "distilled"
