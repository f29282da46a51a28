"""Writes the trained nets as a stock diffusers folder with a model card, and reads one back into a run.

Knows the format, trains nothing. Beside what diffusers reads, an export holds the latent code and the settings of the
run, so that training can go on where nothing but the export is left.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan import WanPipeline

from generators.errors import TrainingError
from generators.training.checkpoint import RunFolder, State, read_checkpoint, replace_folder, require_replaceable
from generators.training.codec import CODEC, read_codec
from generators.training.config import DenoiserSize, VaeSize
from generators.training.denoiser import build_denoiser, stock_pipeline
from generators.training.text import build_tokenizer
from generators.training.vae import build_vae, trained_vae
from generators.world.words import FPS, HEIGHT, LONG, SHORT, WIDTH

SHARD = "14MB"
MOST_BYTES = 30_000_000
RECORD = "training.json"
"""How the nets were trained: steps and settings of both parts."""


def load_trained(run: Path) -> WanPipeline:
    """The averaged nets of a run as a stock pipeline in float32 on the CPU. Raises TrainingError without them."""
    return _pipeline(run, read_checkpoint(RunFolder(run / "denoiser").checkpoint))


def export(run: Path, to: Path) -> Path:
    """Write the run's averaged nets to the folder `to` as stock WanPipeline weights with a model card.

    Transformer and autoencoder are stored as float16 (stock diffusers loads them as float32), the text encoder as
    float32 (transformers loads what is stored). An older export is replaced, any other folder is not. Raises
    TrainingError when something is missing or in the way, when autoencoder and denoiser do not speak one latent code,
    or when the folder would exceed 30 MB.
    """
    require_replaceable(to)
    state = read_checkpoint(RunFolder(run / "denoiser").checkpoint)
    fresh = to.with_name(f".{to.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    pipeline = _pipeline(run, state)
    pipeline.transformer.to(torch.float16)
    pipeline.vae.to(torch.float16)
    pipeline.save_pretrained(fresh, max_shard_size=SHARD)
    (fresh / "README.md").write_text(model_card(state), encoding="utf-8")
    (fresh / RECORD).write_text(json.dumps(_record(run, state), indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(run / CODEC, fresh / CODEC)
    size = sum(file.stat().st_size for file in fresh.rglob("*") if file.is_file())
    if size > MOST_BYTES:
        raise TrainingError(f"The exported model takes {size} bytes, more than {MOST_BYTES}; train smaller nets")
    replace_folder(to, fresh)
    return to


def _record(run: Path, state: State) -> dict[str, Any]:
    vae = read_checkpoint(RunFolder(run / "vae").checkpoint)
    return {name: {"step": of["step"], "settings": of["settings"]} for name, of in (("denoiser", state), ("vae", vae))}


def import_weights(weights: Path, run: Path) -> Path:
    """Lay out a training run at `run` whose nets are those exported to `weights`; optimisers and averages begin anew.

    Raises TrainingError when `run` has been trained already, or `weights` is no export that tells how it was made.
    """
    if not (weights / RECORD).is_file() or not (weights / CODEC).is_file():
        raise TrainingError(f"{weights} has no {RECORD} and {CODEC}: expected a folder that `train world export` wrote")
    if begun := [part for part in ("denoiser", "vae") if RunFolder(run / part).checkpoint.exists()]:
        raise TrainingError(f"{run} has been trained already ({', '.join(begun)}); name a new folder with --out")
    record = json.loads((weights / RECORD).read_text(encoding="utf-8"))
    spoken = {record[part]["settings"]["codec"] for part in ("denoiser", "vae")}
    if spoken != {read_codec(weights / CODEC).digest}:
        raise TrainingError(f"{weights / CODEC} is not the latent code that {weights / RECORD} names; export again")
    run.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights / CODEC, run / CODEC)
    pipeline = WanPipeline.from_pretrained(weights, torch_dtype=torch.float32, local_files_only=True)
    settings = record["denoiser"]["settings"]
    size = DenoiserSize(**settings["size"])
    nets = build_denoiser(size, size.channels, len(settings["words"]), settings["seed"])
    nets.transformer.load_state_dict(pipeline.transformer.state_dict())
    nets.text_encoder.load_state_dict(pipeline.text_encoder.state_dict())
    vae = build_vae(VaeSize(**record["vae"]["settings"]["size"]), record["vae"]["settings"]["seed"])
    vae.load_state_dict(pipeline.vae.state_dict())
    for part, named, learnt in (("denoiser", "nets", nets.state_dict()), ("vae", "vae", vae.state_dict())):
        step = record[part]["step"]
        trainee = {named: learnt, "average": learnt, "optimiser": None}
        RunFolder(run / part).save(record[part] | {"fresh": step, "trainee": trainee})
    return run


def _pipeline(run: Path, state: dict[str, Any]) -> WanPipeline:
    settings = state["settings"]
    vae, code = trained_vae(run)
    if code != settings["codec"]:
        raise TrainingError(
            f"The autoencoder in {run} speaks another latent code than its denoiser; train one of them again"
        )
    tokenizer = build_tokenizer(settings["words"])
    size = DenoiserSize(**settings["size"])
    nets = build_denoiser(size, size.channels, len(tokenizer), settings["seed"])
    nets.load_state_dict(state["trainee"]["average"])
    return stock_pipeline(nets.eval().requires_grad_(False), tokenizer, vae, settings["shift"])


def _steps(state: dict[str, Any]) -> str:
    if apart := state.get("mean_of"):
        return f"the mean of weights after {' and '.join(map(str, apart))} optimiser steps of runs that went apart"
    return f"{state['step']} optimiser steps"


def model_card(state: dict[str, Any]) -> str:
    """The README of the exported folder, from the checkpoint's own record of how it was trained."""
    settings, size = state["settings"], DenoiserSize(**state["settings"]["size"])
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-video
---
# fabula puppets

A very small text-to-video model of the Wan architecture. It films the puppet world of fabula: coloured puppets that
walk, jump, spin, push and chase each other in six places by day and night. It is meant for laptops, tests and the
study of attention control; it knows nothing of the real world.

- **Frames**: {WIDTH} x {HEIGHT} pixels, {FPS} a second, {SHORT} or {LONG} frames.
- **Words**: {len(settings["words"]) - 3} lower- or upper-case English words; others become `<unk>`.
- **Transformer**: {size.layers} layers, width {size.width}, {size.heads} heads. Given latent frames may stand at t = 0
  (per-token timesteps). Text encoder: UMT5, {size.text_layers} layers.
- **Training**: {_steps(state)}, seed {settings["seed"]}, on procedurally drawn clips only, by
  `python main.py train world`. No third-party data.

```python
from diffusers import WanPipeline

pipeline = WanPipeline.from_pretrained("FOLDER")
clip = pipeline(
    "In the meadow by day, the red fox jumps high up.",
    height={HEIGHT},
    width={WIDTH},
    num_frames={SHORT},
    num_inference_steps=20,
    guidance_scale=3.0,
).frames[0]
```

How good it is: `python main.py bench world` prints it, with ceiling, floor, interval and count. What it was trained
for, how long and on what machine, and what it scored then, is in fabula's `docs/log.md`.

Settings of the run:

```json
{json.dumps({k: v for k, v in settings.items() if k != "words"} | {"size": asdict(size)}, indent=2)}
```
"""
