"""A training run on disk: one checkpoint file replaced in one move, a log of lines. Knows no model.

A run killed at any moment leaves either the old checkpoint or the new one, never half a file.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import torch

from generators.errors import TrainingError

log = logging.getLogger(__name__)

PARTS: dict[str, type] = {"step": int, "settings": dict, "trainee": dict}
"""What every checkpoint holds."""
WEIGHTS = ("model_index.json", "pytorch_lora_weights*.safetensors")
"""Files that tell an exported model from any other folder."""
State = dict[str, Any]
"""Nested dicts and lists of tensors, numbers and strings."""


def write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill a temporary file, then move it to `path`: readers see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def require_replaceable(to: Path) -> None:
    """Raise TrainingError unless `to` is new, empty, or weights: nothing else a person has is ever replaced."""
    is_model = any(file for name in WEIGHTS for file in to.glob(name))
    if to.exists() and not is_model and not (to.is_dir() and not any(to.iterdir())):
        raise TrainingError(f"{to} holds something that is no exported model; name a new folder, or an earlier export")


def replace_folder(to: Path, fresh: Path) -> None:
    """Move `fresh` to `to`. A kill between the two moves leaves the earlier weights beside it, as `.NAME.old`."""
    require_replaceable(to)
    old = to.with_name(f".{to.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if to.exists():
        to.replace(old)
    fresh.replace(to)
    shutil.rmtree(old, ignore_errors=True)


class RunFolder:
    """Where one net's training lives: `checkpoint.pt`, `log.jsonl`, pictures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoint = folder / "checkpoint.pt"
        self.log = folder / "log.jsonl"

    def save(self, state: State, name: str = "checkpoint.pt") -> None:
        """Replace the checkpoint. Raises TrainingError when the disk refuses."""
        try:
            write_whole(self.folder / name, lambda file: torch.save(state, file))
        except (OSError, RuntimeError) as error:
            raise TrainingError(f"Cannot write the checkpoint {self.folder / name}: {error}") from error

    def load(self) -> State | None:
        """The last checkpoint, tensors on the CPU; None before the first."""
        return read_checkpoint(self.checkpoint) if self.checkpoint.exists() else None

    def append(self, row: Mapping[str, object]) -> None:
        """Add one line to the log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """The log's rows in step order; of what was written twice for a step (after a kill) the later."""
        if not self.log.exists():
            return []
        found: dict[int, dict[str, Any]] = {}
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line a kill cut short
                continue
            found.setdefault(row["step"], {}).update(row)
        return [found[step] for step in sorted(found)]


def read_checkpoint(path: Path, *, mapped: bool = False) -> State:
    """Read a checkpoint file; `mapped` leaves tensors on the disk until they are read.

    Raises TrainingError naming it when it is missing, damaged or no checkpoint.
    """
    if not path.exists():
        raise TrainingError(f"No checkpoint at {path}; train that part first")
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        raise TrainingError(f"Cannot read the checkpoint {path}: {error}; delete it to start afresh") from error
    if not isinstance(state, dict):
        raise TrainingError(f"{path}: expected a checkpoint, got a {type(state).__name__}; delete it to start afresh")
    lacking = [name for name, kind in PARTS.items() if not isinstance(state.get(name), kind)]
    if lacking:
        raise TrainingError(
            f"{path}: expected a checkpoint with {', '.join(PARTS)}, it lacks {', '.join(lacking)}; delete it to start "
            "afresh"
        )
    return state


def plain(settings: Any) -> dict[str, Any]:
    """A frozen config as a checkpoint holds it, tuples as lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}


def require_same(
    was: Mapping[str, object], now: Mapping[str, object], where: Path, newer: Collection[str] = ()
) -> None:
    """Raise TrainingError naming every setting in which a checkpoint and the new run differ.

    Settings of `newer` that an older checkpoint does not tell are logged by name and taken from the new run.
    """
    untold = [key for key in now if key in newer and key not in was]
    told = {key: value for key, value in now.items() if key not in untold}
    differ = [f"{key}: {was.get(key)!r} there, {value!r} now" for key, value in told.items() if was.get(key) != value]
    if differ:
        raise TrainingError(f"{where} was trained with other settings ({'; '.join(differ)}); use another folder")
    if untold:
        taken = ", ".join(f"{key} {now[key]!r}" for key in untold)
        log.warning("%s is older and does not tell every setting; it goes on with %s", where, taken)
