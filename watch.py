"""A run while it happens: the storyboard as a tree that fills with steps and verdicts, or plain lines, or nothing.

Knows rich and the events of a run; a missed event only makes the picture poorer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

import fabula

SEEN, UNSEEN, OPEN = "[green]✓[/]", "[red]✗[/]", "[dim]·[/]"
BAR = 16
ROOM = 6
"""Shots that fit on a screen with their events."""


@contextmanager
def watch(as_json: bool, console: Console) -> Iterator[fabula.progress.OnEvent]:
    """Somebody to tell the run's events to; what goes wrong inside leaves with the run's number and the way on."""
    view = View(console=console)
    live = console.is_terminal and not as_json
    try:
        if live:
            with Live(get_renderable=view.tree, console=console, refresh_per_second=8, transient=True):
                yield view.follow
        else:
            yield view.take if as_json else view.tell
    except KeyboardInterrupt as error:  # typer would end the program without a word
        stopped = fabula.RunStopped("interrupted; everything finished is kept")
        say_how_to_go_on(stopped, view.run)
        raise stopped from error
    except Exception as error:
        say_how_to_go_on(error, view.run)
        raise


def say_how_to_go_on(error: Exception, run: int | None) -> None:
    """Add the resume command to an error, where a run was begun."""
    if run is not None:
        error.add_note(f"Run {run} is kept. Go on with: python main.py resume {run}")


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
        marks = self.marks or [OPEN] * len(self.events)
        return (f"{mark} {escape(words)}" for mark, words in zip(marks, self.events, strict=False))


@dataclass
class View:
    """The run as far as it was heard of."""

    console: Console
    run: int | None = None
    title: str = ""
    doing: str = "reading the story"
    shots: dict[str, ShotView] = field(default_factory=dict)
    judged: bool = False
    """Whether a critic was heard of; without one nothing is seen, and nothing is missed either."""

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
        line = sentence(event, self.judged)
        if line:
            self.console.print(line, soft_wrap=True)

    def follow(self, event: fabula.progress.RunEvent) -> None:
        """Take the event in; a note is also printed above the picture, which is gone when the run ends."""
        self.take(event)
        if isinstance(event, fabula.progress.Note):
            self.console.print(sentence(event), soft_wrap=True)

    def take(self, event: fabula.progress.RunEvent) -> None:
        """Take the event into the picture."""
        if event.run_id != self.run:
            self.run, self.shots, self.title, self.judged = event.run_id, {}, f"run {event.run_id}", False
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
                self.judged = True
                self._shot(event).marks = [SEEN if verdict.done else UNSEEN for verdict in event.events]
            case fabula.progress.RemedyChosen():
                self._shot(event).doing = f"{event.kind}: {event.reason}"
            case fabula.progress.ShotDone():
                shot = self._shot(event)
                shot.doing, shot.state = event.error or _seen(event, self.judged), "done"
            case fabula.progress.ShotStarted():
                self._shot(event).prompt = event.prompt
            case fabula.progress.FilmDone():
                self.doing = "cut"
            case _:
                pass

    def _plan(self, event: fabula.progress.Planned) -> None:
        board = event.storyboard
        self.title, self.doing = board.title, f"run {event.run_id}, {_shots(len(board.shots))}"
        for number, shot in enumerate(board.shots, 1):
            words = [f"{planned.subject} {planned.phrase}" for planned in shot.events]
            self.shots.setdefault(str(number), ShotView(prompt=shot.prompt, events=words))

    def _shot(self, event: fabula.progress.ShotEvent) -> ShotView:
        return self.shots.setdefault(event.shot, ShotView(prompt="", events=[]))


def sentence(event: fabula.progress.RunEvent, judged: bool = True) -> Text | None:
    """An event as one plain line; None for what would only fill a log. Counts need somebody who judged."""
    match event:
        case fabula.progress.Planned():
            return Text(f"run {event.run_id}: {event.storyboard.title}, {_shots(len(event.storyboard.shots))}")
        case fabula.progress.TakeDone():
            return Text(f"shot {event.shot}: take {event.take} filmed in {event.seconds:.1f} s")
        case fabula.progress.Judged():
            pairs = zip(event.phrases, event.events, strict=True)
            seen = "; ".join(f"{'seen' if verdict.done else 'NOT seen'}: {phrase}" for phrase, verdict in pairs)
            return Text(f"shot {event.shot}: take {event.take}: {seen or 'nothing was promised'}")
        case fabula.progress.RemedyChosen():
            return Text(f"shot {event.shot}: next: {event.kind}, because {event.reason}")
        case fabula.progress.ShotDone():
            return Text(f"shot {event.shot}: done, {event.error or _seen(event, judged)}")
        case fabula.progress.FilmDone():
            return Text(f"film cut, {_seen(event, judged)}")
        case fabula.progress.Note():
            return Text(f"note: {event.text}")
        case _:
            return None


def _seen(event: fabula.progress.ShotDone | fabula.progress.FilmDone, judged: bool) -> str:
    """What was seen; takes judged by an earlier process count too, so only a bare zero is in doubt."""
    return f"{event.seen} of {event.promised} seen" if judged or event.seen else "not judged here"


def _shots(count: int) -> str:
    return "1 shot" if count == 1 else f"{count} shots"
