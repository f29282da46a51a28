"""Where the model looked, as pictures for the report: made after filming, kept beside the film, never made twice.

Knows takes and the film's folder. What draws is handed in, since figures belong to the evaluation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace

from agents.editor import Figure, FilmPlan
from agents.errors import BudgetExhausted, RunStopped
from agents.progress import Note
from agents.requests import TakeLost, request_of
from agents.state import Clock, Crew, Illustrator
from agents.takespec import TakeSpec
from generators.clip import ShotRequest
from generators.errors import GenerationError, ShootingCancelled
from storage.media import file_sha256
from storage.records import TakeRecord

CLIPS = 2
"""A figure takes the time of so many takes: one without the controls and one with them."""


async def figures_of(
    crew: Crew, clock: Clock, illustrator: Illustrator, plan: FilmPlan, kept: Mapping[str, str]
) -> tuple[Figure, ...]:
    """The figures of every take in the film. `kept` are the film's files with their sha256: those are not drawn again.

    A figure that could not be drawn says why. Raises RunStopped when the run was stopped meanwhile.
    """
    takes = {record.take.id: record for record in plan.record.takes}
    figures: list[Figure] = []
    for cut in plan.cuts:
        for name, spec in _parts(takes[cut.take_id]):
            whole = _kept(plan, cut.shot, name, kept)
            figures.append(whole or await _drawn(crew, clock, illustrator, takes[cut.take_id], name, spec))
    return tuple(figures)


def _parts(record: TakeRecord) -> Iterator[tuple[str, TakeSpec]]:
    """File names and what they show: a take that was filmed in two parts has two figures, one without events none."""
    spec, stem = TakeSpec.from_json(record.take.request), f"attention-{record.label}-take-{record.take.number}"
    if spec.events:
        yield f"{stem}.png", replace(spec, then=None)
    if spec.then is not None and spec.then.events:
        its_own = tuple(replace(kept, take=record.take.id) for kept in spec.then.kept)
        yield f"{stem}-part-2.png", replace(spec.then, kept=its_own)


def _kept(plan: FilmPlan, shot: str, name: str, kept: Mapping[str, str]) -> Figure | None:
    path = plan.folder / name
    if name not in kept or not path.is_file() or file_sha256(path) != kept[name]:
        return None
    return Figure(shot=shot, name=name, png=path.read_bytes())


async def _drawn(
    crew: Crew, clock: Clock, illustrator: Illustrator, record: TakeRecord, name: str, spec: TakeSpec
) -> Figure:
    text = f"Shot {record.label}: looking where the words of its events are attended to"
    crew.on_event(Note(run_id=record.shot.run_id, text=text))
    try:
        clock.check(CLIPS * record.take.seconds_spent)
        request = await asyncio.to_thread(request_of, crew.archive, spec)
        return Figure(shot=record.label, name=name, png=await _to_the_end(crew, illustrator, request))
    except ShootingCancelled as error:
        raise RunStopped("The run was stopped while a figure was being drawn; resume it to go on") from error
    except TakeLost:
        return Figure(shot=record.label, name=name, reason="the take that it goes on from is gone")
    except (GenerationError, BudgetExhausted) as error:
        return Figure(shot=record.label, name=name, reason=str(error))


async def _to_the_end(crew: Crew, illustrator: Illustrator, request: ShotRequest) -> bytes:
    """Draw in a thread; whoever stops waits until the device is free."""
    drawing = asyncio.ensure_future(asyncio.to_thread(illustrator.draw, request, crew.cancelled))
    try:
        return await asyncio.shield(drawing)
    except asyncio.CancelledError:
        crew.cancelled.set()
        await asyncio.gather(drawing, return_exceptions=True)
        raise
