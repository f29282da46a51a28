"""Training of the bundled transformer and its text encoder: flow matching on encoded clips, as stock Wan will run it.

x_s = (1 - s) x_0 + s n, the net predicts n - x_0 from x_s, 1000 s and the text. Some clips have finished latent
frames: those keep x_0 and have s = 0 of their own. Knows nothing of pixels but to draw samples.
B clips, C channels, t latent frames of h x w, N video tokens, M text columns.
"""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from generators.training.checkpoint import RunFolder, State
from generators.training.clips import ClipSource, DrawnClips, WorldClips, to_pixels, to_signal
from generators.training.codec import LinearCodec, open_codec
from generators.training.config import DenoiserSize, DenoiserTraining, GivenSegments
from generators.training.data import Batch, ShardFolder
from generators.training.forward import few_columns, predict
from generators.training.loop import Losses, OnTrainingProgress, TrainingOutcome, autocast, fast_dtype, follow, run
from generators.training.optimiser import Muon
from generators.training.pictures import draw_sheet
from generators.training.text import build_text_encoder, build_tokenizer, text_columns
from generators.world.captions import vocabulary
from generators.world.words import HEIGHT, SHORT, WIDTH

_LEVELS = (0.5, 0.8, 0.9, 0.95, 0.98)
"""Noise levels at which held-out clips are measured: what happens where is decided above .85."""
_MEASURED, _SHOWN = 48, 6
"""Held-out clips that are measured, and how many of them are drawn."""
_SHAPES = 32
"""Kinds of passes that are compiled one by one: clip lengths, given frames or none, text columns."""


class Denoiser(nn.Module):
    """Transformer and text encoder, trained together."""

    def __init__(self, size: DenoiserSize, channels: int, tokens: int) -> None:
        super().__init__()
        self.transformer = WanTransformer3DModel(
            patch_size=(1, size.patch, size.patch),
            num_attention_heads=size.heads,
            attention_head_dim=size.head_dim,
            in_channels=channels,
            out_channels=channels,
            text_dim=size.text_width,
            freq_dim=256,
            ffn_dim=size.ffn,
            num_layers=size.layers,
            rope_max_seq_len=64,
        )
        self.text_encoder: UMT5EncoderModel = build_text_encoder(size, tokens)
        nn.init.zeros_(self.transformer.proj_out.weight)


def build_denoiser(size: DenoiserSize, channels: int, tokens: int, seed: int) -> Denoiser:
    """Fresh nets from a seed; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Denoiser(size, channels, tokens)


def noise_levels(normal: Tensor, mean: float | Tensor, shift: float) -> Tensor:
    """Standard normal numbers to s in 0..1: logit-normal, then the scheduler's static shift."""
    level = torch.sigmoid(normal + mean)
    return shift * level / (1 + (shift - 1) * level)


def spread_normal(count: int, generator: torch.Generator) -> Tensor:
    """Standard normal numbers (count,), shuffled, one from each of `count` equally likely intervals.

    Batches then hold much the same mixture of noise levels, whose losses differ far more than those of clips.
    """
    device = generator.device
    places = torch.randperm(count, generator=generator, device=device) + torch.rand(
        count, generator=generator, device=device
    )
    normal: Tensor = torch.special.ndtri((places / count).clamp(1e-6, 1 - 1e-6))
    return normal


def given_frames(rng: np.random.Generator, clips: int, frames: int, config: GivenSegments) -> Tensor:
    """Which of `frames` latent frames are handed over finished: bool (clips, frames), each row part true, part false.

    A third each: the clip's beginning, its end, both sides of a hidden window.
    """
    given = torch.zeros(clips, frames, dtype=torch.bool)
    for row in given:
        kind = int(rng.integers(3))
        if kind == 2 and frames > 2:
            hidden = int(rng.integers(min(config.hidden[0], frames - 2), min(config.hidden[1], frames - 2) + 1))
            first = int(rng.integers(1, frames - hidden))
            row[:first] = row[first + hidden :] = True
            continue
        length = int(rng.integers(config.prefix[0], min(config.prefix[1], frames - 1) + 1))
        row[:length] = True
        if kind == 1:
            row.copy_(row.flip(0))
    return given


