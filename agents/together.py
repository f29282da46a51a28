"""Films sets: the first shot that comes has all that is missing of its set filmed, the others get theirs from it.

Every shot keeps its own takes, rows and files; a set is only one piece of work on the device. What it is made of is
read from the archive: whatever was filmed already is not filmed again, and anchors are as they first were. Knows how
shots are staged (`staging`) and nothing of critics or remedies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agents.controls import controls_json
from agents.requests import request_of, take_digest
from agents.staging import alone_after, first_staged
from agents.takespec import TakeSpec, Together, first_spec
from generators.clip import Clip, OnProgress, Progress, ShotRequest, ShotSet
from generators.errors import BackendUnavailable, GenerationError, RequestRejected
from storage.records import ShotRecord
from storage.tables import Take, TakeStatus

if TYPE_CHECKING:
    from agents.shooting import Stage

Listener = tuple[Callable[[], None], OnProgress]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One shot of the batch; `label` is empty for one that is only read."""

    spec: TakeSpec
    label: str = ""
    shot_id: int = 0


@dataclass(kw_only=True)
class _Wave:
    """One piece of work: the takes of `labels`, filmed together. Clips leave it when they are asked for."""

    rows: Sequence[_Row]
    order: tuple[int, int]
    first: bool
    """Whether these are the shots' first takes."""
    listeners: list[Listener] = field(default_factory=list)
    begun: bool = False
    task: asyncio.Task[dict[str, Clip]] | None = None

    @property
    def labels(self) -> frozenset[str]:
        return frozenset(row.label for row in self.rows if row.label)

    def listen(self, started: Callable[[], None], stepped: OnProgress) -> None:
        self.listeners.append((started, stepped))
        if self.begun:
            started()

    def begin(self) -> None:
        self.begun = True
        for started, _ in self.listeners:
            started()

    def step(self, progress: Progress) -> None:
        for _, stepped in list(self.listeners):
            stepped(progress)


