"""What can go wrong while frames are made. Catch :class:`GenerationError` for all of it.

GenerationError
├── RequestRejected       the request breaks a limit of this backend (size, frames, events)
│   └── ControlRejected   a control cannot act on this request or model (law 3: never a silent no-op)
├── OutOfMemory           a smaller size or offloading may succeed
├── BackendUnavailable    weights, device or service missing; the message says how to get them
├── ShootingCancelled     somebody asked the backend to stop
└── MediaError            a video file could not be written or read

TrainingError             a training run cannot start, go on or be exported
"""

from __future__ import annotations


class GenerationError(Exception):
    """A backend gave no clip."""


class RequestRejected(GenerationError):
    """The request breaks this backend's limits (size, frames, events)."""


class ControlRejected(RequestRejected):
    """A control cannot act: the message names the argument, the allowed values and the value got."""


class OutOfMemory(GenerationError):
    """A smaller size or CPU offload may succeed."""


class BackendUnavailable(GenerationError):
    """Weights, device or service missing; the message says how to get them."""


class ShootingCancelled(GenerationError):
    """The caller asked to stop; nothing was made."""


class MediaError(GenerationError):
    """A video file could not be written or read; the message names it."""


class TrainingError(Exception):
    """A training run cannot start, go on or be exported; the message names the file or setting."""
