"""Texts that belong to frames: which text each latent frame reads, and how much of it.

Knows nothing of prompts, encoders or attention. S states, F latent frames, M text columns, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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
    counts: Tensor | None = None
    """(M,) how many columns each column stands for; None where each is one."""


@dataclass(frozen=True, kw_only=True)
class FrameText:
    """A text for every latent frame, mixed from a few states."""

    states: Tensor
    """(S, M, D) as the model's encoder gave them."""
    shares_FS: Tensor
    """How much each frame reads of each state; rows sum to 1."""
    blend: Literal["embeddings", "outputs"]
    """What is mixed: the texts before attention, or what attention makes of each."""

    tokens: tuple[int, ...]
    """Columns of each state that are words; behind them stands padding."""
    hides_padding: bool = False
    """Whether the family reads words alone; outputs are blended then."""

    def groups(self) -> Iterator[TextGroup]:
        """What is attended to, group by group: all frames once, or each state by the frames that read it."""
        shares = self.shares_FS.to(self.states.device)
        if self.blend == "embeddings":
            frames = torch.arange(len(shares), device=shares.device)
            states, counts = self._read(slice(None), max(self.tokens))
            mixed = torch.einsum("fs,smd->fmd", shares.to(states.dtype), states)
            yield TextGroup(frames, mixed, torch.ones_like(frames, dtype=shares.dtype), counts)
            return
        for state in range(len(self.states)):
            frames = shares[:, state].nonzero().flatten()
            if len(frames):
                states, counts = self._read(slice(state, state + 1), self.tokens[state])
                yield TextGroup(frames, states, shares[frames, state], counts)

    def _read(self, which: slice, tokens: int) -> tuple[Tensor, Tensor | None]:
        """The columns that are read, and how many each stands for: padding that is one vector is one column."""
        states = self.states[which]
        if self.hides_padding:
            return states[:, :tokens], None
        columns = states.shape[1]
        if columns <= tokens + 1 or not self._padding_equal:
            return states, None
        counts = torch.ones(tokens + 1, device=states.device)
        counts[-1] = columns - tokens
        return states[:, : tokens + 1], counts

    @cached_property
    def _padding_equal(self) -> bool:
        """Whether all padding is one vector, bit for bit, as it is where encoders leave zeros."""
        padding = [state[tokens:] for state, tokens in zip(self.states, self.tokens, strict=True)]
        last = self.states[0, -1]
        return all(bool((one == last).all()) for one in padding)


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
