"""A backend without a model: frames drawn from the request's digest, in well under a millisecond at tiny sizes.

For tests and dry work. Same request, same frames; given frames are kept; it can be told to fail or to take its time.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from generators.backends.clips import check_limits, make_clip
from generators.clip import Clip, Frames, Limits, OnProgress, Progress, ShotRequest, ShotSet
from generators.errors import ShootingCancelled
from generators.seams import keep

OnShoot = Callable[[ShotRequest], None]
SMALL = Limits(
    width=16,
    height=16,
    fps=8,
    frame_counts=(9, 17, 33, 65),
    size_multiple=4,
    extends=True,
    films_sets=True,
    moves=True,
    frame_texts=True,
)


class InstantBackend:
    """Draws a square that crosses a coloured ground; colours and path come from the request's digest.

    `on_shoot` sees every request before it is drawn and fails the shoot by raising. `seconds_per_step` makes a shoot
    last, so that progress and cancelling can be seen.
    """

    name = "instant"
    weights = None

    def __init__(
        self,
        *,
        limits: Limits = SMALL,
        on_shoot: OnShoot | None = None,
        steps: int = 4,
        seconds_per_step: float = 0.0,
    ) -> None:
        self.limits = limits
        self.on_shoot = on_shoot
        self.steps = steps
        self.seconds_per_step = seconds_per_step

    def shoot(
        self,
        requests: Sequence[ShotRequest],
        on_progress: OnProgress | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[Clip]:
        """Draw the requests, one clip each, in order."""
        begun = time.perf_counter()
        self._go_through(requests, on_progress, cancelled)
        composition = tuple(request.digest() for request in requests)
        drawn = [keep(_draw(r, digest), r.given) for r, digest in zip(requests, composition, strict=True)]
        spent = (time.perf_counter() - begun) / max(len(requests), 1)
        return [
            make_clip(request, frames, model=self.name, composition=composition, seconds_spent=spent)
            for request, frames in zip(requests, drawn, strict=True)
        ]

    def shoot_set(
        self,
        shots: ShotSet,
        on_progress: OnProgress | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[Clip]:
        """Draw the wanted shots, each from its own digest, the anchors' and the steering: the same in any batch."""
        begun = time.perf_counter()
        self._go_through(shots.requests, on_progress, cancelled)
        plain = [request.digest() for request in shots.requests]
        read = "".join(plain[: shots.anchors])
        read += json.dumps(dict(shots.steering), sort_keys=True) if shots.steering else ""
        steered = [hashlib.sha256((digest + read).encode()).hexdigest() for digest in plain]
        spent = (time.perf_counter() - begun) / len(shots.wanted)
        return [
            make_clip(
                request,
                keep(_draw(request, steered[place]), request.given),
                model=self.name,
                composition=(*plain, *steered),
                seconds_spent=spent,
            )
            for place, request in ((place, shots.requests[place]) for place in shots.wanted)
        ]

    def close(self) -> None:
        """Nothing to let go of."""

    def _go_through(
        self, requests: Sequence[ShotRequest], on_progress: OnProgress | None, cancelled: threading.Event | None
    ) -> None:
        for request in requests:
            check_limits(request, self.limits)
            if self.on_shoot is not None:
                self.on_shoot(request)
        for step in range(self.steps):
            self._wait(cancelled)
            if on_progress is not None:
                on_progress(Progress(step=step + 1, of=self.steps))

    def _wait(self, cancelled: threading.Event | None) -> None:
        if cancelled is None and self.seconds_per_step:
            time.sleep(self.seconds_per_step)
        if cancelled is not None and cancelled.wait(self.seconds_per_step):
            raise ShootingCancelled("filming was cancelled between two steps; nothing was kept")


def _draw(request: ShotRequest, digest: str) -> Frames:
    """One step of the square a frame; ground and square in colours far apart."""
    code = bytes.fromhex(digest)
    frames = np.empty((request.frames, request.height, request.width, 3), dtype=np.uint8)
    frames[:] = [value // 2 for value in code[:3]]
    side = max(1, min(request.height, request.width) // 4)
    top = code[3] % (request.height - side + 1)
    for i in range(request.frames):
        left = (code[4] + i) % (request.width - side + 1)
        frames[i, top : top + side, left : left + side] = [255 - value // 2 for value in code[5:8]]
    return frames
