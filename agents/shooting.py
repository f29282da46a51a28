"""One shot from its first take to its best: film, judge, repair, until every event is seen or the budget is spent.

Every step looks up what the archive holds, else does it, then writes it down; so it may be left and taken up again
anywhere. Knows one shot at a time; the order of shots is the graph's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import numpy as np

from agents import director
from agents.brains import Viewing
from agents.controls import MotionFrom
from agents.desk import FilmingDesk
from agents.errors import BudgetExhausted, ModelError, ModelMisconfigured, PlanError
from agents.exits import expected, in_words
from agents.motion import motion_of, shown
from agents.outcome import NO_CRITIC, state_of
from agents.progress import (
    Judged,
    Note,
    RemedyChosen,
    RunEvent,
    ShotDone,
    ShotStarted,
    Step,
    TakeDone,
    TakeStarted,
)
from agents.requests import TakeLost, plain_request, request_of, take_digest
from agents.sources import shot_named
from agents.staging import Staged, again_staged, alone_after, begins_with_a_cut, goes_on
from agents.state import Clock, Crew, Job, plan_of, planned
from agents.storyboard import Place, Subject
from agents.takespec import Look, TakeSpec, first_spec, next_spec, subject_words
from agents.together import SetFilming, begin_take
from generators.clip import Clip, Event, Frames, Given, Progress, ShotRequest
from generators.errors import BackendUnavailable, GenerationError
from generators.video import read_take, write_take
from storage.records import ShotPlan, ShotRecord, TakeRecord
from storage.tables import Take, TakeStatus


@dataclass(kw_only=True)
class Stage:
    """What all shots of a run share while they are filmed; nothing in it outlives the process."""

    crew: Crew
    job: Job
    desk: FilmingDesk
    clock: Clock
    look: Look
    cast: tuple[Subject, ...]
    places: tuple[Place, ...]
    settled: bool
    """The run was finished before: only what was lost is made again."""
    shots: dict[int, ShotRecord] = field(default_factory=dict)
    staged: dict[int, Staged] = field(default_factory=dict)
    """How each shot is filmed."""
    errors: dict[str, str] = field(default_factory=dict)
    limit: str | None = None
    """The limit that was reached, when one was."""
    made: set[int] = field(default_factory=set)
    """Takes whose files this process wrote, and need not be looked at again."""
    writing: set[asyncio.Future[Take]] = field(default_factory=set)
    """Takes on their way to the disk; whoever leaves the stage waits for them."""
    finished: dict[int, asyncio.Future[TakeRecord | None]] = field(default_factory=dict)
    """Best takes of shots, for those who wait for them."""
    sets: SetFilming = field(init=False)

    def __post_init__(self) -> None:
        self.sets = SetFilming(self)

    def best(self, number: int) -> asyncio.Future[TakeRecord | None]:
        """The best take of a shot, when it is done; None when there is none."""
        return self.finished.setdefault(number, asyncio.get_running_loop().create_future())

    def emit(self, event: RunEvent) -> None:
        """Tell whoever listens."""
        self.crew.on_event(event)

    def history(self, shot: ShotRecord) -> list[TakeRecord]:
        """The shot's takes, oldest first, without those that failed."""
        records = self.crew.archive.takes(self.job.run_id, [shot.shot.number])
        return [r for r in records if r.label == shot.label and r.take.status != TakeStatus.FAILED]

    def reload(self, shot: ShotRecord) -> ShotRecord:
        """The shot as it stands now, after a revision."""
        found = next(r for r in self.crew.archive.shots(self.job.run_id) if r.label == shot.label)
        self.shots[shot.shot.number] = found
        return found


async def film_shot(stage: Stage, shot: ShotRecord, before: TakeRecord | None) -> TakeRecord | None:
    """The shot's best take, None when there is none. `before` is the take it continues.

    What goes wrong with this shot alone is kept with it and does not take the others down.
    """
    stage.emit(ShotStarted(run_id=stage.job.run_id, shot=shot.label, prompt=shot.shot.prompt))
    if shot.shot.error and not stage.settled:
        stage.crew.archive.fail_shot(shot.shot.id, None)
    why = ""
    history = stage.history(shot)
    stood = _stand(history)
    try:
        history = await _work(stage, shot, history, before)
    except ModelMisconfigured:
        raise  # no other shot would fare better; a person must act
    except BudgetExhausted as limit:
        stage.limit = str(limit)
        why = str(limit)
        history = stage.history(shot)
    except (GenerationError, ModelError, PlanError) as failure:
        why = stage.errors[shot.label] = str(failure)
        history = stage.history(shot)
    newest = stage.shots[shot.shot.number].shot
    idle = stage.settled and shot.shot.number not in stage.job.retries and _stand(history) == stood
    if idle:  # nothing was done: what the report told of it stays true
        why = newest.error or why
    if why or newest.error:
        stage.crew.archive.fail_shot(newest.id, why or None)
    best = director.best_take(history)
    stage.emit(_done(stage, shot, best, why))
    stage.best(shot.shot.number).set_result(best)
    return best


