"""The graph: plan → segment → (a person approves) → film every shot → edit.

LangGraph runs the nodes and fans out over shots; its state holds ids only and there is no checkpointer, because the
archive is the only memory (law 4): resuming is running the graph again. Shots that continue one another are filmed in
order, all others side by side in front of one device.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send

from agents import director
from agents.desk import FilmingDesk
from agents.editor import MANIFEST, Cut, FilmFiles, FilmPlan, edit
from agents.errors import BudgetExhausted, RunStopped
from agents.exits import in_words
from agents.figures import figures_of
from agents.heartbeat import LEASE, heartbeat
from agents.lengths import fit_lengths, note_length
from agents.motion import check_board, with_motion
from agents.progress import AwaitingApproval, FilmDone, Note, Planned
from agents.shooting import Stage, film_shot
from agents.staging import stage_shots
from agents.state import (
    ChainState,
    Clock,
    Crew,
    Job,
    StoryState,
    chains_of,
    look_for,
    planned,
    save_storyboard,
    storyboard_of,
)
from agents.storyboard import Storyboard, note_synopses
from agents.takespec import TakeSpec
from generators.clip import SET_WORK
from storage.errors import RunBusy, StorageError
from storage.lease import new_owner
from storage.media import file_sha256
from storage.records import RunRecord, TakeRecord
from storage.tables import Film, Run, RunStatus, TakeStatus


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Where a run stands after it was worked on."""

    run_id: int
    status: RunStatus
    storyboard: Storyboard
    film: Film | None
    errors: tuple[str, ...] = ()
    """What went wrong with single shots; the others were filmed all the same."""

    @property
    def all_seen(self) -> bool:
        """Whether a critic saw every promised event in the film."""
        return self.film is not None and self.film.events_seen == self.film.events_promised and not self.film.missing


@dataclass(kw_only=True)
class Context:
    """What the nodes work with; never part of the state."""

    job: Job
    crew: Crew
    stage: Stage
    clock: Clock
    run: Run


async def film_story(job: Job, crew: Crew) -> Outcome:
    """Take the run up wherever it stands and bring it to its film, or to the person who approves its storyboard.

    Raises RunBusy when another living process holds it, RunStopped when it was cancelled, and StoryError,
    GenerationError, StorageError or what a library raised when it cannot go on; in every case the run says why, and
    running it again goes on from there.
    """
    owner = new_owner()
    run = crew.archive.claim(job.run_id, owner, LEASE)
    clock = Clock(crew.budget.seconds, run.seconds_spent - crew.before.seconds, crew.before.seconds)
    clock.counting = run.status != RunStatus.DONE or bool(job.retries)
    try:
        async with _held(job, crew, clock, owner), _context(job, crew, clock, run) as context:
            await _graph().ainvoke({"run_id": job.run_id}, context=context, config={"recursion_limit": 25})
            outcome = _outcome(context)
    except RunStopped:
        raise
    except asyncio.CancelledError:
        crew.cancelled.set()
        raise
    except Exception as error:
        with contextlib.suppress(StorageError):  # the first error is the one to be told
            crew.archive.set_status(job.run_id, RunStatus.FAILED, in_words(error))
        raise
    finally:
        with contextlib.suppress(StorageError):
            _spend(job, crew, clock)
            crew.archive.release(job.run_id, owner)
    return outcome


async def plan_story(job: Job, crew: Crew, story: str) -> Storyboard:
    """A whole storyboard with timed events, kept nowhere. Raises PlanError or a ModelError."""
    return await _segmented(crew, await _drafted(job, crew, story))


async def _drafted(job: Job, crew: Crew, story: str) -> Storyboard:
    """The job's own storyboard or a planner's, with the lengths that are filmed."""
    board = job.storyboard
    if board is None:
        board = note_length(await crew.brains.planner.plan(story, job.brief), job.brief)
    return fit_lengths(board, crew.backend.limits)


def approve(crew: Crew, run_id: int, storyboard: Storyboard | None = None) -> None:
    """A person agrees with the storyboard, or puts an edited one in its place; running goes on from there.

    Raises AlreadyKept when takes of it were filmed already.
    """
    if storyboard is not None:
        kept = storyboard_of(crew.archive.run(run_id), crew.archive.shots(run_id))
        save_storyboard(crew.archive, run_id, note_synopses(storyboard, kept), replace=True)
    crew.archive.set_status(run_id, RunStatus.FILMING)


async def plan(state: StoryState, runtime: Runtime[Context]) -> StoryState:
    """A storyboard stands in the archive."""
    job, crew = runtime.context.job, runtime.context.crew
    if crew.archive.shots(job.run_id):
        return {}
    board = with_motion(await _drafted(job, crew, crew.archive.story(job.run_id)), job.motion)
    save_storyboard(crew.archive, job.run_id, board)
    return {}


