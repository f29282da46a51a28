"""Holding on to what a lease was taken on: somebody who is alive says so, again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from storage.errors import RunBusy, StorageError

LEASE = 120.0
"""Seconds for which something is held; on this machine a dead holder loses it at once."""
HEARTBEAT = 5.0


@contextlib.asynccontextmanager
async def heartbeat(beat: Callable[[], object]) -> AsyncIterator[None]:
    """Call `beat` every few seconds while the block runs, until it raises RunBusy: somebody else has it by now."""

    async def go_on() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            try:
                beat()
            except RunBusy:
                return
            except StorageError:
                continue  # a busy database or a full disk may pass before the lease ends

    beating = asyncio.create_task(go_on())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
