"""The filming desk: one worker thread for one device; takes queue up, first takes before second ones.

Everything else of a run is async and overlaps the worker. Stops between two denoising steps when the run is cancelled
or its time is up. Knows requests and clips; knows no rows.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from agents.errors import BudgetExhausted, RunStopped, StoryError
from agents.exits import in_words
from agents.state import Clock
from generators.clip import Backend, Clip, FilmsTogether, OnProgress, ShotRequest, ShotSet
from generators.errors import GenerationError, RequestRejected, ShootingCancelled

POLL = 0.05
"""Seconds between looks at the clock and at who wants to stop."""
Order = tuple[int, int]
"""(take number, shot number): lower goes first, so that every shot has one take before any has two."""
Work = Callable[[OnProgress, threading.Event], list[Clip]]


@dataclass(order=True)
class _Ticket:
    order: Order
    number: int
    work: Work = field(compare=False)
    frames: int = field(compare=False)
    """Frames that are denoised for it."""
    on_start: Callable[[], None] = field(compare=False)
    on_progress: OnProgress = field(compare=False)
    done: asyncio.Future[list[Clip]] = field(compare=False)


class FilmingDesk:
    """`async with FilmingDesk(…) as desk: clip = await desk.shoot(…)`."""

    def __init__(self, backend: Backend, clock: Clock, cancelled: threading.Event, pace: float | None = None) -> None:
        self._backend = backend
        self._clock = clock
        self._cancelled = cancelled
        self._pace = pace
        """Seconds that one frame took so far, to know whether the next take still fits."""
        self._queue: asyncio.PriorityQueue[_Ticket] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="filming")
        self._stop = threading.Event()

    async def __aenter__(self) -> Self:
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown, wait=True)

    async def shoot(
        self, request: ShotRequest, order: Order, on_start: Callable[[], None], on_progress: OnProgress
    ) -> Clip:
        """Wait for the device and film one take.

        `on_start` is called in the event loop, `on_progress` in the worker thread. Raises RunStopped when the run was
        cancelled, BudgetExhausted when the take does not fit into what is left, and what the backend raises: an error
        that is none of ours as a GenerationError that names it.
        """

        def work(progress: OnProgress, stop: threading.Event) -> list[Clip]:
            return self._backend.shoot([request], progress, stop)

        return (await self._queued(work, request.frames, order, on_start, on_progress))[0]

    async def shoot_set(
        self, shots: ShotSet, order: Order, on_start: Callable[[], None], on_progress: OnProgress
    ) -> list[Clip]:
        """Wait for the device and film the wanted shots of a set, one piece of work. Raises as `shoot`."""
        backend = self._backend
        if not isinstance(backend, FilmsTogether):
            raise RequestRejected(f"{backend.name} films shots one by one; it knows no sets")

        def work(progress: OnProgress, stop: threading.Event) -> list[Clip]:
            return backend.shoot_set(shots, progress, stop)

        return await self._queued(work, shots.work, order, on_start, on_progress)

    def fits(self, frames: int) -> bool:
        """Whether so many frames fit into the time that is left, by the pace of what was filmed so far."""
        try:
            self._clock.check((self._pace or 0.0) * frames)
        except BudgetExhausted:
            return False
        return True

    async def _queued(
        self, work: Work, frames: int, order: Order, on_start: Callable[[], None], on_progress: OnProgress
    ) -> list[Clip]:
        done: asyncio.Future[list[Clip]] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Ticket(order, next(self._numbers), work, frames, on_start, on_progress, done))
        return await done

    async def _work(self) -> None:
        while True:
            ticket = await self._queue.get()
            if ticket.done.cancelled():
                continue
            try:
                clips = await self._film(ticket)
            except asyncio.CancelledError:
                ticket.done.cancel()
                raise
            except BaseException as error:
                if not ticket.done.cancelled():
                    ticket.done.set_exception(error)
                continue
            if not ticket.done.cancelled():
                ticket.done.set_result(clips)

    async def _film(self, ticket: _Ticket) -> list[Clip]:
        if self._cancelled.is_set():
            raise RunStopped("The run was stopped before this take; resume it to go on")
        self._clock.check((self._pace or 0.0) * ticket.frames)
        ticket.on_start()
        self._stop.clear()
        started = self._clock.elapsed
        shooting = asyncio.get_running_loop().run_in_executor(self._thread, ticket.work, ticket.on_progress, self._stop)
        shooting.add_done_callback(lambda done: done.cancelled() or done.exception())  # told below, or nobody waits
        try:
            while not (await asyncio.wait({shooting}, timeout=POLL))[0]:
                if self._cancelled.is_set() or self._clock.over:
                    self._stop.set()
            clips = shooting.result()
        except ShootingCancelled as error:
            if self._clock.over and not self._cancelled.is_set():
                raise self._clock.exhausted("a take was stopped before it was done") from error
            raise RunStopped("The run was stopped while a take was being filmed; resume it to go on") from error
        except (GenerationError, StoryError):
            raise
        except Exception as error:  # a library's own, such as a device's: it costs this take and no other
            raise GenerationError(in_words(error)) from error
        self._pace = (self._clock.elapsed - started) / ticket.frames
        return clips
