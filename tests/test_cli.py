"""The command line: what it prints, what it ends with, whose code it runs."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Cli = Callable[..., Any]
STORY = "A red fox jumps high up in the meadow. A blue cat dances on the beach. The fox spins around."


def python(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python process of its own."""
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)


def test_help_answers_in_less_than_a_second_of_work(checkout: Path, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = python(checkout / "main.py", "--help", cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert done.returncode == 0
    assert "Film a story" in done.stdout
    assert spent < 1.0


def fake_checkout(folder: Path) -> Path:
    """Another checkout, or another distribution's packages, that must never run in our place."""
    for name in ("agents", "commands", "evals", "generators", "prompts", "storage", "workshop"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('the wrong package ran')")
    for name in ("fabula.py", "screen.py", "watch.py"):
        (folder / name).write_text("raise SystemExit('the wrong module ran')")
    return folder


@pytest.mark.parametrize("flags", [[], ["-P"]])
def test_main_runs_its_own_checkout_wherever_it_is_called_from(
    checkout: Path, tmp_path: Path, flags: list[str]
) -> None:
    other = fake_checkout(tmp_path / "other")
    done = python(*flags, checkout / "main.py", "--version", cwd=other, PYTHONPATH=str(other))
    assert (done.returncode, done.stdout.strip()) == (0, "0.1.0"), done.stderr


def test_importing_fabula_beside_a_foreign_package_says_whose_it_found(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "site" / "agents").mkdir(parents=True)
    (tmp_path / "site" / "agents" / "__init__.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path / 'site')!r}, {str(checkout)!r}]; import fabula"
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 1
    assert "fabula needs its own package 'agents'" in done.stderr


@pytest.mark.slow
def test_a_story_is_filmed_from_text_a_file_and_standard_input(
    cli: Cli, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk / "tale.txt").write_text(STORY)
    (desk / "other.txt").write_text(STORY + " The cat jumps.")
    assert cli("run", STORY).code == 0
    assert (desk / "films" / "a-red-fox-jumps-high-up" / "film.mp4").is_file()
    assert cli("run", "other.txt").code == 0
    assert (desk / "films" / "other" / "report.html").is_file()
    with (desk / "tale.txt").open() as story:
        monkeypatch.setattr(sys, "stdin", story)
        assert cli("run", "-", "--json").data["run"] == 1, "the same text is the same run"


@pytest.mark.slow
def test_json_is_one_object_with_the_exit_code_and_nothing_else(cli: Cli, desk: Path) -> None:
    answer = cli("run", STORY, "--json")
    assert answer.err == ""
    data = answer.data
    assert data["exit_code"] == answer.code == 0
    assert [shot["label"] for shot in data["shots"]] == ["1", "2", "3"]
    assert all(event["seen"] for shot in data["shots"] for event in shot["events"])
    assert Path(data["film"]).is_file()
    failed = cli("run", "nowhere.txt", "--json")
    assert failed.data["exit_code"] == failed.code == 2
    assert "nowhere.txt" in failed.data["error"]


@pytest.mark.slow
def test_the_same_story_again_films_nothing_and_changes_no_file(cli: Cli, desk: Path) -> None:
    first = cli("run", STORY, "--json").data
    stamps = {path: path.stat().st_mtime_ns for path in (desk / "films").rglob("*")}
    second = cli("run", STORY, "--json").data
    assert second == first
    assert {path: path.stat().st_mtime_ns for path in (desk / "films").rglob("*")} == stamps


@pytest.mark.slow
def test_progress_is_told_in_plain_lines_where_there_is_no_terminal(cli: Cli, desk: Path) -> None:
    out = cli("run", STORY).out
    assert "shot 1: take 1 filmed" in out
    assert re.search(r"shot 2: take 1: seen: \S+", out)
    assert "\x1b[" not in out
    assert "3 of 3 promised events seen" in out


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_letters_that_a_terminal_does_not_have_stop_no_run(checkout: Path, desk: Path, encoding: str) -> None:
    command = [sys.executable, str(checkout / "main.py"), "run", "A red fox jumps – naïvely.", "--json"]
    there = os.environ | {"PYTHONIOENCODING": encoding}
    told = subprocess.run(command[:-1], cwd=desk, env=there, capture_output=True, encoding=encoding)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("run 1: A red fox jumps ? na")
    as_json = subprocess.run(command, cwd=desk, env=there, capture_output=True, encoding=encoding)
    assert json.loads(as_json.stdout)["title"] == "A red fox jumps – naïvely"


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_run_goes_on_when_nobody_reads_what_it_says(checkout: Path, desk: Path, flags: list[str]) -> None:
    command = [sys.executable, str(checkout / "main.py"), "run", STORY, *flags]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=desk, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert (desk / "films" / "a-red-fox-jumps-high-up" / "film.mp4").is_file()


@pytest.mark.slow
def test_a_storyboard_waits_is_edited_and_filmed_as_edited(cli: Cli, desk: Path) -> None:
    waiting = cli("run", STORY, "--approve")
    assert waiting.code == 5
    assert "main.py resume 1" in waiting.out
    board = desk / "films" / "a-red-fox-jumps-high-up" / "storyboard.yaml"
    data = yaml.safe_load(board.read_text())
    data["shots"] = data["shots"][:1]
    data["title"] = "Only the fox"
    board.write_text(yaml.safe_dump(data))
    again = cli("run", STORY, "--approve", "--json")
    assert again.code == 5, "asking once more does not approve"
    filmed = cli("resume", "--json")
    assert (filmed.code, filmed.data["title"], len(filmed.data["shots"])) == (0, "Only the fox", 1), "the newest run"


@pytest.mark.slow
def test_a_storyboard_that_is_gone_is_named_and_not_filmed_as_it_was(cli: Cli, desk: Path) -> None:
    cli("run", STORY, "--approve", "--out", "film")
    early = cli("retry")
    assert (early.code, "waits for you to look at its storyboard" in early.err) == (2, True)
    board = desk / "film" / "storyboard.yaml"
    board.rename(desk / "mine.yaml")
    refused = cli("resume")
    assert refused.code == 2
    assert "storyboard.yaml is gone: name where it is now with --from-plan" in refused.err.replace("\n", " ")
    assert cli("run", STORY, "--approve", "--out", "film").code == 5
    assert board.exists(), "written anew"
    assert cli("resume", "--from-plan", "mine.yaml").code == 0


@pytest.mark.slow
def test_a_wrong_edit_is_refused_with_every_problem_and_can_be_put_right(cli: Cli, desk: Path) -> None:
    cli("plan", STORY, "--out", "board.yaml")
    text = (desk / "board.yaml").read_text()
    data = yaml.safe_load(text)
    data["shots"][0]["events"][0]["phrase"] = "sings an aria"
    data["shots"][1]["subjects"] = ["walrus"]
    (desk / "board.yaml").write_text(yaml.safe_dump(data))
    refused = cli("resume", 1)
    assert refused.code == 1
    assert "sings an aria" in refused.err
    assert "walrus" in refused.err
    (desk / "board.yaml").write_text(text)
    assert cli("resume", 1).code == 0


@pytest.mark.slow
def test_an_edited_storyboard_that_is_not_where_it_was_said_to_be_is_not_passed_over(cli: Cli, desk: Path) -> None:
    cli("plan", STORY)
    refused = cli("resume", 1, "--from-plan", "moved.yaml")
    assert refused.code == 2
    assert "The storyboard moved.yaml cannot be read" in refused.err
    assert cli("show", 1, "--json").data["status"] == "approval"


@pytest.mark.slow
def test_a_budget_that_ends_before_anything_is_filmed_ends_with_4_and_can_be_raised(cli: Cli, desk: Path) -> None:
    spent = cli("run", STORY, "--budget-seconds", 0.001)
    assert spent.code == 4
    assert "no shot was filmed: budget.seconds: " in spent.err
    assert " of 0.001 s of work are spent" in spent.err
    assert "main.py resume 1" in spent.err
    shown = cli("show", 1, "--json")
    assert (shown.code, shown.data["exit_code"], shown.data["status"]) == (0, 0, "failed")
    assert cli("resume", 1, "--budget-seconds", 500).code == 0


@pytest.mark.slow
def test_a_storyboard_is_filmed_as_it_stands(cli: Cli, desk: Path) -> None:
    planned = cli("plan", STORY, "--out", "board.yaml", "--json").data
    assert planned["file"] == str(desk / "board.yaml")
    filmed = cli("run", "--from-plan", "board.yaml", "--json")
    assert filmed.code == 0
    assert [s["prompt"] for s in filmed.data["shots"]] == [s["prompt"] for s in planned["shots"]]


@pytest.mark.slow
def test_planning_again_plans_nothing_anew(cli: Cli, desk: Path) -> None:
    one = cli("plan", STORY, "--json").data
    assert cli("plan", STORY, "--json").data == one
    assert cli("run", STORY, "--json").data["run"] == one["run"], "a person who ran it has seen the plan"


def test_a_dry_run_prints_plan_and_estimate_and_keeps_nothing(cli: Cli, desk: Path) -> None:
    answer = cli("run", STORY, "--dry-run")
    assert answer.code == 0
    assert "nothing was spent" in answer.out
    assert "dances" in answer.out
    assert cli("runs", "--json").data["runs"] == []
    assert not (desk / "films").exists()


@pytest.mark.slow
def test_retry_films_a_shot_or_an_event_again_and_keeps_the_better_take(cli: Cli, desk: Path) -> None:
    cli("run", STORY)
    shot = cli("retry", 1, "--shot", 2, "--json").data
    assert [len(s["takes"]) for s in shot["shots"]] == [1, 2, 1]
    event = cli("retry", 1, "--event", "3.1", "--json").data
    assert [len(s["takes"]) for s in event["shots"]] == [1, 2, 2]
    told = cli("retry", 1, "--shot", 1).out
    assert "\nShot 1: the new take 2 shows 1 of 1 event, as the kept one does, and is not better otherwise" in told
    assert ": take 1 stays\n" in told
    nothing = cli("retry", 1).out
    assert "Every promised event is seen already: nothing was filmed again" in nothing
    event = cli("show", 1, "--json").data
    nothing = cli("retry", 1, "--json").data
    assert nothing["shots"] == event["shots"], "everything was seen: there is nothing to film again"
    for wrong in (["--shot", "9"], ["--event", "1.7"], ["--event", "x"], ["--shot", "1", "--event", "1.1"]):
        assert cli("retry", 1, *wrong).code == 2


@pytest.mark.slow
def test_last_line_show_json_runs_and_report_tell_the_same_numbers(cli: Cli, desk: Path) -> None:
    told = cli("run", STORY).out
    shown, data, listed = cli("show", 1).out, cli("show", 1, "--json").data, cli("runs").out
    spent, tally = data["spent"], data["tally"]
    seen = f"{tally['seen']} of {tally['promised']} promised events seen"
    last = f"{seen}; {spent['seconds']:.1f} s of work, 0 model calls"
    assert last in told
    assert last in shown
    assert f" {spent['seconds']:.1f} s " in listed
    takes = [take["seconds"] for shot in data["shots"] for take in shot["takes"]]
    assert f"{sum(takes):.1f}" == f"{spent['filming']:.1f}"
    assert f"{spent['filming'] + spent['rest']:.1f}" == f"{spent['seconds']:.1f}"
    report = Path(data["report"]).read_text()
    assert f"<dd>{spent['seconds']:.1f} s</dd>" in report
    assert f"{spent['seconds']:.1f} s of work in all: {spent['filming']:.1f} s to film {len(takes)} takes" in report


@pytest.mark.slow
def test_show_and_runs_tell_what_is_kept(cli: Cli, desk: Path) -> None:
    assert cli("runs").out.startswith("No run yet")
    nothing = cli("show")
    assert (nothing.code, nothing.out) == (2, "")
    assert "There is no run in this archive yet; `run` films a story" in nothing.err
    cli("run", STORY)
    shown = cli("show", 1)
    assert shown.code == 0
    assert "take 1: done, 1/1 seen" in shown.out
    assert cli("runs", "--json").data["runs"][0]["status"] == "done"
    cli("run", "A blue cat dances on the beach.")
    newest = cli("show")
    assert newest.out == cli("show", 2).out != shown.out
    missing = cli("show", 7)
    assert (missing.code, missing.out) == (2, "")
    assert "No run 7" in missing.err


@pytest.mark.slow
def test_a_profile_says_how_the_film_is_cut(cli: Cli, desk: Path) -> None:
    plain = (desk / "stage.toml").read_text()
    (desk / "cut.toml").write_text(plain + '[film]\nfont = "none.ttf"')
    refused = cli("run", STORY, "--profile", "cut.toml")
    assert (refused.code, cli("runs", "--json").data["runs"]) == (2, [])
    assert "none.ttf is not a font file that can be read" in refused.err
    (desk / "cut.toml").write_text(plain + "[film]\ncrossfade = 0.5\nburn_captions = true\nscale = 3")
    film = Path(cli("run", STORY, "--profile", "cut.toml", "--json").data["film"])
    cut = json.loads((film.parent / "manifest.json").read_text())["edit"]
    assert (cut["crossfade"], cut["burn_captions"], cut["scale"]) == (0.5, True, 3)


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_narrow_terminal_still_shows_which_run_stands_where(
    cli: Cli, desk: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    import screen

    cli("run", STORY, "--json")
    monkeypatch.setattr(screen.console, "width", width)
    head, row = cli("runs").out.rstrip().splitlines()
    assert head.split()[:5] == ["run", "status", "profile", "begun", "spent"]
    assert row.split()[:2] == ["1", "done"]
    assert len(row) <= width
    assert row.split("  ")[-1].strip(" …").startswith("A red"), "it can be recognised"


@pytest.mark.slow
def test_what_goes_into_a_pipe_is_neither_folded_nor_cut_off(cli: Cli, desk: Path) -> None:
    story = STORY[:59]
    cli("run", story)
    assert f"  {story}" in cli("runs").out
    assert (
        "filmed alone: shares its cast with no other shot that begins with a cut) · in the film\n" in cli("show", 1).out
    )


def test_doctor_says_what_would_work_and_never_shows_a_key(
    cli: Cli, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-17")
    plain = cli("doctor")
    data = cli("doctor", "--json")
    assert "sk-very-secret-17" not in plain.out + plain.err + data.out + data.err
    profiles = {finding["name"]: finding["fine"] for finding in data.data["profiles"]}
    assert profiles["instant"] is True
    assert {"bundled", "wan"} <= set(profiles)
    assert any(finding["name"] == "OPENAI_API_KEY" and finding["fine"] for finding in data.data["keys"])
    assert any(finding["name"] == "ffmpeg" for finding in data.data["installed"])


def test_without_a_working_ffmpeg_no_profile_would_work_and_the_remedy_is_named(
    cli: Cli, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(desk))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(desk / "broken"))
    data = cli("doctor", "--json").data
    assert not any(finding["fine"] for finding in data["profiles"])
    [found] = [finding for finding in data["installed"] if finding["name"] == "ffmpeg"]
    assert not found["fine"]
    assert "install ffmpeg" in found["says"] or "install it" in found["says"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["run", ""], "empty"),
        (["run", "a.txt"], "a.txt"),
        (["run", "hi", "--profile", "nonesuch"], "nonesuch"),
        (["run", "hi", "--size", "huge"], "huge"),
        (["run", "hi", "--seconds", "-3"], "seconds"),
        (["run"], "--from-plan"),
        (["run", "hi", "--budget-takes", "0"], "--budget-takes"),
        (["run", "hi", "--from-plan", "x.yaml"], "one of them"),
        (["run", "--from-plan", "x.yaml"], "x.yaml"),
        (["run", "hi", "--sed", "3"], "--sed"),
        (["film"], "film"),
        (["resume", "one"], "RUN"),
        (["resume", "12"], "No run 12 in this archive; `runs` lists those there are"),
        (["resume"], "There is no run in this archive yet"),
        (["run", "hi", "--profile", "wan"], "expected --model PATH_OR_ID"),
        (["recut", "nope.json"], "nope.json cannot be read"),
        (["show", "9" * 20], "No run 99999999999999999999 in this archive"),
        (["batch", "none.yaml"], "none.yaml"),
        (["run", "A caf\udce9 burns."], "story: expected UTF-8 text"),
        (["plan", "A fox jumps.", "--style", "caf\udce9"], "style: expected UTF-8 text"),
    ],
)
def test_a_wrong_command_ends_with_2_and_names_what_is_wrong(
    cli: Cli, desk: Path, words: list[str], names: str
) -> None:
    answer = cli(*words)
    assert answer.code == 2
    assert names in answer.err
    assert "Traceback" not in answer.err


def test_a_story_with_nothing_to_film_is_told_what_to_do_and_is_not_kept(cli: Cli, desk: Path) -> None:
    for command in (("plan",), ("run",), ("run", "--dry-run")):
        refused = cli(*command, "The students understood it. Everyone wrote it down.")
        assert refused.code == 2
        assert "Not filmed, no act in it that the world can show: 'The students understood it.'" in refused.err
        assert "lie down" in refused.err, "what the world can show is named"
        assert "docs/planning.md" in refused.err
        assert "resume" not in refused.err
    assert cli("runs", "--json").data["runs"] == []


def test_what_becomes_of_the_story_is_said_once_by_plan_and_estimate(cli: Cli, desk: Path) -> None:
    for words in (("plan",), ("run", "--dry-run")):
        out = cli(*words, "The fox sang in the castle. It rained.").out
        assert out.count("note: 'sing' is filmed as 'dance'\n") == 1
        assert out.count("note: 'castle' is filmed as the city\n") == 1
        assert out.count("note: Not filmed, no act in it that the world can show: 'It rained.'\n") == 1


def test_help_is_shown_once_where_a_command_is_missing(cli: Cli) -> None:
    for words in ([], ["bench"], ["train", "world"]):
        answer = cli(*words)
        assert (answer.code, answer.err) == (2, "")
        assert "Usage: python main.py" in answer.out


@pytest.mark.slow
def test_where_nobody_judges_nothing_is_called_unseen(cli: Cli, desk: Path) -> None:
    out = cli("run", "A cat jumps.", "--profile", "instant").out
    assert "shot 1: not judged: the profile has no critic" in out
    assert "1 promised event, not judged" in out
    assert "0 of 1" not in out


def test_a_batch_file_is_no_story(cli: Cli, desk: Path) -> None:
    (desk / "two.yaml").write_text("- A fox jumps.")
    done = cli("run", "two.yaml")
    assert (done.code, "film a batch with `batch two.yaml`" in " ".join(done.err.split())) == (2, True)


@pytest.mark.parametrize("story", ["stories/fox.rtf", "../fox", "fox.docx", "films", "loop"])
def test_a_mistyped_file_is_no_story(cli: Cli, desk: Path, story: str) -> None:
    (desk / "films").mkdir()
    (desk / "loop").symlink_to("loop")
    refused = cli("plan", story if story != "loop" else desk / "loop")
    assert refused.code == 2
    assert "is a folder" in refused.err if story == "films" else "no story file" in refused.err


@pytest.mark.slow
def test_runs_names_a_storyboard_of_ones_own_by_its_title(cli: Cli, desk: Path) -> None:
    cli("plan", STORY, "--out", "board.yaml")
    cli("run", "--from-plan", "board.yaml")
    newest = cli("runs", "--json").data["runs"][0]
    assert (newest["title"], newest["story"]) == ("A red fox jumps high up in the meadow", "")


def test_an_unexpected_error_shows_its_traceback_only_with_debug(cli: Cli, desk: Path) -> None:
    (desk / "broken").mkdir()
    shutil.copytree(desk / "broken", desk / "home" / "fabula.db")
    plain = cli("runs", "--home", desk / "home")
    assert plain.code == 1
    assert "fabula.db" in plain.err
    assert "Traceback" not in plain.err
    with pytest.raises(Exception, match=r"fabula\.db"):
        cli("runs", "--home", desk / "home", "--debug")


def test_every_exit_code_is_documented(checkout: Path) -> None:
    documented = set(re.findall(r"^\| (\d+) \|", (checkout / "docs" / "exit-codes.md").read_text(), re.MULTILINE))
    assert documented == {"0", "1", "2", "3", "4", "5", "6", "130"}
