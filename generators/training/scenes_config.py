"""Settings of the training on sets of shots (Mask2DiT). Plain and frozen; knows no torch.

The defaults are the paper's: three shots, mask v2, half of the second stage's sets as sequels, AdamW at 1e-5 with a
warm-up of 100 steps, gradients clipped at 0.05, no average.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from generators.training.config import Machine, Schedule

if TYPE_CHECKING:
    from generators.attention_groups import SceneMask

Stage = Literal[1, 2]
"""1: shots that have nothing to do with each other, in one sequence. 2: consecutive shots, some sets as sequels."""

SCENES_FOLDER = Path("training/scenes")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""The projections of every attention: what adapters learn by default."""


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters in the place of training every weight."""

    rank: int = 64
    alpha: int | None = None
    """Scale of the adapters is alpha / rank; None means alpha = rank."""
    targets: tuple[str, ...] = ATTENTION

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"Lora.rank: expected at least 1, got {self.rank}")
        if not self.targets:
            raise ValueError("Lora.targets: expected names of layers, got none")


@dataclass(frozen=True, kw_only=True)
class NoiseLevels:
    """Noise levels drawn for models that mix clips and noise linearly (Wan): logit-normal, then a static shift.

    Models with a table of variances (CogVideoX) draw one of its times evenly.
    """

    mean: float = 0.0
    shift: float | None = None
    """None takes the shift of the model's own scheduler."""


@dataclass(frozen=True, kw_only=True)
class ScenesTraining:
    """One stage of the training of one model on sets of shots."""

    model: str
    """A folder in diffusers' format or a hub id, of the Wan or the CogVideoX family."""
    out: Path = SCENES_FOLDER
    stage: Stage = 1
    seed: int = 0
    shots: int = 3
    """Shots of a set."""
    mask: SceneMask = "v2"
    sequels: float = 0.5
    """Stage 2: share of the sets whose last shot alone is noised, the others finished at time 0."""
    lora: Lora | None = field(default_factory=Lora)
    """None trains every weight of the transformer."""
    noise: NoiseLevels = field(default_factory=NoiseLevels)
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=10_000, warmup=100))
    machine: Machine = field(default_factory=Machine)
    batch: int = 8
    """Sets a step, of all processes together."""
    learning_rate: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-10
    weight_decay: float = 3e-2
    clip_norm: float = 0.05
    ema: float | None = None
    """Decay of a moving average of what is trained; None keeps none."""
    caption_dropout: float = 0.0
    """Share of captions left empty; the paper drops none."""
    checkpointing: bool = False
    """Compute activations again on the way back instead of keeping them."""
    pool: int | None = None
    """Draw from so many different sets, encoded once and kept in memory; None draws a new set every time."""
    sample_steps: int = 20
    guidance: float = 6.0

    def __post_init__(self) -> None:
        if self.stage not in (1, 2):
            raise ValueError(f"ScenesTraining.stage: expected 1 or 2, got {self.stage}")
        if self.shots < 2:
            raise ValueError(f"ScenesTraining.shots: expected at least 2 in a set, got {self.shots}")
        if self.batch < 1:
            raise ValueError(f"ScenesTraining.batch: expected at least 1 set a step, got {self.batch}")
        for name in ("sequels", "caption_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"ScenesTraining.{name}: expected a share of 0 to 1, got {getattr(self, name)}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ScenesTraining.ema: expected a decay between 0 and 1 or None, got {self.ema}")
        if self.machine.compile:
            raise ValueError("ScenesTraining.machine: expected no compiled blocks, whose attention could not change")
        if self.pool is not None and self.pool < 1:
            raise ValueError(f"ScenesTraining.pool: expected at least 1 set or None, got {self.pool}")

    @property
    def folder(self) -> Path:
        """Where this stage's checkpoint, log and pictures are."""
        return self.out / f"stage-{self.stage}"
