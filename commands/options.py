"""Options that several commands share, each written down once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FILM, LOOK, NIGHT, WORKSHOP, BUDGET = "Film a story", "Look", "Overnight", "Workshop", "Hard limits"
"""Panels of the help."""

StoryText = Annotated[str, typer.Argument(help="A text file, the story itself, or - for stdin.")]
MaybeStory = Annotated[str | None, typer.Argument(help="A text file, the story itself, or - for stdin.")]
MaybeRun = Annotated[
    int | None, typer.Argument(metavar="RUN", help="The run's number, the newest by default; `runs` lists them.")
]
Profile = Annotated[
    str, typer.Option(envvar="FABULA_PROFILE", help="Who plans, films and judges: a profile's name or a TOML file.")
]
Model = Annotated[str | None, typer.Option(help="Weights to film with: a folder or a model id.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same frames.")]
Seconds = Annotated[float | None, typer.Option(help="Length of the film, about.")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Size of the frames, such as 832x480.")]
FilmSteps = Annotated[int | None, typer.Option("--steps", help="Denoising steps of a take; the profile's by default.")]
FilmGuidance = Annotated[
    float | None, typer.Option("--guidance", help="How closely the prompt is followed; 1 for few-step adapters.")
]
FirstFrame = Annotated[
    Path | None,
    typer.Option(metavar="PICTURE", help="A picture that shots start from; picture-to-video models need one."),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH[@SCALE]", help="An adapter (LoRA) on top of the weights: a file or folder. Repeatable."),
]
MotionSource = Annotated[
    list[str] | None,
    typer.Option(
        "--motion-from",
        metavar="[N=]SOURCE",
        help="Whose motion shots have: a video, `shot 1`, `run 7 shot 2`, `camera pan left`; for shot N only, or for "
        "all. Repeatable.",
    ),
]
MotionShare = Annotated[
    float | None, typer.Option(help="Share of the steps that give that motion; by default as published for the model.")
]
Sets = Annotated[
    bool | None,
    typer.Option("--sets/--alone", help="Film shots that share a cast as one set, or each alone; else as the profile."),
]
Scenes = Annotated[
    bool, typer.Option("--scenes", help="Film sets as one sequence: the model was trained for it (`train scenes`).")
]
Style = Annotated[str, typer.Option(help="How it should look, in words.")]
Attention = Annotated[
    bool,
    typer.Option("--attention", help="Put into the report where the model looked; takes two clips more a shot."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Home = Annotated[
    Path | None,
    typer.Option(
        envvar="FABULA_HOME",
        parser=lambda text: Path(text) if str(text).strip() else None,  # empty is unset, and not the current folder
        metavar="<path>",
        help="Folder of runs and takes; ~/.local/share/fabula by default.",
    ),
]
Database = Annotated[
    str | None, typer.Option(envvar="FABULA_DATABASE", help="Any SQLAlchemy URL instead of the SQLite file at home.")
]
Cron = Annotated[str | None, typer.Option(help="Store the batch for these times (five fields); `due` films it.")]
Takes = Annotated[
    int | None, typer.Option("--budget-takes", min=1, help="Takes a shot, at most.", rich_help_panel=BUDGET)
]
Clock = Annotated[
    float | None,
    typer.Option("--budget-seconds", help="Seconds of work in all, loading not counted.", rich_help_panel=BUDGET),
]
Tokens = Annotated[int | None, typer.Option("--budget-tokens", help="Tokens in all.", rich_help_panel=BUDGET)]
Money = Annotated[float | None, typer.Option("--budget-money", help="Money in all.", rich_help_panel=BUDGET)]
