"""`python main.py eval …`"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import fabula
import screen
from commands.options import FilmSteps, Json, Model, Profile, Seconds, Seed

group = typer.Typer(
    help="Published benchmarks over films, with intervals and what was not measured.", no_args_is_help=True
)

Prompts = Annotated[Path, typer.Argument(help="The benchmark's own file of prompts or sets.")]
Clips = Annotated[Path | None, typer.Option(help="A folder of finished videos; else the profile's backend films.")]
Name = Annotated[str | None, typer.Option(help="What tables call the method; the backend's or the folder's name.")]
Limit = Annotated[int | None, typer.Option(min=1, help="The first so many prompts; all by default.")]
Weights = Annotated[Path | None, typer.Option(help="A folder of encoders, one folder an id (docs/evaluation.md).")]
Encoder = Annotated[
    list[str] | None,
    typer.Option(metavar="ID=PLACE", help="One encoder from its own folder or hub id; repeatable, before --weights."),
]
Real = Annotated[Path | None, typer.Option(help="A folder of real videos; only distance takes one.")]
Flow = Annotated[str | None, typer.Option(help="dis or farneback: what quality reads motion from; dis by default.")]
Aliases = Annotated[bool, typer.Option("--aliases", help="Read words of object tasks by COCO's names: puppy as dog.")]
Verdicts = Annotated[Path | None, typer.Option(help="StoryEval's released flags, reference_verdicts.json; films none.")]
Judged = Annotated[str | None, typer.Option(help="Whose clips and whose flags of --verdicts, such as hailuo/gpt4o.")]
Rules = Annotated[str | None, typer.Option(help="gpt4o or llava: how often storyeval asks, and over which frames.")]
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
        encoder: Encoder = None,
        real: Real = None,
        flow: Flow = None,
        aliases: Aliases = False,
        verdicts: Verdicts = None,
        judged: Judged = None,
        rules: Rules = None,
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
            encoders=_places(encoder or ()),
            real=real,
            flow=flow,
            aliases=aliases,
            verdicts=verdicts,
            judged=judged,
            rules=rules,
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
add_benchmark("distance", "FVD and KVD against real videos, and how fast films move away from their own frames.")
add_benchmark("entities", "EntityBench and ViStoryBench: is the cast there, alone, and the same in every shot.")


@group.command()
def world(
    sets: Annotated[str, typer.Option("--set", help="Sets of cases, with commas between; or films.")] = "stories",
    cases: Annotated[int | None, typer.Option(min=1, help="Cases a set: 423 of stories and 200 of others.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="72 short films and 18 stories: about ten minutes.")] = False,
    control: Annotated[list[str] | None, typer.Option(help="Film a known fault instead; all runs every one.")] = None,
    clips: Clips = None,
    name: Name = None,
    profile: Profile = "bundled",
    model: Model = None,
    seed: Seed = 0,
    out: Out = None,
    json: Json = False,
) -> int:
    """The puppet world: films of scripts, read from their pixels between ceiling and floor, with no judge to trust."""
    results = fabula.evaluate_world(
        sets.split(","),
        cases=cases,
        quick=quick,
        controls=control or (),
        clips=clips,
        name=name,
        profile=profile,
        model=model,
        seed=seed,
        out=out,
        on_progress=None if json else screen.tell_evaluation,
    )
    return screen.show_evaluations(results, json)


@group.command()
def calibrate(
    profile: Profile = "bundled",
    clips: Annotated[int, typer.Option(min=1, help="Rendered clips, each shown with right and wrong words.")] = 32,
    seed: Annotated[int, typer.Option(help="The same seed draws the same clips.")] = 0,
    most_false: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of broken promises that a threshold may let pass.")
    ] = 0.05,
    verdicts: Annotated[Path | None, typer.Option(help="StoryEval's released flags, reference_verdicts.json.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Its prompts; all_prompts.json beside the flags.")] = None,
    videos: Annotated[Path | None, typer.Option(help="Clips of a model that the flags judge.")] = None,
    judged: Annotated[str | None, typer.Option(help="Whose clips and whose flags, such as hailuo/gpt4o.")] = None,
    into: Annotated[Path | None, typer.Option(help="Where the file goes; the folder that critics read.")] = None,
    out: Out = None,
    json: Json = False,
) -> int:
    """What the profile's critic is worth on clips of known truth; writes the threshold that it will use."""
    found = fabula.calibrate(
        profile,
        clips=clips,
        seed=seed,
        most_false=most_false,
        verdicts=verdicts,
        prompts=prompts,
        videos=videos,
        judged=judged,
        into=into,
        out=out,
        environment=fabula.environment(),
        on_progress=None if json else screen.tell_evaluation,
    )
    return screen.show_calibration(found, json)


@group.command()
def motion(
    share: Annotated[
        list[float] | None,
        typer.Option(min=0, max=1, help="Share of the steps that are given motion; repeatable, eight by default."),
    ] = None,
    cases: Annotated[int, typer.Option(min=1, help="Pairs of a clip and a caption.")] = 48,
    profile: Profile = "bundled",
    model: Model = None,
    steps: FilmSteps = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same pairs and the same noise.")] = 0,
    weights: Weights = None,
    encoder: Encoder = None,
    out: Out = None,
    json: Json = False,
) -> int:
    """Motion by Queries on the puppet world: motion kept against looks leaked, over the share of injected steps."""
    found = fabula.evaluate_motion(
        share or (),
        cases=cases,
        profile=profile,
        model=model,
        steps=steps,
        seed=seed,
        weights=weights,
        encoders=_places(encoder or ()),
        out=out,
        on_progress=None if json else screen.tell_arm,
    )
    return screen.show_motion(found, json)


