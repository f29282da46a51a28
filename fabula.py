"""fabula for Python: the only place that composes profile, brains, backend, critic, archive and graph.

    from fabula import Studio

    with Studio() as studio:
        film = studio.run("A red fox jumps high up in the meadow.", seed=7)
        print(film.film, film.complete)

Every method has an async twin (`await studio.arun(...)`), and `studio.stream(...)` gives a run's events while they
happen. What a run came to is a frozen value (`agents/outcome.py`). Importing this module loads nothing heavy. It
is long because all that a Studio can do stands in one place, each method a few lines over the packages that do it.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import tomllib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

# before torch: idle threads must sleep and not spin, after a moment in which work may come
if os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE").upper() == "PASSIVE":
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its advice is for programmers

HERE = Path(__file__).resolve().parent


def _check_packages() -> None:
    """Our packages have plain names; another distribution's must not stand in their place (docs/decisions/0001)."""
    for name in ("agents", "evals", "generators", "prompts", "storage", "workshop"):
        spec = find_spec(name)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        if not folders or Path(folders[0]).resolve() != HERE / name:
            raise ImportError(
                f"fabula needs its own package {name!r} from {HERE / name}, but Python finds {folders or 'none'}: put "
                f"{HERE} first on sys.path, or use an environment without the other distribution"
            )


_check_packages()

import workshop
from agents.account import Spent
from agents.errors import RunStopped, UsageError
from agents.exits import exit_code, expected
from agents.order import (
    Caps,
    Order,
    Wishes,
    counts_of,
    order_of,
    read_order,
    read_stream,
    size_of,
)
from agents.outcome import (
    BatchLine,
    BatchResult,
    EventOutcome,
    FilmResult,
    RunLine,
    ScheduleResult,
    ShotOutcome,
    TakeOutcome,
    Tally,
    result,
    run_line,
    schedule_result,
)
from agents.plans import Estimate, PlanResult, board_result, estimate
from agents.retries import Retried, compare, retries
from storage.errors import RunBusy

if TYPE_CHECKING:
    from agents import checkup as checkup
    from agents import progress as progress
    from agents import storyboard as storyboard
    from agents.batch import BatchStory
    from agents.brains import Critic
    from agents.calibration import Rate as Rate
    from agents.checkup import Checkup
    from agents.minds import Kept
    from agents.profile import Profile
    from agents.progress import OnEvent, RunEvent
    from agents.state import Crew, Illustrator
    from evals import attention as attention
    from evals import suite as suite
    from generators.backends import BackendConfig
    from generators.backends.lazy import LazyBackend
    from generators.segmenters import Segmenter
    from generators.training.loop import TrainingOutcome as TrainingOutcome
    from generators.training.loop import TrainingProgress as TrainingProgress
    from generators.training.preparing.prepare import Prepared as Prepared
    from generators.training.preparing.prepare import PreparingProgress as PreparingProgress
    from storage.archive import Archive
    from storage.records import Costs
    from storage.tables import Run
    from workshop.ablations import AblationOutcome as AblationOutcome
    from workshop.ablations import evaluate_cast, evaluate_extension, evaluate_retry, evaluate_steering
    from workshop.benches import bench_controls, bench_graph, bench_sampler, bench_scenes, bench_world
    from workshop.calibrating import CalibrationResult as CalibrationResult
    from workshop.calibrating import calibrate
    from workshop.evaluations import BenchmarkName as BenchmarkName
    from workshop.evaluations import evaluate, evaluation_report
    from workshop.inspecting import inspect_attention
    from workshop.motion import MotionOutcome as MotionOutcome
    from workshop.motion import evaluate_motion
    from workshop.training import (
        distil_world,
        export_world,
        import_world,
        mean_world,
        train_reader,
        train_world,
        train_world_text,
    )
    from workshop.training_scenes import SceneWishes, prepare_scenes, train_scenes
    from workshop.worlds import evaluate_world

