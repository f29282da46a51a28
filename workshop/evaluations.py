"""The evaluation suite from Python: benchmarks over filmed or finished clips, and the report over their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agents.errors import UsageError
from agents.profile import MINDS

if TYPE_CHECKING:
    from agents.profile import Profile
    from evals.benchmarks.verifiers import Verifier
    from evals.footage import Footage
    from evals.metrics.embedders import Weights
    from evals.metrics.score import NotMeasured
    from evals.report import ReportFiles
    from evals.suite import Progress, Result, Settings

BenchmarkName = Literal[
    "storyeval", "one-object", "two-objects", "movement", "shot-sets", "quality", "distance", "entities"
]
RESULTS = Path("results")
WITH_ENCODERS = ("one-object", "two-objects", "shot-sets", "quality", "distance", "entities")
TAKEN_BY: Mapping[str, tuple[BenchmarkName, ...]] = {
    "flow": ("quality",),
    "aliases": ("one-object", "two-objects"),
    "verdicts": ("storyeval",),
    "judged": ("storyeval",),
    "rules": ("storyeval",),
}
"""Options that single benchmarks take."""


def evaluate(
    benchmark: BenchmarkName,
    prompts: Path,
    *,
    clips: Path | None = None,
    name: str | None = None,
    profile: str = "bundled",
    model: str | None = None,
    seconds: float | None = None,
    limit: int | None = None,
    seed: int = 0,
    weights: Path | None = None,
    encoders: Mapping[str, str] | None = None,
    real: Path | None = None,
    flow: str | None = None,
    aliases: bool = False,
    verdicts: Path | None = None,
    judged: str | None = None,
    rules: str | None = None,
    out: Path | None = None,
    environment: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Run a benchmark, or go on with it: over the videos in `clips`, or filmed now by the profile's backend.

    `prompts` is the benchmark's own file; `weights` a folder of encoders, before which `encoders` names
    folders or hub ids of single ones; `real` a folder of real videos, which only
    `distance` needs; the verifier is the profile's critic, with its key from `environment`. `flow` (dis or farneback)
    is `quality`'s; `aliases` reads words of the object tasks by COCO's names. `storyeval` asks by the `rules` of a
    published verifier (gpt4o or llava); with `verdicts`, the flags that its authors released, nothing is filmed, and
    `judged` says whose flags count, such as hailuo/gpt4o. What cannot be measured says why. Raises UsageError for
    files that cannot be read and for options of another benchmark.
    """
    if (real is not None) != (benchmark == "distance"):
        raise UsageError(f"--real: distance needs a folder of real videos, and nothing else takes one: {benchmark}")
    if (weights is not None or encoders) and benchmark not in WITH_ENCODERS:
        raise UsageError(f"--weights, --encoder: {benchmark} reads no encoders; only {' and '.join(WITH_ENCODERS)} do")
    only = {"flow": flow, "aliases": aliases or None, "verdicts": verdicts, "judged": judged, "rules": rules}
    for option, value in only.items():
        if value is not None and benchmark not in TAKEN_BY[option]:
            raise UsageError(f"--{option}: only {' and '.join(TAKEN_BY[option])} can take it, not {benchmark}")
    if (verdicts is None) != (judged is None):
        raise UsageError("--verdicts and --judged belong together: released flags, and whose, such as hailuo/gpt4o")
    from agents.casting import profile_for
    from agents.order import Order
    from evals.benchmarks.storyeval import Unreleased
    from evals.benchmarks.verifiers import RULES
    from evals.metrics.embedders import UnusableWeights
    from evals.suite import Models, finish, open_benchmark, run

    chosen = profile_for(Order(story=""), profile, model)
    watching: AbstractContextManager[Verifier | NotMeasured] = _verifier(chosen, environment or {})
    filming: AbstractContextManager[Footage] = _footage(chosen, clips, name, seconds, seed)
    if verdicts is not None and judged is not None:
        if rules in RULES and rules != judged.rpartition("/")[2]:
            raise UsageError(f"--rules {rules} does not go with flags of {judged}: they count by their own rules")
        watching, rules = nullcontext(_released(verdicts, prompts, judged)), rules or judged.rpartition("/")[2]
        filming = filming if clips is not None else nullcontext(Unreleased(name=name or judged))
    with watching as verifier, filming as footage:
        try:
            opened = open_benchmark(
                _settings(benchmark, prompts, limit, real, flow=flow, aliases=aliases, rules=rules),
                Models(weights=weights_in(weights, encoders or {}), verifier=verifier),
            )
        except UnusableWeights as error:
            raise UsageError(f"eval {benchmark}: {error}") from error
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"eval {benchmark}: {prompts} cannot be used: {error}") from error
        return finish(run(opened, footage, out or RESULTS, seed), on_progress)


