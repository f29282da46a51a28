"""`python main.py train …`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import fabula
import screen
from commands.options import Json, Seed

group = typer.Typer(help="Train the bundled model.", no_args_is_help=True)
world = typer.Typer(
    help="The puppet world's model: `vae` and `denoiser`, in any order, then `export`.", no_args_is_help=True
)
group.add_typer(world, name="world")

Out = Annotated[Path | None, typer.Option(help="Folder of the training run; training/world by default.")]
Steps = Annotated[int | None, typer.Option(help="Steps in all; the rate falls to zero over the last --decay-steps.")]
Minutes = Annotated[float | None, typer.Option(help="Stop after so long; the same command goes on.")]
Decay = Annotated[int | None, typer.Option(help="Steps over which the learning rate falls to zero at the end.")]
Device = Annotated[str, typer.Option(help="A torch device: cpu, cuda.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the blocks first: a fifth faster, needs a compiler.")]
Threads = Annotated[int | None, typer.Option(help="Processor threads; torch's own choice by default.")]


def train_part(part: Literal["vae", "denoiser"], says: str) -> None:
    """Add the command that trains one part; both take the same options."""

    @world.command(part, help=says)
    def train(
        out: Out = None,
        steps: Steps = None,
        minutes: Minutes = None,
        decay_steps: Decay = None,
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
            seed=seed,
            device=device,
            threads=threads,
            compiled=compiled,
            on_progress=None if json else screen.tell_training,
        )
        return screen.show_training(outcome, json)


train_part("vae", "Train the autoencoder, or go on.")
train_part("denoiser", "Train the transformer and its text encoder, or go on.")


@world.command()
def export(
    out: Out = None,
    to: Annotated[Path | None, typer.Option(help="Where to; generators/weights/world by default.")] = None,
) -> int:
    """Write what was trained as a stock diffusers pipeline with its model card."""
    screen.say(f"Written: {fabula.export_world(out, to)}")
    return 0
