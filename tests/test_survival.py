"""What a run must survive, in real processes: kills, a full disk, no ffmpeg, a damaged take, odd stories."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.archive import Archive
from storage.lease import new_owner

Cli = Callable[..., Any]
ROOT = Path(__file__).resolve().parent.parent
STORY = "A red fox jumps high up in the meadow. A blue cat dances on the beach. The fox spins around."
VERBS = ("jumps", "spins around", "dances", "lies down", "grows big", "walks to the left")
LONG_STORY = " ".join(f"The red fox {VERBS[i % len(VERBS)]}." for i in range(24))
PATIENCE = 120
"""Seconds after which a process counts as stuck; a busy machine takes its time."""


def begin(folder: Path, *words: object, home: str = "home", **environment: str) -> subprocess.Popen[str]:
    """`python main.py …` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), *map(str, words)],
        cwd=folder,
        env=os.environ | {"FABULA_HOME": str(folder / home)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hears_ctrl_c,
    )


def _hears_ctrl_c() -> None:
    """Shells start what runs in their background deaf to Ctrl-C, and children inherit it: tests may run there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def film(folder: Path, *words: object, home: str = "home", **environment: str) -> tuple[int, str, str]:
    """The same, to its end."""
    process = begin(folder, *words, home=home, **environment)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    """What stands in a database that another process writes."""
    if not database.exists():
        return []
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []  # the tables are not made yet
    finally:
        connection.close()


def kill_when(process: subprocess.Popen[str], ripe: Callable[[], bool], how: int = signal.SIGKILL) -> None:
    """Send the signal as soon as `ripe`, or when the process has ended by itself."""
    until = time.monotonic() + PATIENCE
    while not ripe() and process.poll() is None:
        assert time.monotonic() < until, "the process is stuck"
        time.sleep(0.005)
    process.send_signal(how)


def done_takes(folder: Path) -> dict[str, int]:
    """Finished take files of run 1 with the time they were written."""
    media = folder / "home"
    found = rows(media / "fabula.db", "SELECT file FROM take WHERE status = 'done'")
    return {name: (media / name).stat().st_mtime_ns for (name,) in found}


@pytest.mark.slow
@pytest.mark.parametrize("staged", ["--alone", "--sets"])
def test_killed_at_any_moment_and_resumed_the_film_equals_the_uninterrupted_one(desk: Path, staged: str) -> None:
    code, out, err = film(desk, "run", LONG_STORY, staged, "--out", "whole", "--json", home="other")
    assert code == 0, err
    database = desk / "home" / "fabula.db"
    moments: list[Callable[[], bool]] = [
        lambda: database.exists(),
        lambda: bool(rows(database, "SELECT 1 FROM take")),
        lambda: len(done_takes(desk)) >= 7,
        lambda: len(done_takes(desk)) >= 15,
        lambda: len(done_takes(desk)) >= 24,
        lambda: (desk / "films" / "tale" / "film.mp4").exists(),
    ]
    before: dict[str, int] = {}
    (desk / "tale.txt").write_text(LONG_STORY)
    for ripe in moments:
        process = begin(desk, "run", "tale.txt", staged)
        kill_when(process, ripe)
        process.communicate(timeout=PATIENCE)
        after = done_takes(desk)
        assert {name: after[name] for name in before} == before, "a finished take was made again"
        before = after
    code, out, err = film(desk, "resume", 1, "--json")
    assert code == 0, err
    assert (desk / "films" / "tale" / "film.mp4").read_bytes() == (desk / "whole" / "film.mp4").read_bytes()
    assert len(done_takes(desk)) == len(json.loads(out)["shots"])
    assert list((desk / "home").rglob(".part-*")) == []


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_and_prints_how_to_go_on(desk: Path) -> None:
    process = begin(desk, "run", LONG_STORY)
    kill_when(process, lambda: len(done_takes(desk)) >= 1, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "main.py resume 1" in err
    assert "Traceback" not in err
    code, shown, _ = film(desk, "show", 1)
    assert code == 0
    assert "stopped" in shown.splitlines()[0]
    assert "Stopped before it was done; what is finished is kept. Go on with: " in shown
    assert "main.py resume 1" in shown
    code, _, err = film(desk, "resume", 1)
    assert code == 0, err


@pytest.mark.slow
def test_a_run_that_is_filmed_is_told_from_one_whose_process_is_gone(desk: Path) -> None:
    process = begin(desk, "run", LONG_STORY)
    kill_when(process, lambda: len(done_takes(desk)) >= 1)
    process.communicate(timeout=PATIENCE)
    _, shown, _ = film(desk, "show", 1)
    assert "Stopped before it was done" in shown
    assert "main.py resume 1" in shown
    (line,) = json.loads(film(desk, "runs", "--json")[1])["runs"]
    assert line["status"] == "stopped"
    with Archive(desk / "home") as archive, archive.hold(1, new_owner(), 600):  # this process takes it up
        _, shown, _ = film(desk, "show", 1)
        code, _, err = film(desk, "resume", 1)
    assert f"Filming now: process {os.getpid()} on " in shown
    assert "resume" not in shown
    assert code == 6
    assert f"Run 1 is being filmed by process {os.getpid()} on " in err
    assert "Go on with" not in err


@pytest.mark.slow
def test_two_processes_on_one_database_do_not_harm_each_other(desk: Path) -> None:
    stories = [LONG_STORY, LONG_STORY + " The fox vanishes.", LONG_STORY]
    processes = [begin(desk, "run", story, "--json", "--out", f"film{i}") for i, story in enumerate(stories)]
    results = [(*process.communicate(timeout=PATIENCE), process.returncode) for process in processes]
    codes = sorted(code for _, _, code in results)
    assert codes in ([0, 0, 0], [0, 0, 6]), results
    for out, _, code in results:
        if code == 6:
            assert "being filmed by" in json.loads(out)["error"]
    takes = rows(desk / "home" / "fabula.db", "SELECT shot_id, number, COUNT(*) FROM take GROUP BY 1, 2")
    assert all(count == 1 for _, _, count in takes)
    assert len(rows(desk / "home" / "fabula.db", "SELECT id FROM run")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut off", "altered", "gone"])
def test_a_damaged_take_is_found_by_its_hash_and_made_again(cli: Cli, desk: Path, damage: str) -> None:
    first = cli("run", STORY, "--json").data
    home = Path(os.environ["FABULA_HOME"])
    take, other, *_ = sorted(home.rglob("*.mkv"))
    good, untouched = take.read_bytes(), other.stat().st_mtime_ns
    if damage == "gone":
        take.unlink()
    else:
        take.write_bytes(good[:-100] if damage == "cut off" else good[:-1] + bytes([good[-1] ^ 1]))
    again = cli("run", STORY, "--json")
    assert again.code == 0
    assert take.read_bytes() == good
    assert other.stat().st_mtime_ns == untouched
    assert Path(again.data["film"]).read_bytes() == Path(first["film"]).read_bytes()


@pytest.mark.slow
def test_a_damaged_film_is_cut_again(cli: Cli, desk: Path) -> None:
    path = Path(cli("run", STORY, "--json").data["film"])
    good = path.read_bytes()
    path.write_bytes(good[:100])
    assert cli("run", STORY, "--json").code == 0
    assert path.read_bytes() == good


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_home_is_named_with_a_remedy(cli: Cli, desk: Path) -> None:
    (desk / "locked").mkdir(mode=0o500)
    answer = cli("run", STORY, "--home", desk / "locked" / "home")
    assert answer.code == 1
    assert "locked" in answer.err
    assert "make the folder writable" in answer.err


def test_a_home_that_cannot_be_made_is_named_with_a_remedy(cli: Cli, desk: Path) -> None:
    (desk / "note.txt").write_text("a file, not a folder")
    answer = cli("run", STORY, "--home", desk / "note.txt" / "home")
    assert answer.code == 1
    assert "note.txt" in answer.err
    assert "a file stands where a folder is needed" in answer.err


@pytest.mark.slow
def test_a_file_in_the_films_place_is_named_and_the_same_command_films_when_it_is_gone(cli: Cli, desk: Path) -> None:
    (desk / "out").write_text("not a folder")
    answer = cli("run", STORY, "--out", "out")
    assert answer.code == 1
    assert str(desk / "out") in answer.err
    assert "name another folder (--out)" in answer.err
    assert "Traceback" not in answer.err
    (desk / "out").unlink()
    assert cli("run", STORY, "--out", "out").code == 0
    assert (desk / "out" / "film.mp4").exists()


def full_disk() -> None:
    """In the child: no file may grow beyond 200 kB, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


