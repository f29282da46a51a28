"""Shots that share a cast, filmed as one set by Video Storyboarding: both sweeps, batch by batch.

The first sweep films every shot twice, as it is and steered, and stops where correspondences can be read; the second
starts over where refinement begins, from the first's latents, and blends what corresponds. Nothing of attention is
kept between them, or correspondences as int16. A set that does not fit into memory is filmed in batches: the anchors'
latents are kept, and the anchors ride along again in the steps in which others read them; so a shot that is filmed
later, with anchors from a file, is a shot of one more batch. What a shot's noise is, its own seed says.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor

from generators.anchors import Anchors
from generators.cast_batch import Batch, CastSample
from generators.cast_memory import shots_at_once
from generators.cast_plan import CastSettings
from generators.clip import Progress, ShotRequest
from generators.errors import OutOfMemory, RequestRejected
from generators.models.base import Start, Text, VideoModel
from generators.sampler import OnStep, Settings, common_layout

__all__ = ["CastSample", "CastSettings", "sample_cast"]


def sample_cast(
    model: VideoModel,
    requests: Sequence[ShotRequest],
    subjects: Sequence[str],
    settings: Settings,
    cast: CastSettings | None = None,
    *,
    kept: Anchors | None = None,
    on_step: OnStep | None = None,
    cancelled: threading.Event | None = None,
) -> CastSample:
    """Film shots of one size and length that share a subject; `subjects` are words of each shot's own prompt.

    With `kept` anchors none of the shots is one: all read those. Raises RequestRejected or ControlRejected before any
    work is done, RuntimeError when the model has another holder, ShootingCancelled between two steps.
    """
    cast = cast or CastSettings()
    common_layout(model, [*requests, *(shot.request for shot in (kept.shots if kept else ()))])
    batches = _batches(model, requests, settings, cast, kept)
    anchors, done = kept, 0
    told = _Told(on_step)
    made = []
    for number, size in enumerate(batches):
        own = slice(done, done + size)
        batch = Batch(model, requests[own], subjects[own], settings, cast, anchors, told, cancelled)
        told.of = told.of or batch.length * len(batches)
        more = number + 1 < len(batches)
        made.append(batch.film(keep=anchors is None and (more or cast.keep_anchors)))
        anchors, done = anchors or made[-1].anchors, done + size
    return _together(made, anchors if cast.keep_anchors else None)


def _batches(
    model: VideoModel, requests: Sequence[ShotRequest], settings: Settings, cast: CastSettings, kept: Anchors | None
) -> list[int]:
    """How many new shots each batch films."""
    riding = len(kept.shots) if kept else cast.anchors
    total = len(requests) + (len(kept.shots) if kept else 0)
    most = cast.at_once
    if most == "fit":
        most = shots_at_once(model, requests[0], settings)
    if most is None or most >= total:
        return [len(requests)]
    if most <= riding:
        told = f"at least {riding + 1} shots, the {riding} anchors and one more"
        if cast.at_once == "fit":
            raise OutOfMemory(f"a set needs room for {told}; {most} fit: film a smaller size, fewer anchors, offload")
        raise RequestRejected(f"at_once: expected {told}, got {most}")
    left = len(requests) if kept else len(requests) - most
    step = most - riding
    rest = [min(step, left - i) for i in range(0, left, step)]
    return rest if kept else [most, *rest]


def _together(made: Sequence[CastSample], anchors: Anchors | None) -> CastSample:
    texts, starts = [one.text for one in made], [one.start for one in made]
    text = Text(
        cond=torch.cat([text.cond for text in texts]),
        uncond=_joined([text.uncond for text in texts], made),
        cond_mask=_joined([text.cond_mask for text in texts], made),
        uncond_mask=_joined([text.uncond_mask for text in texts], made),
        maps=tuple(one for text in texts for one in text.maps),
    )
    start = Start(
        noise=torch.cat([start.noise for start in starts]),
        held=_joined([start.held for start in starts], made),
        clean=_joined([start.clean for start in starts], made),
        channels=_joined([start.channels for start in starts], made),
        image=_joined([start.image for start in starts], made),
        generators=tuple(one for start in starts for one in start.generators),
        fps=starts[0].fps,
        notes=tuple(dict.fromkeys(note for start in starts for note in start.notes)),
    )
    return CastSample(
        latents=torch.cat([one.latents for one in made]),
        text=text,
        start=start,
        controls=tuple(one for part in made for one in part.controls),
        compositions=tuple(one for part in made for one in part.compositions),
        notes=tuple(dict.fromkeys(note for part in made for note in part.notes)),
        anchors=anchors,
        row_steps=sum(one.row_steps for one in made),
        map_bytes=max(one.map_bytes for one in made),
    )


def _joined(parts: Sequence[Tensor | None], made: Sequence[CastSample]) -> Tensor | None:
    """Parts of all batches; zeros for a batch that has none where another has some."""
    there = next((part for part in parts if part is not None), None)
    if there is None:
        return None
    blank = [there.new_zeros(len(one.latents), *there.shape[1:]) for one in made]
    return torch.cat([empty if part is None else part for part, empty in zip(parts, blank, strict=True)])


class _Told:
    """Counts steps over sweeps and batches for whoever listens."""

    def __init__(self, on_step: OnStep | None) -> None:
        self.on_step, self.of, self._steps = on_step, 0, count(1)

    def __call__(self, progress: Progress) -> None:
        """One more step is done."""
        if self.on_step is not None:
            self.on_step(Progress(step=next(self._steps), of=self.of))
