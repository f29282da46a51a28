"""Where a model lies and whether it can be filmed with, looked at before a single weight is read.

A model is a folder in diffusers' format or a hub id. Knows `model_index.json` and the hub's client; loads no network
weights into memory.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from generators.errors import BackendUnavailable
from generators.models.loading import FAMILIES

INDEX = "model_index.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def is_hub_id(model: str) -> bool:
    """Whether the name may be a hub id: not a folder here, and not written like a path."""
    return not Path(model).exists() and _HUB_ID.fullmatch(model) is not None


def check_checkpoint(model: str) -> None:
    """Raise BackendUnavailable for a folder that is missing, holds no pipeline, or one of another family.

    A hub id passes: whether it can be had is known when it is fetched.
    """
    if is_hub_id(model):
        return
    folder = Path(model)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise BackendUnavailable(
            f"model: {model} {what}; expected a folder in diffusers' format (it holds {INDEX}) or a hub id such as "
            "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
        )
    if not (folder / INDEX).is_file():
        raise BackendUnavailable(
            f"model: the folder {model} is no diffusers pipeline, for it holds no {INDEX}; name the folder that does "
            "(a checkpoint in its authors' own format must be converted first: their '-Diffusers' variants are)"
        )
    _check_family(folder / INDEX, model)


def starts_from_picture(folder: Path) -> bool:
    """Whether the checkpoint in a folder reads a picture beside the noise: its network takes more channels than noise.

    False where the configurations cannot be read; opening the checkpoint will say why.
    """
    try:
        network, code = (json.loads((folder / part / "config.json").read_text()) for part in ("transformer", "vae"))
        return bool(network["in_channels"] != code["z_dim" if "z_dim" in code else "latent_channels"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def fetch_checkpoint(model: str) -> Path:
    """The checkpoint's folder: itself, or where the hub's client keeps it after downloading what is missing.

    The family is looked at before anything large is downloaded. Raises BackendUnavailable.
    """
    check_checkpoint(model)
    if not is_hub_id(model):
        return Path(model)
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline
    from huggingface_hub import hf_hub_download

    try:
        _check_family(Path(hf_hub_download(model, INDEX)), model)
        return Path(str(DiffusionPipeline.download(model, use_safetensors=True)))
    except (OSError, ValueError) as error:
        raise BackendUnavailable(
            f"model: {model} is no folder here and could not be fetched as a hub id ({_first_line(error)}); check the "
            "name and the network, or download it and name its folder"
        ) from error


def _check_family(index: Path, model: str) -> None:
    try:
        data = json.loads(index.read_text(encoding="utf-8"))
        family = data["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackendUnavailable(
            f"model: {INDEX} of {model} cannot be read ({error!r}); expected one written by diffusers: download the "
            "checkpoint again"
        ) from error
    if family not in FAMILIES:
        raise BackendUnavailable(f"model: {model} is a {family}; expected one of {', '.join(FAMILIES)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
