"""Settings of the bundled model's training: sizes of the nets, schedules, data. Plain and frozen; knows no torch.

Everything that decides the weights is here, so equal settings and steps give equal weights on one machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from generators.world.words import VERBS

Precision = Literal["auto", "bf16", "float32"]
"""`auto` is bfloat16 autocast where the processor multiplies it natively, else float32."""

RUN_FOLDER = Path("training/world")
LEARNED_LAST = {name: 3.0 for name, verb in VERBS.items() if verb.slot in ("prop", "other")}
"""Verbs that need a prop or another puppet are learned last, and so are drawn more often."""
DECIDED_AT = {"approach": 1.5, "chase": 1.5, "hop_over": 1.5, "push": 0.8, "dance": -0.3, "spin": -0.3, "lift": 0.0}
"""Mean logits of the noise level at which it is decided whether a verb succeeds, where that is not as usual.

For a shift of 5. Who does it to whom is decided above .93, a movement as fast as two latent frames below .8
(docs/log.md, 2026-11-29).
"""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long to train and what to write down on the way.

    The learning rate warms up, stays, and falls to zero over the last `decay_steps` of `steps`; with `decay_steps`
    of 0 it stays, and training may go on later. `minutes` stops earlier by the clock.
    """

    steps: int
    minutes: float | None = None
    warmup: int = 200
    decay_steps: int = 0
    checkpoint_minutes: float = 3.0
    log_every: int = 10
    sample_every: int = 500
    """Steps between two contact sheets; 0 draws none."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Schedule.steps: expected at least 1, got {self.steps}")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"Schedule.minutes: expected more than 0 or None, got {self.minutes}")
        if not 0 <= self.decay_steps <= self.steps:
            raise ValueError(f"Schedule.decay_steps: expected 0..{self.steps}, got {self.decay_steps}")
        if self.warmup < 0 or self.log_every < 1 or self.sample_every < 0:
            raise ValueError("Schedule: expected warmup >= 0, log_every >= 1 and sample_every >= 0")

    def rate(self, step: int, fresh: int = 0) -> float:
        """Share of the full learning rate at this step (0 based), where the optimiser was new at step `fresh`."""
        up = min(1.0, (step - fresh + 1) / (self.warmup + 1))
        left = self.steps - step
        return up if left > self.decay_steps else up * left / (self.decay_steps + 1)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and how the arithmetic is done; changes speed and the last bits, not the method."""

    device: str = "cpu"
    precision: Precision = "auto"
    threads: int | None = None
    """Torch threads; None leaves them as they are."""
    compile: bool = False
    """torch.compile the blocks; needs a C++ compiler, pays on long runs."""


@dataclass(frozen=True, kw_only=True)
class VaeSize:
    """The video autoencoder: 4x smaller in time, `4 * patch` times in space."""

    encoder_width: int = 24
    decoder_width: int = 32
    channels: int = 32
    patch: int = 2
    """Pixels a side that are folded into channels before the first convolution."""


@dataclass(frozen=True, kw_only=True)
class VaeTraining:
    """Training of the autoencoder on windows of freshly drawn clips."""

    out: Path = RUN_FOLDER
    seed: int = 0
    size: VaeSize = field(default_factory=VaeSize)
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=2100, warmup=60, decay_steps=840))
    machine: Machine = field(default_factory=Machine)
    batch: int = 8
    frames: int = 9
    """Frames of a window, 4k + 1; causal in time, so longer clips work too."""
    windows: int = 2
    """Windows cut out of one drawn clip."""
    learning_rate: float = 5e-3
    weight_decay: float = 1e-3
    ema: float = 0.998
    puppets: float = 8.0
    """Extra weight of pixels on and around puppets."""
    encoder_share: float = 0.5
    """Share of the clips that the encoder learns from; the decoder learns from all."""
    code_clips: int = 160
    """Clips on which the latent code is fitted where the run has none yet."""
    latent_noise: float = 0.3
    """Up to so much noise is added to half of the latents before decoding; their own deviation is about 1."""

    def __post_init__(self) -> None:
        if self.frames % 4 != 1:
            raise ValueError(f"VaeTraining.frames: expected 4k + 1, got {self.frames}")
        if self.batch % self.windows:
            raise ValueError(f"VaeTraining.batch: expected a multiple of {self.windows} windows, got {self.batch}")


