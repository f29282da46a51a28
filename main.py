"""fabula's command line: options, then one call. What a command does is in `fabula.py`, its look in `screen.py`."""

from __future__ import annotations

import gc
import io
import os
import re
import sys
from pathlib import Path
from typing import Annotated

# before torch: idle threads must sleep and not spin, after a moment in which work may come
if os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE").upper() == "PASSIVE":
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its advice is for programmers
HERE = str(Path(__file__).resolve().parent)
if sys.path[:1] != [HERE]:  # `python -P` leaves it out; this checkout's code comes first, whatever is installed
    sys.path.insert(0, HERE)

from commands.interpreter import use_libraries

use_libraries(Path(HERE))  # `python main.py` works without `.venv` being activated

import typer

import fabula
import screen
from commands import bench, evaluate, inspect, train
from commands.options import (
    FILM,
    LOOK,
    NIGHT,
    WORKSHOP,
    Attention,
    Clock,
    Cron,
    Database,
    FilmGuidance,
    FilmSteps,
    FirstFrame,
    Home,
    Json,
    Lora,
    MaybeRun,
    MaybeStory,
    Model,
    Money,
    MotionShare,
    MotionSource,
    Profile,
    Scenes,
    Seconds,
    Seed,
    Sets,
    Size,
    StoryText,
    Style,
    Takes,
    Tokens,
)
from commands.typed import Typed, first_film
from watch import watch

app = typer.Typer(
    help="Turn a written story into a film, and know whether the film tells the story.",
    epilog=f"A first film:  {first_film(Typed())}",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bench.group, name="bench", rich_help_panel=WORKSHOP)
app.add_typer(evaluate.group, name="eval", rich_help_panel=WORKSHOP)
app.add_typer(inspect.group, name="inspect", rich_help_panel=WORKSHOP)
app.add_typer(train.group, name="train", rich_help_panel=WORKSHOP)


def tell_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        screen.say(fabula.version())
        raise typer.Exit()


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show an error's traceback.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=tell_version, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of every command."""


@app.command(rich_help_panel=FILM)
def plan(
    story: StoryText,
    out: Annotated[Path | None, typer.Option(help="Where to write the storyboard (YAML).")] = None,
    profile: Profile = "bundled",
    model: Model = None,
    seed: Seed = 0,
    seconds: Seconds = None,
    size: Size = None,
    steps: FilmSteps = None,
    guidance: FilmGuidance = None,
    first_frame: FirstFrame = None,
    lora: Lora = None,
    motion_from: MotionSource = None,
    motion_share: MotionShare = None,
    sets: Sets = None,
    scenes: Scenes = False,
    style: Style = "",
    home: Home = None,
    database: Database = None,
    json: Json = False,
) -> int:
    """Write the storyboard of a story, for a person to read and edit."""
    wishes = fabula.Wishes(
        seed=seed,
        seconds=seconds,
        size=fabula.size_of(size),
        steps=steps,
        guidance=guidance,
        first_frame=first_frame,
        lora=tuple(lora or ()),
        motion_from=tuple(motion_from or ()),
        motion_share=motion_share,
        sets=sets,
        scenes=scenes,
        style=style,
        out=out,
    )
    typed = Typed(home=home, database=database)
    with (
        fabula.Studio(profile, model=model, home=home, database=database) as studio,
        watch(json, screen.console, typed.resume, notes=False) as on_event,
    ):
        planned = studio.plan(read(story), on_event=on_event, **wishes)
    return screen.show_plan(planned, json, typed)


