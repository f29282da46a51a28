"""The mean of several exported models that went apart from one training run: often better than each of them.

Model soups (Wortsman et al., arXiv 2203.05482). Knows exported folders; trains nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from generators.errors import TrainingError
from generators.training.checkpoint import replace_folder, require_replaceable
from generators.training.codec import CODEC
from generators.training.export import RECORD, model_card

AVERAGED = ("text_encoder", "transformer")
"""Parts that are averaged; all others are the same in every one of them."""


def mean_weights(weights: Sequence[Path], to: Path) -> Path:
    """Write to the folder `to` the mean of models that `train world export` wrote; it is an export itself.

    Summed in float32 and stored as they are stored. Raises TrainingError for fewer than two, for what is no export, and
    for models of another size, vocabulary, latent code or autoencoder: there is no mean of those.
    """
    if len(weights) < 2:
        raise TrainingError(f"mean: expected at least two exported models, got {len(weights)}")
    require_replaceable(to)
    records = [_record(folder) for folder in weights]
    for folder, record in zip(weights[1:], records[1:], strict=True):
        _require_alike(weights[0], folder, records[0], record)
    fresh = to.with_name(f".{to.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(weights[0], fresh)
    for part in AVERAGED:
        for file in sorted((weights[0] / part).glob("*.safetensors")):
            _write_mean([folder / part / file.name for folder in weights], fresh / part / file.name)
    steps = [record["denoiser"]["step"] for record in records]
    newest = records[steps.index(max(steps))]
    denoiser = newest["denoiser"] | {"mean_of": steps}
    (fresh / RECORD).write_text(json.dumps(newest | {"denoiser": denoiser}, indent=2) + "\n", encoding="utf-8")
    (fresh / "README.md").write_text(model_card(denoiser), encoding="utf-8")
    replace_folder(to, fresh)
    return to


def _record(folder: Path) -> dict[str, Any]:
    if not (folder / RECORD).is_file():
        raise TrainingError(f"{folder} has no {RECORD}: expected a folder that `train world export` wrote")
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


def _require_alike(first: Path, other: Path, one: dict[str, Any], two: dict[str, Any]) -> None:
    for name in ("size", "words", "codec", "shift"):
        if one["denoiser"]["settings"].get(name) != two["denoiser"]["settings"].get(name):
            raise TrainingError(f"{first} and {other} have another {name}: expected models of one training run")
    for name in (CODEC, *(str(file.relative_to(first)) for file in sorted((first / "vae").glob("*.safetensors")))):
        if not (other / name).is_file() or (first / name).read_bytes() != (other / name).read_bytes():
            raise TrainingError(f"{first} and {other} differ in {name}: expected models of one training run")


def _write_mean(files: Sequence[Path], to: Path) -> None:
    try:
        parts = [load_file(file) for file in files]
    except OSError as error:
        raise TrainingError(f"{error}: expected the files of {files[0].parent} in every model") from error
    if any(part.keys() != parts[0].keys() for part in parts):
        raise TrainingError(f"{files[0]} does not hold what {files[1]} holds: expected models of one training run")
    means = {name: torch.stack([part[name].float() for part in parts]).mean(0) for name in parts[0]}
    save_file({name: mean.to(parts[0][name].dtype) for name, mean in means.items()}, to, metadata={"format": "pt"})
