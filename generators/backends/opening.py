"""Opening a model on this machine: which device, in which numbers, and what it says when that does not work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError

from generators.adapters import Adapter
from generators.clip import Limits
from generators.devices import devices
from generators.errors import BackendUnavailable, OutOfMemory
from generators.models.base import VideoModel
from generators.models.loading import FAMILIES, MadeFor, class_of, open_model
from generators.models.scenes import FilmsSets

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def best_device() -> str:
    """The accelerator, where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def checked_device(device: str, offload: bool) -> torch.device:
    """The device, once it was seen to hold a number. Raises BackendUnavailable, naming those that are there."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # the last for kinds this torch lacks
        there = ", ".join(found.name for found in devices())
        raise BackendUnavailable(
            f"device: {device!r} cannot be used on this machine ({str(error).splitlines()[0]}); there are {there}"
        ) from error
    place = torch.device(device)
    if offload and place.type == "cpu":
        raise BackendUnavailable("offload: expected an accelerator to move networks to and from, got device 'cpu'")
    return place


def times_of_tokens(folder: Path, told: bool | None, scenes: bool) -> dict[str, bool]:
    """The option that says whether finished tokens are at timestep 0; empty where the checkpoint is to be asked.

    For sets in one sequence they are, unless told otherwise: `train scenes` opens every family that has the choice so.
    """
    if told is not None:
        return {"gives_tokens_at_zero": told}
    family = FAMILIES.get(class_of(str(folder))) if scenes else None
    return {"gives_tokens_at_zero": True} if family and "gives_tokens_at_zero" in family.options else {}


def opened_model(
    folder: Path,
    model: str,
    device: torch.device,
    dtype: torch.dtype,
    offload: bool,
    lora: Sequence[Adapter],
    options: dict[str, bool],
) -> VideoModel:
    """The pipeline, loaded. Raises OutOfMemory, and BackendUnavailable for whatever diffusers raises over its files."""
    try:
        return open_model(str(folder), device=device, dtype=dtype, offload=offload, lora=lora, **options)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"{model} does not fit into the memory of {device}: film with offload, in bfloat16, or a smaller checkpoint"
        ) from error
    except (SafetensorError, RuntimeError, AttributeError, KeyError, TypeError) as error:
        raise BackendUnavailable(
            f"model: {model} could not be loaded ({type(error).__name__}: {str(error)[:300]}); its files are damaged "
            "or do not belong together: download it again"
        ) from error


def check_scenes(model: VideoModel, asked: bool) -> bool:
    """Whether sets are filmed in one sequence. Raises BackendUnavailable where that is asked and cannot be."""
    if asked and not isinstance(model, FilmsSets):
        raise BackendUnavailable(
            f"scenes: {model.name} cannot film several shots in one sequence; expected a Wan or CogVideoX checkpoint, "
            "trained for it (train scenes)"
        )
    return asked


def limits_within(limits: Limits | None, made: MadeFor) -> Limits:
    """The limits asked for, with the multiples and strides that the network itself demands."""
    if limits is None:
        return made.limits
    own = made.limits
    return replace(
        limits,
        size_multiple=max(limits.size_multiple, own.size_multiple),
        frame_step=own.frame_step,
        needs_picture=own.needs_picture,
        guides=own.guides,
        moves=own.moves,
        frame_texts=own.frame_texts,
        continues=own.continues,
        films_sets=own.films_sets,
    )


def dtype_of(name: Dtype, device: str) -> torch.dtype:
    """The type of numbers of that name; `auto` is bfloat16 on an accelerator and float32 on a CPU."""
    if name == "auto":
        return torch.float32 if device.startswith("cpu") else torch.bfloat16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
