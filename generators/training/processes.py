"""One training process, or several that `accelerate launch` (or torchrun) started together, one a device.

Every process computes its share of a step's sets and all add up their gradients, so that all hold the same weights
without wrapping a network: attention by groups can come and go as it does for filming. Knows no model and no data.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn

from generators.training.checkpoint import RunFolder


class Processes:
    """Who else trains. Alone, nothing is exchanged."""

    def __init__(self, device: str) -> None:
        state: Any = PartialState(cpu=torch.device(device).type == "cpu")
        self.count: int = state.num_processes
        self.rank: int = state.process_index
        self.device: torch.device = torch.device(device) if self.count == 1 else state.device
        if self.count > 1:  # a group still up when the interpreter ends can abort it; a second training uses it again
            atexit.register(state.destroy_process_group)

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def share(self, numbers: Sequence[int]) -> Sequence[int]:
        """This process's part of a step's sets."""
        return numbers[self.rank :: self.count]

    def total(self, values: Tensor) -> Tensor:
        """The sum of all processes' values."""
        if self.count == 1:
            return values
        summed: Any = reduce(values.to(self.device), "sum")
        return torch.as_tensor(summed)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the sum of all gradients; where one had none it counts as zero."""
        for parameter in parameters:
            if parameter.grad is None:  # not every set reaches every network
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad = self.total(parameter.grad)

    def agree(self, wish: bool) -> bool:
        """Whether any process wishes it."""
        return bool(self.total(torch.tensor(float(wish))) > 0)

    def folder(self, folder: Path) -> RunFolder:
        """The run's folder: written by the first process, read by all."""
        return RunFolder(folder) if self.is_first else ReadOnlyFolder(folder)


class ReadOnlyFolder(RunFolder):
    """The folder of a run that another process writes."""

    def save(self, state: object, name: str = "checkpoint.pt") -> None:
        """Nothing: the first process saves."""

    def append(self, row: object) -> None:
        """Nothing: the first process keeps the log."""

    def rows(self) -> list[dict[str, object]]:
        """None, so that no curves are drawn twice."""
        return []
