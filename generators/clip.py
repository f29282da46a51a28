"""The values a backend is asked for and gives back. Frozen, plain, no torch: every package may hold them.

Times are seconds from the start of the clip. Frames are uint8 RGB arrays of shape (frames, height, width, 3).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from generators.controls.config import ControlConfig
from generators.errors import RequestRejected

Frames = NDArray[np.uint8]
"""(frames, height, width, 3), RGB."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happens in a shot.

    `phrase` stands verbatim in the shot's prompt; `start` and `end` are seconds from the shot's start.
    """

    subject: str
    phrase: str
    start: float
    end: float
    occurrence: int | None = None
    """Which place in the prompt the phrase means, counted from 0; None: the first that no other event has."""

    def __post_init__(self) -> None:
        if self.occurrence is not None and self.occurrence < 0:
            raise ValueError(f"Event {self.phrase!r}: expected an occurrence from 0 on, got {self.occurrence}")
        if not self.phrase.strip():
            raise ValueError("Event.phrase is empty; expected the words of the prompt that name the event")
        if not 0 <= self.start < self.end:
            raise ValueError(f"Event {self.phrase!r}: expected 0 <= start < end, got {self.start} and {self.end}")


@dataclass(frozen=True, kw_only=True)
class Given:
    """Finished frames the new clip must keep: they stand at `first`, are never denoised, and come back as pixels."""

    first: int
    frames: Frames = field(repr=False)

    @property
    def last(self) -> int:
        """Index after the last kept frame."""
        return self.first + len(self.frames)


@dataclass(frozen=True, kw_only=True)
class ShotRequest:
    """Everything a backend needs to film one take; the same request gives the same frames.

    `frames` counts pixel frames. `given` holds finished frames (an extension's overlap, or all that lies outside the
    window of a failed event). `steps` and `guidance` of None mean the backend's own defaults.
    """

    prompt: str
    frames: int
    fps: int
    width: int
    height: int
    seed: int
    events: tuple[Event, ...] = ()
    negative_prompt: str = ""
    steps: int | None = None
    guidance: float | None = None
    guidance_2: float | None = None
    """Guidance of the low-noise expert of models that have one; None means the same as `guidance`."""
    controls: tuple[ControlConfig, ...] = ()
    given: tuple[Given, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("ShotRequest.prompt is empty")
        for name in ("frames", "fps", "width", "height"):
            if getattr(self, name) < 1:
                raise ValueError(f"ShotRequest.{name}: expected at least 1, got {getattr(self, name)}")
        for event in self.events:
            if event.end > self.seconds + 1 / self.fps:
                raise ValueError(f"Event {event.phrase!r} ends at {event.end} s, after the shot's {self.seconds:.2f} s")
        for given in self.given:
            if given.first < 0 or given.last > self.frames:
                raise ValueError(f"Given frames {given.first}..{given.last} lie outside the {self.frames} of the clip")

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return self.frames / self.fps

    def digest(self) -> str:
        """sha256 over every field, pixels included: equal digests mean equal work."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["events"] = [
            {name: value for name, value in asdict(event).items() if value is not None} for event in self.events
        ]
        plain["controls"] = [{"name": type(c).__name__} | c.plain() for c in self.controls]
        plain["given"] = [
            {"first": g.first, "sha256": hashlib.sha256(np.ascontiguousarray(g.frames).tobytes()).hexdigest()}
            for g in self.given
        ]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def with_seed(self, seed: int) -> ShotRequest:
        """The same shot from other noise."""
        return replace(self, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One take as a backend filmed it."""

    frames: Frames = field(repr=False)
    fps: int
    seed: int
    model: str
    composition: tuple[str, ...]
    """Request digests denoised in the same batch, this one's included; bits hold for the same composition."""
    seconds_spent: float
    notes: tuple[str, ...] = ()
    """What a person should know: a truncated prompt, a seam that shows."""
    seam_jump: float | None = None
    """Largest frame difference at a seam with given frames, over the clip's median frame difference."""
    weights: str | None = None
    """Digest of the weights that filmed it (`generators/digests.py`); None for a backend without any."""


SET_WORK = 4
"""Plain clips that a shot of a set takes as long as, at most."""


@dataclass(frozen=True, kw_only=True)
class ShotSet:
    """Shots that share a subject, to be filmed in lock step so that it looks the same in all of them."""

    requests: tuple[ShotRequest, ...]
    """The anchors first; of one size and length."""
    subjects: tuple[str, ...]
    """Words of each shot's own prompt that name the subject."""
    anchors: int
    """How many of them, from the first, everybody reads."""
    wanted: tuple[int, ...]
    """Places of the shots whose clips are asked for; the others are filmed along to be read."""
    steering: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `Storyboarding` in the place of the backend's own; a set filmed as one sequence takes none."""

    def __post_init__(self) -> None:
        count = len(self.requests)
        if len(self.subjects) != count or not 1 <= self.anchors <= count:
            raise ValueError(
                f"ShotSet: expected a subject for each of {count} shots and 1 to {count} anchors, "
                f"got {len(self.subjects)} and {self.anchors}"
            )
        if not self.wanted or not set(self.wanted) <= set(range(count)):
            raise ValueError(f"ShotSet.wanted: expected places among 0..{count - 1}, got {self.wanted}")
        if len({(r.frames, r.height, r.width, r.fps) for r in self.requests}) > 1:
            raise ValueError("ShotSet.requests: expected shots of one size, length and frame rate")

    @property
    def work(self) -> int:
        """Frames of plain clips that it takes as long as, at most: every shot as it is and steered, in two sweeps."""
        return SET_WORK * sum(request.frames for request in self.requests)


Extension = Literal["tokens at zero", "diffusion forcing", "conditions", "last frame", "noised latents"]
"""How a model goes on from finished frames: tokens at t = 0 that it was trained with, diffusion forcing (frames that
have a time of their own), conditions of its own, the last frame as its picture, or noised latents held in place."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a backend can film. The planner and the director keep inside it."""

    width: int
    height: int
    fps: int
    frame_counts: tuple[int, ...]
    """Clip lengths that the backend films well, shortest first."""
    size_multiple: int = 16
    frame_step: int = 4
    """Legal frame counts are `frame_step * k + 1`."""
    extends: bool = False
    """Whether `given` frames are honoured."""
    needs_picture: bool = False
    """Whether every clip must be given its first frame (picture-to-video checkpoints)."""
    guides: bool = False
    """Whether words can be guided in time while denoising (TempoControl)."""
    moves: bool = False
    """Whether a clip's motion can be given to another prompt's (Motion by Queries)."""
    frame_texts: bool = False
    """Whether frames can read texts of their own (VSTAR's synopsis)."""
    continues: Extension | None = None
    """The best way this model has of going on from finished frames; None where nothing is known of it."""
    films_sets: bool = False
    """Whether shots that share a subject can be filmed as one set (`FilmsTogether`)."""
    scenes: bool = False
    """Whether a set is filmed as one sequence, which takes no controls (Mask2DiT), and not by shared attention."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Sizes and lengths wanted in the place of a backend's own; None leaves the backend's."""

    width: int | None = None
    height: int | None = None
    fps: int | None = None
    frame_counts: tuple[int, ...] | None = None

    def on(self, limits: Limits) -> Limits:
        """The limits with these in place. Raises RequestRejected for what no clip of the backend can have."""
        wanted = {name: value for name, value in vars(self).items() if value is not None}
        changed = replace(limits, **wanted)
        check_size(changed, changed.width, changed.height)
        for count in changed.frame_counts:
            if count < 1 or (count - 1) % limits.frame_step:
                raise RequestRejected(f"frame_counts: expected {limits.frame_step}k + 1, got {count}")
        return replace(changed, frame_counts=tuple(sorted(changed.frame_counts)))


def check_size(limits: Limits, width: int, height: int) -> None:
    """Raise RequestRejected for a size that no clip of a backend with these limits can have; names one that can."""
    multiple = limits.size_multiple
    if width % multiple or height % multiple or min(width, height) < multiple:
        near = "x".join(str(max(round(side / multiple), 1) * multiple) for side in (width, height))
        raise RequestRejected(f"size: expected multiples of {multiple}, such as {near}, got {width}x{height}")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One denoising step of `of` is done."""

    step: int
    of: int


OnProgress = Callable[[Progress], None]


@runtime_checkable
class Backend(Protocol):
    """Turns requests into clips. Filming is blocking; one worker a device calls it."""

    @property
    def name(self) -> str:
        """What the take's row will say: a model id, a server, `instant`."""
        ...

    @property
    def weights(self) -> str | None:
        """Digest of the weights it films with; None for a backend without any."""
        ...

    @property
    def limits(self) -> Limits:
        """Sizes and lengths this backend films."""
        ...

    def shoot(
        self,
        requests: Sequence[ShotRequest],
        on_progress: OnProgress | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[Clip]:
        """Film the requests in lock step, one clip each, in order.

        Raises RequestRejected before any work is done, ShootingCancelled when `cancelled` is set between two steps,
        OutOfMemory or BackendUnavailable.
        """
        ...

    def close(self) -> None:
        """Let go of device and memory; calling it twice is harmless."""
        ...


@runtime_checkable
class FilmsTogether(Protocol):
    """A backend that films shots which share a subject as one set."""

    def shoot_set(
        self,
        shots: ShotSet,
        on_progress: OnProgress | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[Clip]:
        """Film the wanted shots of a set, one clip each, in the order of `wanted`. Raises as `Backend.shoot`."""
        ...