__all__ = [
    "BatchLine",
    "BatchResult",
    "Caps",
    "Estimate",
    "EventOutcome",
    "FilmResult",
    "Order",
    "PlanResult",
    "Retried",
    "RunBusy",
    "RunLine",
    "RunStopped",
    "SceneWishes",
    "ScheduleResult",
    "ShotOutcome",
    "Spent",
    "Studio",
    "TakeOutcome",
    "Tally",
    "UsageError",
    "Wishes",
    "bench_controls",
    "bench_graph",
    "bench_sampler",
    "bench_scenes",
    "bench_world",
    "calibrate",
    "counts_of",
    "distil_world",
    "doctor",
    "environment",
    "evaluate",
    "evaluate_cast",
    "evaluate_extension",
    "evaluate_motion",
    "evaluate_retry",
    "evaluate_steering",
    "evaluate_world",
    "evaluation_report",
    "exit_code",
    "expected",
    "export_world",
    "import_world",
    "inspect_attention",
    "mean_world",
    "prepare_scenes",
    "read_stream",
    "size_of",
    "train_reader",
    "train_scenes",
    "train_world",
    "train_world_text",
    "version",
]
_VALUES = {
    "progress": "agents.progress",
    "checkup": "agents.checkup",
    "storyboard": "agents.storyboard",
    "suite": "evals.suite",
    "attention": "evals.attention",
}
"""Modules of values that come with pydantic and numpy: loaded when they are first used, as `fabula.progress`."""

P = ParamSpec("P")
T = TypeVar("T")
DEFAULT_PROFILE = "bundled"


if not TYPE_CHECKING:  # a checker that saw it would take any misspelt name for one of these

    def __getattr__(name: str) -> Any:
        if name in _VALUES:
            return importlib.import_module(_VALUES[name])
        if name in workshop.ROOM:
            return getattr(importlib.import_module(workshop.ROOM[name]), name)
        raise AttributeError(f"module 'fabula' has no attribute {name!r}")