@app.command(rich_help_panel=FILM)
def run(
    story: MaybeStory = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the film; films/TITLE by default.")] = None,
    profile: Profile = "bundled",
    model: Model = None,
    seed: Seed = 0,
    seconds: Seconds = None,
    size: Size = None,
    steps: FilmSteps = None,
    guidance: FilmGuidance = None,
    first_frame: FirstFrame = None,
    lora: Lora = None,
    motion_from: MotionSource = None,
    motion_share: MotionShare = None,
    sets: Sets = None,
    scenes: Scenes = False,
    style: Style = "",
    from_plan: Annotated[Path | None, typer.Option(help="Film this storyboard (YAML) as it stands.")] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Stop after the storyboard; `resume` goes on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print plan and estimate, spend nothing.")] = False,
    attention: Attention = False,
    budget_takes: Takes = None,
    budget_seconds: Clock = None,
    budget_tokens: Tokens = None,
    budget_money: Money = None,
    home: Home = None,
    database: Database = None,
    json: Json = False,
) -> int:
    """Film a story; a second time the same story costs nothing."""
    if (story is None) == (from_plan is None):
        raise fabula.UsageError(
            "Expected a story (a text file, the story itself, or - for stdin) or --from-plan FILE: one of them"
        )
    order = fabula.Order(
        story=read(story) if story is not None else None,
        from_plan=from_plan,
        out=out,
        seed=seed,
        seconds=seconds,
        size=fabula.size_of(size),
        steps=steps,
        guidance=guidance,
        first_frame=first_frame,
        lora=tuple(lora or ()),
        motion_from=tuple(motion_from or ()),
        motion_share=motion_share,
        sets=sets,
        scenes=scenes,
        style=style,
        approve=approve,
        attention=attention,
        budget=fabula.Caps(takes=budget_takes, seconds=budget_seconds, tokens=budget_tokens, money=budget_money),
    )
    typed = Typed(home=home, database=database)
    with fabula.Studio(profile, model=model, home=home, database=database) as studio:
        if dry_run:
            return screen.show_estimate(studio.estimate(order), json)
        with watch(json, screen.console, typed.resume) as on_event:
            film = studio.run(order, on_event=on_event)
    return screen.show_film(film, json, typed)


@app.command(rich_help_panel=FILM)
def resume(
    run: MaybeRun = None,
    from_plan: Annotated[Path | None, typer.Option(help="The edited storyboard, when it was moved.")] = None,
    out: Annotated[Path | None, typer.Option(help="Another folder for the film.")] = None,
    attention: Attention = False,
    budget_takes: Takes = None,
    budget_seconds: Clock = None,
    budget_tokens: Tokens = None,
    budget_money: Money = None,
    home: Home = None,
    database: Database = None,
    json: Json = False,
) -> int:
    """Go on with a run: after an interruption, a failure, or the approval of its storyboard."""
    typed = Typed(home=home, database=database)
    caps = fabula.Caps(takes=budget_takes, seconds=budget_seconds, tokens=budget_tokens, money=budget_money)
    with fabula.Studio(home=home, database=database) as studio, watch(json, screen.console, typed.resume) as on_event:
        film = studio.resume(run, from_plan=from_plan, out=out, attention=attention, budget=caps, on_event=on_event)
    return screen.show_film(film, json, typed)


@app.command(rich_help_panel=FILM)
def retry(
    run: MaybeRun = None,
    shot: Annotated[str | None, typer.Option(metavar="N", help="Only this shot.")] = None,
    event: Annotated[str | None, typer.Option(metavar="N.M", help="Only event M of shot N.")] = None,
    budget_takes: Takes = None,
    budget_seconds: Clock = None,
    budget_tokens: Tokens = None,
    budget_money: Money = None,
    home: Home = None,
    database: Database = None,
    json: Json = False,
) -> int:
    """Film again what was not seen, or one shot or event of a finished run; the best take stays in the film."""
    typed = Typed(home=home, database=database)
    caps = fabula.Caps(takes=budget_takes, seconds=budget_seconds, tokens=budget_tokens, money=budget_money)
    with fabula.Studio(home=home, database=database) as studio, watch(json, screen.console, typed.resume) as on_event:
        film = studio.retry(run, shot=shot, event=event, budget=caps, on_event=on_event)
    return screen.show_film(film, json, typed)


@app.command(rich_help_panel=FILM)
def recut(
    manifest: Annotated[Path, typer.Argument(help="The manifest.json beside a film.")],
    out: Annotated[Path | None, typer.Option(help="Folder; `again` beside the manifest by default.")] = None,
    home: Home = None,
    database: Database = None,
    json: Json = False,
) -> int:
    """Make a film again from its manifest and its takes, and check that it is the same, bit for bit."""
    with fabula.Studio(home=home, database=database) as studio:
        return screen.show_recut(studio.recut(manifest, out), json)