@pytest.mark.slow
def test_a_full_disk_ends_with_a_clear_error_and_the_run_goes_on_when_there_is_room(desk: Path) -> None:
    process = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "run", LONG_STORY],
        cwd=desk,
        env=os.environ | {"FABULA_HOME": str(desk / "home")},
        preexec_fn=full_disk,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert "resume 1" in process.stderr, process.stderr
    assert any(words in process.stderr for words in ("Could not write", "fabula.db")), process.stderr
    code, _, err = film(desk, "run", LONG_STORY)
    assert code == 0, err


@pytest.mark.slow
def test_without_ffmpeg_the_takes_are_kept_and_the_remedy_is_named(desk: Path) -> None:
    (desk / "nothing").mkdir()
    hidden = {"PATH": str(desk / "nothing"), "IMAGEIO_FFMPEG_EXE": str(desk / "nothing" / "ffmpeg")}
    code, _, err = film(desk, "run", STORY, **hidden)
    assert code == 1
    assert "ffmpeg" in err
    assert "main.py resume 1" in err
    assert "Traceback" not in err
    takes = done_takes(desk)
    assert len(takes) == 3
    code, _, err = film(desk, "resume", 1)
    assert code == 0, err
    assert done_takes(desk) == takes


@pytest.mark.parametrize(
    "story",
    [
        "Жила-была лиса. Она прыгнула высоко.",
        "狐狸跳起来。猫在海滩上跳舞。",
        "كان ثعلب أحمر يقفز في المرج.",
        "🦊🦊🦊",
        "…",
        "\u202e.xof der A",
    ],
)
def test_a_story_the_rules_cannot_read_says_so_and_leaves_nothing_broken(cli: Cli, desk: Path, story: str) -> None:
    answer = cli("run", story)
    assert answer.code == 2
    assert answer.err.startswith("error: Nothing in the story can be filmed by the bundled world.")
    assert "docs/planning.md" in answer.err, "a language model may read what the rules cannot"
    assert cli("runs", "--json").data["runs"] == []