async def segment(state: StoryState, runtime: Runtime[Context]) -> StoryState:
    """Every event has its time, and the run knows whether it waits for a person."""
    context = runtime.context
    job, archive = context.job, context.crew.archive
    run, shots = archive.run(job.run_id), archive.shots(job.run_id)
    if run.status == RunStatus.FAILED and archive.takes(job.run_id):
        run = archive.set_status(job.run_id, RunStatus.FILMING)
    if run.status in (RunStatus.PLANNING, RunStatus.FAILED):
        board = await _segmented(context.crew, storyboard_of(run, shots))
        shots = save_storyboard(archive, job.run_id, board, replace=True)
        run = archive.set_status(job.run_id, RunStatus.APPROVAL if job.approve else RunStatus.FILMING)
        context.crew.on_event(Planned(run_id=job.run_id, storyboard=board))
    elif run.status == RunStatus.DONE and job.retries:
        run = archive.set_status(job.run_id, RunStatus.FILMING)
    context.run = run
    context.stage.look = look_for(job, run, context.crew.backend.limits)
    board = storyboard_of(run, shots)
    if run.status != RunStatus.DONE:
        await asyncio.to_thread(check_board, board, archive, context.stage.look.limits)
    context.stage.cast, context.stage.places = board.cast, board.places
    context.stage.shots = {shot.shot.number: shot for shot in shots}
    plans = {number: planned(shot.plan) for number, shot in context.stage.shots.items()}
    staged = stage_shots(plans, board.cast, context.stage.look.limits, sets=job.sets)
    context.stage.staged = {one.shot: one for one in staged}
    return {}


def fan_out(state: StoryState, runtime: Runtime[Context]) -> list[Send] | str:
    """Nothing while a person looks; else one branch for each chain of shots that continue one another."""
    context = runtime.context
    if context.run.status == RunStatus.APPROVAL:
        context.crew.on_event(AwaitingApproval(run_id=context.job.run_id))
        return END
    chains = chains_of(list(context.stage.shots.values()))
    return [Send("film", {"chain": chain}) for chain in chains]


async def film(state: ChainState, runtime: Runtime[Context]) -> StoryState:
    """The shots of one chain, each continuing from the best take of the one before it."""
    stage = runtime.context.stage
    before: TakeRecord | None = None
    for number in state["chain"]:
        shot = stage.shots[number]
        if shot.shot.transition == "continues" and (before is None or not stage.look.limits.extends):
            why = "the shot before it has no take" if before is None else "this backend cannot go on from frames"
            stage.emit(Note(run_id=stage.job.run_id, text=f"Shot {shot.label} begins with a cut: {why}"))
            before = None
        before = await film_shot(stage, shot, before if shot.shot.transition == "continues" else None)
    return {"filmed": state["chain"]}


async def cut(state: StoryState, runtime: Runtime[Context]) -> StoryState:
    """The film stands in its folder, cut from the best takes, beside the report of all that was done for it."""
    context = runtime.context
    job, archive = context.job, context.crew.archive
    record = archive.record(job.run_id)
    plan = FilmPlan(
        record=record, cuts=cuts_of(record), media=archive.media.folder, folder=job.folder, options=job.edit
    )
    if context.crew.illustrator is not None:
        kept = record.film.files if record.film is not None else {}
        figures = await figures_of(context.crew, context.clock, context.crew.illustrator, plan, kept)
        plan = replace(plan, figures=figures)
    if context.clock.counting or context.stage.errors or not _stands(record.film, plan):
        context.clock.counting = False  # what is still untold, the report asks for
        _keep(context, await asyncio.to_thread(edit, plan, partial(_with_every_second, context)))
    error = "; ".join(f"shot {label}: {text}" for label, text in context.stage.errors.items())
    if not plan.cuts and not error:
        raise BudgetExhausted(f"no shot was filmed: {context.stage.limit}")
    status = RunStatus.FAILED if error else RunStatus.DONE
    if context.run.status != status or error:
        archive.set_status(job.run_id, status, error or None)
    return {}


def _with_every_second(context: Context) -> RunRecord:
    """The rows with every second in them."""
    context.crew.archive.spend(context.job.run_id, context.clock.untold())
    return context.crew.archive.record(context.job.run_id)


def cuts_of(record: RunRecord) -> tuple[Cut, ...]:
    """The best take of each shot, without the leading frames that the shot before it already shows."""
    cuts = []
    for shot in record.shots:
        best = director.best_take([take for take in record.takes if take.label == shot.label])
        if best is not None:
            drop = TakeSpec.from_json(best.take.request).lead
            cuts.append(Cut(shot=shot.label, take_id=best.take.id, drop=drop))
    return tuple(cuts)