class SetFilming:
    """What of a run is filmed in sets; nothing in it outlives the process."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._waves: list[_Wave] = []
        self._tasks: list[asyncio.Task[dict[str, Clip]]] = []
        self.alone: dict[str, str] = {}
        """Shots whose set could not be filmed, and why: they are filmed alone from then on."""

    def staged(self, shot: ShotRecord, spec: TakeSpec) -> TakeSpec:
        """The first take of a shot that goes on from no other, as it is staged."""
        spec = first_staged(spec, self._stage.staged[shot.shot.number], self._stage.cast)
        failed = self.alone.get(shot.label) if spec.together is not None else None
        return spec if failed is None else alone_after(spec, failed)

    async def anchors(self, together: Together) -> list[ShotRequest]:
        """What a set's anchors were asked for."""
        specs = [self._anchor(number) for number in together.anchors]
        return [await asyncio.to_thread(request_of, self._stage.crew.archive, spec) for spec in specs]

    async def clip(
        self, shot: ShotRecord, spec: TakeSpec, take: Take, started: Callable[[], None], stepped: OnProgress
    ) -> Clip:
        """The take's clip, filmed with the rest of its set. Raises what the desk raises."""
        assert spec.together is not None
        history = self._stage.history(shot)
        first = history[0].take.id == take.id
        wave = next((w for w in self._waves if w.first == first and shot.label in w.labels), None)
        if wave is None:
            wave = self._open(shot, spec, take, spec.together, first=first)
        wave.listen(started, stepped)
        assert wave.task is not None
        clips = await asyncio.shield(wave.task)
        clip = clips.pop(shot.label)
        if not clips:
            self._waves.remove(wave)
        return clip

    async def close(self) -> None:
        """Let go of what is not filmed yet."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _open(self, shot: ShotRecord, spec: TakeSpec, take: Take, together: Together, *, first: bool) -> _Wave:
        own = _Row(spec=spec, label=shot.label, shot_id=take.shot_id)
        order = take.number, shot.shot.number
        if first and len(take.composition) == 1:
            rows = self._missing(own, shot, together)
            order = 1, together.shots[0]
        else:
            composed = None if self._stage.look.limits.scenes else self._composed(own, take, together)
            rows = composed or self._with_anchors(own, together)  # a sequence's bits need the anchors alone
        wave = _Wave(rows=rows, order=order, first=first)
        wave.task = asyncio.create_task(self._film(wave, together))
        self._waves.append(wave)
        self._tasks.append(wave.task)
        return wave

    def _missing(self, own: _Row, asking: ShotRecord, together: Together) -> list[_Row]:
        """The anchors, and every shot of the set whose first take is not there."""
        rows: dict[int, _Row] = {}
        for number in together.shots:
            shot = self._stage.shots.get(number)
            if shot is not None:
                row = own if shot.label == asking.label else self._wanting(shot, together)
                if row is not None:
                    rows[number] = row
        anchors = [rows[n] if n in rows else _Row(spec=self._anchor(n)) for n in together.anchors]
        return [*anchors, *(row for n, row in rows.items() if n not in together.anchors)]

    def _wanting(self, shot: ShotRecord, together: Together) -> _Row | None:
        """A shot's first take as it is still to be filmed with this set; None when it is not."""
        history = self._stage.history(shot)
        take = history[0].take if history else None
        if shot.label in self.alone or (take and (take.status != TakeStatus.FILMING or len(take.composition) > 1)):
            return None
        spec = TakeSpec.from_json(take.request) if take else self._first(shot)
        if spec.together is None or spec.together.shots != together.shots:
            return None
        return _Row(spec=spec, label=shot.label, shot_id=take.shot_id if take else shot.shot.id)

    def _with_anchors(self, own: _Row, together: Together) -> list[_Row]:
        """A take of one shot beside the anchors as they first were; an anchor's own first take is one of them."""
        anchors = [_Row(spec=self._anchor(number)) for number in together.anchors]
        places = [i for i, anchor in enumerate(anchors) if anchor.spec == own.spec]
        if places:
            anchors[places[0]] = own
            return anchors
        return [*anchors, own]

    def _composed(self, own: _Row, take: Take, together: Together) -> list[_Row] | None:
        """The batch that a lost take was filmed in: bits hold for the same composition. None where it is not known."""
        count = len(take.composition) // 2
        if not count:
            return None
        archive = self._stage.crew.archive
        records = archive.takes(self._stage.job.run_id, together.shots)
        specs = [TakeSpec.from_json(record.take.request) for record in records]
        known = {request_of(archive, s).digest(): s for s in specs if s.together and not s.kept}
        found = [known[digest] for digest in take.composition[:count] if digest in known]
        if len(found) != count or own.spec not in found:
            return None
        return [own if spec == own.spec else _Row(spec=spec) for spec in found]

    def _anchor(self, number: int) -> TakeSpec:
        """An anchor's first take in the set, as it was asked for, or as it would be."""
        for record in self._stage.crew.archive.takes(self._stage.job.run_id, [number]):
            spec = TakeSpec.from_json(record.take.request)
            if spec.together is not None:
                return spec
        return self._first(self._stage.shots[number])

    def _first(self, shot: ShotRecord) -> TakeSpec:
        return self.staged(shot, first_spec(shot, self._stage.cast, self._stage.look))

    async def _film(self, wave: _Wave, together: Together) -> dict[str, Clip]:
        archive, desk = self._stage.crew.archive, self._stage.desk
        try:
            requests = [await asyncio.to_thread(request_of, archive, row.spec) for row in wave.rows]
            anchors = requests[: len(together.anchors)]
            for row, request in zip(wave.rows, requests, strict=True):
                if row.label:
                    begin_take(self._stage, row.shot_id, row.spec, take_digest(request, row.spec, anchors))
            wanted = tuple(i for i, row in enumerate(wave.rows) if row.label)
            words = tuple(row.spec.together.words if row.spec.together else "" for row in wave.rows)
            shots = ShotSet(requests=tuple(requests), subjects=words, anchors=len(anchors), wanted=wanted)
            if desk.fits(requests[0].frames) and not desk.fits(shots.work):
                raise RequestRejected("the time that is left does not hold all of it")
            clips = await desk.shoot_set(shots, wave.order, wave.begin, wave.step)
        except GenerationError as error:
            if not isinstance(error, BackendUnavailable):
                self.alone |= dict.fromkeys(wave.labels, str(error))
                self._waves.remove(wave)
            raise
        return {wave.rows[place].label: clip for place, clip in zip(wanted, clips, strict=True)}


def begin_take(stage: Stage, shot_id: int, spec: TakeSpec, digest: str) -> Take:
    """The row of a take, written before it is filmed; the one that stands where it was begun already."""
    return stage.crew.archive.begin_take(
        shot_id,
        seed=spec.seed,
        model=stage.crew.backend.name,
        controls=controls_json(spec.controls),
        request=spec.to_json(),
        digest=digest,
        composition=[digest],
    )
