"""A run while it happens: the storyboard as a tree that fills with steps and verdicts, or plain lines, or nothing.

Knows rich and the events of a run; a missed event only makes the picture poorer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

import fabula

MARKS = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[dim]·[/]"}
"""Of an event, by what a critic saw of it."""

_SAID = {True: "seen", False: "NOT seen", None: "not judged"}
BAR = 16
ROOM = 6
"""Shots that fit on a screen with their events."""


@contextmanager
def watch(
    as_json: bool, console: Console, go_on: Callable[[int], str], *, notes: bool = True
) -> Iterator[fabula.progress.OnEvent]:
    """Somebody to tell the run's events to; what goes wrong inside leaves with the run's number and the way on.

    `go_on` is the command that goes on with a run. Without `notes` the storyboard's are left to whoever shows it.
    """
    view = View(console=console, notes=notes)
    live = console.is_terminal and not as_json
    try:
        if live:
            with Live(get_renderable=view.tree, console=console, refresh_per_second=8, transient=True):
                yield view.follow
        else:
            yield view.take if as_json else view.tell
    except KeyboardInterrupt as error:  # typer would end the program without a word
        stopped = fabula.RunStopped("interrupted; everything finished is kept")
        _say_how_to_go_on(stopped, view.run, go_on)
        raise stopped from error
    except Exception as error:
        _say_how_to_go_on(error, view.run, go_on)
        raise


def _say_how_to_go_on(error: Exception, run: int | None, go_on: Callable[[int], str]) -> None:
    """Add the command that goes on to an error, where a run was begun, can go on, and nobody else is at it."""
    if run is not None and fabula.exit_code(error) != 2 and not isinstance(error, fabula.RunBusy):
        error.add_note(f"Run {run} is kept. Go on with: {go_on(run)}")


@dataclass
class ShotView:
    """What is known of one shot."""

    prompt: str
    events: list[str]
    marks: list[str] = field(default_factory=list)
    doing: str = ""
    state: Literal["waiting", "filming", "done"] = "waiting"

    def lines(self) -> Iterator[str]:
        """The events, each with its mark."""
        marks = self.marks or [MARKS[None]] * len(self.events)
        return (f"{mark} {escape(words)}" for mark, words in zip(marks, self.events, strict=False))


@dataclass
class View:
    """The run as far as it was heard of."""

    console: Console
    run: int | None = None
    title: str = ""
    doing: str = "reading the story"
    notes: bool = True
    """Whether the storyboard's notes are told."""
    shots: dict[str, ShotView] = field(default_factory=dict)

    def tree(self) -> Tree:
        """The storyboard with all that is known; a long one only where something happens."""
        tree = Tree(f"[bold]{escape(self.title or 'fabula')}[/]  [dim]{escape(self.doing)}[/]")
        shown = [item for item in self.shots.items() if len(self.shots) <= ROOM or item[1].state == "filming"][:ROOM]
        for label, shot in shown:
            branch = tree.add(f"[bold]{label}[/] {escape(shot.prompt)}  [cyan]{escape(shot.doing)}[/]")
            for line in shot.lines():
                branch.add(line)
        if len(shown) < len(self.shots):
            done = sum(shot.state == "done" for shot in self.shots.values())
            tree.add(f"[dim]{done} of {len(self.shots)} shots are done[/]")
        return tree

    def tell(self, event: fabula.progress.RunEvent) -> None:
        """Take the event in and say it in one line, where it is worth one."""
        self.take(event)
        line = sentence(event)
        if line:
            self.console.print(line, soft_wrap=True)
        self._tell_notes(event)

    def follow(self, event: fabula.progress.RunEvent) -> None:
        """Take the event in; notes are also printed above the picture, which is gone when the run ends."""
        self.take(event)
        if isinstance(event, fabula.progress.Note):
            self.console.print(sentence(event), soft_wrap=True)
        self._tell_notes(event)

    def take(self, event: fabula.progress.RunEvent) -> None:
        """Take the event into the picture."""
        if event.run_id != self.run:
            self.run, self.shots, self.title = event.run_id, {}, f"run {event.run_id}"
        match event:
            case fabula.progress.Planned():
                self._plan(event)
            case fabula.progress.Step():
                done = round(BAR * event.step / event.of)
                bar = "█" * done + "░" * (BAR - done)
                shot = self._shot(event)
                shot.doing, shot.state = f"take {event.take} {bar} {event.step}/{event.of}", "filming"
            case fabula.progress.TakeStarted():
                self._shot(event).doing = f"take {event.take}"
            case fabula.progress.TakeDone():
                self._shot(event).doing = f"take {event.take} is being judged"
            case fabula.progress.Judged():
                self._shot(event).marks = [MARKS[verdict.done] for verdict in event.events]
            case fabula.progress.RemedyChosen():
                self._shot(event).doing = f"{event.kind}: {_first(event.reason)}"
            case fabula.progress.ShotDone():
                shot = self._shot(event)
                shot.doing, shot.state = _became(event), "done"
            case fabula.progress.ShotStarted():
                self._shot(event).prompt = event.prompt
            case fabula.progress.FilmDone():
                self.doing = "cut"
            case _:
                pass

    def _tell_notes(self, event: fabula.progress.RunEvent) -> None:
        """What the storyboard leaves out of the story or changes."""
        if self.notes and isinstance(event, fabula.progress.Planned):
            for note in event.storyboard.notes:
                self.console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)

    def _plan(self, event: fabula.progress.Planned) -> None:
        board = event.storyboard
        self.title, self.doing = board.title, f"run {event.run_id}, {_shots(len(board.shots))}"
        for number, shot in enumerate(board.shots, 1):
            words = [f"{planned.subject} {planned.phrase}" for planned in shot.events]
            self.shots.setdefault(str(number), ShotView(prompt=shot.prompt, events=words))

    def _shot(self, event: fabula.progress.ShotEvent) -> ShotView:
        return self.shots.setdefault(event.shot, ShotView(prompt="", events=[]))


