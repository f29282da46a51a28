"""A set of shots filmed as one sequence, by a model that was trained for it (Mask2DiT, `train scenes`).

The anchors are one sequence; every other shot is the end of a sequence behind them, and they are finished in it. So a
shot's bits depend on the anchors and on itself, whichever shots are filmed along. Knows latents, no pixels.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from torch import Tensor

from generators.clip import OnProgress, Progress, ShotSet
from generators.models.base import VideoModel
from generators.models.scenes import SceneSettings
from generators.sampler import Settings
from generators.scenes import sample_sets

SCENES = SceneSettings(context="clean")
"""Finished shots are read as they were in training."""


@dataclass(frozen=True, kw_only=True)
class SequenceShot:
    """One shot of a set: latents (1, C, F, h, w), digests of all requests of its pass, and what is to be noted."""

    latents: Tensor
    composition: tuple[str, ...]
    notes: tuple[str, ...] = ()
    cut: bool = False
    """Whether its prompt was longer than the model reads."""


def film_in_sequence(
    model: VideoModel,
    shots: ShotSet,
    settings: Settings,
    on_progress: OnProgress | None = None,
    cancelled: threading.Event | None = None,
) -> dict[int, SequenceShot]:
    """The wanted shots by their places. Raises as `sample_sets`."""
    anchors, later = range(shots.anchors), [place for place in shots.wanted if place >= shots.anchors]
    passes = [tuple(anchors), *((*anchors, place) for place in later)]
    found: dict[int, SequenceShot] = {}
    for number, places in enumerate(passes):

        def report(progress: Progress, done: int = number * settings.steps) -> None:
            if on_progress is not None:
                on_progress(Progress(step=done + progress.step, of=len(passes) * settings.steps))

        asked = [shots.requests[place] for place in places]
        finished = {place: found[place].latents for place in anchors} if number else {}
        taken = sample_sets(model, [asked], settings, SCENES, finished=finished, on_step=report, cancelled=cancelled)
        for place, latents, text in zip(places, taken.shots[0], taken.sample.text.maps, strict=True):
            if place not in found:
                found[place] = SequenceShot(
                    latents=latents,
                    composition=tuple(request.digest() for request in asked),
                    notes=taken.sample.start.notes,
                    cut=text.cut,
                )
    return {place: found[place] for place in shots.wanted}