def _twin(method: Callable[Concatenate[Studio, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Studio, P], T]:
    """The same method for callers without an event loop."""

    @wraps(method)
    def wait(studio: Studio, /, *arguments: P.args, **named: P.kwargs) -> T:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            raise UsageError(f"An event loop runs here already: await studio.{method.__name__}(...) instead")
        return asyncio.run(method(studio, *arguments, **named))

    wait.__name__ = method.__name__.removeprefix("a")
    return wait


class Studio:
    """One archive, and one backend kept open between stories. Close it, or use it in a `with` block.

    `profile` names a profile or a TOML file (by default FABULA_PROFILE, else `bundled`), `model` the weights in the
    place of the profile's. `home` is the folder of runs and takes (FABULA_HOME, else ~/.local/share/fabula),
    `database` any SQLAlchemy URL (FABULA_DATABASE, else a SQLite file at home).
    """

    def __init__(
        self,
        profile: str | None = None,
        *,
        model: str | None = None,
        home: Path | None = None,
        database: str | None = None,
    ) -> None:
        self.profile = profile or os.environ.get("FABULA_PROFILE") or DEFAULT_PROFILE
        self.model = model
        self.home = home or default_home()
        self._database = database or os.environ.get("FABULA_DATABASE") or None
        self._kept: Archive | None = None
        self._cameras: dict[BackendConfig, LazyBackend] = {}
        self._checkpoints: Kept = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of model and database; calling it twice is harmless."""
        from agents.minds import close_all

        for camera in self._cameras.values():
            camera.close()
        self._cameras.clear()
        close_all(self._checkpoints)
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def aplan(
        self, story: str | Path | Order, *, on_event: OnEvent | None = None, **wishes: Unpack[Wishes]
    ) -> PlanResult:
        """Write a story's storyboard, and keep it; `out` is the YAML file, and a film goes where `run` would put it."""
        order = order_of(story, wishes)
        run_id = self._open(replace(order, out=None), board=order.out)
        if self.archive.run(run_id).status.value == "planning" or not self.archive.shots(run_id):
            await self._take_up(run_id, approve=True, board=order.out, on_event=on_event)
        return self._planned(run_id, order.out)

    plan = _twin(aplan)

    async def arun(
        self, story: str | Path | Order, *, on_event: OnEvent | None = None, **wishes: Unpack[Wishes]
    ) -> FilmResult:
        """Film a story. The same story, profile and wishes again cost nothing: what exists is given back."""
        order = order_of(story, wishes)
        run_id = self._open(order)
        if self.archive.run(run_id).status.value == "approval" and not order.approve:
            return await self.aresume(run_id, on_event=on_event)
        return await self._take_up(run_id, approve=order.approve, on_event=on_event)

    run = _twin(arun)

    async def stream(
        self, story: str | Path | Order | int, **wishes: Unpack[Wishes]
    ) -> AsyncIterator[RunEvent | FilmResult]:
        """A run's events while they happen, and its result as the last of them. A number resumes that run.

        Closing it (`contextlib.aclosing`) stops the run; it can be resumed.
        """
        news: asyncio.Queue[RunEvent | None] = asyncio.Queue()
        work = (
            self.aresume(story, on_event=news.put_nowait)
            if isinstance(story, int)
            else self.arun(story, on_event=news.put_nowait, **wishes)
        )
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: news.put_nowait(None))
        try:
            while (event := await news.get()) is not None:
                yield event
            yield await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def aresume(
        self,
        run: int | None = None,
        *,
        from_plan: Path | None = None,
        out: Path | None = None,
        attention: bool = False,
        budget: Caps = Caps(),
        on_event: OnEvent | None = None,
    ) -> FilmResult:
        """Go on with a run, the newest where none is named; a storyboard that waited is approved as its file says now.

        `out` is another folder for its film. `attention` puts into the report where the model looked, as `run` does,
        also when the film is there already.
        """
        from agents.casting import profile_of
        from agents.filing import edited_board
        from agents.profile import override

        row = self._named(run)
        profile = profile_of(row)
        changed = override(profile, budget.changes())
        if attention:
            _check_looks(profile)
        waits = row.status.value == "approval"
        if from_plan is not None and not waits:
            raise UsageError(f"Run {row.id} does not wait for approval; film another storyboard with run --from-plan")
        asked: dict[str, object] = {"budget": changed.budget.model_dump(mode="json")}
        asked |= {"attention": True} if attention else {}
        asked |= {"out": str(out.resolve())} if out is not None else {}
        board = edited_board(row, from_plan) if waits else None
        self._ask(row.id, asked)
        if waits:
            await self._approve(row.id, board)
        return await self._take_up(row.id, on_event=on_event)

    resume = _twin(aresume)

    async def aretry(
        self,
        run: int | None = None,
        *,
        shot: str | None = None,
        event: str | None = None,
        budget: Caps = Caps(),
        on_event: OnEvent | None = None,
    ) -> FilmResult:
        """Film again what was not seen, or one shot (`3`) or event (`3.1`), with the whole budget anew.

        Of the newest run where none is named. The best take stays in the film; `retried` says of every shot what its
        new takes came to.
        """
        before = self.show(run)
        again = retries(before, shot, event)
        if not again:
            return replace(before, retried=())
        after = await self._take_up(before.run, again=again, anew=budget, on_event=on_event)
        return replace(after, retried=compare(before, after, again))

    retry = _twin(aretry)

    def show(self, run: int | None = None) -> FilmResult:
        """A run as it stands; the newest where none is named. Raises NotFound."""
        from agents.filing import lost

        record = self.archive.record(self._named(run).id)
        found, asked = result(record), record.run.asked.get("storyboard")
        gone = () if found.holder else lost(record)  # whoever holds it may be cutting the film anew
        return replace(
            found,
            storyboard=Path(asked) if asked else None,
            film=None if found.film in gone else found.film,
            report=None if found.report in gone else found.report,
            lost=gone,
        )

    def recut(self, manifest: Path, folder: Path | None = None) -> Path:
        """Make a film again, bit for bit, from its manifest and the takes in this home; into `again` beside it.

        Raises UsageError when the manifest cannot be read or the folder holds the earlier film, EditError when a take
        is gone or altered, or the bytes differ.
        """
        from agents.editor import recut

        return recut(manifest, self.archive.media.folder, folder or manifest.parent / "again")

    def runs(self) -> list[RunLine]:
        """Every run, newest first."""
        rows = self.archive.runs()
        return [run_line(run, "" if run.options["planned"] else self.archive.story(run.id)) for run in rows]

    async def aestimate(self, story: str | Path | Order, **wishes: Unpack[Wishes]) -> Estimate:
        """What filming would take; spends nothing and keeps nothing."""
        from agents.casting import job_for
        from agents.filing import take_seconds
        from agents.graph import plan_story
        from agents.motion import settled, with_motion
        from agents.staging import said

        order = settled(order_of(story, wishes), self.archive, keeps=False)
        profile = self._profile(order)
        text, board = read_order(order)
        camera = self._camera(profile)
        planned = None
        if board is not None or profile.brains.kind == "offline":
            job = job_for(order, profile, camera.limits, board)
            async with self._crew(profile, 0, camera, None) as crew:
                board = with_motion(await plan_story(job, crew, text), job.motion)
                planned = board_result(board, staged=said(board, camera.limits, sets=profile.backend.sets))
        return estimate(profile, planned, take_seconds(self.archive, camera.name))

    estimate = _twin(aestimate)

    async def abatch(self, stories: Path | Sequence[BatchStory], *, on_event: OnEvent | None = None) -> BatchResult:
        """Film many stories, one after the other; again goes on where it stopped."""
        from agents.batch import film_batch, read_batch

        listed = read_batch(stories, self._profile) if isinstance(stories, Path) else stories
        return await film_batch(listed, self.arun, on_event)

    batch = _twin(abatch)

    def schedule(self, file: Path, cron: str, *, name: str | None = None) -> ScheduleResult:
        """Store a batch to be due again and again, by this machine's clock; one of the same name is replaced."""
        from agents.batch import next_time, read_batch

        if name is not None and not name.strip():
            raise UsageError("name: expected a name for the stored batch, got none")
        listed = read_batch(file, self._profile)
        when = next_time(cron, datetime.now(UTC))
        rows = [story.model_dump(exclude_none=True) for story in listed]
        return schedule_result(self.archive.add_schedule(name or file.stem, cron=cron, batch=rows, next_run=when))

    def schedules(self) -> list[ScheduleResult]:
        """The stored batches by name, with when each is due next."""
        return [schedule_result(row) for row in self.archive.schedules()]

    def unschedule(self, name: str) -> None:
        """Forget a stored batch; films that it made stay. Raises NotFound."""
        self.archive.remove_schedule(name)

    async def adue(self, *, on_event: OnEvent | None = None) -> BatchResult:
        """Film every stored batch whose time has come. One that is interrupted stays due, and is gone on with."""
        from agents.batch import film_due

        return await film_due(self.archive, self.arun, on_event)

    due = _twin(adue)

    @property
    def archive(self) -> Archive:
        """The memory; opened when it is first needed."""
        if self._kept is None:
            from storage.archive import Archive

            self._kept = Archive(self.home, self._database)
        return self._kept

    def _profile(self, order: Order) -> Profile:
        """The order's profile with its model and limits in place."""
        from agents.casting import profile_for

        model = order.model or (self.model if order.profile is None else None)
        profile = profile_for(order, order.profile or self.profile, model)
        if profile.backend.kind == "local" and not profile.backend.model:
            raise UsageError(
                f"Profile {profile.name!r} films with any model and names none: expected --model PATH_OR_ID"
            )
        return profile

    def _open(self, order: Order, board: Path | None = None) -> int:
        """The run of this order, found or made; keeps where its film goes and what it may cost.

        What is refused is refused before a run is begun that nobody was told of; `board` is a file to write.
        """
        from agents.casting import first_picture, options_of
        from agents.filing import check_board_file, check_free, film_folder, ready
        from agents.motion import settled
        from agents.offline import check_story
        from storage.runs import run_key

        profile = self._profile(order)
        if order.attention:
            _check_looks(profile)
        order = settled(order, self.archive)
        text, planned = read_order(order)
        if planned is None and profile.brains.kind == "offline":
            check_story(text)
        options = options_of(order, profile)
        key = run_key(text, profile.name, options)
        if order.out is not None:
            check_free(self.archive, order.out.resolve(), key)
            ready(order.out.resolve())
        if board is not None:
            check_board_file(self.archive.find_run(key), board)
        run = self.archive.open_run(text, profile.name, options)
        if (picture := first_picture(order, profile)) is not None:
            self.archive.keep_picture(picture)
        asked: dict[str, object] = {"budget": profile.budget.model_dump(mode="json")}
        kept = run.asked.get("out")
        if kept is None or (order.films is not None and Path(kept).parent != order.films.resolve()):
            asked["out"] = film_folder(self.archive, order, run.id, planned)
        if not run.asked:  # whatever is refused below, the run can be resumed
            self.archive.ask(run.id, asked)
        asked |= {"out": str(order.out.resolve())} if order.out else {}
        asked |= {"attention": True} if order.attention else {}
        self._ask(run.id, asked)
        return run.id

    def _named(self, run: int | None) -> Run:
        return self.archive.newest() if run is None else self.archive.run(run)

    def _ask(self, run_id: int, changes: dict[str, object]) -> None:
        """Keep how a run is asked for from now on. Raises RunBusy, and DiskError or UsageError for an unfit folder."""
        from agents.filing import check_free, ready
        from agents.heartbeat import LEASE
        from storage.lease import new_owner

        row = self.archive.run(run_id)
        if row.asked | changes == row.asked:
            return
        if "out" in changes:
            check_free(self.archive, Path(str(changes["out"])), row.key)
            ready(Path(str(changes["out"])))
        with self.archive.hold(run_id, new_owner(), LEASE):  # another process films it as it was asked to
            self.archive.ask(run_id, self.archive.run(run_id).asked | changes)

    async def _take_up(
        self,
        run_id: int,
        *,
        approve: bool = False,
        board: Path | None = None,
        again: dict[int, int | None] | None = None,
        anew: Caps | None = None,
        on_event: OnEvent | None = None,
    ) -> FilmResult:
        """Bring a run on as far as it goes, wherever it stands; `anew` gives it its whole budget once more.

        `board` is the file of a storyboard that a person looks at.
        """
        from agents.casting import job_of, limits_from, profile_of
        from agents.filing import check_free, ready, write_board
        from agents.graph import film_story
        from agents.profile import override
        from agents.progress import Planned, RunStarted, ignore
        from agents.state import storyboard_of
        from storage.records import NOTHING, Costs

        row = self.archive.run(run_id)
        on_event = on_event or ignore
        on_event(RunStarted(run_id=run_id))
        if board is None:  # else no film is made yet
            check_free(self.archive, Path(row.asked["out"]), row.key)
            ready(Path(row.asked["out"]))
        if anew is not None:  # kept, so that a retry that is interrupted goes on under the same limits
            changed, spent = override(profile_of(row), anew.changes()).budget, self.archive.costs(run_id)
            self._ask(run_id, {"budget": changed.model_dump(mode="json"), "before": asdict(spent)})
            row = self.archive.run(run_id)
        profile = profile_of(row)
        before = Costs(**row.asked["before"]) if "before" in row.asked else NOTHING
        camera = self._camera(profile, self.archive.weights(run_id))
        films = (row.status.value != "done" and not approve) or bool(again)
        plans = row.status.value == "planning"
        opened = [role for role in profile.asked if films or (plans and role != "critic")]
        if films:
            async with self._holding(run_id):
                await asyncio.to_thread(camera.open)
                self.archive.ask(run_id, row.asked | {"limits": asdict(camera.limits)})
        elif camera.known is None and "limits" in row.asked:
            camera.known = limits_from(row.asked["limits"])
        job = job_of(row, profile, camera.limits, self.archive.story(run_id))
        job = replace(job, approve=approve, retries=again or {})
        async with self._crew(profile, run_id, camera, on_event, before, opened) as crew:
            crew.illustrator = _illustrator(camera) if row.asked.get("attention") else None
            shots = self.archive.shots(run_id)
            if shots and row.status.value != "planning":
                on_event(Planned(run_id=run_id, storyboard=storyboard_of(row, shots)))
            outcome = await film_story(job, crew)
        if outcome.status.value == "approval":
            write_board(self.archive, run_id, board, self._staged(run_id))
        return self.show(run_id)

    @asynccontextmanager
    async def _holding(self, run_id: int) -> AsyncIterator[None]:
        """The run is this process's while its model is loaded. Raises RunBusy when it is another's."""
        from agents.heartbeat import LEASE, heartbeat
        from storage.lease import new_owner

        owner = new_owner()
        with self.archive.hold(run_id, owner, LEASE):
            async with heartbeat(lambda: self.archive.renew(run_id, owner, LEASE)):
                yield

    async def _approve(self, run_id: int, file: Path | None) -> None:
        """The storyboard as its file says now takes the kept one's place; without a file the kept one stands."""
        from agents.boardfile import read_board
        from agents.casting import job_of, profile_of
        from agents.graph import approve, plan_story
        from agents.motion import Settling, check_board

        row = self.archive.run(run_id)
        profile = profile_of(row)
        camera = self._camera(profile)
        async with self._crew(profile, run_id, camera, None) as crew:
            board = None
            if file is not None:
                edited = Settling(archive=self.archive, folder=file.parent).of_board(read_board(file))
                job = replace(job_of(row, profile, camera.limits, self.archive.story(run_id)), storyboard=edited)
                board = await plan_story(job, crew, "")
                check_board(board, self.archive, camera.limits)
            approve(crew, run_id, board)

    def _planned(self, run_id: int, file: Path | None) -> PlanResult:
        from agents.filing import write_board
        from agents.state import storyboard_of

        staged = self._staged(run_id)
        path = write_board(self.archive, run_id, file, staged)
        board = storyboard_of(self.archive.run(run_id), self.archive.shots(run_id))
        return board_result(board, run=run_id, file=path, staged=staged)

    def _staged(self, run_id: int) -> list[str]:
        """How each shot of a run would be filmed; opens the backend only where nobody knows its limits."""
        from agents.casting import limits_from, profile_of
        from agents.staging import said
        from agents.state import storyboard_of

        row = self.archive.run(run_id)
        profile = profile_of(row)
        camera = self._camera(profile)
        if camera.known is None and "limits" in row.asked:
            camera.known = limits_from(row.asked["limits"])
        board = storyboard_of(row, self.archive.shots(run_id))
        return said(board, camera.limits, sets=profile.backend.sets)

    def _camera(self, profile: Profile, weights: str | None = None) -> LazyBackend:
        """The profile's backend; one at a time is open. `weights` are those a run was filmed with so far, no others."""
        from agents.casting import backend_config
        from generators.backends.lazy import LazyBackend

        config = backend_config(profile)
        if profile.backend.sets and config.kind == "bundled" and config.canvas.width is config.canvas.height is None:
            config = replace(config, segmenter=_world_segmenter())
        for other in [known for known in self._cameras if known != config]:
            self._cameras.pop(other).close()
        camera = self._cameras.setdefault(config, LazyBackend(config))
        camera.expected = weights
        return camera

    @asynccontextmanager
    async def _crew(
        self,
        profile: Profile,
        run_id: int,
        camera: LazyBackend,
        on_event: OnEvent | None,
        before: Costs | None = None,
        opened: Sequence[str] = (),
    ) -> AsyncIterator[Crew]:
        """Everybody a run needs; `before` is what it had used when its budget began.

        Models of the roles `opened` are loaded first.
        """
        from agents.casting import brains_of
        from agents.minds import Minds
        from agents.progress import ignore
        from agents.state import Crew
        from storage.records import NOTHING

        minds, before = Minds(profile, os.environ, self._checkpoints), before or NOTHING
        try:
            await minds.open(opened)
            brains = brains_of(profile, minds, self.archive, run_id, _world_critic, before)
            yield Crew(
                archive=self.archive,
                backend=camera,
                brains=brains,
                budget=profile.budget,
                before=before,
                on_event=on_event or ignore,
            )
        finally:
            await minds.close()