@group.command()
def steering(
    arms: Annotated[str, typer.Option(help="Arms, with commas between; all by default, none always.")] = "",
    cases: Annotated[int, typer.Option(min=1, help="Captions for each number of events.")] = 96,
    events: Annotated[str, typer.Option(help="Events a caption, with commas between: 2 to 4.")] = "2,3,4",
    split: Annotated[str, typer.Option(help="test, or tune: other captions, to choose a strength on.")] = "test",
    profile: Profile = "bundled",
    model: Model = None,
    steps: FilmSteps = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same captions and noise.")] = 0,
    out: Out = None,
    json: Json = False,
) -> int:
    """What each control does to captions of several events: completion, order, timing, leakage, paired with none."""
    found = fabula.evaluate_steering(
        _names(arms),
        cases=cases,
        events=fabula.counts_of(events),
        split=split,
        profile=profile,
        model=model,
        steps=steps,
        seed=seed,
        out=out,
        on_progress=None if json else screen.tell_arm,
    )
    return screen.show_ablation(found, json)


@group.command()
def cast(
    arms: Annotated[str, typer.Option(help="Arms, with commas between; all by default, independent always.")] = "",
    sets: Annotated[int, typer.Option(min=1, help="Sets for each number of shots.")] = 24,
    sizes: Annotated[str, typer.Option(help="Shots a set, with commas between: 2 to 6.")] = "2,3,4,5,6",
    split: Annotated[str, typer.Option(help="test, or tune: other sets, to choose a strength on.")] = "test",
    profile: Profile = "bundled",
    model: Model = None,
    steps: FilmSteps = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same sets and noise.")] = 0,
    out: Out = None,
    json: Json = False,
) -> int:
    """Is a cast the same in every shot of a set, and what does it cost: looks, motion and events, with and without."""
    found = fabula.evaluate_cast(
        _names(arms),
        sets=sets,
        sizes=fabula.counts_of(sizes),
        split=split,
        profile=profile,
        model=model,
        steps=steps,
        seed=seed,
        out=out,
        on_progress=None if json else screen.tell_arm,
    )
    return screen.show_ablation(found, json)


@group.command()
def extension(
    arms: Annotated[str, typer.Option(help="Arms, with commas between; all by default, cut always.")] = "",
    chains: Annotated[int, typer.Option(min=1, help="Chains for each number of shots.")] = 16,
    sizes: Annotated[str, typer.Option(help="Shots a chain, with commas between: 2 to 6.")] = "2,3,4,5,6",
    split: Annotated[str, typer.Option(help="test, or tune: other chains, to choose a setting on.")] = "test",
    scenes: Annotated[
        Path | None, typer.Option(help="What `train scenes` learnt, for the arm that films in sequence.")
    ] = None,
    profile: Profile = "bundled",
    model: Model = None,
    steps: FilmSteps = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same chains and noise.")] = 0,
    out: Out = None,
    json: Json = False,
) -> int:
    """Shots that go on from one another: which seams hold, and how place, look and events last down the chain."""
    found = fabula.evaluate_extension(
        _names(arms),
        chains=chains,
        sizes=fabula.counts_of(sizes),
        split=split,
        scenes=scenes,
        profile=profile,
        model=model,
        steps=steps,
        seed=seed,
        out=out,
        on_progress=None if json else screen.tell_arm,
    )
    return screen.show_ablation(found, json)


@group.command()
def retry(
    policies: Annotated[str, typer.Option(help="Policies, with commas between; all by default, off always.")] = "",
    cases: Annotated[int, typer.Option(min=1, help="Captions for each number of events.")] = 96,
    events: Annotated[str, typer.Option(help="Events a caption, with commas between: 1 to 4.")] = "2",
    takes: Annotated[int, typer.Option(min=2, help="Takes a shot, at most.")] = 6,
    profile: Profile = "bundled",
    model: Model = None,
    steps: FilmSteps = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same captions and noise.")] = 0,
    out: Out = None,
    json: Json = False,
) -> int:
    """What filming again is worth: no retry, whole shots, single events and each remedy, over the work spent."""
    found = fabula.evaluate_retry(
        _names(policies),
        cases=cases,
        events=fabula.counts_of(events),
        takes=takes,
        profile=profile,
        model=model,
        steps=steps,
        seed=seed,
        out=out,
        on_progress=None if json else screen.tell_arm,
    )
    return screen.show_ablation(found, json)


def _places(encoders: Sequence[str]) -> dict[str, str]:
    """Ids and places of `id=place`."""
    if wrong := [one for one in encoders if not all(part.strip() for part in one.partition("="))]:
        raise fabula.UsageError(f"--encoder: expected ID=FOLDER or ID=HUB-ID, got {', '.join(wrong)}")
    return {known: place for known, _, place in (one.partition("=") for one in encoders)}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


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