def weights_in(folder: Path | None, encoders: Mapping[str, str]) -> Weights:
    """Encoders of a folder, single ones from places of their own. Raises UsageError for an id that is none."""
    from evals.metrics.embedders import Weights

    try:
        return Weights(folder=folder, places=encoders)
    except ValueError as error:
        raise UsageError(f"--encoder: {error}") from error


def evaluation_report(results: Path | None = None, out: Path | None = None, title: str = "Evaluation") -> ReportFiles:
    """Every benchmark in a folder of results, methods side by side, as HTML and Markdown. Raises UsageError."""
    from evals.report import write_report

    folder = results or RESULTS
    try:
        return write_report(folder, out or folder / "report", title)
    except (OSError, ValueError) as error:
        raise UsageError(f"eval report: {folder}: {error}") from error


def _settings(
    benchmark: BenchmarkName,
    prompts: Path,
    limit: int | None,
    real: Path | None,
    *,
    flow: str | None,
    aliases: bool,
    rules: str | None,
) -> Settings:
    from evals.benchmarks.distance import DistanceSettings
    from evals.benchmarks.entities import EntitySettings
    from evals.benchmarks.quality import QualitySettings
    from evals.benchmarks.shot_sets import ShotSetsSettings
    from evals.benchmarks.storyeval import StoryEvalSettings
    from evals.benchmarks.tempocontrol import TempoControlSettings
    from evals.benchmarks.verifiers import GPT4O, RULES

    match benchmark:
        case "storyeval":
            if rules is not None and rules not in RULES:
                raise UsageError(f"--rules: expected {' or '.join(RULES)}, got {rules!r}")
            return StoryEvalSettings(prompts=prompts, rules=RULES[rules or GPT4O.name], limit=limit)
        case "one-object":
            return TempoControlSettings(task="one object", prompts=prompts, aliases=aliases, limit=limit)
        case "two-objects":
            return TempoControlSettings(task="two objects", prompts=prompts, aliases=aliases, limit=limit)
        case "movement":
            return TempoControlSettings(task="movement", prompts=prompts, limit=limit)
        case "shot-sets":
            return ShotSetsSettings(sets=prompts, limit=limit)
        case "quality":
            return QualitySettings(prompts=prompts, flow=flow or "dis", limit=limit)
        case "distance":
            return DistanceSettings(prompts=prompts, real=real or Path(), limit=limit)
        case "entities":
            return EntitySettings(episodes=prompts, limit=limit)


@contextmanager
def _footage(
    profile: Profile, clips: Path | None, name: str | None, seconds: float | None, seed: int
) -> Iterator[Footage]:
    from evals.footage import BackendFootage, FolderFootage, plain_request

    if clips is not None:
        if not clips.is_dir():
            raise UsageError(f"--clips: expected a folder of videos, got {clips}")
        yield FolderFootage(folder=clips, name=name or clips.name, seed=seed)
        return
    from agents.casting import backend_config
    from generators.backends import open_backend

    with closing(open_backend(backend_config(profile))) as backend:
        yield BackendFootage(backend=backend, ask=plain_request(backend, seconds), name=name or backend.name)


def _released(verdicts: Path, prompts: Path, judged: str) -> Verifier:
    from evals.benchmarks.storyeval import replayed

    try:
        return replayed(verdicts, prompts, judged)
    except (OSError, ValueError) as error:
        raise UsageError(f"--verdicts: {error}") from error


@contextmanager
def _verifier(profile: Profile, environment: Mapping[str, str]) -> Iterator[Verifier | NotMeasured]:
    from evals.metrics.score import NotMeasured

    if profile.critic.kind not in MINDS:
        yield NotMeasured(reason=f"no verifier: profile {profile.name} has no critic that asks a vision model")
        return
    from agents.minds import Minds
    from evals.benchmarks.verifiers import ModelVerifier

    minds = Minds(profile, environment)
    with closing(ModelVerifier(minds.of("critic"), minds.close)) as verifier:
        yield verifier
