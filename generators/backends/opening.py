"""Opening a model on this machine: which device, in which numbers, and what it says when that does not work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError

from generators.adapters import Adapter
from generators.clip import Limits
from generators.errors import BackendUnavailable, OutOfMemory
from generators.models.base import VideoModel
from generators.models.loading import FAMILIES, MadeFor, class_of, open_model
from generators.models.scenes import FilmsSets


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
