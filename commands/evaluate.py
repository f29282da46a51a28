"""`python main.py eval …`"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer

import fabula
import screen
from commands.options import Json, Model, Profile, Seconds, Seed

group = typer.Typer(
    help="Published benchmarks over films, with intervals and what was not measured.", no_args_is_help=True
)

Prompts = Annotated[Path, typer.Argument(help="The benchmark's own file of prompts or sets.")]
Clips = Annotated[Path | None, typer.Option(help="A folder of finished videos; else the profile's backend films.")]
Name = Annotated[str | None, typer.Option(help="What tables call the method; the backend's or the folder's name.")]
Limit = Annotated[int | None, typer.Option(min=1, help="The first so many prompts; all by default.")]
Weights = Annotated[Path | None, typer.Option(help="A folder of encoders, one folder an id (docs/evaluation.md).")]
Out = Annotated[Path | None, typer.Option(help="Where results go, results by default; the same command goes on.")]


class Task(StrEnum):
    """TempoControl's three lists."""

    ONE_OBJECT = "one-object"
    TWO_OBJECTS = "two-objects"
    MOVEMENT = "movement"


def _evaluate(benchmark: str, prompts: Path, json: bool, **options: Any) -> int:
    result = fabula.evaluate(
        cast(Any, benchmark),
        prompts,
        environment=fabula.environment(),
        on_progress=None if json else screen.tell_evaluation,
        **options,
    )
    return screen.show_evaluation(result, json)


@group.command()
def storyeval(
    prompts: Prompts,
    clips: Clips = None,
    name: Name = None,
    profile: Profile = "bundled",
    model: Model = None,
    seconds: Seconds = None,
    limit: Limit = None,
    seed: Seed = 0,
    out: Out = None,
    json: Json = False,
) -> int:
    """StoryEval-Bench: which of a prompt's events a clip shows; the profile's critic is the verifier."""
    options = {"clips": clips, "name": name, "profile": profile, "model": model, "seconds": seconds, "limit": limit}
    return _evaluate("storyeval", prompts, json, seed=seed, out=out, **options)


@group.command()
def tempo(
    task: Task,
    prompts: Prompts,
    clips: Clips = None,
    name: Name = None,
    profile: Profile = "bundled",
    model: Model = None,
    seconds: Seconds = None,
    limit: Limit = None,
    seed: Seed = 0,
    out: Out = None,
    json: Json = False,
) -> int:
    """TempoControl's tasks: whether it happened when it should."""
    options = {"clips": clips, "name": name, "profile": profile, "model": model, "seconds": seconds, "limit": limit}
    return _evaluate(task, prompts, json, seed=seed, out=out, **options)


@group.command("shot-sets")
def shot_sets(
    prompts: Prompts,
    clips: Clips = None,
    name: Name = None,
    profile: Profile = "bundled",
    model: Model = None,
    seconds: Seconds = None,
    limit: Limit = None,
    seed: Seed = 0,
    weights: Weights = None,
    out: Out = None,
    json: Json = False,
) -> int:
    """Whether the cast looks the same in all shots of a set, beside text alignment and motion."""
    options = {"clips": clips, "name": name, "profile": profile, "model": model, "seconds": seconds, "limit": limit}
    return _evaluate("shot-sets", prompts, json, seed=seed, out=out, weights=weights, **options)


@group.command()
def quality(
    prompts: Prompts,
    clips: Clips = None,
    name: Name = None,
    profile: Profile = "bundled",
    model: Model = None,
    seconds: Seconds = None,
    limit: Limit = None,
    seed: Seed = 0,
    weights: Weights = None,
    out: Out = None,
    json: Json = False,
) -> int:
    """Flicker, motion, smoothness, consistency: VBench's dimensions and the classical ones."""
    options = {"clips": clips, "name": name, "profile": profile, "model": model, "seconds": seconds, "limit": limit}
    return _evaluate("quality", prompts, json, seed=seed, out=out, weights=weights, **options)


@group.command()
def report(
    results: Annotated[Path | None, typer.Argument(help="The folder of results; results by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to; a folder report among the results.")] = None,
    title: Annotated[str, typer.Option(help="What the page is called.")] = "Evaluation",
) -> int:
    """Methods side by side, with intervals, plots and sheets, as HTML and Markdown."""
    written = fabula.evaluation_report(results, out, title)
    screen.say(f"Written: {written.html}\n         {written.markdown}")
    return 0