def _stand(history: Sequence[TakeRecord]) -> list[tuple[int, TakeStatus, bool]]:
    """Which takes there are, and which of them were judged."""
    return [(record.take.id, record.take.status, record.verdict is not None) for record in history]


def _done(stage: Stage, shot: ShotRecord, best: TakeRecord | None, why: str) -> ShotDone:
    verdict = best.verdict if best else None
    if best is not None and verdict is None and stage.crew.brains.critic is None:
        why = why or NO_CRITIC
    return ShotDone(
        run_id=stage.job.run_id,
        shot=shot.label,
        take=best.take.number if best else None,
        state=state_of(best),
        seen=sum(bool(event["done"]) for event in verdict.events) if verdict else 0,
        promised=len(shot.promised),
        unjudged=sum(event["done"] is None for event in verdict.events) if verdict else 0,
        why=why,
    )


async def _work(
    stage: Stage, shot: ShotRecord, history: list[TakeRecord], before: TakeRecord | None
) -> list[TakeRecord]:
    """Film and judge until the director has nothing more to ask for. `history`: the takes there are; gives all."""
    again = shot.shot.number in stage.job.retries
    done = sum(record.take.status == TakeStatus.DONE for record in history)
    most = stage.crew.budget.takes_per_shot + (done if again else 0)
    while True:
        shot = stage.shots[shot.shot.number]
        try:
            pending = next((r for r in history if r.take.status == TakeStatus.FILMING), None)
            if pending is not None:
                await _film(stage, pending.shot.id, shot, TakeSpec.from_json(pending.take.request), pending.take)
            else:
                history = await _judged(stage, shot, history)
                if _finished(stage, history, most, again=again, forced=again and len(history) == done):
                    return history
                spec = await _next(stage, shot, history, before)
                await _film(stage, stage.shots[shot.shot.number].shot.id, shot, spec)
        except TakeLost as lost:
            stage.crew.archive.lose_take(lost.take, "its file was altered or is gone; filmed again")
        history = stage.history(shot)


async def _judged(stage: Stage, shot: ShotRecord, history: list[TakeRecord]) -> list[TakeRecord]:
    """The shot's takes, all judged; those that an earlier process left unjudged are judged now."""
    unjudged = [record.take for record in history if record.verdict is None]
    if not unjudged or stage.crew.brains.critic is None:
        return history
    for take in unjudged:
        await _judge(stage, shot, take)
    return stage.history(shot)


def _finished(stage: Stage, history: list[TakeRecord], most: int, *, again: bool, forced: bool) -> bool:
    """Whether nothing is left to be filmed; raises TakeLost when the take for the film is not there any more."""
    best = director.best_take(history)
    if best is None:
        return False
    if best.take.id not in stage.made and stage.crew.archive.take_file(best.take) is None:
        raise TakeLost(best.take.id)
    settled = stage.settled and not again
    enough = settled or stage.crew.brains.critic is None or director.leaves_nothing(history)
    return (enough and not forced) or len(history) >= most


async def _next(stage: Stage, shot: ShotRecord, history: list[TakeRecord], before: TakeRecord | None) -> TakeSpec:
    """The next take to film, after its remedy was chosen and kept."""
    if not history:
        return _first(stage, shot, before, await _motion(stage, shot))
    if history[-1].remedy is None:
        await _repair(stage, shot, history)
        shot, history = stage.shots[shot.shot.number], stage.history(shot)
    remedy = history[-1].remedy
    spec = next_spec(shot, stage.cast, stage.look, history)
    first = TakeSpec.from_json(history[0].take.request)
    staged = stage.staged[shot.shot.number]
    spec = again_staged(spec, first, remedy.kind if remedy else "", stage.cast, staged)
    failed = stage.sets.alone.get(shot.label) if spec.together is not None else None
    return spec if failed is None else alone_after(spec, failed)


async def _motion(stage: Stage, shot: ShotRecord) -> MotionFrom | None:
    """Whose motion the shot's takes have; waits for the shot it names. Raises PlanError when that one has no take."""
    source = shot.plan.motion_from
    if source is None:
        return None
    number = shot_named(source)
    taken = None if number is None else await stage.best(number)
    if number is not None and taken is None:
        raise PlanError(f"Shot {shot.label} was to have the motion of shot {number}, of which there is no take")
    archive = stage.crew.archive
    return await asyncio.to_thread(motion_of, source, taken.take if taken else None, archive, stage.look.motion_share)


