"""Low-rank adapters (LoRA) on top of a checkpoint: where they lie, which they are, and putting them on a pipeline.

An adapter is written `PATH` or `PATH@SCALE`: a safetensors file, or a folder that holds one under the name diffusers
gives it. A second file beside it, as `train scenes` writes one, is for the low-noise expert of pipelines with two.
Importing this is light; peft is asked for when an adapter is put on.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from generators.digests import file_digest
from generators.errors import BackendUnavailable

LORA_FILES = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights_2.safetensors")
"""Of the transformer, and of the low-noise expert of pipelines with two."""
_WANTED = "expected a .safetensors file, or a folder that holds " + LORA_FILES[0]
_SAID_ANYWAY = ("Already found a `peft_config`", "While injecting the PEFT adapters, an inconsistency")
"""What peft warns of; several adapters are meant, and layers are counted here."""
_FIRST = ("lora_A.", "lora_down.", "lora.down.")
"""In the name of a layer's first matrix."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One adapter and how strongly it counts; `second` is its file for the low-noise expert."""

    file: Path
    scale: float = 1.0
    second: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """One file, or two."""
        return (self.file,) if self.second is None else (self.file, self.second)


def read_adapter(told: str) -> Adapter:
    """Read `PATH` or `PATH@SCALE`. Raises BackendUnavailable naming what is not there."""
    name, at, number = told.rpartition("@")
    if not at or Path(told).expanduser().exists():
        name, number = told, "1"
    try:
        scale = float(number)
    except ValueError:
        raise BackendUnavailable(f"lora: expected PATH or PATH@SCALE such as {name}@0.8, got {told!r}") from None
    path = Path(name).expanduser()
    file = path / LORA_FILES[0] if path.is_dir() else path
    if not file.is_file():
        what = f"holds no {LORA_FILES[0]}" if path.is_dir() else "does not exist"
        raise BackendUnavailable(f"lora: {path} {what}; {_WANTED}")
    if file.suffix != ".safetensors":
        raise BackendUnavailable(f"lora: {file} is no safetensors file, and no other kind is ever read; {_WANTED}")
    second = file.with_name(LORA_FILES[1])
    return Adapter(file=file, scale=scale, second=second if file.name == LORA_FILES[0] and second.is_file() else None)


def whole_name(told: str) -> str:
    """The same adapter by its whole path, so that it is found from any folder. Raises as `read_adapter`."""
    one = read_adapter(told)
    return f"{one.file.resolve()}@{one.scale:g}"


def with_adapters(weights: str, adapters: Sequence[Adapter]) -> str:
    """The digest of a checkpoint with these adapters on; the checkpoint's own where there are none."""
    if not adapters:
        return weights
    found = hashlib.sha256(weights.encode())
    for one in adapters:
        found.update(f"{one.scale:g}".encode())
        for file in one.files:
            found.update(file_digest(file))
    return found.hexdigest()


def put_on(pipe: Any, adapters: Sequence[Adapter]) -> None:
    """Load the adapters into a pipeline, each at its scale; they stay adapters and can be taken off again.

    Raises BackendUnavailable for one that does not belong to this pipeline, and for a pipeline that takes none.
    """
    if adapters and not hasattr(pipe, "load_lora_weights"):
        raise BackendUnavailable(f"lora: {type(pipe).__name__} takes no adapters; film without --lora")
    names = [f"fabula_{number}" for number in range(len(adapters))]
    for name, one in zip(names, adapters, strict=True):
        if one.second is not None and getattr(pipe, "transformer_2", None) is None:
            raise BackendUnavailable(f"lora: {one.second} is for a second expert, and {type(pipe).__name__} has one")
        for file, more in zip(one.files, ({}, {"load_into_transformer_2": True}), strict=False):
            _load(pipe, file, name, more)
    if adapters:
        pipe.set_adapters(names, [one.scale for one in adapters])


def _load(pipe: Any, file: Path, name: str, more: dict[str, Any]) -> None:
    kind, before = type(pipe).__name__, _layers_on(pipe, name)
    try:
        with warnings.catch_warnings():
            for message in _SAID_ANYWAY:
                warnings.filterwarnings("ignore", message=message)
            # safetensors by name: with nothing said, diffusers reads pickles too
            pipe.load_lora_weights(
                str(file.parent), weight_name=file.name, adapter_name=name, use_safetensors=True, **more
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise BackendUnavailable(
            f"lora: {file} could not be put on {kind} ({str(error).strip()[:300]}); it was made for another model, "
            "or its file is damaged"
        ) from error
    found, put = _layers(file), _layers_on(pipe, name) - before
    if put < found:  # no error to the libraries: they leave out layers that the network has not
        raise BackendUnavailable(f"lora: {file} is for another model: this {kind} takes {put} of its {found} layers")


def _layers(file: Path) -> int:
    """Layers that an adapter's file holds a first matrix of, in the names of diffusers, peft or kohya."""
    with safe_open(file, framework="pt") as opened:
        return sum(any(mark in name for mark in _FIRST) for name in opened.keys())  # noqa: SIM118 (it is no dict)


def _layers_on(pipe: Any, name: str) -> int:
    parts = [getattr(pipe, part, None) for part in pipe.get_list_adapters()]
    return sum(f"lora_A.{name}." in held for part in parts if part for held, _ in part.named_parameters())
