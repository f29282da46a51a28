"""Several shots denoised as one sequence (Mask2DiT), and chains of them of any length.

The loop is the sampler's own: a set of shots is a row of latents, and finished shots are held in what the model reads,
which is the same as writing them back after every step. Knows nothing of a family's insides.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from generators.clip import Frames, Given, ShotRequest
from generators.controls.base import attached
from generators.errors import RequestRejected
from generators.models.base import Layout, VideoModel, video_as_frames
from generators.models.scenes import FilmsSets, SceneModel, SceneSettings, is_context, split_shots, whole_layout
from generators.sampler import OnStep, Sample, Settings, denoise
from generators.seams import check_given


@dataclass(frozen=True, kw_only=True)
class SetSample:
    """Sets of shots denoised in one batch."""

    sample: Sample
    """Its rows are whole sets; finished shots stand in it as the network read them."""
    layouts: tuple[Layout, ...]
    """Of each shot of a set."""

    @property
    def shots(self) -> tuple[tuple[Tensor, ...], ...]:
        """Latents (1, C, F, h, w) of each shot of each set."""
        parts = split_shots(self.sample.latents, self.layouts)
        return tuple(tuple(part[row : row + 1] for part in parts) for row in range(len(self.sample.latents)))


def sample_sets(
    model: VideoModel,
    sets: Sequence[Sequence[ShotRequest]],
    settings: Settings,
    scenes: SceneSettings | None = None,
    *,
    finished: Mapping[int, Tensor] | None = None,
    on_step: OnStep | None = None,
    cancelled: threading.Event | None = None,
) -> SetSample:
    """Denoise sets of shots, each set one sequence, all sets in lock step.

    Shots may differ in length, sets may not differ from each other. A shot whose frames are all given is context at
    t = 0, as is one with latents in `finished`, by its number, counted set by set. Raises RequestRejected before any
    work is done, RuntimeError when the model has another holder, ShootingCancelled between two steps.
    """
    requests = [request for of_set in sets for request in of_set]
    of_sets = _of_sets(model, sets, scenes or SceneSettings())
    negatives = [request.negative_prompt for request in requests] if settings.guidance > 1 else None
    with torch.no_grad(), attached(of_sets, [()] * len(sets)) as run:
        text = of_sets.encode([request.prompt for request in requests], negatives)
        start = of_sets.start_sets(requests, finished or {})
        stepper = of_sets.stepper(settings.steps, whole_layout(of_sets.layouts))
        latents = denoise(of_sets, text, start, settings, run, stepper, on_step=on_step, cancelled=cancelled)
    return SetSample(sample=Sample(latents=latents, text=text, start=start), layouts=of_sets.layouts)


Reads = Literal["pixels", "latents"]


@dataclass(frozen=True, kw_only=True)
class ChainSettings:
    """How a chain of shots goes on. `window` shots are in a pass; the published models were trained with three."""

    window: int = 3
    reads: Reads = "pixels"
    """What later passes read of a finished shot: its `pixels`, encoded again, or the `latents` it was decoded from."""

    def __post_init__(self) -> None:
        if self.window < 2:
            raise RequestRejected(f"window: expected at least 2 shots, got {self.window}")
        if self.reads not in get_args(Reads):
            raise RequestRejected(f"reads: expected pixels or latents, got {self.reads!r}")


@dataclass(frozen=True, kw_only=True)
class ChainShot:
    """A finished shot of a chain."""

    request: ShotRequest
    frames: Frames = field(repr=False)
    latents: Tensor | None = None
    """(1, C, F, h, w); None for a shot that was given."""
    composition: tuple[str, ...] = ()
    """Digests of all requests of the pass, finished ones with their frames: bits hold for the same composition."""


def sample_chain(
    model: VideoModel,
    requests: Sequence[ShotRequest],
    settings: Settings,
    scenes: SceneSettings | None = None,
    chain: ChainSettings | None = None,
    *,
    on_step: OnStep | None = None,
    cancelled: threading.Event | None = None,
) -> Iterator[ChainShot]:
    """Film any number of shots in order, each shot as soon as it is finished.

    The first pass films a whole window; every later one films the next shot after the window's latest finished ones.
    Shots at the beginning whose frames are all given are finished already and are not given back.
    """
    chain = chain or ChainSettings()
    done = [ChainShot(request=request, frames=_pixels(request)) for request in requests if is_context(request)]
    ahead = list(requests[len(done) :])
    if any(map(is_context, ahead)):
        raise RequestRejected("given: expected finished shots at the beginning of a chain, got one after one to film")
    while ahead:
        context = done[-(chain.window - 1) :]
        count = max(chain.window - len(context), 1)
        now, ahead = ahead[:count], ahead[count:]
        asked = [_as_context(shot) for shot in context] + now
        kept = {i: x.latents for i, x in enumerate(context) if x.latents is not None and chain.reads == "latents"}
        taken = sample_sets(model, [asked], settings, scenes, finished=kept, on_step=on_step, cancelled=cancelled)
        for request, latents in zip(now, taken.shots[0][len(context) :], strict=True):
            with torch.no_grad():
                (frames,) = video_as_frames(model.decode(latents))
            composition = tuple(x.digest() for x in asked)
            done.append(ChainShot(request=request, frames=frames, latents=latents, composition=composition))
            yield done[-1]


def _as_context(shot: ChainShot) -> ShotRequest:
    return replace(shot.request, given=(Given(first=0, frames=shot.frames),))


def _pixels(request: ShotRequest) -> Frames:
    return np.concatenate([given.frames for given in sorted(request.given, key=lambda given: given.first)])


def _of_sets(model: VideoModel, sets: Sequence[Sequence[ShotRequest]], scenes: SceneSettings) -> SceneModel:
    if not isinstance(model, FilmsSets):
        raise RequestRejected(
            f"{type(model).__name__} cannot film several shots in one sequence; expected CogVideoX or Wan"
        )
    layouts = {tuple(_layout(model, request) for request in of_set) for of_set in sets}
    if len(layouts) != 1 or not all(layouts):
        raise RequestRejected(
            f"sets: expected sets of shots that agree in number and lengths of shots, got {len(sets)} sets of "
            f"{len(layouts)} kinds"
        )
    (of_set,) = layouts
    sizes = {(layout.height, layout.width) for layout in of_set}
    if len(sizes) > 1:
        raise RequestRejected(f"height, width: expected one size in a set, got latents of {sorted(sizes)}")
    return model.of_sets(of_set, scenes)


def _layout(model: VideoModel, request: ShotRequest) -> Layout:
    check_given(request.given, request.frames, request.height, request.width)
    if request.controls:
        names = ", ".join(type(control).__name__ for control in request.controls)
        raise RequestRejected(f"controls: expected none on a shot that is filmed in a set, got {names}; film it alone")
    return model.layout(request.frames, request.height, request.width)
