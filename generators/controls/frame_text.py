"""Texts that belong to frames: which text each latent frame reads, and how much of it.

Knows nothing of prompts, encoders or attention. S states, F latent frames, M text columns, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor


class TextGroup(NamedTuple):
    """Frames that read one text each, or all the same one."""

    frames: Tensor
    """(n,) latent frames."""
    states: Tensor
    """(n, M, D), or (1, M, D) for one text that all of them read."""
    weights: Tensor
    """(n,) how much what they read counts; over all groups a frame's weights sum to 1."""


@dataclass(frozen=True, kw_only=True)
class FrameText:
    """A text for every latent frame, mixed from a few states."""

    states: Tensor
    """(S, M, D) as the model's encoder gave them."""
    shares_FS: Tensor
    """How much each frame reads of each state; rows sum to 1."""
    blend: Literal["embeddings", "outputs"]
    """What is mixed: the texts before attention, or what attention makes of each."""

    columns: tuple[int, ...] | None = None
    """Columns of each state that are read, for families that hide padding; outputs are blended then. None reads all."""

    def groups(self) -> Iterator[TextGroup]:
        """What is attended to, group by group: all frames once, or each state by the frames that read it."""
        shares = self.shares_FS.to(self.states.device)
        if self.blend == "embeddings":
            frames = torch.arange(len(shares), device=shares.device)
            mixed = torch.einsum("fs,smd->fmd", shares.to(self.states.dtype), self.states)
            yield TextGroup(frames, mixed, torch.ones_like(frames, dtype=shares.dtype))
            return
        for state in range(len(self.states)):
            frames = shares[:, state].nonzero().flatten()
            if len(frames):
                read = None if self.columns is None else self.columns[state]
                yield TextGroup(frames, self.states[state : state + 1, :read], shares[frames, state])


def key_frames(states: int, frames: int) -> list[int]:
    """The frame on which each of S states is reached: evenly, the first on frame 0 and the last on the last one."""
    return [0] if states == 1 else [state * (frames - 1) // (states - 1) for state in range(states)]


def frame_shares(keys: Sequence[int], frames: int, mixture: Literal["linear", "hold"] = "linear") -> Tensor:
    """How much each frame reads of each state, (F, S) float64: all of it on its key frame, straight lines between.

    Frames before the first key read the first state, after the last the last. `hold` reads the earlier state alone.
    """
    shares = torch.zeros(frames, len(keys), dtype=torch.float64)
    for frame in range(frames):
        earlier = max((s for s, key in enumerate(keys) if key <= frame), default=0)
        later = min(earlier + 1, len(keys) - 1)
        gap = keys[later] - keys[earlier]
        beta = (frame - keys[earlier]) / gap if mixture == "linear" and gap and frame >= keys[0] else 0.0
        shares[frame, earlier] += 1 - beta
        shares[frame, later] += beta
    return shares
