"""What steering, sets, going on and filming again are worth, from Python: arms side by side on the puppet world."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agents.errors import UsageError

if TYPE_CHECKING:
    from evals.benchmarks.world import Autoencoder
    from evals.benchmarks.world_controls import Cases
    from evals.comparison import Comparison
    from evals.footage import Footage
    from evals.report import ReportFiles
    from evals.suite import Progress, Result
    from generators.clip import Backend
    from generators.segmenters import Segmenter

OnArm = Callable[[str, "Progress"], None]
STEERING_EVENTS, RETRY_EVENTS = (2, 3, 4), (2,)
SET_SIZES = (2, 3, 4, 5, 6)


@dataclass(frozen=True, kw_only=True)
class AblationOutcome:
    """Results of all arms, their tables as the papers print them, and the report with its figures."""

    results: tuple[Result, ...]
    tables: tuple[Comparison, ...]
    report: ReportFiles


def evaluate_steering(
    arms: Sequence[str] = (),
    *,
    cases: int = 96,
    events: Sequence[int] = STEERING_EVENTS,
    split: str = "test",
    profile: str = "bundled",
    model: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    on_progress: OnArm | None = None,
) -> AblationOutcome:
    """Film captions of several events under each arm from the same noise, or go on with it.

    No `arms` are all of `evals.benchmarks.steering_arms`; `none` is always among them. `cases` captions for each
    number of `events`; `split` tune draws others, to choose a strength on. Raises UsageError.
    """
    from evals.benchmarks.steering import Steering, SteeringSettings, arm_footage, run_arms
    from evals.benchmarks.steering_arms import arms_named
    from evals.footage import filmed_with

    with _opened("steering", profile, model, steps) as backend:
        try:
            settings = SteeringSettings(
                cases=cases, events=tuple(events), split=split, seed=seed, film=filmed_with(backend)
            )
            benchmark = Steering(settings)
            footages: list[Footage] = [arm_footage(benchmark, backend, arm) for arm in arms_named(arms)]
        except ValueError as error:
            raise UsageError(f"eval steering: {error}") from error
        folder = out or _results()
        results = run_arms(benchmark, [*footages, *_ceiling(backend, benchmark.pairs)], folder, seed, on_progress)
    return _outcome(benchmark.name, results, folder)


def evaluate_cast(
    arms: Sequence[str] = (),
    *,
    sets: int = 24,
    sizes: Sequence[int] = SET_SIZES,
    split: str = "test",
    profile: str = "bundled",
    model: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    on_progress: OnArm | None = None,
) -> AblationOutcome:
    """Film sets of shots that share one puppet under each arm, every shot from its own noise, or go on with it.

    No `arms` are all of `evals.benchmarks.cast_arms`; `independent` is always among them. `sets` for each of `sizes`;
    `split` tune draws others. Raises UsageError.
    """
    from evals.benchmarks.cast import Cast, CastBenchSettings
    from evals.benchmarks.cast_arms import SetFootage, arms_named
    from evals.benchmarks.steering import run_arms
    from evals.footage import filmed_with
    from evals.world.segmenter import WorldSegmenter

    with _opened("cast", profile, model, steps, WorldSegmenter()) as backend:
        if not backend.limits.films_sets:
            raise UsageError(f"eval cast: {backend.name} films shots one by one; expected a model that films sets")
        try:
            settings = CastBenchSettings(
                sets=sets, sizes=tuple(sizes), split=split, seed=seed, film=filmed_with(backend)
            )
            chosen = arms_named(arms)
        except ValueError as error:
            raise UsageError(f"eval cast: {error}") from error
        benchmark = Cast(settings)
        footages: list[Footage] = [SetFootage(benchmark, backend, arm) for arm in chosen]
        folder = out or _results()
        results = run_arms(benchmark, [*footages, *_ceiling(backend, benchmark.pairs)], folder, seed, on_progress)
    return _outcome(benchmark.name, results, folder)


def evaluate_extension(
    arms: Sequence[str] = (),
    *,
    chains: int = 16,
    sizes: Sequence[int] = SET_SIZES,
    split: str = "test",
    scenes: Path | None = None,
    profile: str = "bundled",
    model: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    on_progress: OnArm | None = None,
) -> AblationOutcome:
    """Film chains of shots that go on from one another under each arm, from the same noise, or go on with it.

    No `arms` are all of `evals.benchmarks.extension_arms`; `cut` is always among them. `chains` for each of `sizes`;
    `split` tune draws others. `scenes` is what `train scenes` learnt, an adapter's folder or a whole model's; without
    it that arm is not measured. Raises UsageError.
    """
    from evals.benchmarks.extension import Extension, ExtensionSettings
    from evals.benchmarks.extension_arms import TruthFootage, arm_footages, arms_named
    from evals.benchmarks.steering import run_arms
    from evals.footage import filmed_with

    with _opened_both(profile, model, steps, scenes) as (backend, trained):
        try:
            settings = ExtensionSettings(
                chains=chains, sizes=tuple(sizes), split=split, seed=seed, film=filmed_with(backend)
            )
            chosen = arms_named(arms)
        except ValueError as error:
            raise UsageError(f"eval extension: {error}") from error
        benchmark = Extension(settings)
        autoencoder = _autoencoder(backend)
        ceiling: list[Footage] = [TruthFootage(benchmark, autoencoder.roundtrip)] if autoencoder else []
        folder = out or _results()
        footages = [*arm_footages(benchmark, backend, chosen, trained), *ceiling]
        results = run_arms(benchmark, footages, folder, seed, on_progress)
    return _outcome(benchmark.name, results, folder)


def evaluate_retry(
    policies: Sequence[str] = (),
    *,
    cases: int = 96,
    events: Sequence[int] = RETRY_EVENTS,
    takes: int = 6,
    profile: str = "bundled",
    model: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    on_progress: OnArm | None = None,
) -> AblationOutcome:
    """Film captions through the whole graph under each policy of repair, or go on with it.

    No `policies` are all of `evals.benchmarks.retry_policies`; `off` is always among them. `takes` are the most a shot
    may have. The critic decides, the independent score counts. Raises UsageError.
    """
    from agents.calibration import Calibration, Uncalibrated
    from evals.benchmarks.retry import Retry, RetrySettings
    from evals.benchmarks.retry_policies import policies_named
    from evals.benchmarks.retry_stage import PolicyFootage, Stage
    from evals.benchmarks.steering import run_arms
    from evals.footage import filmed_with
    from evals.world.critic import WorldCritic

    critic = WorldCritic()
    threshold = critic.belief.threshold if isinstance(critic.belief, Calibration) else None
    judged = {"name": critic.name, "digest": critic.digest(), "threshold": threshold}
    with _opened("retry", profile, model, steps) as backend:
        try:
            settings = RetrySettings(
                cases=cases, events=tuple(events), takes=takes, seed=seed, film=filmed_with(backend), critic=judged
            )
            chosen = policies_named(policies)
        except ValueError as error:
            raise UsageError(f"eval retry: {error}") from error
        benchmark = Retry(settings)
        unmoved = WorldCritic(belief=Uncalibrated(reason=""))
        with Stage(backend, critic, unmoved, benchmark.case_of, takes, steps) as stage:
            folder = out or _results()
            footages = [PolicyFootage(stage=stage, policy=policy) for policy in chosen]
            results = run_arms(benchmark, footages, folder, seed, on_progress)
    return _outcome(benchmark.name, results, folder)


def _results() -> Path:
    from workshop.evaluations import RESULTS

    return RESULTS


@contextmanager
def _opened(
    command: str,
    profile: str,
    model: str | None,
    steps: int | None,
    segmenter: Segmenter | None = None,
    scenes: Path | None = None,
) -> Iterator[Backend]:
    """The profile's backend, which must film the puppet world's canvas; `segmenter` finds what a set shares.

    `scenes` is what was learnt to film sets in sequence: a whole model in the place of the profile's, or an adapter.
    """
    from agents.casting import backend_config, profile_for
    from agents.order import Order
    from generators.backends import open_backend
    from generators.world.words import HEIGHT, WIDTH

    order = Order(story="", steps=steps)
    if scenes is not None:
        whole = (scenes / "model_index.json").is_file()
        model = str(scenes) if whole else model
        order = replace(order, scenes=True, lora=() if whole else (str(scenes),))
    config = backend_config(profile_for(order, profile, model))
    with closing(open_backend(replace(config, segmenter=segmenter))) as backend:
        canvas = backend.limits.width, backend.limits.height
        if canvas != (WIDTH, HEIGHT):
            raise UsageError(
                f"eval {command}: {backend.name} films {canvas[0]}x{canvas[1]}; expected a model of the puppet world, "
                f"{WIDTH}x{HEIGHT}"
            )
        yield backend


@contextmanager
def _opened_both(
    profile: str, model: str | None, steps: int | None, scenes: Path | None
) -> Iterator[tuple[Backend, Backend | None]]:
    """The backend that goes on shot by shot, and the one that learnt to film in sequence; None without `scenes`."""
    with _opened("extension", profile, model, steps) as backend:
        if scenes is None:
            yield backend, None
            return
        with _opened("extension", profile, model, steps, scenes=scenes) as trained:
            yield backend, trained


def _autoencoder(backend: Backend) -> Autoencoder | None:
    """The model's autoencoder; None where it has none."""
    vae = getattr(getattr(getattr(backend, "model", None), "pipe", None), "vae", None)
    if vae is None:
        return None
    from evals.benchmarks.cameras import autoencoder_of

    return autoencoder_of(vae)


def _ceiling(backend: Backend, cases: Cases) -> list[Footage]:
    """The rendered truth through the model's autoencoder; nothing where there is none."""
    autoencoder = _autoencoder(backend)
    if autoencoder is None:
        return []
    from evals.benchmarks.protocol import AUTOENCODER
    from evals.benchmarks.world_controls import ControlFootage

    return [ControlFootage(AUTOENCODER, cases, autoencoder)]


def _outcome(benchmark: str, results: Sequence[Result], folder: Path) -> AblationOutcome:
    from evals.report import page_of, write_page

    page = page_of(folder, title=f"Evaluation: {benchmark}", only=benchmark)
    report = write_page(page, folder / benchmark / "report")
    tables = tuple(table for part in page.parts for table in part.comparisons)
    return AblationOutcome(results=tuple(results), tables=tables, report=report)