def _first(stage: Stage, shot: ShotRecord, before: TakeRecord | None, motion: MotionFrom | None) -> TakeSpec:
    """The first take: it goes on from the shot before, or is filmed in its set, or alone."""
    limits = stage.look.limits
    spec = first_spec(shot, stage.cast, stage.look, before, motion)
    if shot.shot.transition != "continues" or not limits.extends:
        return stage.sets.staged(shot, spec)
    if before is None:
        return replace(spec, staged=begins_with_a_cut("the shot before it has no take"))
    return replace(spec, staged=goes_on(before.shot.number, limits, before.take.number))


async def _film(stage: Stage, shot_id: int, shot: ShotRecord, spec: TakeSpec, pending: Take | None = None) -> None:
    """One take of the revision `shot_id`, from its row to its file and verdict; `pending` is a row left unfinished."""
    archive, run_id = stage.crew.archive, stage.job.run_id
    if pending is not None and spec.together is not None and shot.label in stage.sets.alone:
        archive.fail_take(pending.id, f"its set could not be filmed: {stage.sets.alone[shot.label]}")
        return
    request = await asyncio.to_thread(request_of, archive, spec)
    anchors = await stage.sets.anchors(spec.together) if spec.together is not None else []
    digest = take_digest(request, spec, anchors)
    if pending is not None and pending.request_digest != digest:
        archive.fail_take(pending.id, "the frames it goes on from have changed; filmed anew")
        return
    take = begin_take(stage, shot_id, spec, digest)
    try:
        clips = await _shoot(stage, shot, spec, request, take)
    except GenerationError as error:
        archive.fail_take(take.id, str(error))
        if spec.together is None or isinstance(error, BackendUnavailable):
            raise
        text = f"Shot {shot.label} is filmed alone: its set could not be filmed ({error})"
        stage.emit(Note(run_id=run_id, text=text))
        return
    frames = _joined(spec, clips)
    done = await _keep(stage, shot, spec, take, clips, frames)
    known = pending is not None and archive.verdict(take.id) is not None  # lost and come back with the same bytes
    if stage.crew.brains.critic is not None and not known:
        await _judge(stage, shot, done, frames)


async def _keep(
    stage: Stage, shot: ShotRecord, spec: TakeSpec, take: Take, clips: Sequence[Clip], frames: Frames
) -> Take:
    """The take's file and its row, and whoever listens hears of it."""
    notes = [note for clip in clips for note in clip.notes]
    jumps = [clip.seam_jump for clip in clips if clip.seam_jump is not None]
    seconds = sum(clip.seconds_spent for clip in clips)
    write = partial(write_take, frames=frames, fps=spec.fps)
    stage.clock.counting = True
    done = await _to_the_end(
        stage,
        partial(
            stage.crew.archive.finish_take,
            take.id,
            write,
            composition=[d for clip in clips for d in clip.composition],
            seam_jump=max(jumps, default=None),
            notes=notes,
            seconds=seconds,
            weights=clips[0].weights,
            spent=stage.clock.untold,
        ),
    )
    stage.emit(
        TakeDone(
            run_id=stage.job.run_id,
            shot=shot.label,
            take=take.number,
            seconds=seconds,
            seam_jump=done.seam_jump,
            notes=tuple(notes),
        )
    )
    stage.made.add(take.id)
    return done


async def _to_the_end(stage: Stage, write: Callable[[], Take]) -> Take:
    """Run in a thread what must not be left half done: a take that was filmed is kept, whoever stops meanwhile."""
    writing = asyncio.ensure_future(asyncio.to_thread(write))
    stage.writing.add(writing)
    writing.add_done_callback(stage.writing.discard)
    return await asyncio.shield(writing)


async def _shoot(stage: Stage, shot: ShotRecord, spec: TakeSpec, request: ShotRequest, take: Take) -> list[Clip]:
    """The clips of a take: one, or two where the second goes on from the first."""
    loop = asyncio.get_running_loop()
    run_id, emit = stage.job.run_id, stage.emit
    steps = {"done": 0}

    def started() -> None:
        emit(TakeStarted(run_id=run_id, shot=shot.label, take=take.number, seed=spec.seed))

    def stepped(progress: Progress) -> None:
        parts = 2 if spec.then else 1
        event = Step(
            run_id=run_id,
            shot=shot.label,
            take=take.number,
            step=steps["done"] + progress.step,
            of=progress.of * parts,
        )
        loop.call_soon_threadsafe(emit, event)

    if spec.together is not None:
        return [await stage.sets.clip(shot, spec, take, started, stepped)]
    order = take.number, shot.shot.number
    clips = [await stage.desk.shoot(request, order, started, stepped)]
    if spec.then is not None:
        steps["done"] = spec.then.steps or 0
        kept = spec.then.kept[0]
        given = Given(first=kept.at, frames=clips[0].frames[kept.first : kept.last])
        second = await asyncio.to_thread(shown, replace(plain_request(spec.then), given=(given,)), stage.crew.archive)
        clips.append(await stage.desk.shoot(second, order, lambda: None, stepped))
    return clips


