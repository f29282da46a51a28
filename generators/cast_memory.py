"""How many shots of a set fit into memory at once, by what one clip's pass takes and what is free."""

from __future__ import annotations

import os
from dataclasses import replace

import torch

from generators.clip import ShotRequest
from generators.costs import measured
from generators.errors import OutOfMemory
from generators.models.base import VideoModel
from generators.sampler import Settings, sample

STEERED = 3.0
"""Peak bytes of a shot of a set, both copies, over those of a plain clip: two clips, and what the steered one holds
beside its pass (`bench scenes` prints it)."""
SPARE = 0.9
"""Share of the free memory that is used."""


def shots_at_once(model: VideoModel, request: ShotRequest, settings: Settings, free: int | None = None) -> int:
    """Shots that fit into `free` bytes, by default those that are free on the model's device.

    Makes two short passes of the request to see what a clip takes. Raises OutOfMemory when not even one shot fits.
    """
    one, two = (_peak(model, request, settings, clips) for clips in (1, 2))
    each = STEERED * max(two - one, 1)
    there = SPARE * (free_bytes(model.device) if free is None else free)
    shots = int((there - max(one - (two - one), 0)) // each)
    if shots < 1:
        raise OutOfMemory(
            f"a shot of {request.width}x{request.height}, {request.frames} frames takes {each / 2**20:.0f} MiB in a "
            f"set, and {there / 2**20:.0f} MiB may be used: film a smaller size, or offload"
        )
    return shots


def fewer_at_once(shots: int, anchors: int, at_once: int | None) -> int | None:
    """How many shots to film at once where `at_once` (None: all of them) were too many: half of what rides beside the
    anchors, rounded up. None where only one does already."""
    beside = min(shots, at_once or shots) - anchors
    return anchors + (beside + 1) // 2 if beside > 1 else None


def free_bytes(device: torch.device) -> int:
    """Memory that is free: on an accelerator torch's own unused blocks included, on a CPU the machine's."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _peak(model: VideoModel, request: ShotRequest, settings: Settings, clips: int) -> int:
    """Most bytes alive in one step of so many plain clips."""
    asked = [replace(request, controls=())] * clips
    with measured() as meter:
        sample(model, asked, replace(settings, steps=1))
    return meter.laps[0].peak_bytes