class DenoiserTrainee:
    """The nets, their moving average, optimiser and shards."""

    def __init__(self, config: DenoiserTraining, codec: LinearCodec, source: ClipSource, words: list[str]) -> None:
        self.config, self.codec, self.source = config, codec, source
        self.device = torch.device(config.machine.device)
        self.clips_per_step = config.batch
        self.tokenizer: PreTrainedTokenizerFast = build_tokenizer(words)
        self.nets = (
            build_denoiser(config.size, codec.channels, len(self.tokenizer), config.seed).to(self.device).train()
        )
        self.average = copy.deepcopy(self.nets).eval().requires_grad_(False)
        if config.machine.compile:
            torch._dynamo.config.recompile_limit = _SHAPES
            self.nets.transformer.compile_repeated_blocks(dynamic=False)  # a third faster than code for any shape
        self.shards = ShardFolder(config.shards, config.out / "latents", codec, source, config.seed)
        transformer = self.nets.transformer
        self._fresh = 0
        self.optimiser = Muon(
            [self.nets],
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            products=fast_dtype(config.machine),
            by_adam=(nn.Embedding, nn.Conv3d, type(transformer.condition_embedder.time_embedder)),
            also_by_adam=(transformer.proj_out.weight,),
        )

    def step(self, index: int, rate: float) -> Losses:
        """One step on the batch of `index`; everything random comes from (seed, index)."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * rate
        rng = np.random.default_rng([self.config.seed, 3, index])
        batch = self.shards.batch(index, self.config.batch)
        self.optimiser.zero_grad(set_to_none=True)
        errors = self._errors(batch, rng)
        loss = sum(total for total, _ in errors) / sum(count for _, count in errors)
        assert isinstance(loss, Tensor)
        loss.backward()
        size = nn.utils.clip_grad_norm_(self.nets.parameters(), self.config.clip_norm)
        self.optimiser.step()
        follow(self.average, self.nets, self.config.ema, index - self._fresh)
        return {"loss": loss.item(), "gradient": size.item()}

    def _errors(self, batch: Batch, rng: np.random.Generator) -> list[tuple[Tensor, int]]:
        """Summed squared error and element count: of the clips with given frames, and of the others."""
        config, clips, frames = self.config, len(batch.latents), batch.latents.shape[2]
        noise = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        clean = batch.latents.to(self.device)
        noisy = torch.randn(clean.shape, generator=noise, device=self.device)
        normal = spread_normal(clips, noise)
        means = torch.tensor([config.noise_mean_of(verb) for verb in batch.verbs], device=self.device)
        levels = noise_levels(normal, means, config.shift)
        target = noisy - clean
        split = round(clips * config.given.share)
        given = given_frames(rng, split, frames, config.given).to(self.device)
        by_frame = levels.unsqueeze(1).repeat(1, frames)
        by_frame[:split].masked_fill_(given, 0.0)
        noisy = noised(clean, noisy, by_frame)
        told = [c if rng.random() >= config.caption_dropout else "" for c in batch.captions]
        errors = []
        with few_columns(self.nets.transformer) as columns, autocast(config.machine):
            hidden, bias = text_columns(self.tokenizer, self.nets.text_encoder, told)
            for rows, steps in ((slice(0, split), by_frame), (slice(split, clips), levels)):
                if rows.start == rows.stop:
                    continue
                seen = predict(self.nets.transformer, columns, noisy[rows], steps[rows], (hidden[rows], bias[rows]))
                error = (seen.float() - target[rows]).square()
                if steps is by_frame:
                    error = error * ~given.view(split, 1, frames, 1, 1)
                hidden_frames = int((by_frame[rows] > 0).sum())
                errors.append((error.sum(), hidden_frames * clean[0, :, 0].numel()))
        return errors

    def state(self) -> State:
        """Nets and optimiser; the random state is a function of the step."""
        return {
            "nets": self.nets.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: State) -> None:
        """Load what `state` gave."""
        self.nets.load_state_dict(state["nets"])
        self.average.load_state_dict(state["average"])
        self._fresh = state["fresh"]
        if state["optimiser"] is not None:  # None where exported weights were imported: it begins anew
            self.optimiser.load_state_dict(state["optimiser"])

    def examine(self, path: Path) -> Losses:
        """What the averaged nets film for held-out captions, by the stock pipeline; their error on held-out clips."""
        config = self.config
        drawn = held_out(self.source, config.seed, _MEASURED)
        captions = [caption[0] for caption in drawn.captions]
        pipe = stock_pipeline(self.average, self.tokenizer, None, config.shift)
        latents = film_latents(pipe, captions[:_SHOWN], config.sample_steps, config.guidance, config.seed)
        clips = to_pixels(self.codec.decode(latents.cpu())).permute(0, 1, 3, 4, 2).numpy()
        draw_sheet(list(zip(captions[:_SHOWN], clips, strict=True)), path)
        return self._error_by_level(self.codec.encode(to_signal(drawn.frames.cpu())), captions)

    @torch.no_grad()
    def _error_by_level(self, clean: Tensor, captions: list[str]) -> Losses:
        """Mean squared error of the clip that the averaged nets see behind each of some noise levels."""
        clean = clean.to(self.device)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(self.config.seed)).to(self.device)
        errors = {}
        with few_columns(self.average.transformer) as columns, autocast(self.config.machine):
            text = text_columns(self.tokenizer, self.average.text_encoder, captions)
            for level in _LEVELS:
                levels = torch.full((len(clean),), level, device=self.device)
                seen = predict(self.average.transformer, columns, clean.lerp(noise, level), levels, text)
                errors[f"at {level}"] = level**2 * F.mse_loss(seen.float(), noise - clean).item()
        return errors


def stock_pipeline(
    nets: Denoiser, tokenizer: PreTrainedTokenizerFast, vae: AutoencoderKLWan | None, shift: float
) -> WanPipeline:
    """The nets as diffusers' own pipeline, sharing their weights; without an autoencoder it gives latents only."""
    parts: dict[str, Any] = {
        "tokenizer": tokenizer,
        "text_encoder": nets.text_encoder,
        "transformer": nets.transformer,
        "vae": vae,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=shift),
    }
    pipeline = WanPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def held_out(source: ClipSource, seed: int, clips: int) -> DrawnClips:
    """Short clips that training never saw, where the source knows such; always the same for a seed."""
    source = WorldClips(split="heldout") if isinstance(source, WorldClips) else source
    return source.draw(np.random.default_rng([seed, 2**31]), clips=clips, frames=SHORT, captions=1)


