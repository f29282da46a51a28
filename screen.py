"""How results, errors and progress look in a terminal; as JSON where a program asks.

Knows rich and the values of `fabula.py`; decides nothing. It is long because rich is let in at this one door: every
result has its few lines here, and no other module learns what a table is.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

import fabula

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from fabula import Prepared, PreparingProgress, Rate, TrainingOutcome, TrainingProgress


class Screen(Console):
    """A console that falls silent when nobody reads it any more, as after `| head -1`: the work goes on."""

    def on_broken_pipe(self) -> None:
        """Nothing more is written; what is left in the buffer goes nowhere."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


console = Screen(highlight=False)
EDGELESS = 100_000
"""Columns of a file or a pipe: nothing is folded or cut off for it."""
if not console.is_terminal:
    console.width = EDGELESS
complaints = Screen(stderr=True, highlight=False)

Typed = Callable[..., str]
"""Words as a command that can be pasted where the person stands (`commands/typed.py`)."""
ROOM_FOR_STORIES = 100
"""Columns of a terminal that has room for a run's story beside its title."""
SEEN, UNSEEN, UNJUDGED = "[green]✓[/]", "[red]✗[/]", "[dim]·[/]"
MARKS = {True: SEEN, False: UNSEEN, None: UNJUDGED}
"""Of an event, by what a critic saw of it."""


def say(text: str) -> None:
    """One plain line on standard output."""
    console.print(text, markup=False, soft_wrap=True)


def show_film(film: fabula.FilmResult, as_json: bool, typed: Typed) -> int:
    """What work on a run came to; gives its exit code."""
    if as_json:
        return _json(film, film.exit_code)
    console.print(film_tree(film))
    for line in _where(film, typed):
        say(line)
    return film.exit_code


def show_recut(film: Path, as_json: bool) -> int:
    """A film that was made again, and is the same; gives 0."""
    if as_json:
        return _json({"film": str(film)}, 0)
    say(f"The same film, bit for bit: {film}")
    return 0


def show_run(film: fabula.FilmResult, as_json: bool, typed: Typed) -> int:
    """A run as it stands, with its takes and notes; looking at it succeeds however it stands."""
    if as_json:
        return _json(film, 0)
    console.print(film_tree(film, takes=True))
    _tell_notes(film.notes)
    for line in _where(film, typed):
        say(line)
    return 0


def film_tree(film: fabula.FilmResult, *, takes: bool = False) -> Tree:
    """The storyboard as a tree: shots, promised events and what was seen of them."""
    tree = Tree(f"[bold]{escape(film.title or 'Untitled')}[/]  [dim]run {film.run} · {film.profile} · {film.status}[/]")
    for shot in film.shots:
        branch = tree.add(f"[bold]{shot.label}[/] {escape(shot.prompt)} [dim]{shot.seconds:.1f} s[/]")
        for event in shot.events:
            branch.add(_event_line(event))
        for take in shot.takes if takes else ():
            branch.add(_take_line(take, len(shot.events), at_work=film.status == "filming"))
        if shot.why:
            state = "no more takes" if shot.state == "judged" else shot.state
            branch.add(f"[red]{state}:[/] {escape(shot.why)}")
    return tree


def show_plan(plan: fabula.PlanResult, as_json: bool, typed: Typed) -> int:
    """A storyboard that waits to be read."""
    if as_json:
        return _json(plan, 0)
    console.print(_board_tree(plan))
    _tell_notes(plan.notes)
    say(f"\nStoryboard: {plan.file}\nEdit it if you like, then: {typed('resume', plan.run)}")
    return 0


def show_estimate(estimate: fabula.Estimate, as_json: bool) -> int:
    """What a run would do and take at most; nothing was spent."""
    if as_json:
        return _json(estimate, 0)
    if estimate.plan is not None:
        console.print(_board_tree(estimate.plan))
        _tell_notes(estimate.plan.notes)
    table = Table(title="Estimate; nothing was spent", title_justify="left", show_header=False, box=None)
    for name, value in estimate.rows():
        table.add_row(f"[dim]{name}[/]", value)
    console.print(table)
    return 0


