"""What every family does alike while it is filmed with: one holder at a time, and processors that come off again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from generators.errors import ControlRejected


class OneHolder:
    """Lets one run at a time hold a model."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the one holder; raises RuntimeError when there is another."""
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(f"{self.name} is already being filmed with; one model has one holder at a time")
        try:
            yield
        finally:
            self._lock.release()


def check_steerable(network: Any, what: str) -> None:
    """Raise ControlRejected for a network whose blocks may be skipped or split; `what` says who cannot work then."""
    if getattr(network, "is_cache_enabled", False):
        raise ControlRejected(
            f"{what} needs every block of every pass, and a diffusers cache skips some; call disable_cache() first"
        )
    if getattr(network, "_parallel_config", None) is not None:
        raise ControlRejected(f"{what} needs whole clips, which context parallelism splits; load the model without it")


def replace_processors(replacements: Iterable[tuple[Any, Callable[[Any], Any]]]) -> Callable[[], None]:
    """Put new processors into attention modules, each made from the one it replaces.

    The call returned puts the former ones back; so does a failure half way.
    """
    replaced: list[tuple[Any, Any]] = []

    def detach() -> None:
        while replaced:
            module, processor = replaced.pop()
            module.set_processor(processor)

    try:
        for module, make in replacements:
            former = module.processor
            replaced.append((module, former))
            module.set_processor(make(former))
    except BaseException:
        detach()
        raise
    return detach
