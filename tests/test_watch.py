"""The live view: what a person at a terminal is told while a run goes on, and what is left when it ends."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import fabula
from fabula import progress
from watch import View, watch


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, highlight=False)


def said(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def stopped(*events: progress.RunEvent) -> None:
    with watch(True, terminal()) as on_event:
        for event in events:
            on_event(event)
        raise fabula.RunStopped("somebody stopped it")


def test_a_note_stays_on_the_screen_when_the_live_view_is_gone() -> None:
    console = terminal()
    with watch(False, console) as on_event:
        on_event(progress.ShotStarted(run_id=3, shot="1", prompt="the red fox jumps"))
        on_event(progress.Note(run_id=3, text="Shot 2 begins with a cut"))
    assert said(console).count("note: Shot 2 begins with a cut") == 1


def test_without_a_terminal_every_note_is_one_line() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=100)
    with watch(False, console) as on_event:
        on_event(progress.Note(run_id=3, text="Shot 2 begins with a cut"))
    assert said(console) == "note: Shot 2 begins with a cut\n"


def test_json_leaves_the_screen_to_the_result() -> None:
    console = terminal()
    with watch(True, console) as on_event:
        on_event(progress.Note(run_id=3, text="Shot 2 begins with a cut"))
    assert said(console) == ""


def test_an_error_leaves_with_the_way_on_once_a_run_was_begun() -> None:
    with pytest.raises(fabula.RunStopped) as before:
        stopped()
    assert not hasattr(before.value, "__notes__")
    with pytest.raises(fabula.RunStopped) as after:
        stopped(progress.RunStarted(run_id=7))
    assert after.value.__notes__ == ["Run 7 is kept. Go on with: python main.py resume 7"]


def test_a_story_told_by_somebody_else_is_shown_and_not_obeyed() -> None:
    view = View(console=terminal())
    view.take(progress.ShotStarted(run_id=1, shot="1", prompt="[bold red]no markup"))
    console = terminal()
    console.print(view.tree())
    assert "[bold red]no markup" in said(console)
