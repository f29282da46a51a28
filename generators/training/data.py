"""Encoded clips on disk: shards of normalised latents with their captions, made once, drawn from for ever.

Shard i is a function of (seed, i, latent code, how often which verb is drawn); the batch of step s is a function of
(seed, s) and of which shards are due at s. Knows nothing of the denoiser.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from generators.training.checkpoint import write_whole
from generators.training.clips import ClipSource, to_signal
from generators.training.codec import LinearCodec
from generators.training.config import LatentShards
from generators.world.words import LONG, SHORT

_FORMAT = 2
"""Of a shard; part of its folder's name, so that one written before something was added is not read."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B clips of one length: latents (B, C, t, h, w) float32 on the CPU, one caption each."""

    latents: Tensor
    captions: list[str]
    verbs: list[str | None]
    """What happens first in each clip; None where it is not known."""


@dataclass(frozen=True, kw_only=True)
class _Shard:
    latents: Tensor
    captions: list[list[str]]
    verbs: list[str | None]


class ShardFolder:
    """The shards of one latent code: makes what is due, keeps what was read."""

    def __init__(self, config: LatentShards, folder: Path, codec: LinearCodec, source: ClipSource, seed: int) -> None:
        self.config, self._codec, self._source, self._seed = config, codec, source, seed
        drawn = hashlib.sha256(json.dumps([_FORMAT, dict(config.often)], sort_keys=True).encode()).hexdigest()
        self.folder = folder / f"{codec.digest[:16]}-{config.seed}-{drawn[:8]}"
        self._read: dict[int, _Shard] = {}

    def path(self, index: int) -> Path:
        """File of shard `index`."""
        return self.folder / f"shard-{index:05d}.safetensors"

    def make(self, index: int) -> None:
        """Draw, encode and write one shard; nothing when it is there."""
        if self.path(index).exists():
            return
        config, frames = self.config, self.frames(index)
        rng = np.random.default_rng([config.seed, 1, index])
        latents, captions = list[Tensor](), list[list[str]]()
        verbs = list[str | None]()
        for start in range(0, config.clips, config.batch):
            count = min(config.batch, config.clips - start)
            drawn = self._source.draw(rng, clips=count, frames=frames, captions=config.captions)
            latents.append(self._codec.encode(to_signal(drawn.frames.cpu())).half())
            captions += map(list, drawn.captions)
            verbs += drawn.verbs or [None] * count
        told = json.dumps({"captions": captions, "verbs": verbs})  # one entry: several are written in any order
        whole = save({"latents": torch.cat(latents)}, metadata={"clips": told})

        def put(file: BinaryIO) -> None:
            file.write(whole)

        write_whole(self.path(index), put)

    def frames(self, index: int) -> int:
        """Clip length of shard `index`: long ones are spread evenly at `long_share`."""
        share = self.config.long_share
        return LONG if int((index + 1) * share) > int(index * share) else SHORT

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a step: `size` short clips, or as many long ones as cost the same."""
        rng = np.random.default_rng([self._seed, 2, step])
        due = range(self.config.due(step))
        frames = LONG if rng.random() < self.config.long_share else SHORT
        shards = [i for i in due if self.frames(i) == frames] or list(due)
        count = size if self.frames(shards[0]) == SHORT else max(1, size * SHORT // LONG)
        chosen = np.sort(rng.choice(shards, size=count))
        latents, captions, verbs = list[Tensor](), list[str](), list[str | None]()
        for index in chosen:
            shard = self._shard(int(index))
            clip = int(rng.integers(len(shard.latents)))
            latents.append(shard.latents[clip])
            captions.append(shard.captions[clip][int(rng.integers(len(shard.captions[clip])))])
            verbs.append(shard.verbs[clip])
        return Batch(latents=torch.stack(latents).float(), captions=captions, verbs=verbs)

    def _shard(self, index: int) -> _Shard:
        if index not in self._read:
            self.make(index)
            with safe_open(self.path(index), framework="pt") as file:
                told = json.loads(file.metadata()["clips"])
                self._read[index] = _Shard(latents=file.get_tensor("latents"), **told)
        return self._read[index]
