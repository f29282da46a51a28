"""What learns of a pipeline: low-rank adapters (peft) on its transformers, or all of their weights; and its average.

Writes what was learnt as files that stock diffusers loads: a LoRA file, or a whole pipeline. Knows no data and no loss.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from generators.adapters import LORA_FILES
from generators.errors import TrainingError
from generators.training.checkpoint import State, replace_folder
from generators.training.loop import follow
from generators.training.scenes_config import Lora

PEFT = "LoRA needs the package peft, which is not installed: pip install --editable '.[train]', or train with --full"


class Learning:
    """The weights of a pipeline that learn, in float32, by name; everything else of it is frozen."""

    def __init__(self, pipe: Any, lora: Lora | None, *, ema: float | None, seed: int) -> None:
        self.pipe, self.lora, self.ema = pipe, lora, ema
        second = getattr(pipe, "transformer_2", None)
        self.networks: list[Any] = [pipe.transformer] + ([] if second is None else [second])
        for part in (pipe.vae, pipe.text_encoder, *self.networks):
            part.requires_grad_(False)
        for network in self.networks:
            if lora is None:
                network.requires_grad_(True)
            else:
                add_adapters(network, lora, seed)
        self.named: dict[str, nn.Parameter] = {
            f"{i}.{name}": parameter
            for i, network in enumerate(self.networks)
            for name, parameter in network.named_parameters()
            if parameter.requires_grad
        }
        for parameter in self.named.values():
            parameter.data = parameter.data.float()
        self.parameters = nn.ParameterList(self.named.values())
        self.average = None if ema is None else copy.deepcopy(self.parameters).requires_grad_(False)

    def follow(self, step: int) -> None:
        """Move the average, if one is kept."""
        if self.average is not None and self.ema is not None:
            follow(self.average, self.parameters, self.ema, step)

    def state(self) -> State:
        """Weights and average, by name."""
        state: State = {"weights": {name: p.detach() for name, p in self.named.items()}}
        if self.average is not None:
            state["average"] = dict(zip(self.named, self.average, strict=True))
        return state

    def restore(self, state: State) -> None:
        """Become what `state` was taken from."""
        self._load(self.parameters, state["weights"])
        if self.average is not None:
            self._load(self.average, state["average"])

    def begin_from(self, state: State) -> None:
        """Start where another stage ended: from its average, where it kept one."""
        found = _ended(state)
        self._load(self.parameters, found)
        if self.average is not None:
            self._load(self.average, found)

    @torch.no_grad()
    def _load(self, into: nn.ParameterList, found: dict[str, Tensor]) -> None:
        if found.keys() != self.named.keys():
            differ = sorted(found.keys() ^ self.named.keys())
            raise TrainingError(f"The checkpoint learnt other weights: {len(differ)} names differ, {differ[0]} first")
        for name, own in self.named.items():
            if found[name].shape != own.shape:
                sizes = f"{tuple(own.shape)}, got {tuple(found[name].shape)}"
                raise TrainingError(f"The checkpoint learnt weights of another shape: {name}: expected {sizes}")
        for parameter, name in zip(into, self.named, strict=True):
            parameter.copy_(found[name])

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the networks hold the average, if one is kept."""
        if self.average is None:
            yield
            return
        kept = [p.detach().clone() for p in self.parameters]
        self._put(list(self.average))
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def write(self, to: Path) -> Path:
        """Replace the folder `to` by what was learnt: a LoRA that `load_lora_weights` reads, or a whole pipeline."""
        fresh = to.with_name(f".{to.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        with self.averaged():
            if self.lora is None:
                self.pipe.save_pretrained(fresh, safe_serialization=True)
            else:
                self._write_adapters(fresh)
        replace_folder(to, fresh)
        return to

    def _write_adapters(self, to: Path) -> None:
        from peft import get_peft_model_state_dict

        for network, file in zip(self.networks, LORA_FILES, strict=False):
            layers = {name: x.detach().cpu().contiguous() for name, x in get_peft_model_state_dict(network).items()}
            told = network.peft_config["default"].to_dict().items()
            config = {name: sorted(value) if isinstance(value, set) else value for name, value in told}
            self.pipe.save_lora_weights(
                to, transformer_lora_layers=layers, weight_name=file, transformer_lora_adapter_metadata=config
            )
            _sort_metadata(to / file)


def learnt_digest(state: State) -> str:
    """sha256 of the weights with which another stage ended."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_ended(state).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _ended(state: State) -> dict[str, Tensor]:
    found: dict[str, Tensor] = state["average" if "average" in state else "weights"]
    return found


def _sort_metadata(file: Path) -> None:
    """Write a safetensors file's metadata in the order of their names: the library's own changes from run to run."""
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    told = json.dumps(header, separators=(",", ":")).encode()
    told += b" " * (-len(told) % 8)  # tensors begin at a multiple of 8
    file.write_bytes(len(told).to_bytes(8, "little") + told + content[end:])


def add_adapters(network: Any, lora: Lora, seed: int) -> None:
    """Put fresh adapters on a network, drawn from the seed; the global random state is left alone.

    Raises TrainingError without peft, and for targets that the network has not.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise TrainingError(PEFT) from error
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.rank if lora.alpha is None else lora.alpha,
        init_lora_weights="gaussian",
        target_modules=list(lora.targets),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network.add_adapter(config)
        except ValueError as error:
            raise TrainingError(f"targets {', '.join(lora.targets)}: {error}") from error