def test_a_story_with_bytes_that_are_no_text_is_refused(cli: Cli, desk: Path) -> None:
    (desk / "story.txt").write_bytes("Der Fuchs springt über den Bach.".encode("latin-1"))
    answer = cli("run", "story.txt")
    assert answer.code == 2
    assert "UTF-8" in answer.err


@pytest.mark.slow
def test_two_hundred_pages_are_planned_within_the_budget_and_say_what_was_left_out(cli: Cli, desk: Path) -> None:
    page = "The red fox jumps in the meadow. Then a blue cat dances. They talk about the weather for a while. " * 25
    (desk / "book.txt").write_text("\n\n".join(f"Page {i}. {page}" for i in range(200)))
    begun = time.process_time()
    answer = cli("plan", "book.txt", "--profile", "bundled", "--json")
    assert answer.code == 0
    assert 1 <= len(answer.data["shots"]) <= 8
    assert answer.data["notes"]
    assert time.process_time() - begun < 30


def test_a_file_of_the_size_of_a_library_is_refused(cli: Cli, desk: Path) -> None:
    with (desk / "library.txt").open("wb") as file:
        file.truncate(20_000_000)
    for endless in ("library.txt", "/dev/zero"):
        answer = cli("run", endless)
        assert answer.code == 2
        assert "larger than 10 MB" in answer.err


def test_a_database_of_another_program_is_left_alone(cli: Cli, desk: Path) -> None:
    connection = sqlite3.connect(desk / "theirs.db")
    connection.execute("CREATE TABLE diary (day TEXT)")
    connection.commit()
    connection.close()
    answer = cli("run", STORY, "--database", f"sqlite:///{desk / 'theirs.db'}")
    assert answer.code == 1
    assert "diary" in answer.err
    assert rows(desk / "theirs.db", "SELECT name FROM sqlite_master") == [("diary",)]
