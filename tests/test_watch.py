"""The live view: what a person at a terminal is told while a run goes on, and what is left when it ends."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import fabula
from agents.brains import EventVerdict
from agents.errors import UnfilmableStory
from agents.outcome import ShotState
from agents.storyboard import PlannedEvent, PlannedShot, Storyboard, Subject
from fabula import progress
from storage.errors import RunBusy
from watch import View, sentence, watch


def go_on(run: int) -> str:
    return f"fabula resume {run}"


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, highlight=False)


def said(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def stopped(*events: progress.RunEvent) -> None:
    with watch(True, terminal(), go_on) as on_event:
        for event in events:
            on_event(event)
        raise fabula.RunStopped("somebody stopped it")


def test_a_note_stays_on_the_screen_when_the_live_view_is_gone() -> None:
    console = terminal()
    with watch(False, console, go_on) as on_event:
        on_event(progress.ShotStarted(run_id=3, shot="1", prompt="the red fox jumps"))
        on_event(progress.Note(run_id=3, text="Shot 2 begins with a cut"))
    assert said(console).count("note: Shot 2 begins with a cut") == 1


def test_without_a_terminal_every_note_is_one_line() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=100)
    with watch(False, console, go_on) as on_event:
        on_event(progress.Note(run_id=3, text="Shot 2 begins with a cut"))
    assert said(console) == "note: Shot 2 begins with a cut\n"


def test_json_leaves_the_screen_to_the_result() -> None:
    console = terminal()
    with watch(True, console, go_on) as on_event:
        on_event(progress.Note(run_id=3, text="Shot 2 begins with a cut"))
    assert said(console) == ""


def test_an_error_leaves_with_the_way_on_once_a_run_was_begun() -> None:
    with pytest.raises(fabula.RunStopped) as before:
        stopped()
    assert not hasattr(before.value, "__notes__")
    with pytest.raises(fabula.RunStopped) as after:
        stopped(progress.RunStarted(run_id=7))
    assert after.value.__notes__ == ["Run 7 is kept. Go on with: fabula resume 7"]


def test_a_run_that_somebody_else_films_leaves_without_a_way_on() -> None:
    def busy() -> None:
        with watch(True, terminal(), go_on) as on_event:
            on_event(progress.RunStarted(run_id=7))
            raise RunBusy("Run 7 is being filmed by process 4711")

    with pytest.raises(RunBusy) as error:
        busy()
    assert not hasattr(error.value, "__notes__")


def done(state: ShotState, seen: int, why: str = "") -> str:
    take = None if state == "not filmed" else 1
    event = progress.ShotDone(run_id=1, shot="2", take=take, state=state, seen=seen, promised=3, why=why)
    return str(sentence(event))


def test_a_shot_that_was_judged_one_that_was_not_and_one_that_was_never_filmed_are_told_apart() -> None:
    assert done("judged", 0) == "shot 2: done, 0 of 3 seen"
    assert done("judged", 1, "the time is up") == "shot 2: done, 1 of 3 seen: the time is up"
    event = progress.ShotDone(run_id=1, shot="2", take=1, state="judged", seen=1, promised=3, unjudged=2)
    assert str(sentence(event)) == "shot 2: done, 1 of 3 seen, 2 not judged"
    assert done("not judged", 0, "the critic is busy") == "shot 2: not judged: the critic is busy"
    assert done("not filmed", 0, "out of memory") == "shot 2: not filmed: out of memory"


def test_who_watches_no_terminal_hears_when_a_take_begins() -> None:
    assert str(sentence(progress.TakeStarted(run_id=1, shot="2", take=3, seed=7))) == "shot 2: filming take 3"


def test_the_tree_fills_with_steps_and_then_with_what_was_seen() -> None:
    view = View(console=terminal())
    jumps = PlannedEvent(subject="fox", phrase="jumps", start=0, end=1)
    sits = PlannedEvent(subject="fox", phrase="sits", start=1, end=2)
    shot = PlannedShot(prompt="The fox jumps, then sits.", seconds=2, events=(jumps, sits), subjects=("fox",))
    fox = Subject(name="fox", description="the red fox")
    view.take(progress.Planned(run_id=1, storyboard=Storyboard(title="The Fox", cast=(fox,), shots=(shot,))))
    view.take(progress.Step(run_id=1, shot="1", take=2, step=5, of=20))
    head, doing, *events = drawn(view)
    assert (head, events) == ("The Fox  run 1, 1 shot", ["· fox jumps", "· fox sits"])
    assert doing == "1 The fox jumps, then sits.  take 2 ████░░░░░░░░░░░░ 5/20"
    seen = tuple(EventVerdict(done=done, confidence=1.0, evidence="") for done in (True, False))
    view.take(progress.Judged(run_id=1, shot="1", take=2, phrases=(), events=seen, identity=1, quality=1))
    assert drawn(view)[2:] == ["✓ fox jumps", "✗ fox sits"]


def drawn(view: View) -> list[str]:
    """The lines of the tree, without its branches."""
    console = Console(file=io.StringIO(), width=100)
    console.print(view.tree())
    return [line.lstrip("│├└─ ").rstrip() for line in said(console).splitlines()]


def test_a_story_told_by_somebody_else_is_shown_and_not_obeyed() -> None:
    view = View(console=terminal())
    view.take(progress.ShotStarted(run_id=1, shot="1", prompt="[bold red]no markup"))
    console = terminal()
    console.print(view.tree())
    assert "[bold red]no markup" in said(console)


def planned(*notes: str) -> progress.Planned:
    shots = (fabula.storyboard.PlannedShot(prompt="The fox jumps.", seconds=4.0),)
    return progress.Planned(run_id=3, storyboard=fabula.storyboard.Storyboard(title="Fox", shots=shots, notes=notes))


@pytest.mark.parametrize("terminal", [True, False])
def test_what_the_storyboard_leaves_out_is_told_as_soon_as_it_stands(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200, highlight=False)
    with watch(False, console, lambda *words: "") as on_event:
        on_event(planned("'sing' is filmed as 'dance'", "'castle' is filmed as the city"))
    assert said(console).count("note: 'sing' is filmed as 'dance'") == 1
    assert said(console).count("note: 'castle' is filmed as the city") == 1


def test_who_shows_the_storyboard_itself_is_not_told_its_notes_twice() -> None:
    console = terminal()
    with watch(False, console, lambda *words: "", notes=False) as on_event:
        on_event(planned("'sing' is filmed as 'dance'"))
    assert "sing" not in said(console)


def test_what_can_never_go_on_leaves_without_a_way_on() -> None:
    def refused() -> None:
        with watch(True, terminal(), lambda *words: "resume") as on_event:
            on_event(progress.RunStarted(run_id=7))
            raise UnfilmableStory("nothing to film")

    with pytest.raises(UnfilmableStory) as error:
        refused()
    assert not hasattr(error.value, "__notes__")
