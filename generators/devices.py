"""What this machine can compute on, and in which numbers. Loads torch, so ask only when somebody wants to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from generators.errors import BackendUnavailable

if TYPE_CHECKING:
    import torch

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device by torch's name, and what it is. `memory` is bytes, None where torch does not say."""

    name: str
    says: str
    memory: int | None = None


def devices() -> tuple[Device, ...]:
    """Every device torch can use here, accelerators first."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        words = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        found.append(Device(name=f"cuda:{index}", says=words, memory=properties.total_memory))
    if torch.backends.mps.is_available():
        found.append(Device(name="mps", says="Apple GPU"))
    threads = torch.get_num_threads()
    found.append(Device(name="cpu", says=f"{threads} {'thread' if threads == 1 else 'threads'}"))
    return tuple(found)


def best_device() -> str:
    """The accelerator, where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def checked_device(device: str, offload: bool) -> torch.device:
    """The device, once it was seen to hold a number. Raises BackendUnavailable, naming those that are there."""
    import torch

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


def dtype_of(name: Dtype, device: str) -> torch.dtype:
    """The type of numbers of that name; `auto` is bfloat16 on an accelerator and float32 on a CPU."""
    import torch

    if name == "auto":
        return torch.float32 if device.startswith("cpu") else torch.bfloat16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