def _joined(spec: TakeSpec, clips: Sequence[Clip]) -> Frames:
    """One clip's frames, or two clips' with the frames that both show taken once."""
    if spec.then is None:
        return clips[0].frames
    kept = spec.then.kept[0]
    return np.concatenate([clips[0].frames, clips[1].frames[kept.last - kept.first :]])


async def _judge(stage: Stage, shot: ShotRecord, take: Take, frames: Frames | None = None) -> None:
    """What the critic sees in a take, of all events as first promised (law 5)."""
    critic = stage.crew.brains.critic
    if critic is None:
        return
    if frames is None:
        path = stage.crew.archive.take_file(take)
        if path is None:
            raise TakeLost(take.id)
        frames = (await asyncio.to_thread(read_take, path))[0]
    stage.clock.counting = True
    started = time.monotonic()
    with _asking(f"Critic {critic.name!r}"):
        verdict = await critic.judge(viewing(stage, shot, take, frames))
    if len(verdict.events) != len(shot.promised):
        raise PlanError(
            f"Critic {critic.name!r} judged {len(verdict.events)} events of shot {shot.label}, "
            f"promised were {len(shot.promised)}"
        )
    stage.crew.archive.save_verdict(
        take.id,
        critic=verdict.critic,
        events=[asdict(event) for event in verdict.events],
        identity=verdict.identity,
        quality=verdict.quality,
        notes=verdict.notes,
        seconds=time.monotonic() - started,
    )
    stage.emit(
        Judged(
            run_id=stage.job.run_id,
            shot=shot.label,
            take=take.number,
            phrases=tuple(f"{e.subject} {e.phrase}" for e in shot.promised),
            events=verdict.events,
            identity=verdict.identity,
            quality=verdict.quality,
        )
    )


def viewing(stage: Stage, shot: ShotRecord, take: Take, frames: Frames) -> Viewing:
    """A take as the critic gets it: what was promised first, however it was asked, its times stretched to this clip."""
    spec = TakeSpec.from_json(take.request)
    promise = shot.first
    events = tuple(
        Event(subject=subject_words(e.subject, promise.prompt, stage.cast), phrase=e.phrase, start=start, end=end)
        for e, (start, end) in zip(shot.promised, spec.promised_in(shot), strict=True)
    )
    return Viewing(
        shot=shot.label,
        take=take.number,
        frames=frames,
        fps=spec.fps,
        events=events,
        prompt=promise.prompt,
        subjects=tuple(subject for subject in stage.cast if subject.name in promise.subjects),
        place=next((place for place in stage.places if place.name == promise.place), None),
        style=stage.look.style,
    )


async def _repair(stage: Stage, shot: ShotRecord, history: list[TakeRecord]) -> None:
    """Choose the next remedy and keep it with its reason."""
    wanted = stage.job.retries.get(shot.shot.number)
    failed = [wanted - 1] if wanted is not None else None
    missed = failed or director.missed_events(director.best_take(history) or history[-1])
    reworded = await _reworded(stage, shot, history, missed)
    choice = director.choose(shot, history, stage.look, reworded, failed, stage.job.repairs)
    last = history[-1].take
    stage.crew.archive.save_remedy(
        last.id, kind=choice.kind, changes=choice.changes, reason=choice.reason, revision=choice.revision
    )
    if choice.revision is not None:
        stage.reload(shot)
    stage.emit(
        RemedyChosen(
            run_id=stage.job.run_id,
            shot=shot.label,
            after_take=last.number,
            kind=choice.kind,
            reason=choice.reason,
        )
    )


async def _reworded(
    stage: Stage, shot: ShotRecord, history: Sequence[TakeRecord], missed: Sequence[int]
) -> ShotPlan | None:
    """The shot with its missed events in other words; asked for only when rewording is the next rung."""
    reworder = stage.crew.brains.reworder
    if reworder is None or not director.rewording_is_next(shot, history, stage.look, missed, stage.job.repairs):
        return None
    best = director.best_take(history)
    plan = planned(shot.plan)
    for index in missed:
        evidence = best.verdict.events[index]["evidence"] if best and best.verdict else ""
        with _asking("The reworder"):
            plan = await reworder.reword(plan, index, str(evidence)) or plan
    return plan_of(plan)


@contextmanager
def _asking(who: str) -> Iterator[None]:
    """An error that is none of ours leaves as a ModelError that names it: it costs this shot and no other."""
    try:
        yield
    except Exception as error:
        if expected(error):
            raise
        raise ModelError(f"{who} failed: {in_words(error)}") from error
