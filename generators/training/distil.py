"""Teaches adapters to film in few steps, without guidance, what the trained nets film in many guided ones.

One step of a film, from noise level s to e, is to land where `substeps` guided Euler steps of the teacher land:
the velocity that is learnt is (x_e - x_s) / (e - s). That is one round of progressive distillation (Salimans and Ho
2022, section 3) for rectified flow, at one guidance scale (Meng et al. 2023 with w fixed). Given frames stay given.
B clips, C channels, t latent frames of h x w, K = substeps + 1 noise levels of a film's step.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from torch import Tensor, nn

from generators.training.checkpoint import RunFolder, State, plain
from generators.training.clips import ClipSource, WorldClips, to_pixels
from generators.training.codec import LinearCodec, open_codec
from generators.training.data import Batch, ShardFolder
from generators.training.denoiser import film_latents, given_frames, held_out, noised
from generators.training.distil_config import DistilTraining
from generators.training.export import load_trained
from generators.training.forward import FewColumns, few_columns, predict
from generators.training.loop import Losses, OnTrainingProgress, TrainingOutcome, autocast, run
from generators.training.pictures import draw_sheet
from generators.training.scenes_weights import Learning
from generators.training.text import text_columns

LEARNT = "learnt"
"""Folder of the adapters, inside the run's `distilled`."""
_SHOWN = 6
TextColumns = tuple[Tensor, Tensor]
"""What `text_columns` gives: (B, M, D) and a bias (B, 1, 1, M)."""


