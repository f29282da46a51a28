"""What the world bench films with: a model's folder through our backend, or through stock diffusers and nothing else.

Both start from the same noise. Stock leaves steps and guidance to diffusers, as a person would who knows nothing of us;
with both named they film the same pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.wan.pipeline_wan import WanPipeline

from evals.benchmarks.world import Autoencoder, Generate, Roundtrip
from evals.world.detectors import Frames
from evals.world.requests import request_of
from evals.world.splits import Case
from generators.adapters import Adapter, put_on, read_adapter, with_adapters
from generators.backends import BUNDLED_GUIDANCE, BUNDLED_STEPS, BackendConfig, bundled_folder, open_backend
from generators.backends.local import LocalBackend
from generators.digests import weights_digest
from generators.errors import BackendUnavailable
from generators.world.words import HEIGHT, WIDTH


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A way to film cases. `name` says which weights, and how they are used."""

    name: str
    generate: Generate
    roundtrip: Roundtrip


def open_camera(
    folder: Path | None = None,
    *,
    stock: bool = False,
    steps: int | None = None,
    guidance: float | None = None,
    lora: Sequence[str] = (),
) -> Camera:
    """The model in `folder` (by default the bundled one) behind our backend, or stock.

    Steps and guidance that are not named are the bundled profile's, or for stock what diffusers does unasked. `lora`
    are adapters on top, `PATH` or `PATH@SCALE`. Raises BackendUnavailable for what is not there.
    """
    folder = folder or bundled_folder()
    if not (folder / "model_index.json").is_file():
        raise BackendUnavailable(f"{folder} is not a folder in diffusers' format: it holds no model_index.json")
    adapters = [read_adapter(told) for told in lora]
    digest = with_adapters(weights_digest(folder), adapters)[:16]
    if stock:
        asked = {"num_inference_steps": steps, "guidance_scale": guidance}
        named = {word: value for word, value in asked.items() if value is not None}
        name = "-".join([digest, "stock", *(f"{word}={value:g}" for word, value in named.items())])
        return _stock(folder, name, named, adapters)
    steps = BUNDLED_STEPS if steps is None else steps
    guidance = BUNDLED_GUIDANCE if guidance is None else guidance
    config = BackendConfig(model=str(folder), steps=steps, guidance=guidance, lora=tuple(lora))
    return _ours(f"{digest}-ours-{steps}-{guidance:g}", config)


def _ours(name: str, config: BackendConfig) -> Camera:
    backend = open_backend(config)
    assert isinstance(backend, LocalBackend)
    assert backend.model is not None
    pipe: Any = backend.model.pipe  # type: ignore[attr-defined]

    def generate(cases: Sequence[Case], seeds: Sequence[int]) -> list[Frames]:
        clips = backend.shoot([request_of(case, seed) for case, seed in zip(cases, seeds, strict=True)])
        return [clip.frames for clip in clips]

    return Camera(name=name, generate=generate, roundtrip=through(pipe.vae))


def _stock(folder: Path, name: str, named: Mapping[str, Any], adapters: Sequence[Adapter]) -> Camera:
    pipe: Any = WanPipeline.from_pretrained(str(folder))
    put_on(pipe, adapters)
    pipe.set_progress_bar_config(disable=True)
    if torch.cuda.is_available():
        pipe.to("cuda")

    def generate(cases: Sequence[Case], seeds: Sequence[int]) -> list[Frames]:
        with torch.random.fork_rng():
            torch.manual_seed(seeds[0])  # stochastic schedulers draw from torch's global generator
            video = pipe(
                prompt=[case.caption.text for case in cases],
                height=HEIGHT,
                width=WIDTH,
                num_frames=cases[0].script.frames,
                **named,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="pt",
            ).frames
        pixels = (video.float() * 255).round().to(torch.uint8)
        return list(pixels.permute(0, 1, 3, 4, 2).contiguous().cpu().numpy())

    return Camera(name=name, generate=generate, roundtrip=through(pipe.vae))


def through(vae: Any) -> Roundtrip:
    """A clip through the autoencoder: the mean of its code, decoded."""

    @torch.no_grad()
    def roundtrip(frames: Frames) -> Frames:
        signal = torch.from_numpy(frames).permute(3, 0, 1, 2).unsqueeze(0).to(vae.device, vae.dtype) / 127.5 - 1
        video = vae.decode(vae.encode(signal).latent_dist.mode(), return_dict=False)[0]
        pixels = ((video.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return np.ascontiguousarray(pixels[0].permute(1, 2, 3, 0).cpu().numpy())

    return roundtrip


def autoencoder_of(vae: Any) -> Autoencoder:
    """The round trip, known by what decides it: configuration and weights, wherever they were loaded from."""
    made = {name: value for name, value in dict(vae.config).items() if not name.startswith("_")}
    found = hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode())
    for name, tensor in sorted(vae.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return Autoencoder(roundtrip=through(vae), digest=found.hexdigest())
