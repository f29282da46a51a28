"""Teaches the reader on rendered clips of the world: `python main.py train reader`, half an hour on two cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evals.metrics.frame_indices import linspace_end
from evals.world.reader import CHOICES, FRAMES, SETS, WEIGHTS, Answers, Reader, answers, packed
from generators.training.checkpoint import RunFolder, State, write_whole
from generators.training.clips import draw_script
from generators.training.config import RUN_FOLDER, Machine, Schedule
from generators.training.loop import Losses, OnTrainingProgress, TrainingOutcome, run
from generators.world.grammar import Split
from generators.world.renderer import render
from generators.world.script import Script
from generators.world.words import LONG, SHORT


@dataclass(frozen=True, kw_only=True)
class ReaderTraining:
    """How the reader is taught; every step draws fresh clips of one length."""

    out: Path = RUN_FOLDER.parent / "reader"
    to: Path = WEIGHTS
    """Where the finished weights go."""
    seed: int = 0
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    unseen: int = 128
    """Clips of held-out combinations on which the finished reader is examined."""
    machine: Machine = Machine()
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            steps=600, warmup=20, decay_steps=600, log_every=10, sample_every=0, checkpoint_minutes=1.0
        )
    )

    def __post_init__(self) -> None:
        for name in ("batch", "learning_rate", "unseen"):
            if not getattr(self, name) > 0:
                raise ValueError(f"ReaderTraining.{name}: expected more than 0, got {getattr(self, name)}")


class ReaderTrainee:
    """The network and its optimiser; clips come from (seed, step)."""

    def __init__(self, config: ReaderTraining) -> None:
        torch.manual_seed(config.seed)
        self.config, self.clips_per_step = config, config.batch
        self.network = Reader().train().to(config.machine.device)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def step(self, index: int, rate: float) -> Losses:
        """One step on clips drawn from (seed, index): three of four are short."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * rate
        rng = np.random.default_rng([self.config.seed, 1, index])
        clips, right = draw(rng, self.config.batch, SHORT if rng.random() < 0.75 else LONG, "train")
        losses = question_losses(self.network(clips.to(self.config.machine.device)), right)
        loss = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        return {"loss": loss.item()} | {name: one.item() for name, one in losses.items()}

    def state(self) -> State:
        """Network and optimiser."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: State) -> None:
        """Load what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])

    def examine(self, path: Path) -> Losses:
        """Shares of right answers over clips of held-out combinations."""
        return examine(self.network, self.config.unseen, self.config.seed)


def draw(rng: np.random.Generator, count: int, frames: int, split: Split) -> tuple[Tensor, Answers]:
    """Clips as a reader is shown them, uint8 (count, FRAMES, 3, H, W), and what is right."""
    scripts: Sequence[Script] = [draw_script(rng, frames, split, {}) for _ in range(count)]
    with torch.no_grad():
        return render(scripts)[:, linspace_end(frames, FRAMES)], answers(scripts)


def question_losses(logits: dict[str, Tensor], right: Answers) -> dict[str, Tensor]:
    """Cross-entropy of every question; of a set, the sum over its words."""
    losses = {}
    for name in SETS:
        wanted = right.sets[name].to(logits[name].device)
        losses[name] = F.binary_cross_entropy_with_logits(logits[name], wanted, reduction="none").sum(1).mean()
    for name in CHOICES:
        losses[name] = F.cross_entropy(logits[name], right.choices[name].to(logits[name].device))
    return losses


@torch.no_grad()
def examine(network: Reader, count: int, seed: int, split: Split = "heldout") -> Losses:
    """Share of clips of which each question is answered right, a set to its last word; never seen combinations."""
    was_training = network.training
    network.eval()
    rng = np.random.default_rng([seed, 2])
    device = next(network.parameters()).device
    right: dict[str, list[float]] = {name: [] for name in (*SETS, *CHOICES)}
    for start in range(0, count, 32):
        clips, wanted = draw(rng, min(32, count - start), SHORT, split)
        logits = {name: one.cpu() for name, one in network(clips.to(device)).items()}
        for name in SETS:
            right[name] += ((logits[name] > 0) == wanted.sets[name].bool()).all(1).float().tolist()
        for name in CHOICES:
            right[name] += (logits[name].argmax(1) == wanted.choices[name]).float().tolist()
    network.train(was_training)
    return {f"unseen {name}": sum(shares) / len(shares) for name, shares in right.items()}


def train_reader(config: ReaderTraining, on_progress: OnTrainingProgress | None = None) -> TrainingOutcome:
    """Teach the reader, or go on; the finished one is written to `config.to` with what it gets right."""
    if config.machine.threads is not None:
        torch.set_num_threads(config.machine.threads)
    trainee, folder = ReaderTrainee(config), RunFolder(config.out)
    about = {name: getattr(config, name) for name in ("seed", "batch", "learning_rate", "weight_decay")}
    outcome = run(trainee, config.schedule, folder, about, on_progress)
    if outcome.reason == "steps":
        found = {name: round(share, 3) for name, share in trainee.examine(config.out).items()}
        if not folder.rows()[-1].keys() >= found.keys():
            folder.append({"step": outcome.step, **found})
        written = packed(trainee.network, about | {"steps": outcome.step, "right": found})

        def put(file: BinaryIO) -> None:
            file.write(written)

        write_whole(config.to, put)
    return outcome
