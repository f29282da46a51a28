"""`python main.py bench …`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fabula
import screen
from commands.options import FilmGuidance, FilmSteps, Json, Lora

group = typer.Typer(help="Measure fabula itself.", no_args_is_help=True)


@group.command()
def graph(
    shots: Annotated[str, typer.Option(help="Shots of a story, with commas between.")] = "32,100,1000",
    repeats: Annotated[int, typer.Option(min=1, help="How often; the sizes take turns.")] = 3,
    json: Json = False,
) -> int:
    """Seconds and bytes of everything around the model: graph, archive, editor."""
    return screen.show_rows(fabula.bench_graph(fabula.counts_of(shots), repeats), json)


@group.command()
def sampler(json: Json = False) -> int:
    """FLOPs and peak bytes of a denoising step, over those of the stock pipelines."""
    return screen.show_rows(fabula.bench_sampler(), json)


@group.command()
def controls(
    pairs: Annotated[int, typer.Option(min=1, help="Timed pairs, steered and plain in turn.")] = 7,
    json: Json = False,
) -> int:
    """What each control costs over the same work without it: time, FLOPs, bytes."""
    return screen.show_rows(fabula.bench_controls(pairs), json)


@group.command()
def scenes(json: Json = False) -> int:
    """What steering across shots costs over plain clips."""
    return screen.show_rows(fabula.bench_scenes(), json)


@group.command()
def world(
    model: Annotated[Path | None, typer.Option(help="A folder in diffusers' format; the bundled model's.")] = None,
    cases: Annotated[int, typer.Option(min=1, help="Cases of one event, and as many of two.")] = 96,
    out: Annotated[Path | None, typer.Option(help="Where the rows go, bench/world by default; goes on.")] = None,
    stock: Annotated[
        bool, typer.Option("--stock", help="Film with diffusers alone, at its defaults where none are named.")
    ] = False,
    steps: FilmSteps = None,
    guidance: FilmGuidance = None,
    lora: Lora = None,
    split: Annotated[str, typer.Option(help="What was kept from training, with commas between.")] = "both",
    seed: Annotated[int, typer.Option(min=0, help="Which cases are drawn.")] = 0,
    json: Json = False,
) -> int:
    """What a puppet-world model can do: held-out cases between their ceiling and their floor."""
    told = None if json else screen.tell_case
    rows = fabula.bench_world(
        model,
        cases=cases,
        out=out,
        stock=stock,
        splits=split.split(","),
        seed=seed,
        steps=steps,
        guidance=guidance,
        lora=lora or (),
        on_row=told,
    )
    return screen.show_rows(rows, json)