def sentence(event: fabula.progress.RunEvent) -> Text | None:
    """An event as one plain line; None for what would only fill a log."""
    match event:
        case fabula.progress.Planned():
            return Text(f"run {event.run_id}: {event.storyboard.title}, {_shots(len(event.storyboard.shots))}")
        case fabula.progress.TakeStarted():
            return Text(f"shot {event.shot}: filming take {event.take}")
        case fabula.progress.TakeDone():
            return Text(f"shot {event.shot}: take {event.take} filmed in {event.seconds:.1f} s")
        case fabula.progress.Judged():
            pairs = zip(event.phrases, event.events, strict=True)
            seen = "; ".join(f"{_SAID[verdict.done]}: {phrase}" for phrase, verdict in pairs)
            return Text(f"shot {event.shot}: take {event.take}: {seen or 'nothing was promised'}")
        case fabula.progress.RemedyChosen():
            return Text(f"shot {event.shot}: next: {event.kind}, because {_first(event.reason)}")
        case fabula.progress.ShotDone():
            done = "done, " if event.state == "judged" else ""
            return Text(f"shot {event.shot}: {done}{_became(event)}")
        case fabula.progress.FilmDone():
            return Text(f"film cut, {event.tally.said}")
        case fabula.progress.Note():
            return Text(f"note: {event.text}")
        case _:
            return None


def _first(reason: str) -> str:
    """Why this remedy; why the others were passed over is in the report."""
    return reason.partition("; ")[0]


def _became(event: fabula.progress.ShotDone) -> str:
    """What was seen of a shot, or why nobody saw any of it."""
    counted = fabula.Tally(promised=event.promised, seen=event.seen, unjudged=event.unjudged)
    state = counted.brief if event.state == "judged" else event.state
    return f"{state}: {event.why}" if event.why else state


def _shots(count: int) -> str:
    return "1 shot" if count == 1 else f"{count} shots"