def film_latents(pipe: Any, captions: list[str], steps: int, guidance: float, seed: int) -> Tensor:
    """Short clips of these captions by a stock pipeline, as latents (B, C, t, h, w)."""
    latents: Tensor = pipe(
        prompt=captions,
        negative_prompt="",
        height=HEIGHT,
        width=WIDTH,
        num_frames=SHORT,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(seed),
        output_type="latent",
    ).frames
    return latents


def noised(clean: Tensor, noise: Tensor, by_frame: Tensor) -> Tensor:
    """(1 - s) x_0 + s n of (B, C, t, h, w), at noise levels s (B, t); frames at s = 0 are finished."""
    return torch.lerp(clean, noise, by_frame[:, None, :, None, None])


def run_settings(config: DenoiserTraining, codec: LinearCodec, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What a checkpoint of the denoiser must have been trained with, to go on from it."""
    return {
        "seed": config.seed,
        "size": asdict(config.size),
        "codec": codec.digest,
        "words": tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))),
        "shift": config.shift,
    }


def train_denoiser(
    config: DenoiserTraining,
    on_progress: OnTrainingProgress | None = None,
    source: ClipSource | None = None,
    words: list[str] | None = None,
) -> TrainingOutcome:
    """Train, or go on training, transformer and text encoder in `config.out / "denoiser"`.

    Works on the folder's latent code, which is fitted when there is none; the autoencoder may be trained before, beside
    or after. Draws from the puppet world by default; `words` are what its captions may hold. Raises TrainingError when
    the folder's settings differ.
    """
    if config.machine.threads is not None:
        torch.set_num_threads(config.machine.threads)
    source = source or WorldClips(device=config.machine.device, often=config.shards.often)
    codec = open_codec(config.out, source, seed=config.seed, channels=config.size.channels)
    trainee = DenoiserTrainee(config, codec, source, words or vocabulary())
    settings = run_settings(config, codec, trainee.tokenizer)
    return run(trainee, config.schedule, RunFolder(config.out / "denoiser"), settings, on_progress)
