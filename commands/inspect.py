"""`python main.py inspect …`"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import fabula
import screen
from commands.options import FilmSteps, Json, Model, Profile, Seconds, Seed, Size

group = typer.Typer(help="Look into a model while it films.", no_args_is_help=True)


class Control(StrEnum):
    """What the second clip is steered with."""

    TS_ATTN = "ts-attn"
    TEMPO = "tempo"
    VSTAR = "vstar"
    NONE = "none"


@group.callback()
def looks() -> None:
    """Look into a model while it films."""


@group.command()
def attention(
    prompt: Annotated[str, typer.Argument(help="What the clip shows, in words.")],
    event: Annotated[
        list[str],
        typer.Option(metavar="PHRASE@START-END[@SUBJECT]", help="Words of the prompt, their seconds; once an event."),
    ],
    control: Annotated[Control, typer.Option(help="Steers the second clip; none films one clip.")] = Control.TS_ATTN,
    profile: Profile = "bundled",
    model: Model = None,
    seed: Seed = 0,
    seconds: Seconds = None,
    size: Size = None,
    steps: FilmSteps = None,
    at_steps: Annotated[
        str | None, typer.Option(metavar="0-3,9", help="Denoising steps that are looked at; all by default.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="1,3,5-7", help="Blocks that are looked at; all by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The figure, a PNG.")] = Path("attention.png"),
    json: Json = False,
) -> int:
    """Where the words of each event are attended to, over time and space, without and with a control."""
    found = fabula.inspect_attention(
        prompt,
        event,
        control=control.value,
        profile=profile,
        model=model,
        seed=seed,
        seconds=seconds,
        size=fabula.size_of(size),
        steps=steps,
        looked_steps=numbers(at_steps, "--at-steps"),
        layers=numbers(layers, "--layers"),
        out=out,
    )
    return screen.show_attention(found, json)


def numbers(text: str | None, option: str) -> list[int]:
    """`0-3,9` as numbers; none where nothing was asked for. Raises UsageError."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise fabula.UsageError(f"{option}: expected numbers and ranges such as 0-3,9, got {text!r}")
        found |= set(range(int(first), int(last or first) + 1))
    return sorted(found)
