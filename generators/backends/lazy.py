"""A backend that is opened when it first films: a finished run that is asked for again loads no model."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from generators.backends import BackendConfig, limits_of, open_backend
from generators.clip import Backend, Clip, FilmsTogether, Limits, OnProgress, ShotRequest, ShotSet
from generators.errors import BackendUnavailable, RequestRejected


class LazyBackend:
    """Stands for the backend of a configuration, open or not."""

    def __init__(self, config: BackendConfig) -> None:
        self.config = config
        self.known = limits_of(config)
        """Limits to go by while it is not open; whoever kept them from the last time may say so."""
        self.expected: str | None = None
        """Digest of the weights that the run at hand was filmed with so far; others are refused."""
        self._backend: Backend | None = None

    @property
    def name(self) -> str:
        """The configuration's model or kind: the same before and after opening."""
        return self.config.model or self.config.kind

    @property
    def weights(self) -> str | None:
        """The open backend's weights; opens it where it is not."""
        return self.open().weights

    @property
    def limits(self) -> Limits:
        """The open backend's limits, else the known ones; opens it when there are none."""
        return self.known if self.known and not self._backend else self.open().limits

    def open(self) -> Backend:
        """Load the model, once. Raises BackendUnavailable; also when its weights are not the expected ones."""
        if self._backend is None:
            self._backend = open_backend(self.config)
        found = self._backend.weights
        if self.expected is not None and found != self.expected:
            raise BackendUnavailable(
                f"{self.name} has other weights than this run was filmed with (expected {self.expected[:16]}, found "
                f"{str(found)[:16]}): put the former ones back and resume, or film the story anew as a run of its own"
            )
        return self._backend

    def shoot(
        self,
        requests: Sequence[ShotRequest],
        on_progress: OnProgress | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[Clip]:
        """Film, opening the backend first where it is not."""
        return self.open().shoot(requests, on_progress, cancelled)

    def shoot_set(
        self,
        shots: ShotSet,
        on_progress: OnProgress | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[Clip]:
        """Film a set, opening the backend first where it is not. Raises RequestRejected where it films no sets."""
        backend = self.open()
        if not isinstance(backend, FilmsTogether):
            raise RequestRejected(f"{self.name} films shots one by one; it knows no sets")
        return backend.shoot_set(shots, on_progress, cancelled)

    def close(self) -> None:
        """Let go of the model; calling it twice is harmless."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None
