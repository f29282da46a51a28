"""The puppet world's benchmark from Python: films of a profile, finished clips, or controls, read from their pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agents.errors import UsageError
from workshop.evaluations import RESULTS

if TYPE_CHECKING:
    from agents.profile import Profile
    from evals.benchmarks.stories import Stories
    from evals.benchmarks.world import Autoencoder
    from evals.benchmarks.world_films import World
    from evals.footage import Footage
    from evals.metrics.score import Case, NotMeasured
    from evals.suite import Progress, Result
    from evals.world.splits import SplitName
    from generators.clip import Backend, ShotRequest

FILMS = "films"
"""The set of stories of several shots; it is a benchmark of its own and stands alone."""
FOREIGN = "clips came from files: whose autoencoder made them is not known"


def evaluate_world(
    sets: Sequence[str] = ("stories",),
    *,
    cases: int | None = None,
    quick: bool = False,
    controls: Sequence[str] = (),
    clips: Path | None = None,
    name: str | None = None,
    profile: str = "bundled",
    model: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Result]:
    """Film cases of the puppet world and read what happened; goes on where `out` stopped. One result a method.

    `sets` are those of `evals.world.splits`, `cases` how many of each (423 of `stories`, else 200); `films` is a set
    of stories of several shots (50) and stands alone; `quick` takes a few of two sets. `controls` (or `all`) are
    rendered with a known fault in the place of a method's films.
    Raises UsageError.
    """
    from agents.casting import profile_for
    from agents.order import Order
    from evals.benchmarks.stories import STORIES, Stories
    from evals.benchmarks.world_films import World
    from evals.metrics.score import NotMeasured
    from evals.suite import finish, run
    from evals.world.reader import open_reader

    counts = {} if list(sets) == [FILMS] else _counts(sets, cases, quick)
    chosen = profile_for(Order(story=""), profile, model)
    with _backend(chosen, needed=clips is None and not controls) as backend:
        try:
            autoencoder = NotMeasured(reason=FOREIGN) if clips and not controls else _autoencoder(backend)
            world = (
                World(counts, autoencoder, seed, open_reader())
                if counts
                else Stories(cases or STORIES, autoencoder, seed)
            )
            footages = list(_footages(world, backend, controls, clips, name, autoencoder, seed))
        except ValueError as error:
            raise UsageError(f"eval world: {error}") from error
        return [finish(run(world, footage, out or RESULTS, seed), on_progress) for footage in footages]


def _counts(sets: Sequence[str], cases: int | None, quick: bool) -> dict[SplitName, int]:
    from evals.benchmarks.world_films import counts_of, quick_counts

    try:
        return quick_counts(cases) if quick else counts_of(sets, cases)
    except ValueError as error:
        raise UsageError(f"eval world: {error}") from error


@contextmanager
def _backend(profile: Profile, needed: bool) -> Iterator[Backend | None]:
    """The profile's backend; None where nothing is filmed and there is none to lend its autoencoder."""
    from agents.casting import backend_config
    from generators.backends import open_backend
    from generators.errors import BackendUnavailable

    try:
        backend = open_backend(backend_config(profile))
    except BackendUnavailable:
        if needed:
            raise
        yield None
        return
    with closing(backend):
        yield backend


def _footages(
    world: World | Stories,
    backend: Backend | None,
    controls: Sequence[str],
    clips: Path | None,
    name: str | None,
    autoencoder: Autoencoder | NotMeasured,
    seed: int,
) -> Iterator[Footage]:
    from evals.benchmarks.protocol import AUTOENCODER
    from evals.benchmarks.world_controls import CONTROLS, ControlFootage
    from evals.footage import BackendFootage, FolderFootage

    wanted = (*CONTROLS, AUTOENCODER) if "all" in controls else tuple(controls)
    if wanted:
        yield from (ControlFootage(control, world.cases, autoencoder) for control in wanted)
    elif clips is not None:
        if not clips.is_dir():
            raise UsageError(f"--clips: expected a folder of videos, got {clips}")
        yield FolderFootage(folder=clips, name=name or clips.name, seed=seed)
    elif backend is not None:
        from evals.world.requests import request_of

        def ask(case: Case, seed: int) -> ShotRequest:
            return request_of(world.cases[case.name][0], seed)

        yield BackendFootage(backend=backend, ask=ask, name=name or _called(backend))


def _called(backend: Backend) -> str:
    """The backend's name with what makes its films its own, so that rows of other weights are not taken for its."""
    weights, steps = getattr(backend, "weights", None), getattr(backend, "steps", None)
    parts = (backend.name, weights and weights[:8], steps and f"{steps} steps")
    return " ".join(str(part) for part in parts if part)


def _autoencoder(backend: Backend | None) -> Autoencoder | NotMeasured:
    """The backend's autoencoder, where it films clips of the puppet world."""
    from evals.metrics.score import NotMeasured
    from generators.world.words import HEIGHT, WIDTH

    vae = getattr(getattr(getattr(backend, "model", None), "pipe", None), "vae", None)
    if backend is None or vae is None or (backend.limits.width, backend.limits.height) != (WIDTH, HEIGHT):
        return NotMeasured(reason="no model of the puppet world: there is no autoencoder to send the truth through")
    from evals.benchmarks.cameras import autoencoder_of

    return autoencoder_of(vae)
