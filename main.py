"""fabula's command line: options, then one call. What a command does is in `fabula.py`, its look in `screen.py`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: idle threads must sleep, not spin
HERE = str(Path(__file__).resolve().parent)
if sys.path[:1] != [HERE]:  # `python -P` leaves it out; this checkout's code comes first, whatever is installed
    sys.path.insert(0, HERE)

import typer

import fabula
import screen
from watch import watch

app = typer.Typer(
    help="Turn a written story into a film, and know whether the film tells the story.",
    epilog="A first film:  python main.py run examples/the-fox-and-the-cat.txt",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench = typer.Typer(help="Measure fabula itself.")
train = typer.Typer(help="Train the bundled model.")
train_world = typer.Typer(help="The puppet world's model: `vae` and `denoiser`, in any order, then `export`.")
FILM, LOOK, NIGHT, WORKSHOP, BUDGET = "Film a story", "Look", "Overnight", "Workshop", "Hard limits"
app.add_typer(bench, name="bench", rich_help_panel=WORKSHOP, no_args_is_help=True)
app.add_typer(train, name="train", rich_help_panel=WORKSHOP, no_args_is_help=True)
train.add_typer(train_world, name="world", no_args_is_help=True)

StoryText = Annotated[str, typer.Argument(help="A text file, the story itself, or - for stdin.")]
MaybeStory = Annotated[str | None, typer.Argument(help="A text file, the story itself, or - for stdin.")]
RunNumber = Annotated[int, typer.Argument(metavar="RUN", help="The run's number; `runs` lists them.")]
Profile = Annotated[
    str, typer.Option(envvar="FABULA_PROFILE", help="Who plans, films and judges: a profile's name or a TOML file.")
]
Model = Annotated[str | None, typer.Option(help="Weights to film with: a folder or a model id.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same frames.")]
Seconds = Annotated[float | None, typer.Option(help="Length of the film, about.")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Size of the frames, such as 832x480.")]
Style = Annotated[str, typer.Option(help="How it should look, in words.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Home = Annotated[
    Path | None, typer.Option(envvar="FABULA_HOME", help="Folder of runs and takes; ~/.local/share/fabula by default.")
]
Database = Annotated[
    str | None, typer.Option(envvar="FABULA_DATABASE", help="Any SQLAlchemy URL instead of the SQLite file at home.")
]
Cron = Annotated[str | None, typer.Option(help="Store the batch for these times (five fields); `due` films it.")]
Takes = Annotated[int | None, typer.Option("--budget-takes", help="Takes a shot, at most.", rich_help_panel=BUDGET)]
Clock = Annotated[float | None, typer.Option("--budget-seconds", help="Wall clock in all.", rich_help_panel=BUDGET)]
Tokens = Annotated[int | None, typer.Option("--budget-tokens", help="Tokens in all.", rich_help_panel=BUDGET)]
Money = Annotated[float | None, typer.Option("--budget-money", help="Money in all.", rich_help_panel=BUDGET)]


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
    style: Style = "",
    home: Home = None,
    database: Database = None,
    json: Json = False,
) -> int:
    """Write the storyboard of a story, for a person to read and edit."""
    wishes = fabula.Wishes(seed=seed, seconds=seconds, size=fabula.size_of(size), style=style, out=out)
    with (
        fabula.Studio(profile, model=model, home=home, database=database) as studio,
        watch(json, screen.console) as on_event,
    ):
        planned = studio.plan(read(story), on_event=on_event, **wishes)
    return screen.show_plan(planned, json)


@app.command(rich_help_panel=FILM)
def run(
    story: MaybeStory = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the film; films/TITLE by default.")] = None,
    profile: Profile = "bundled",
    model: Model = None,
    seed: Seed = 0,
    seconds: Seconds = None,
    size: Size = None,
    style: Style = "",
    from_plan: Annotated[Path | None, typer.Option(help="Film this storyboard (YAML) as it stands.")] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Stop after the storyboard; `resume` goes on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print plan and estimate, spend nothing.")] = False,
    budget_takes: Takes = None,
    budget_seconds: Clock = None,
    budget_tokens: Tokens = None,
    budget_money: Money = None,
    home: Home = None,
    database: Database = None,
    json: Json = False,
) -> int:
    """Film a story; a second time the same story costs nothing."""
    order = fabula.Order(
        story=read(story) if story is not None else None,
        from_plan=from_plan,
        out=out,
        seed=seed,
        seconds=seconds,
        size=fabula.size_of(size),
        style=style,
        approve=approve,
        budget=fabula.Caps(takes=budget_takes, seconds=budget_seconds, tokens=budget_tokens, money=budget_money),
    )
    with fabula.Studio(profile, model=model, home=home, database=database) as studio:
        if dry_run:
            return screen.show_estimate(studio.estimate(order), json)
        with watch(json, screen.console) as on_event:
            film = studio.run(order, on_event=on_event)
    return screen.show_film(film, json)


@app.command(rich_help_panel=FILM)
def resume(
    run: RunNumber,
    from_plan: Annotated[Path | None, typer.Option(help="The edited storyboard, when it was moved.")] = None,
    budget_takes: Takes = None,
    budget_seconds: Clock = None,
    budget_tokens: Tokens = None,
    budget_money: Money = None,
    home: Home = None,
    database: Database = None,
    json: Json = False,
) -> int:
    """Go on with a run: after an interruption, a failure, or the approval of its storyboard."""
    caps = fabula.Caps(takes=budget_takes, seconds=budget_seconds, tokens=budget_tokens, money=budget_money)
    with fabula.Studio(home=home, database=database) as studio, watch(json, screen.console) as on_event:
        film = studio.resume(run, from_plan=from_plan, budget=caps, on_event=on_event)
    return screen.show_film(film, json)


@app.command(rich_help_panel=FILM)
def retry(
    run: RunNumber,
    shot: Annotated[str | None, typer.Option(metavar="N", help="Only this shot, such as 3 or 3a.")] = None,
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
    caps = fabula.Caps(takes=budget_takes, seconds=budget_seconds, tokens=budget_tokens, money=budget_money)
    with fabula.Studio(home=home, database=database) as studio, watch(json, screen.console) as on_event:
        film = studio.retry(run, shot=shot, event=event, budget=caps, on_event=on_event)
    return screen.show_film(film, json)


@app.command(rich_help_panel=LOOK)
def show(run: RunNumber, home: Home = None, database: Database = None, json: Json = False) -> int:
    """Show a run: its storyboard, its takes, what was seen in them, and where the film is."""
    with fabula.Studio(home=home, database=database) as studio:
        screen.show_film(studio.show(run), json, whole=True)
    return 0


@app.command(rich_help_panel=LOOK)
def runs(home: Home = None, database: Database = None, json: Json = False) -> int:
    """List every run, newest first."""
    with fabula.Studio(home=home, database=database) as studio:
        return screen.show_runs(studio.runs(), json)


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
    with fabula.Studio(home=home, database=database) as studio:
        if cron is not None:
            return screen.show_schedule(studio.schedule(file, cron, name=name), json)
        with watch(json, screen.console) as on_event:
            filmed = studio.batch(file, on_event=on_event)
    return screen.show_batch(filmed, json)


@app.command(rich_help_panel=NIGHT)
def due(home: Home = None, database: Database = None, json: Json = False) -> int:
    """Film every stored batch whose time has come, then end; for cron and systemd timers."""
    with fabula.Studio(home=home, database=database) as studio, watch(json, screen.console) as on_event:
        filmed = studio.due(on_event=on_event)
    return screen.show_batch(filmed, json)


TrainOut = Annotated[Path | None, typer.Option(help="Folder of the training run; training/world by default.")]
Steps = Annotated[int | None, typer.Option(help="Steps in all; the rate falls to zero over the last --decay-steps.")]
Minutes = Annotated[float | None, typer.Option(help="Stop after so long; the same command goes on.")]
Decay = Annotated[int | None, typer.Option(help="Steps over which the learning rate falls to zero at the end.")]
Device = Annotated[str, typer.Option(help="A torch device: cpu, cuda.")]
Threads = Annotated[int | None, typer.Option(help="Processor threads; torch's own choice by default.")]


@train_world.command()
def vae(
    out: TrainOut = None,
    steps: Steps = None,
    minutes: Minutes = None,
    decay_steps: Decay = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> int:
    """Train the autoencoder, or go on."""
    outcome = fabula.train_world(
        "vae",
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


@train_world.command()
def denoiser(
    out: TrainOut = None,
    steps: Steps = None,
    minutes: Minutes = None,
    decay_steps: Decay = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> int:
    """Train the transformer and its text encoder, or go on."""
    outcome = fabula.train_world(
        "denoiser",
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


@train_world.command()
def export(
    out: TrainOut = None,
    to: Annotated[Path | None, typer.Option(help="Where to; generators/weights/world by default.")] = None,
) -> int:
    """Write what was trained as a stock diffusers pipeline with its model card."""
    screen.say(f"Written: {fabula.export_world(out, to)}")
    return 0


@bench.command("graph")
def bench_graph(
    shots: Annotated[str, typer.Option(help="Shots of a story, with commas between.")] = "32,100,1000",
    repeats: Annotated[int, typer.Option(min=1, help="How often; the sizes take turns.")] = 3,
    json: Json = False,
) -> int:
    """Seconds and bytes of everything around the model: graph, archive, editor."""
    return screen.show_rows(fabula.bench_graph(fabula.counts_of(shots), repeats), json)


@bench.command("sampler")
def bench_sampler(json: Json = False) -> int:
    """FLOPs and peak bytes of a denoising step, over those of the stock pipelines."""
    return screen.show_rows(fabula.bench_sampler(), json)


@bench.command("world")
def bench_world(
    model: Annotated[Path | None, typer.Option(help="A folder in diffusers' format; the bundled model's.")] = None,
    cases: Annotated[int, typer.Option(min=1, help="Cases of one event, and as many of two.")] = 96,
    out: Annotated[Path | None, typer.Option(help="Where the rows go, bench/world by default; goes on.")] = None,
    stock: Annotated[bool, typer.Option("--stock", help="Film with diffusers alone.")] = False,
    split: Annotated[str, typer.Option(help="What was kept from training, with commas between.")] = "both",
    json: Json = False,
) -> int:
    """What a puppet-world model can do: held-out cases between their ceiling and their floor."""
    told = None if json else screen.tell_case
    rows = fabula.bench_world(model, cases=cases, out=out, stock=stock, splits=split.split(","), on_row=told)
    return screen.show_rows(rows, json)


def read(story: str) -> str | Path:
    """The story's text or file; a word that looks like a file must be one."""
    if story == "-":
        return fabula.decode(sys.stdin.buffer.read(), "standard input")
    looks_like_file = story.endswith((".txt", ".md")) and "\n" not in story
    return Path(story) if looks_like_file or os.path.isfile(story) else story  # Path.is_file raises on long texts


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives its exit code (docs/exit-codes.md)."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    try:
        return int(
            app(args=[word for word in words if word != "--debug"], standalone_mode=False, prog_name="python main.py")
            or 0
        )
    except Exception as error:
        if debug and not isinstance(error, typer.TyperException):
            raise
        return screen.show_error(error, "--json" in words)


if __name__ == "__main__":
    sys.exit(main())
