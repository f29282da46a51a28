"""For callers without an event loop: whatever is awaited runs on one loop, on which connections are closed too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Closing = Callable[[], Coroutine[Any, Any, None]]


class Blocking:
    """Base of what asks models and is not async. Close it; `closing` lets go of the model's connections."""

    def __init__(self, closing: Closing | None = None) -> None:
        self._closing = closing
        self._runner = asyncio.Runner()

    def close(self) -> None:
        """Close the connections and end the event loop that the questions ran on."""
        if self._closing is not None:
            self.wait(self._closing())
        self._runner.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine gives."""
        return self._runner.run(work)
