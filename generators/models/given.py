"""Which latent frames a request's given frames cover, and the pixels to encode for them. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from generators.clip import Frames, Given, ShotRequest
from generators.errors import RequestRejected
from generators.timeline import Timeline


class Known(NamedTuple):
    """What of a clip is known before it is filmed."""

    held: list[bool]
    """For each latent frame, whether all its pixel frames are given."""
    pixels: Frames | None
    """The clip up to its last held latent frame, gaps filled; None when nothing is held."""

    @property
    def latents(self) -> int:
        """Latent frames that `pixels` make."""
        return max((i + 1 for i, is_held in enumerate(self.held) if is_held), default=0)


def known_frames(request: ShotRequest, stride: int) -> Known:
    """Latent frames to hold, and what to encode. Raises RequestRejected for a block that covers no whole one."""
    timeline = Timeline(frames=request.frames, fps=request.fps, stride=stride)
    held = timeline.held(range(g.first, g.last) for g in request.given)
    _check_whole(request.given, timeline, held)
    if not any(held):
        return Known(held, None)
    last = max(latent for latent, is_held in enumerate(held) if is_held)
    return Known(held, _filled(request, timeline.pixels(last).stop))


def frame_at(request: ShotRequest, place: int) -> Frames | None:
    """The given frame at a place, (H, W, 3), if there is one."""
    found = [g.frames[place - g.first] for g in request.given if g.first <= place < g.last]
    return found[0] if found else None


def _check_whole(given: Sequence[Given], timeline: Timeline, held: Sequence[bool]) -> None:
    for block in given:
        if not any(held[timeline.latent(pixel)] for pixel in range(block.first, block.last)):
            raise RequestRejected(
                f"Given frames {block.first}..{block.last}: expected to cover a whole latent frame (frame 0, or "
                f"{timeline.stride}l - {timeline.stride - 1} to {timeline.stride}l), so that the model can hold it"
            )


def _filled(request: ShotRequest, stop: int) -> Frames:
    """The clip up to `stop`; a frame that is not given stands still at the nearest given one.

    Encoders are causal: what is read before a given block colours that block's first latents, and a still picture of
    the block's own world colours them least.
    """
    places = np.concatenate([np.arange(g.first, g.last) for g in request.given])
    frames = np.concatenate([g.frames for g in request.given])
    nearest = np.abs(places[None, :] - np.arange(stop)[:, None]).argmin(axis=1)
    return np.ascontiguousarray(frames[nearest])
