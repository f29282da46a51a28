"""`python main.py eval …`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def add_benchmark(benchmark: fabula.BenchmarkName, says: str) -> None:
    """Add the command that runs one benchmark; all of them take the same options."""

    @group.command(benchmark, help=says)
    def run(
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
        result = fabula.evaluate(
            benchmark,
            prompts,
            clips=clips,
            name=name,
            profile=profile,
            model=model,
            seconds=seconds,
            limit=limit,
            seed=seed,
            weights=weights,
            out=out,
            environment=fabula.environment(),
            on_progress=None if json else screen.tell_evaluation,
        )
        return screen.show_evaluation(result, json)


add_benchmark("storyeval", "StoryEval-Bench: which of a prompt's events a clip shows; the profile's critic verifies.")
add_benchmark("one-object", "TempoControl: whether one object shows when it should.")
add_benchmark("two-objects", "TempoControl: whether the second object joins the first when it should.")
add_benchmark("movement", "TempoControl: whether movement begins when it should.")
add_benchmark("shot-sets", "Whether the cast looks the same in all shots of a set, beside text alignment and motion.")
add_benchmark("quality", "Flicker, motion, smoothness, consistency: VBench's dimensions and the classical ones.")


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
