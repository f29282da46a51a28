"""Runs are found or made, and filmed by one process at a time."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from storage.archive import Archive
from storage.errors import NotFound, RunBusy, StorageError
from storage.lease import alive, holder, holds, new_owner
from storage.tables import CallStatus, RunStatus

ROOT = Path(__file__).parents[2]


def test_the_same_story_profile_and_options_are_the_same_run(archive: Archive) -> None:
    first = archive.open_run("A fox.", "bundled", {"seed": 1, "size": "small"})
    again = archive.open_run("A fox.", "bundled", {"size": "small", "seed": 1})
    others = [
        archive.open_run("A fox.", "bundled", {"seed": 2, "size": "small"}),
        archive.open_run("A fox.", "wan", {"seed": 1, "size": "small"}),
        archive.open_run("A cat.", "bundled", {"seed": 1, "size": "small"}),
    ]
    assert again.id == first.id
    assert len({run.id for run in [first, *others]}) == 4
    assert [run.id for run in archive.runs()] == [4, 3, 2, 1]
    assert archive.story(first.id) == "A fox."
    assert len({run.story_id for run in [first, *others]}) == 2


def test_a_story_in_any_script_comes_back_as_it_was(archive: Archive) -> None:
    text = "狐が跳ねる。\nلقد قفز الثعلب 🦊 '; DROP TABLE run; --" + "x" * 500_000
    assert archive.story(archive.open_run(text, "p", {}).id) == text


def test_what_cannot_be_kept_is_refused_before_anything_is_written(archive: Archive) -> None:
    with pytest.raises(StorageError, match="no text at position 2"):
        archive.open_run("ab\ud800", "p", {})
    with pytest.raises(StorageError, match="plain JSON"):
        archive.open_run("ab", "p", {"path": Path("x")})
    assert archive.runs() == []


def test_many_threads_open_one_run(archive: Archive) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(archive.open_run("A fox.", "p", {}).id)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 16


def test_an_unknown_run_is_named(archive: Archive) -> None:
    for ask in (archive.run, archive.story, archive.costs, archive.record):
        with pytest.raises(NotFound, match="run 77"):
            ask(77)


def test_a_run_says_where_it_stands_and_when_it_finished(archive: Archive, run_id: int) -> None:
    assert archive.run(run_id).finished is None
    archive.set_status(run_id, RunStatus.FAILED, "out of memory")
    failed = archive.run(run_id)
    assert (failed.status, failed.error) == (RunStatus.FAILED, "out of memory")
    assert failed.finished is not None
    assert failed.finished.tzinfo is not None
    archive.set_status(run_id, RunStatus.FILMING)
    assert (archive.run(run_id).error, archive.run(run_id).finished) == (None, None)


def test_seconds_add_up_also_from_many_threads(archive: Archive, run_id: int) -> None:
    threads = [threading.Thread(target=archive.spend, args=(run_id, 0.5)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert archive.run(run_id).seconds_spent == 4.0


def test_a_run_that_a_living_holder_films_is_busy(archive: Archive, run_id: int) -> None:
    mine, other = new_owner(), new_owner()
    archive.claim(run_id, mine, 60)
    with pytest.raises(RunBusy, match=f"Run {run_id} is being filmed by"):
        archive.claim(run_id, other, 60)
    archive.claim(run_id, mine, 60)
    archive.release(run_id, other)  # not its to release
    archive.renew(run_id, mine, 60)
    archive.release(run_id, mine)
    assert archive.claim(run_id, other, 60).owner == other
    with pytest.raises(RunBusy, match="no longer held"):
        archive.renew(run_id, mine, 60)


@pytest.mark.slow
def test_a_killed_process_frees_its_run_at_once_and_its_calls_become_unknown(archive: Archive, run_id: int) -> None:
    code = (
        "import sys, time; from pathlib import Path; from storage.archive import Archive; "
        "from storage.lease import new_owner\n"
        "archive = Archive(Path(sys.argv[1])); archive.claim(int(sys.argv[2]), new_owner(), 3600)\n"
        "archive.begin_call(1, role='planner', model='m', prompt_name='p', prompt_digest='d', input_digest='i')\n"
        "Path(sys.argv[1], 'run-000001').mkdir(); Path(sys.argv[1], 'run-000001', '.part-1.mkv').touch()\n"
        "print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(archive.media.folder), str(run_id)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(RunBusy):
        archive.claim(run_id, new_owner(), 60)
    assert archive.calls(run_id)[0].status == CallStatus.SENT
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    archive.claim(run_id, new_owner(), 60)
    assert archive.calls(run_id)[0].status == CallStatus.UNKNOWN
    assert list((archive.media.folder / "run-000001").iterdir()) == []


def test_a_holder_on_another_machine_keeps_its_run_until_its_time_is_up(archive: Archive, run_id: int) -> None:
    far = "elsewhere:1/42/1/abcd"
    archive.claim(run_id, far, 60)
    with pytest.raises(RunBusy, match="elsewhere"):
        archive.claim(run_id, new_owner(), 60)
    archive.renew(run_id, far, -1)
    archive.claim(run_id, new_owner(), 60)


def test_a_hold_ends_with_its_block_also_after_an_error(archive: Archive, run_id: int) -> None:
    with contextlib.suppress(ZeroDivisionError), archive.hold(run_id, new_owner(), 60):
        run = archive.run(run_id)
        assert holds(run.owner, run.owner_until)
        _ = 1 / 0
    run = archive.run(run_id)
    assert not holds(run.owner, run.owner_until)


def test_who_holds_a_run_is_told_in_words() -> None:
    assert holder("studio-1:4026531836/4711/216348/db309e6a") == "process 4711 on studio-1"
    assert holder("somebody") == "somebody"


def test_of_many_claimants_one_wins(archive: Archive, run_id: int) -> None:
    won: list[str] = []

    def claim() -> None:
        with contextlib.suppress(RunBusy):
            won.append(str(archive.claim(run_id, new_owner(), 60).owner))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert archive.run(run_id).owner == won[0]


def test_a_process_number_given_to_another_process_does_not_keep_the_dead_alive() -> None:
    mine = new_owner()
    machine, pid, started, nonce = mine.rsplit("/", 3)
    assert alive(mine) is True
    assert alive(f"{machine}/{pid}/{started}9/{nonce}") is False
    assert alive(f"elsewhere/{pid}/{started}/{nonce}") is None
    assert alive("no owner at all") is None