def show_runs(lines: Sequence[fabula.RunLine], as_json: bool, first: str) -> int:
    """Every run in one table; `first` is the command of a first one."""
    if as_json:
        return _json({"runs": lines}, 0)
    if not lines:
        say(f"No run yet. A first one: {first}")
        return 0
    texts = ("title", "story") if console.width >= ROOM_FOR_STORIES else ("title",)
    table = Table("run", "status", "profile", "begun", "spent", *texts, box=None, header_style="bold")
    table.expand = console.width < EDGELESS
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
        column.ratio = {"title": 1, "story": 2}.get(str(column.header))  # what is left of the line is theirs
    for line in lines:
        begun = line.created.astimezone().strftime("%d %b %H:%M")
        told = (line.title, line.story) if len(texts) == 2 else (line.title or line.story,)
        row = (str(line.run), line.status, line.profile, begun, f"{line.seconds:.1f} s", *told)
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
    return 0


def show_batch(batch: fabula.BatchResult, as_json: bool) -> int:
    """One summary of many stories."""
    if as_json:
        return _json(batch, batch.exit_code)
    if not batch.lines:
        say("Nothing is due.")
        return 0
    table = Table("", "story", "run", "events seen", "film or error", box=None, header_style="bold")
    table.columns[-1].overflow = "fold"
    for number, line in enumerate(batch.lines, 1):
        short = "[yellow]✗[/]" if line.tally and line.tally.wanting else UNJUDGED
        mark = {0: SEEN, 3: short}.get(line.exit_code, UNSEEN)
        run = "" if line.run is None else str(line.run)
        name = escape(line.name) or f"story {number}"
        table.add_row(mark, name, run, _counted(line.tally), escape(near(line.film) if line.film else line.error))
    console.print(table)
    return batch.exit_code


def near(path: Path) -> str:
    """The shorter way to a file from here; the whole one where there is none."""
    try:
        return min(os.path.relpath(path), str(path), key=len)
    except (OSError, ValueError):  # this folder is gone; another drive
        return str(path)


def _counted(tally: fabula.Tally | None) -> str:
    if tally is None:
        return ""
    return f"{tally.seen}/{tally.promised}" if tally.judged or not tally.unjudged else "not judged"


def show_schedule(schedule: fabula.ScheduleResult, as_json: bool, typed: Typed) -> int:
    """What was stored, and when it is due."""
    if as_json:
        return _json(schedule, 0)
    say(f"Stored {_schedule_line(schedule)}.")
    say(f"This films what is due: {typed('due')}\nHow cron and systemd do it: docs/scheduling.md")
    return 0


def show_schedules(schedules: Sequence[fabula.ScheduleResult], as_json: bool, typed: Typed) -> int:
    """The stored batches."""
    if as_json:
        return _json({"schedules": schedules}, 0)
    for schedule in schedules:
        say(_schedule_line(schedule))
    if not schedules:
        say(f"No stored batches. Store one: {typed('batch', 'FILE', '--cron', '0 2 * * *')}")
    return 0


def _schedule_line(schedule: fabula.ScheduleResult) -> str:
    when = schedule.next_run.astimezone().strftime("%a %d %b %H:%M")
    return f"{schedule.name!r}: {_count(schedule.stories, 'story', 'stories')}, due {when} ({schedule.cron})"


def show_checkup(checkup: fabula.checkup.Checkup, as_json: bool) -> int:
    """What there is and what would work."""
    if as_json:
        return _json(checkup, 0 if checkup.healthy else 1)
    for title, items in checkup.sections():
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for _ in range(3):
            table.add_column(overflow="fold")
        for item in items:
            mark = SEEN if item.fine else UNSEEN if item.needed else UNJUDGED
            table.add_row(mark, item.name, escape(item.says))
        console.print(table)
        console.print()
    return 0 if checkup.healthy else 1


def show_rows(rows: Sequence[DataclassInstance], as_json: bool) -> int:
    """What a bench measured, a row a line."""
    if as_json:
        return _json({"rows": rows}, 0)
    names = [field.name for field in dataclasses.fields(rows[0])]
    table = Table(*(name.replace("_", " ") for name in names), box=None, header_style="bold")
    for row in rows:
        table.add_row(*(_cell(getattr(row, name)) for name in names))
    console.print(table)
    return 0