class DistilTrainee:
    """Teacher, student with adapters, and the clips whose noised latents they meet on."""

    def __init__(self, config: DistilTraining, teacher: WanPipeline, codec: LinearCodec, source: ClipSource) -> None:
        self.config, self.codec, self.source = config, codec, source
        self.device = torch.device(config.machine.device)
        self.clips_per_step = config.batch
        self.teacher = teacher.to(self.device)
        student = WanPipeline(**{**teacher.components, "transformer": copy.deepcopy(teacher.transformer)})
        student.set_progress_bar_config(disable=True)
        self.learning = Learning(student, config.lora, ema=config.ema, seed=config.seed)
        self.optimiser = torch.optim.AdamW(self.learning.parameters, lr=config.learning_rate, weight_decay=0.0)
        self.shards = ShardFolder(config.shards, config.out / "latents", codec, source, config.seed)
        self.levels = film_levels(teacher.scheduler, config.film_steps, config.substeps).to(self.device)

    def step(self, index: int, rate: float) -> Losses:
        """One step on the batch of `index`; everything random comes from (seed, index)."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * rate
        rng = np.random.default_rng([self.config.seed, 5, index])
        batch = self.shards.batch(index, self.config.batch)
        self.optimiser.zero_grad(set_to_none=True)
        shares = self._shares(batch, rng)
        hidden = sum(int((~given).sum()) for _, _, given in shares) * batch.latents[0, :, 0].numel()
        error = 0.0
        for clean, captions, given in shares:
            loss = self._squared_error(clean, captions, given, rng) / hidden
            loss.backward()
            error += loss.item()
        size = nn.utils.clip_grad_norm_(self.learning.parameters, self.config.clip_norm)
        self.optimiser.step()
        self.learning.follow(index)
        return {"loss": error, "gradient": size.item()}

    def _shares(self, batch: Batch, rng: np.random.Generator) -> list[tuple[Tensor, list[str], Tensor]]:
        """Clips of which some frames are given, and whole ones: latents, captions, given (B, t)."""
        clips, frames = len(batch.latents), batch.latents.shape[2]
        split = round(clips * self.config.given.share)
        given = torch.zeros(clips, frames, dtype=torch.bool)
        given[:split] = given_frames(rng, split, frames, self.config.given)
        shares = [rows for rows in (slice(0, split), slice(split, clips)) if rows.stop > rows.start]
        clean, given = batch.latents.to(self.device), given.to(self.device)
        return [(clean[rows], batch.captions[rows], given[rows]) for rows in shares]

    def _squared_error(self, clean: Tensor, captions: list[str], given: Tensor, rng: np.random.Generator) -> Tensor:
        """Summed squared error of the student's velocity where nothing is given."""
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(clean.shape, generator=generator, device=self.device)
        levels_BK = self.levels[torch.from_numpy(rng.permutation(len(clean)) % self.config.film_steps).to(self.device)]
        start = noised(clean, noise, levels_BK[:, :1] * ~given)
        text = self._text(captions)
        with torch.no_grad(), autocast(self.config.machine), few_columns(self.teacher.transformer) as columns:
            wanted = self.landing(start, levels_BK, given, text, columns)
        student: Any = self.learning.pipe.transformer
        cond = (text[0][: len(clean)], text[1][: len(clean)])
        with autocast(self.config.machine), few_columns(student) as columns:
            seen = predict(student, columns, start, _told_levels(levels_BK[:, 0], given), cond)
        return ((seen.float() - wanted).square() * ~given[:, None, :, None, None]).sum()

    @torch.no_grad()
    def _text(self, captions: list[str]) -> TextColumns:
        """The captions and, after them, as many empty ones."""
        with autocast(self.config.machine):
            return text_columns(self.teacher.tokenizer, self.teacher.text_encoder, [*captions, *[""] * len(captions)])

    def landing(
        self, start: Tensor, levels_BK: Tensor, given: Tensor, text: TextColumns, columns: FewColumns
    ) -> Tensor:
        """The velocity (B, C, t, h, w) that leads in one step from `start` to where the teacher's guided steps lead.

        `text` holds the captions and, after them, as many empty ones; `given` is (B, t).
        """
        x, hidden = start, ~given[:, None, :, None, None]
        for here, there in zip(levels_BK.unbind(1)[:-1], levels_BK.unbind(1)[1:], strict=True):
            level = _told_levels(here, given)
            velocities = predict(self.teacher.transformer, columns, torch.cat([x, x]), torch.cat([level, level]), text)
            cond, uncond = velocities.float().chunk(2)
            velocity = uncond + self.config.guidance * (cond - uncond)
            x = x + (there - here).view(-1, 1, 1, 1, 1) * velocity * hidden
        return (x - start) / (levels_BK[:, -1] - levels_BK[:, 0]).view(-1, 1, 1, 1, 1)

    def state(self) -> State:
        """Adapters, their average and the optimiser; the random state is a function of the step."""
        return {"learning": self.learning.state(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: State) -> None:
        """Load what `state` gave."""
        self.learning.restore(state["learning"])
        self.optimiser.load_state_dict(state["optimiser"])

    def examine(self, path: Path) -> Losses:
        """Held-out captions as they are taught and, below, as the student films them by the stock pipeline.

        `apart` is the mean squared difference of the latents over the variance of those taught: 0 is all learnt.
        """
        config = self.config
        captions = [told[0] for told in held_out(self.source, config.seed, _SHOWN).captions]
        with self.learning.averaged():
            few = film_latents(self.learning.pipe, captions, config.film_steps, 1.0, config.seed)
        many = self._taught(captions, torch.randn(few.shape, generator=torch.Generator().manual_seed(config.seed)))
        clips = to_pixels(self.codec.decode(torch.stack([many, few], 1).flatten(0, 1).cpu())).permute(0, 1, 3, 4, 2)
        titles = [title for caption in captions for title in (caption, f"in {config.film_steps} steps")]
        draw_sheet(list(zip(titles, clips.numpy(), strict=True)), path)
        return {"apart": (F.mse_loss(few, many) / many.var()).item()}

    @torch.no_grad()
    def _taught(self, captions: list[str], noise: Tensor) -> Tensor:
        """Latents that a student who has learnt everything films from this noise."""
        x, text = noise.to(self.device), self._text(captions)
        given = torch.zeros(len(x), x.shape[2], dtype=torch.bool, device=self.device)
        with autocast(self.config.machine), few_columns(self.teacher.transformer) as columns:
            for levels in self.levels:
                velocity = self.landing(x, levels.expand(len(x), -1), given, text, columns)
                x = x + (levels[-1] - levels[0]) * velocity
        return x


def film_levels(scheduler: Any, film_steps: int, substeps: int) -> Tensor:
    """Noise levels (film_steps, substeps + 1) that each step of a film passes, its own two at the ends.

    Those are the scheduler's. The teacher's lie evenly between before the shift u -> shift u / (1 + (shift - 1) u).
    """
    own = type(scheduler).from_config(scheduler.config)
    own.set_timesteps(film_steps)
    shift, ends = float(own.config.shift), own.sigmas.double()
    even = ends / (shift - (shift - 1) * ends)
    share = torch.linspace(0, 1, substeps + 1, dtype=torch.float64)
    between = even[:-1, None] + share * (even[1:, None] - even[:-1, None])
    levels: Tensor = shift * between / (1 + (shift - 1) * between)
    return levels.float()


def _told_levels(levels: Tensor, given: Tensor) -> Tensor:
    """What the network is told: levels (B,), or (B, t) with 0 at given frames where there are some."""
    return levels.unsqueeze(1) * ~given if bool(given.any()) else levels


def train_distilled(
    config: DistilTraining, on_progress: OnTrainingProgress | None = None, source: ClipSource | None = None
) -> TrainingOutcome:
    """Teach, or go on teaching, in `config.out / "distilled"`; writes the adapters there when it ends.

    The teacher is the run's averaged nets. Raises TrainingError when there are none, and when what the folder holds
    was taught by another teacher or to other ends.
    """
    if config.machine.threads is not None:
        torch.set_num_threads(config.machine.threads)
    teacher = load_trained(config.out)
    source = source or WorldClips(device=config.machine.device, often=config.shards.often)
    codec = open_codec(config.out, source, seed=config.seed, channels=teacher.transformer.config["in_channels"])
    trainee = DistilTrainee(config, teacher, codec, source)
    settings = {
        "teacher": _digest(teacher.transformer),
        "seed": config.seed,
        "film_steps": config.film_steps,
        "substeps": config.substeps,
        "guidance": config.guidance,
        "given": plain(config.given),
        "often": dict(config.shards.often),
        "ema": config.ema,
        "lora": plain(config.lora),
    }
    outcome = run(trainee, config.schedule, RunFolder(config.folder), settings, on_progress)
    trainee.learning.write(config.folder / LEARNT)
    return outcome


def _digest(net: nn.Module) -> str:
    found = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        found.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