@cache
def _graph() -> Any:
    graph = StateGraph(StoryState, context_schema=Context)
    graph.add_node("plan", plan)
    graph.add_node("segment", segment)
    graph.add_node("film", film)
    graph.add_node("edit", cut, defer=True)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "segment")
    graph.add_conditional_edges("segment", fan_out, ["film", END])
    graph.add_edge("film", "edit")
    graph.add_edge("edit", END)
    return graph.compile()


async def _segmented(crew: Crew, board: Storyboard) -> Storyboard:
    shots = await asyncio.gather(*(crew.brains.segmenter.segment(shot) for shot in board.shots))
    return board.model_copy(update={"shots": tuple(shots)})


def _stands(film: Film | None, plan: FilmPlan) -> bool:
    """Whether this very film was cut before, told of the same takes and verdicts, and its files are whole."""
    if film is None or film.folder != str(plan.folder) or film.takes != [c.take_id for c in plan.cuts]:
        return False
    if any(figure.png and figure.name not in film.files for figure in plan.figures):
        return False
    standing = [record for record in plan.record.takes if record.take.id in film.takes]
    if film.events_seen != sum(bool(event["done"]) for r in standing if r.verdict for event in r.verdict.events):
        return False
    try:
        told = json.loads((plan.folder / MANIFEST).read_text())["takes"]
        whole = all(file_sha256(plan.folder / name) == sha256 for name, sha256 in film.files.items())
    except (OSError, ValueError, KeyError):
        return False
    done = [record.take.id for record in plan.record.takes if record.take.status == TakeStatus.DONE]
    return whole and [take["id"] for take in told] == done


def _keep(context: Context, files: FilmFiles) -> None:
    context.crew.archive.save_film(
        context.job.run_id,
        takes=files.takes,
        missing=files.missing,
        folder=files.folder,
        files=files.files,
        events_seen=files.tally.seen,
        events_promised=files.tally.promised,
    )
    if files.takes:  # where nothing was filmed, nothing was cut
        context.crew.on_event(
            FilmDone(
                run_id=context.job.run_id,
                folder=str(files.folder),
                tally=files.tally,
                missing=files.missing,
            )
        )


def _outcome(context: Context) -> Outcome:
    archive, run_id = context.crew.archive, context.job.run_id
    run = archive.run(run_id)
    return Outcome(
        run_id=run_id,
        status=run.status,
        storyboard=storyboard_of(run, archive.shots(run_id)),
        film=archive.film(run_id),
        errors=tuple(f"shot {label}: {text}" for label, text in context.stage.errors.items()),
    )


@contextlib.asynccontextmanager
async def _context(job: Job, crew: Crew, clock: Clock, run: Run) -> AsyncIterator[Context]:
    pace = _pace(crew, job.run_id) if crew.budget.seconds is not None else None
    async with FilmingDesk(crew.backend, clock, crew.cancelled, pace) as desk:
        stage = Stage(
            crew=crew,
            job=job,
            desk=desk,
            clock=clock,
            look=look_for(job, run, crew.backend.limits),
            cast=(),
            places=(),
            settled=run.status == RunStatus.DONE,
        )
        try:
            yield Context(job=job, crew=crew, stage=stage, clock=clock, run=run)
        finally:
            await stage.sets.close()
            await asyncio.gather(*stage.writing, return_exceptions=True)


def _pace(crew: Crew, run_id: int) -> float | None:
    """Seconds a frame took in the takes of an interrupted run."""
    spent = [
        record.take.seconds_spent / (spec.total_frames * (SET_WORK if spec.together else 1))
        for record in crew.archive.takes(run_id)
        if record.take.seconds_spent > 0
        for spec in (TakeSpec.from_json(record.take.request),)
    ]
    return sum(spent) / len(spent) if spent else None


def _spend(job: Job, crew: Crew, clock: Clock) -> None:
    if clock.counting:
        crew.archive.spend(job.run_id, clock.untold())


@contextlib.asynccontextmanager
async def _held(job: Job, crew: Crew, clock: Clock, owner: str) -> AsyncIterator[None]:
    """Keep hold of the run and its account while it is worked on; losing it stops the run."""

    def beat() -> None:
        try:
            crew.archive.renew(job.run_id, owner, LEASE)
        except RunBusy as error:
            crew.on_event(Note(run_id=job.run_id, text=str(error)))
            crew.cancelled.set()
            raise  # which ends the beating
        _spend(job, crew, clock)

    async with heartbeat(beat):
        yield