@app.command(rich_help_panel=LOOK)
def show(run: MaybeRun = None, home: Home = None, database: Database = None, json: Json = False) -> int:
    """Show a run: its storyboard, its takes, what was seen in them, and where the film is."""
    with fabula.Studio(home=home, database=database) as studio:
        return screen.show_run(studio.show(run), json, Typed(home=home, database=database))


@app.command(rich_help_panel=LOOK)
def runs(home: Home = None, database: Database = None, json: Json = False) -> int:
    """List every run, newest first."""
    with fabula.Studio(home=home, database=database) as studio:
        return screen.show_runs(studio.runs(), json, first_film(Typed(home=home, database=database)))


@app.command(rich_help_panel=LOOK)
def doctor(home: Home = None, json: Json = False) -> int:
    """Say what is installed, which devices and keys there are, and which profiles would work."""
    return screen.show_checkup(fabula.doctor(home), json)


@app.command(rich_help_panel=NIGHT)
def batch(
    file: Annotated[Path, typer.Argument(help="Stories with their options: YAML, or JSON lines.")],
    cron: Cron = None,
    name: Annotated[str | None, typer.Option(help="The stored batch's name; the file's by default.")] = None,
    home: Home = None,
    database: Database = None,
    json: Json = False,
) -> int:
    """Film a list of stories, one after the other; run it again to go on where it stopped."""
    typed = Typed(home=home, database=database)
    with fabula.Studio(home=home, database=database) as studio:
        if cron is not None:
            return screen.show_schedule(studio.schedule(file, cron, name=name), json, typed)
        if name is not None:
            raise fabula.UsageError("--name names a stored batch; give --cron too, or leave it out to film now")
        with watch(json, screen.console, lambda _: typed("batch", file)) as on_event:
            filmed = studio.batch(file, on_event=on_event)
    return screen.show_batch(filmed, json)


@app.command(rich_help_panel=NIGHT)
def schedules(
    forget: Annotated[str | None, typer.Option(metavar="NAME", help="Forget this one; its films stay.")] = None,
    home: Home = None,
    database: Database = None,
    json: Json = False,
) -> int:
    """List the stored batches, and when each is due."""
    with fabula.Studio(home=home, database=database) as studio:
        if forget is not None:
            studio.unschedule(forget)
        return screen.show_schedules(studio.schedules(), json, Typed(home=home, database=database))


@app.command(rich_help_panel=NIGHT)
def due(home: Home = None, database: Database = None, json: Json = False) -> int:
    """Film every stored batch whose time has come, then end; for cron and systemd timers."""
    typed = Typed(home=home, database=database)
    with (
        fabula.Studio(home=home, database=database) as studio,
        watch(json, screen.console, lambda _: typed("due")) as on_event,
    ):
        filmed = studio.due(on_event=on_event)
    return screen.show_batch(filmed, json)


def read(story: str) -> str | Path:
    """The story's text or file; a word that looks like a file or a folder must be a file. Raises UsageError."""
    if story == "-":
        return fabula.read_stream(sys.stdin.buffer, "Standard input")
    named = re.fullmatch(r"\S*[/\\]\S*|\S+\.\w{1,8}|.+\.(txt|md)", story)  # one word with a separator or a suffix
    if os.path.isdir(story):  # Path.is_dir raises on long texts
        raise fabula.UsageError(f"{story} is a folder: expected a story's text file, the story itself, or - for stdin")
    if os.path.exists(story):
        return Path(story)
    if named:
        raise fabula.UsageError(f"There is no story file {story}: expected a text file, the story itself, or -")
    return story


def _check_folder() -> None:
    """Raise UsageError when the current folder is gone: no relative path means anything there."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise fabula.UsageError("The current folder was deleted: change to one that is there") from error


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives its exit code (docs/exit-codes.md)."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a letter that the terminal does not have must not end a run
    try:
        if not {"--help", "-h"} & {*words}:
            _check_folder()
        return int(
            app(args=[word for word in words if word != "--debug"], standalone_mode=False, prog_name=Typed()()) or 0
        )
    except Exception as error:
        if debug and not isinstance(error, typer.TyperException):
            raise
        return screen.show_error(error, Typed(), "--json" in words)


if __name__ == "__main__":
    gc.set_threshold(10_000)  # what libraries make stays: looking through it every 700 objects takes a second
    sys.exit(main())
