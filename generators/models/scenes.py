"""What filming several scenes as one sequence needs of a family, and what all families do alike there.

A set is n shots that see each other while they are denoised; its latents are the shots' latents, one after the other in
time. Requests are counted set by set. A shot whose frames are all given is context: it is read, never denoised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from generators.attention_groups import ACROSS, SceneMask
from generators.clip import ShotRequest
from generators.errors import RequestRejected
from generators.models.base import Layout, Start, Text, VideoModel

ContextNoise = Literal["noised", "clean"]
NoiseDraw = Literal["set", "shot"]


@dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """How shots of a set see each other, and how finished ones are read. The defaults are the released code's."""

    mask: SceneMask = "v2"
    context: ContextNoise = "noised"
    """Finished shots at the scheduler's first noise level (as the released code samples), or without any noise (as it
    trains)."""
    noise: NoiseDraw = "set"
    """One draw for all that a set films, from the seed of its first shot to film; or one from each shot's own seed."""

    def __post_init__(self) -> None:
        allowed = {"mask": tuple(ACROSS), "context": get_args(ContextNoise), "noise": get_args(NoiseDraw)}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise RequestRejected(f"{name}: expected one of {', '.join(values)}, got {getattr(self, name)!r}")


class SceneModel(VideoModel, Protocol):
    """A family's model whose rows are sets."""

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """Of each shot of a set."""
        ...

    def start_sets(self, requests: Sequence[ShotRequest], finished: Mapping[int, Tensor]) -> Start:
        """Noise and context of the sets, (B, C, F of all shots, h, w).

        `finished` has latents (1, C, F, h, w) of requests, by their number, to be read in the place of given frames.
        """
        ...

    def encode_shot(self, request: ShotRequest, layout: Layout) -> Tensor:
        """Latents (1, C, F, h, w) without noise of a shot all of whose frames are given; any draw is from its seed."""
        ...


@runtime_checkable
class FilmsSets(Protocol):
    """A family that can film several shots as one sequence."""

    def of_sets(self, layouts: Sequence[Layout], settings: SceneSettings) -> SceneModel:
        """The same model for sets of shots of these layouts. Raises RequestRejected for a checkpoint that cannot."""
        ...


def whole_layout(layouts: Sequence[Layout]) -> Layout:
    """Of a set: its shots one after the other in time."""
    return replace(layouts[0], frames=sum(layout.frames for layout in layouts))


def split_shots(x: Tensor, layouts: Sequence[Layout]) -> tuple[Tensor, ...]:
    """Each shot's part of a set's (B, C, F, h, w)."""
    parts: tuple[Tensor, ...] = x.split([layout.frames for layout in layouts], dim=2)
    return parts


def by_sets(requests: Sequence[ShotRequest], count: int) -> Iterator[tuple[int, Sequence[ShotRequest]]]:
    """Sets of so many shots, each with the number of its first request."""
    return ((first, requests[first : first + count]) for first in range(0, len(requests), count))


def joined_text(text: Text, count: int) -> Text:
    """Texts of single shots, (B n, M, D), as the texts of sets, (B, n M, D)."""

    def of_sets(x: Tensor) -> Tensor:
        joined: Tensor = x.unflatten(0, (-1, count)).flatten(1, 2)
        return joined

    return replace(text, cond=of_sets(text.cond), uncond=None if text.uncond is None else of_sets(text.uncond))


def is_context(request: ShotRequest) -> bool:
    """Whether all frames of a shot are given. Raises RequestRejected when only some are: a shot has one time."""
    covered = sum(given.last - given.first for given in request.given)
    if covered not in (0, request.frames):
        raise RequestRejected(
            f"given: expected none or all {request.frames} frames of a shot that is filmed in a set, got {covered}; "
            "film it alone to keep a part of it"
        )
    return covered > 0


def start_of_sets(
    requests: Sequence[ShotRequest],
    layouts: Sequence[Layout],
    finished: Mapping[int, Tensor],
    *,
    draw: Callable[[Layout, torch.Generator], Tensor],
    context: Callable[[ShotRequest, Layout, Tensor | None], Tensor],
    by: NoiseDraw,
) -> Start:
    """Where sets start: `draw` makes noise of a layout, `context` a finished shot as the network reads it.

    Context has no noise. Raises RequestRejected for a set with nothing to film and for `finished` of another shape.
    """
    rows = [
        _start_of(of_set, first, layouts, finished, draw, context, by)
        for first, of_set in by_sets(requests, len(layouts))
    ]
    noise, clean, known, generators = zip(*rows, strict=True)
    lengths = torch.tensor([layout.frames for layout in layouts])
    held = torch.tensor(known).repeat_interleave(lengths, dim=1)[:, None, :, None, None].to(noise[0].device)
    return Start(
        noise=torch.cat(noise),
        held=held if held.any() else None,
        clean=torch.cat(clean) if held.any() else None,
        generators=generators,
    )


def _start_of(
    of_set: Sequence[ShotRequest],
    first: int,
    layouts: Sequence[Layout],
    finished: Mapping[int, Tensor],
    draw: Callable[[Layout, torch.Generator], Tensor],
    context: Callable[[ShotRequest, Layout, Tensor | None], Tensor],
    by: NoiseDraw,
) -> tuple[Tensor, Tensor, list[bool], torch.Generator]:
    """One set's noise, its context, which shots are context, and the generator that its scheduler draws on."""
    known = [first + i in finished or is_context(request) for i, request in enumerate(of_set)]
    if all(known):
        raise RequestRejected("requests: expected a shot in every set that is not finished yet, got none")
    filmed = [i for i, is_known in enumerate(known) if not is_known]
    own = torch.Generator().manual_seed(of_set[filmed[0]].seed)
    asked = [layouts[i] for i in filmed]
    if by == "set":
        drawn = split_shots(draw(whole_layout(asked), own), asked)
    else:
        others = [torch.Generator().manual_seed(of_set[i].seed) for i in filmed[1:]]
        drawn = tuple(draw(*pair) for pair in zip(asked, [own, *others], strict=True))
    noise, clean = [drawn[0].new_zeros(1, *layout.shape) for layout in layouts], []
    for i, part in zip(filmed, drawn, strict=True):
        noise[i] = part
    for i, (request, layout) in enumerate(zip(of_set, layouts, strict=True)):
        latents = finished.get(first + i)
        if latents is not None and latents.shape != (1, *layout.shape):
            raise RequestRejected(f"finished: expected latents {(1, *layout.shape)}, got {tuple(latents.shape)}")
        clean.append(context(request, layout, latents) if known[i] else noise[i].new_zeros(1, *layout.shape))
    return torch.cat(noise, dim=2), torch.cat(clean, dim=2), known, own


def context_of_shots(held: Tensor, layouts: Sequence[Layout]) -> Tensor:
    """Which shots of each set are context, (B, n) bool, from latent frames that are held, (B, 1, F, 1, 1)."""
    return torch.stack([part[:, 0, 0, 0, 0] for part in split_shots(held, layouts)], dim=1)
