"""What this machine can compute on, in words for people. Loads torch, so ask only when somebody wants to know."""

from __future__ import annotations

from dataclasses import dataclass


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