def version() -> str:
    """This checkout's version."""
    return str(tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def default_home() -> Path:
    """FABULA_HOME, else `fabula` in the folder where this system keeps a person's data."""
    if set_home := os.environ.get("FABULA_HOME"):
        return Path(set_home).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "fabula"


def doctor(home: Path | None = None) -> Checkup:
    """What is installed, which devices and keys there are, which profiles would work."""
    from agents.checkup import look

    return look(home or default_home(), os.environ)


def without_password(database: str) -> str:
    """A database's address fit for a screen or a log."""
    from storage.database import without_password  # storage takes a while to import, and help must not

    return without_password(database)


def environment() -> Mapping[str, str]:
    """The environment of this process, for what asks for a key by its name."""
    return os.environ


def _check_looks(profile: Profile) -> None:
    """Raise UsageError for a profile whose model cannot be looked into."""
    from workshop.inspecting import check_looks

    check_looks(profile)


def _illustrator(camera: LazyBackend) -> Illustrator:
    """Draws where the model looked, for the report of a run."""
    from workshop.inspecting import TakeFigures

    return TakeFigures(camera)


def _world_critic() -> Critic:
    """The bundled world's detectors, as a critic for the graph."""
    from evals.world.critic import WorldCritic

    return WorldCritic()


def _world_segmenter() -> Segmenter:
    """The bundled world's detectors, to find what a set shares."""
    from evals.world.segmenter import WorldSegmenter

    return WorldSegmenter()