def tell_case(row: Mapping[str, Any]) -> None:
    """One case of the world bench as it was read."""
    seen = ", ".join(
        f"{verb} {'seen' if ok else 'not seen'}" for verb, ok in zip(row["verbs"], row["done"], strict=True)
    )
    say(f"{row['case']}  {seen}  {row['caption']}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def tell_evaluation(progress: fabula.suite.Progress) -> None:
    """One unit of a benchmark."""
    say(f"{progress.done}/{progress.of}  {progress.unit}{'  kept from before' if progress.kept else ''}")


def tell_arm(name: str, progress: fabula.suite.Progress) -> None:
    """One unit of one arm of a benchmark."""
    kept = "  kept from before" if progress.kept else ""
    say(f"{progress.done}/{progress.of}  {name}  {progress.unit}{kept}")


def show_motion(found: fabula.MotionOutcome, as_json: bool) -> int:
    """Tables of all arms, and where the curve over the share lies."""
    if as_json:
        return _json(found, 0)
    for result in found.results:
        say(result.manifest.method)
        show_evaluation(result, as_json=False)
    say(f"The curve: {found.picture}\n           {found.table}")
    return 0


def show_ablation(found: fabula.AblationOutcome, as_json: bool) -> int:
    """All arms under the first measures, each against the first arm; where the report with the others lies."""
    if as_json:
        return _json(found, 0)
    for shown in found.tables[:1]:
        say(shown.title)
        narrow = (0, 1, 2, len(shown.head) - 1)  # the report has the others
        table = Table("", *(shown.head[at] for at in narrow), box=None, header_style="bold")
        table.columns[0].no_wrap = True
        for name, cells in shown.rows:
            table.add_row(name, *(f"{cells[at].value}\n[dim]{escape(cells[at].beside)}[/]" for at in narrow))
        console.print(table)
    say(f"Written: {found.report.html}\n         {found.report.markdown}")
    return 0


def show_evaluation(result: fabula.suite.Result, as_json: bool) -> int:
    """A benchmark's table, and where it lies."""
    if as_json:
        return _json(result, 0)
    table = Table("metric", "over", "mean ± error", "95 %", "n", "beside it", box=None, header_style="bold")
    for line in result.lines:
        one = line.summary
        bounds = "-" if one.low is None else f"{one.low:.3f} to {one.high:.3f}"
        why = "; ".join([*one.unmeasured, *([one.note] if one.note else [])])
        mean = "-" if one.mean is None else f"{one.mean:.3f}" + ("" if one.error is None else f" ± {one.error:.3f}")
        table.add_row(one.metric, line.group, mean, bounds, f"{one.count} of {one.total}", why)
    console.print(table)
    say(f"Kept in {result.folder}")
    return 0


def show_evaluations(results: Sequence[fabula.suite.Result], as_json: bool) -> int:
    """The tables of one benchmark over several methods."""
    if as_json:
        return _json({"results": results}, 0)
    for result in results:
        say(f"{result.manifest.benchmark}: {result.manifest.method}")
        show_evaluation(result, as_json=False)
    return 0


def show_calibration(found: fabula.CalibrationResult, as_json: bool) -> int:
    """What a critic is worth, at every threshold and by kind of showing; what it will use, and where that is kept."""
    kept = found.calibration
    if as_json:
        return _json({"calibration": kept.model_dump(mode="json"), "file": found.file, "table": found.table}, 0)
    show_evaluation(found.table, as_json=False)
    rates = ("agreement", "precision", "recall", "false_acceptance", "wrong_captions")
    swept = Table("threshold", *(name.replace("_", " ") for name in rates), box=None, header_style="bold")
    for cells, rows in groupby(kept.sweep, key=lambda row: tuple(_rate(getattr(row, name)) for name in rates)):
        equal = [row.threshold for row in rows]
        mark = " *" if kept.threshold in equal else ""
        swept.add_row(f"{equal[0]:.2f}" + (f" to {equal[-1]:.2f}" if len(equal) > 1 else "") + mark, *cells)
    console.print(swept)
    if kept.released:
        released = Table("released judge", "against", "votes", *rates[:4], box=None, header_style="bold")
        for line in kept.released:
            shares = (_rate(getattr(line, name)) for name in rates[:4])
            released.add_row(line.judge, line.against, f"{line.share:.2f}", *shares)
        console.print(released)
    else:
        say("Released flags of StoryEval: not measured, no file was named (--verdicts)")
    held = ", ".join(f"{name.replace('_', ' ')} {_rate(getattr(kept.held_out, name))}" for name in rates)
    say(f"On clips that the threshold was not chosen by (halves, each at the other's): {held}")
    at_most = f"at most {kept.most_false:.0%} of broken promises"
    worth = "may be trusted" if kept.trusted else f"is not known to pass {at_most} and half of the kept ones"
    say(f"{kept.critic} {worth}; it will use the threshold {kept.threshold:g}, from {found.file}")
    return 0


def _rate(rate: Rate) -> str:
    if rate.value is None:
        return "-"
    return f"{rate.value:.3f} [{rate.low:.2f}, {rate.high:.2f}]"


def show_attention(found: fabula.attention.Inspection, as_json: bool) -> int:
    """How much of each event's attention falls into its time, and where the figure lies."""
    if as_json:
        return _json(found, 0)
    table = Table("event", "promised", "even", *(film.name for film in found.films), box=None, header_style="bold")
    for i, event in enumerate(found.events):
        shares = (f"{100 * film.inside[i]:.1f} %" for film in found.films)
        promised = f"{event.start:g}–{event.end:g} s"
        table.add_row(escape(event.phrase), promised, f"{100 * found.even[i]:.1f} %", *shares)
    console.print(table)
    say(f"Figure: {found.figure}")
    return 0


def tell_training(progress: TrainingProgress) -> None:
    """One line of a training run."""
    losses = "  ".join(f"{name} {value:.4f}" for name, value in progress.losses.items())
    say(f"step {progress.step}/{progress.of}  {losses}  {progress.clips_per_second:.1f} clips/s")


def show_training(outcome: TrainingOutcome, as_json: bool) -> int:
    """Where training stands and how to go on."""
    if as_json:
        return _json(outcome, 0)
    say(f"{outcome.step} steps done after {outcome.seconds / 60:.1f} minutes; kept in {outcome.checkpoint.parent}")
    if outcome.reason != "steps":
        say("The same command goes on.")
    return 0


def tell_preparing(progress: PreparingProgress) -> None:
    """One line of a video that training data is made of."""
    say(f"video {progress.video}/{progress.of}  {progress.name}  {progress.captioned}/{progress.shots} shots told")


def show_prepared(prepared: Prepared, as_json: bool) -> int:
    """What the table of clips holds, and what to do next."""
    if as_json:
        return _json(prepared, 0)
    say(f"{prepared.shots} shots of {prepared.videos} videos, {prepared.runs} runs, the longest of {prepared.longest}")
    say(f"Written: {prepared.table}; {prepared.captioned} shots have a caption")
    if prepared.captioned < prepared.shots:
        say("The others need one before they can be trained on: write it there, or name --captions.")
    return 0


def show_error(error: BaseException, typed: Typed, as_json: bool = False) -> int:
    """Name the thing and the remedy on standard error, and how to go on; gives the exit code."""
    code = fabula.exit_code(error)
    message = _message(error)
    notes = [note for note in getattr(error, "__notes__", ()) if "main.py" in note]
    if as_json:
        return _json({"error": message, "kind": type(error).__name__, "notes": notes}, code)
    if message:
        complaints.print(Text.assemble(("error: ", "red"), message), soft_wrap=True)
    if code == 2 and message and not fabula.expected(error):
        complaints.print(Text(f"{typed('--help')} lists commands and options", style="dim"))
    elif code == 1 and not fabula.expected(error):
        complaints.print(Text(f"{type(error).__name__}; --debug shows where it happened", style="dim"))
    for note in notes:
        complaints.print(Text(note), soft_wrap=True)
    return code


def _message(error: BaseException) -> str:
    told = getattr(error, "format_message", None)  # typer's own errors
    return str(told() if told else error)


def plain(value: object) -> Any:
    """Any result as JSON values: dataclasses by field, paths and times as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def _json(value: object, code: int) -> int:
    data = {"exit_code": code, **plain(value)}
    ascii_only = not console.encoding.startswith("utf")  # as escapes, every letter survives
    try:
        console.file.write(json.dumps(data, ensure_ascii=ascii_only, indent=1) + "\n")
        console.file.flush()
    except BrokenPipeError:
        console.on_broken_pipe()
    return code


def _event_line(event: fabula.EventOutcome) -> str:
    mark = MARKS[event.seen]
    seen = f", seen {event.seen_start:.1f}–{event.seen_end:.1f}" if _timed(event) else ""
    doubt = f" [dim]{escape(event.evidence)}[/]" if event.evidence and not event.seen else ""
    words = escape(f"{event.subject} {event.phrase}")
    return f"{mark} {words} [dim]{event.start:.1f}–{event.end:.1f} s{seen}[/]{doubt}"


def _timed(event: fabula.EventOutcome) -> bool:
    return bool(event.seen) and event.seen_start is not None and event.seen_end is not None


def _take_line(take: fabula.TakeOutcome, promised: int, *, at_work: bool) -> str:
    filmed = take.status == "done"
    became = f"{take.seen}/{promised} seen" if take.seen is not None else "not judged"
    became += f", {take.unjudged} not judged" if take.unjudged else ""
    seen = f", {became}" if filmed else ""
    took = f", filmed in {take.seconds:.1f} s" if filmed or take.seconds else ""
    status = "left unfinished" if take.status == "filming" and not at_work else take.status
    stands = " [bold]· in the film[/]" if take.in_film else ""
    told = f" ({take.staged})" if take.staged else ""
    told += f" → {take.remedy}: {take.reason}" if take.remedy else ""
    failed = f": {take.error}" if take.error else ""
    line = f"take {take.number}: {status}{seen}, seed {take.seed}{took}{failed}{told}"
    return f"[dim]{escape(line)}[/]{stands}"


def _tell_notes(notes: Sequence[str]) -> None:
    """What the storyboard leaves out of the story or changes."""
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


def _board_tree(plan: fabula.PlanResult) -> Tree:
    tree = Tree(f"[bold]{escape(plan.title)}[/]  [dim]{_count(len(plan.shots), 'shot')}, {plan.seconds:.0f} s[/]")
    for shot in plan.shots:
        branch = tree.add(f"[bold]{shot.label}[/] {escape(shot.prompt)} [dim]{shot.seconds:.1f} s[/]")
        for event in shot.events:
            branch.add(_event_line(event))
        if shot.staged:
            branch.add(f"[dim]{escape(shot.staged)}[/]")
    return tree


def _where(film: fabula.FilmResult, typed: Typed) -> Iterator[str]:
    spent = film.spent
    lost = f", {spent.unanswered} without an answer" if spent.unanswered else ""
    work = f"{spent.seconds:.1f} s of work, {_count(spent.calls, 'model call')}{lost}"
    yield ""
    for one in film.retried or ():
        yield one.said
    if film.retried == ():
        yield "Every promised event is seen already: nothing was filmed again (--shot N films a shot all the same)"
    yield f"{film.tally.said if film.shots else 'Not planned yet'}; {work}"
    if film.missing:
        yield f"Missing from the film: {', '.join(film.missing)}"
    if film.error:
        yield f"Error:  {film.error}"
    if film.film is not None:
        yield f"Film:   {film.film}"
    if film.report is not None:
        yield f"Report: {film.report}"
    if film.lost:
        yield f"Altered or gone: {', '.join(map(str, film.lost))}\nCut it again with: {typed('resume', film.run)}"
    yield from _way_on(film, typed)


def _way_on(film: fabula.FilmResult, typed: Typed) -> Iterator[str]:
    """What to do next, where there is something to do."""
    if film.status == "approval":
        yield f"Storyboard: {film.storyboard}\nEdit it if you like, then: {typed('resume', film.run)}"
    elif film.holder:
        yield f"{film.status.capitalize()} now: {film.holder}"
    elif film.status == "stopped":
        yield f"Stopped before it was done; what is finished is kept. Go on with: {typed('resume', film.run)}"
    elif film.film is None and not film.lost:
        yield f"Go on with: {typed('resume', film.run)}"
    elif film.film is not None and film.judged and any(shot.wants_more for shot in film.shots):
        yield f"Try again: {typed('retry', film.run)}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