@dataclass(frozen=True, kw_only=True)
class LatentShards:
    """Encoded clips on disk: shard i is a function of (seed, i, latent code, `often`) alone."""

    seed: int = 0
    clips: int = 256
    """Clips in a shard, all of one length."""
    count: int = 240
    """Shards in all; later epochs draw from all of them again."""
    first: int = 6
    """Shards made before the first step (at least one of each length)."""
    every: int = 25
    """Steps between two new shards."""
    long_share: float = 0.25
    often: Mapping[str, float] = field(default_factory=lambda: dict(LEARNED_LAST))
    """How often clips begin with a verb; 1 where none is named."""
    captions: int = 4
    """Paraphrases kept for every clip."""
    batch: int = 16
    """Clips drawn and encoded at once."""

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.count:
            raise ValueError(f"LatentShards.first: expected 1..{self.count}, got {self.first}")
        if not 0 <= self.long_share < 1:
            raise ValueError(f"LatentShards.long_share: expected 0 <= share < 1, got {self.long_share}")
        _require_verbs("LatentShards.often", self.often)
        if not all(weight >= 0 for weight in self.often.values()):
            raise ValueError(f"LatentShards.often: expected weights of at least 0, got {dict(self.often)}")

    def due(self, step: int) -> int:
        """How many shards exist when step (0 based) draws its batch."""
        return min(self.count, self.first + step // self.every)


@dataclass(frozen=True, kw_only=True)
class DenoiserSize:
    """Widths of the transformer and of its text encoder."""

    channels: int = 32
    """Latent channels, those of the latent code."""
    patch: int = 2
    """Latent pixels a side that make one video token."""
    layers: int = 8
    heads: int = 4
    head_dim: int = 64
    ffn: int = 1024
    text_width: int = 192
    text_layers: int = 2
    text_heads: int = 6
    text_ffn: int = 512

    @property
    def width(self) -> int:
        """Channels of a video token."""
        return self.heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class GivenSegments:
    """How often and how much of a clip is handed over finished (t = 0) in training. Latent frames."""

    share: float = 0.25
    prefix: tuple[int, int] = (1, 4)
    hidden: tuple[int, int] = (2, 5)
    """Length of the hidden window when both sides are given."""


@dataclass(frozen=True, kw_only=True)
class DenoiserTraining:
    """Flow-matching training of transformer and text encoder on encoded clips."""

    out: Path = RUN_FOLDER
    seed: int = 0
    size: DenoiserSize = field(default_factory=DenoiserSize)
    shards: LatentShards = field(default_factory=LatentShards)
    given: GivenSegments = field(default_factory=GivenSegments)
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=1_000_000, warmup=100))
    machine: Machine = field(default_factory=Machine)
    batch: int = 64
    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    ema: float = 0.998
    clip_norm: float = 1.0
    caption_dropout: float = 0.1
    noise_mean: float = 0.3
    """Mean of the logit-normal noise level before the shift; its deviation is 1."""
    noise_means: Mapping[str, float] = field(default_factory=lambda: dict(DECIDED_AT))
    """The same for clips that begin with a verb, in the place of `noise_mean`."""
    shift: float = 5.0
    """Static timestep shift, in training and in the scheduler that ships with the model.

    Who stands where and when they act is decided at noise levels of .85 to .98: more than half of what is drawn.
    """
    guidance: float = 3.0
    sample_steps: int = 20

    def __post_init__(self) -> None:
        _require_verbs("DenoiserTraining.noise_means", self.noise_means)

    def noise_mean_of(self, verb: str | None) -> float:
        """Mean logit of the noise level of clips that begin with this verb; None where that is not known."""
        return self.noise_mean if verb is None else self.noise_means.get(verb, self.noise_mean)


@dataclass(frozen=True, kw_only=True)
class RoleTraining:
    """What the text encoder of `denoiser` is taught before films: who does what to whom, in every word."""

    denoiser: DenoiserTraining = field(default_factory=DenoiserTraining)
    """Whose text encoder it is: its folder, sizes, seed, machine."""
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=1000, warmup=50, decay_steps=1000, log_every=25, sample_every=0)
    )
    captions: int = 10_000
    """Captions drawn once and gone through again and again."""
    batch: int = 48
    learning_rate: float = 4e-3
    weight_decay: float = 1e-3
    loudness: float = 1.4
    """Length of the code of a noun's role. Columns have a length of about 8."""
    kept: float = 0.5
    """Weight of the squared distance from what a column said before, beside its code."""

    def __post_init__(self) -> None:
        if min(self.captions, self.batch) < 1:
            raise ValueError(f"RoleTraining: expected captions and batch >= 1, got {self.captions} and {self.batch}")
        if not (self.loudness > 0 and self.kept >= 0):
            raise ValueError(f"RoleTraining: expected loudness > 0 and kept >= 0, got {self.loudness}, {self.kept}")


def _require_verbs(name: str, values: Mapping[str, float]) -> None:
    if unknown := sorted(values.keys() - VERBS.keys()):
        raise ValueError(f"{name}: expected verbs of the world, got {', '.join(unknown)}")
    if not all(map(math.isfinite, values.values())):
        raise ValueError(f"{name}: expected finite numbers, got {dict(values)}")
