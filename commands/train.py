"""`python main.py train …`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import fabula
import screen
from commands.options import Json, Seed
from commands.options import Size as CanvasSize

group = typer.Typer(help="Train the bundled model, or any model on sets of shots.", no_args_is_help=True)
world = typer.Typer(
    help="The puppet world's model: `vae`, `text`, `denoiser`, then `export`. `import` goes on, `distil` speeds up.",
    no_args_is_help=True,
)
group.add_typer(world, name="world")

Out = Annotated[Path | None, typer.Option(help="Folder of the training run; training/world by default.")]
Steps = Annotated[int | None, typer.Option(help="Steps in all; the rate falls to zero over the last --decay-steps.")]
Minutes = Annotated[float | None, typer.Option(help="Stop after so long; the same command goes on.")]
Decay = Annotated[int | None, typer.Option(help="Steps over which the learning rate falls to zero at the end.")]
Device = Annotated[str, typer.Option(help="A torch device: cpu, cuda.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the blocks first: a fifth faster, needs a compiler.")]
Threads = Annotated[int | None, typer.Option(help="Processor threads; torch's own choice by default.")]
Rate = Annotated[float | None, typer.Option(help="The full learning rate; the recipe's by default.")]
Often = Annotated[
    list[str] | None,
    typer.Option(metavar="VERB=WEIGHT", help="How often clips begin with a verb; 1 where none is named."),
]


def train_part(part: Literal["vae", "denoiser"], says: str) -> None:
    """Add the command that trains one part; both take the same options."""

    @world.command(part, help=says)
    def train(
        out: Out = None,
        steps: Steps = None,
        minutes: Minutes = None,
        decay_steps: Decay = None,
        learning_rate: Rate = None,
        often: Often = None,
        seed: Seed = 0,
        device: Device = "cpu",
        threads: Threads = None,
        compiled: Compile = False,
        json: Json = False,
    ) -> int:
        outcome = fabula.train_world(
            part,
            out=out,
            steps=steps,
            minutes=minutes,
            decay_steps=decay_steps,
            learning_rate=learning_rate,
            often=often or (),
            seed=seed,
            device=device,
            threads=threads,
            compiled=compiled,
            on_progress=None if json else screen.tell_training,
        )
        return screen.show_training(outcome, json)


train_part("vae", "Train the autoencoder, or go on.")
train_part("denoiser", "Train the transformer and its text encoder, or go on.")


@group.command()
def reader(
    out: Annotated[Path | None, typer.Option(help="Folder of the training run; training/reader by default.")] = None,
    to: Annotated[Path | None, typer.Option(help="The finished file; where `eval world` looks by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps in all; the rate falls to zero.")] = None,
    minutes: Minutes = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> int:
    """Teach the network by whose features `eval world` compares films with the truth (FVD-SW); or go on."""
    outcome = fabula.train_reader(
        out=out,
        to=to,
        steps=steps,
        minutes=minutes,
        seed=seed,
        device=device,
        threads=threads,
        on_progress=None if json else screen.tell_training,
    )
    return screen.show_training(outcome, json)


@world.command()
def text(
    out: Out = None,
    steps: Annotated[int | None, typer.Option(help="Steps in all, 1000 by default; the rate falls to zero.")] = None,
    minutes: Minutes = None,
    learning_rate: Rate = None,
    seed: Seed = 0,
    threads: Threads = None,
    json: Json = False,
) -> int:
    """Teach the text encoder who does what to whom: minutes, before the denoiser; or go on."""
    outcome = fabula.train_world_text(
        out=out,
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        seed=seed,
        threads=threads,
        on_progress=None if json else screen.tell_training,
    )
    return screen.show_training(outcome, json)


@world.command()
def distil(
    film_steps: Annotated[int, typer.Option(min=1, help="Steps that a film takes afterwards.")] = 8,
    guidance: Annotated[float, typer.Option(help="Of the teacher; afterwards films need none.")] = 3.0,
    out: Out = None,
    steps: Steps = None,
    minutes: Minutes = None,
    decay_steps: Decay = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> int:
    """Teach adapters to film in few steps, without guidance, what the trained denoiser films; or go on."""
    outcome = fabula.distil_world(
        film_steps,
        guidance,
        out=out,
        steps=steps,
        minutes=minutes,
        decay_steps=decay_steps,
        seed=seed,
        device=device,
        threads=threads,
        on_progress=None if json else screen.tell_training,
    )
    return screen.show_training(outcome, json)


@world.command()
def export(
    out: Out = None,
    to: Annotated[Path | None, typer.Option(help="Where to; generators/weights/world by default.")] = None,
) -> int:
    """Write what was trained as a stock diffusers pipeline with its model card."""
    screen.say(f"Written: {fabula.export_world(out, to)}")
    return 0


@world.command()
def mean(
    weights: Annotated[list[Path], typer.Argument(help="What `export` wrote, two folders or more.")],
    to: Annotated[Path, typer.Option(help="Where to.")],
) -> int:
    """Average exported models that went apart from one run: often better than each."""
    screen.say(f"Written: {fabula.mean_world(weights, to)}")
    return 0


@world.command(name="import")
def import_(
    weights: Annotated[
        Path | None, typer.Argument(help="What `export` wrote; the weights of the box by default.")
    ] = None,
    out: Out = None,
) -> int:
    """Lay out a training run from exported weights, to go on from them."""
    screen.say(f"Laid out: {fabula.import_world(weights, out)}")
    return 0


WHAT, HOW, WHERE = "What it learns from", "How it learns", "Where it computes"
"""Panels of the help."""
Mask = Literal["v1", "v2", "v3", "v4", "v5"]


@group.command()
def scenes(
    clips: Annotated[
        Path | None,
        typer.Argument(help="Captioned clips: a folder, or a CSV, JSON or JSONL table. None: the puppet world."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Wan or CogVideoX: a folder or a model id. The bundled model by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the training; training/scenes by default.")] = None,
    stage: Annotated[
        Literal["1", "2", "both"],
        typer.Option(help="1: unrelated shots together. 2: consecutive shots, some as sequels."),
    ] = "both",
    steps: Annotated[int | None, typer.Option(help="Of each stage: 10000, or 2000 of the bundled model.")] = None,
    minutes: Minutes = None,
    shots: Annotated[int, typer.Option(min=2, help="Shots of a set.", rich_help_panel=WHAT)] = 3,
    frames: Annotated[
        int | None, typer.Option(help="Frames of a shot: 33 or 65 of the puppet world.", rich_help_panel=WHAT)
    ] = None,
    size: CanvasSize = None,
    stride: Annotated[
        int, typer.Option(min=1, help="The largest step between the frames taken of a clip.", rich_help_panel=WHAT)
    ] = 3,
    pool: Annotated[
        int | None, typer.Option(help="So many sets, encoded once and kept in memory.", rich_help_panel=WHAT)
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Train every weight, not adapters.", rich_help_panel=HOW)
    ] = False,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the adapters (LoRA).", rich_help_panel=HOW)] = 64,
    mask: Annotated[Mask, typer.Option(help="What sees what across shots.", rich_help_panel=HOW)] = "v2",
    sequels: Annotated[
        float, typer.Option(help="Stage 2: share of sets whose last shot alone is noised.", rich_help_panel=HOW)
    ] = 0.5,
    batch: Annotated[int, typer.Option(min=1, help="Sets a step, of all devices.", rich_help_panel=HOW)] = 8,
    learning_rate: Annotated[
        float | None, typer.Option(help="1e-5, or 2e-4 for the bundled model.", rich_help_panel=HOW)
    ] = None,
    ema: Annotated[
        float | None, typer.Option(help="Decay of an average of the weights, such as 0.999.", rich_help_panel=HOW)
    ] = None,
    caption_dropout: Annotated[float, typer.Option(help="Share of captions left empty.", rich_help_panel=HOW)] = 0.0,
    sample_every: Annotated[
        int, typer.Option(min=0, help="Steps between contact sheets; 0 draws none.", rich_help_panel=HOW)
    ] = 500,
    checkpointing: Annotated[
        bool,
        typer.Option("--checkpointing", help="Compute activations twice and keep few.", rich_help_panel=WHERE),
    ] = False,
    precision: Annotated[
        Literal["auto", "bf16", "float32"], typer.Option(help="auto: bfloat16 where it is fast.", rich_help_panel=WHERE)
    ] = "auto",
    device: Annotated[str, typer.Option(help="A torch device: cpu, cuda.", rich_help_panel=WHERE)] = "cpu",
    threads: Annotated[
        int | None, typer.Option(help="Processor threads; torch's own choice by default.", rich_help_panel=WHERE)
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Train a model to film several shots as one sequence (Mask2DiT), or go on.

    Several devices: accelerate launch main.py train scenes ... --device cuda
    """
    wishes = fabula.SceneWishes(
        model=model,
        clips=clips,
        stage=stage,
        out=out,
        steps=steps,
        minutes=minutes,
        shots=shots,
        frames=frames,
        size=size,
        stride=stride,
        mask=mask,
        sequels=sequels,
        full=full,
        rank=rank,
        batch=batch,
        learning_rate=learning_rate,
        ema=ema,
        caption_dropout=caption_dropout,
        pool=pool,
        checkpointing=checkpointing,
        precision=precision,
        device=device,
        threads=threads,
        sample_every=sample_every,
        seed=seed,
    )
    outcome = fabula.train_scenes(wishes, on_progress=None if json else screen.tell_training)
    return screen.show_training(outcome, json)


@group.command("scenes-data")
def scenes_data(
    videos: Annotated[Path, typer.Argument(help="A folder of long videos.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the table clips.jsonl; training/clips by default.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="How much a picture changes at a cut, 0 to 255.")] = 27.0,
    shortest: Annotated[int, typer.Option(min=1, help="Frames of the shortest shot.")] = 15,
    encoder: Annotated[
        Path | None, typer.Option(help="Folder of a CLIP, DINOv2 or ViT model that compares neighbouring shots.")
    ] = None,
    least_similar: Annotated[float, typer.Option(help="Neighbours less alike do not belong together.")] = 0.8,
    captions: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="A profile whose critic's model writes captions.")
    ] = None,
    json: Json = False,
) -> int:
    """Make training data of long videos: find shots, keep runs that look alike, write captions; or go on."""
    prepared = fabula.prepare_scenes(
        videos,
        out=out,
        threshold=threshold,
        shortest=shortest,
        encoder=encoder,
        least_similar=least_similar,
        captions=captions,
        environment=fabula.environment(),
        on_progress=None if json else screen.tell_preparing,
    )
    return screen.show_prepared(prepared, json)
