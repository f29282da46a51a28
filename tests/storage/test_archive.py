"""The archive keeps what was promised, filmed and judged; every step may be repeated."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from storage.archive import DATABASE, Archive
from storage.errors import AlreadyKept, DiskError, NotFound
from storage.records import EventPlan, ShotPlan
from storage.tables import RunStatus, Take, TakeStatus

ROOT = Path(__file__).parents[2]


def begin(archive: Archive, shot_id: int, digest: str = "d1", **more: Any) -> Take:
    return archive.begin_take(shot_id, seed=1, model="m", controls=[], request={"seed": 1}, digest=digest, **more)


def judge(archive: Archive, take_id: int, done: bool = True) -> None:
    archive.save_verdict(take_id, critic="pixels", events=[{"done": done}], identity=1.0, quality=0.5)


def test_a_storyboard_comes_back_as_it_was_kept(archive: Archive, plan: ShotPlan) -> None:
    run = archive.open_run("A fox.", "p", {})
    second = replace(plan, transition="continues", camera="pan", place=None)
    archive.save_storyboard(
        run.id, title="The fox", style="paper", cast=[{"name": "fox"}], places=[{"name": "m"}], notes=["n"],
        shots=[plan, second],
    )  # fmt: skip
    kept = archive.run(run.id)
    assert (kept.title, kept.style, kept.cast, kept.places, kept.notes) == (
        "The fox", "paper", [{"name": "fox"}], [{"name": "m"}], ["n"],
    )  # fmt: skip
    assert [record.plan for record in archive.shots(run.id)] == [plan, second]
    assert [record.label for record in archive.shots(run.id)] == ["1", "2"]
    assert [event.number for event in archive.shots(run.id)[0].events] == [1, 2]


def test_saving_the_same_storyboard_again_changes_nothing(archive: Archive, run_id: int, plan: ShotPlan) -> None:
    before = [record.shot.id for record in archive.shots(run_id)]
    archive.save_storyboard(run_id, title="The fox", shots=[plan, plan])
    assert [record.shot.id for record in archive.shots(run_id)] == before


def test_another_storyboard_needs_leave_and_never_replaces_what_was_filmed(
    archive: Archive, run_id: int, plan: ShotPlan
) -> None:
    with pytest.raises(AlreadyKept, match="replace=True"):
        archive.save_storyboard(run_id, title="Another", shots=[plan])
    archive.save_storyboard(run_id, title="Another", shots=[plan], replace=True)
    (shot,) = archive.shots(run_id)
    begin(archive, shot.shot.id)
    with pytest.raises(AlreadyKept, match="takes of it were filmed"):
        archive.save_storyboard(run_id, title="Third", shots=[plan, plan], replace=True)
    assert archive.run(run_id).title == "Another"
    assert len(archive.shots(run_id)) == 1


def test_a_revision_is_filmed_and_the_first_promise_is_judged(archive: Archive, run_id: int, plan: ShotPlan) -> None:
    shot = archive.shots(run_id)[0]
    events = (plan.events[0], EventPlan(subject="fox", phrase="leaps", start=2.0, end=3.5))
    revised = replace(plan, prompt="the fox walks then leaps", events=events)
    archive.revise_shot(shot.shot.id, revised, "event 1.2 was not seen: other words")
    archive.revise_shot(shot.shot.id, revised, "the same once more changes nothing")
    first, second = archive.shots(run_id)
    assert first.shot.revision == 2
    assert first.shot.reason == "event 1.2 was not seen: other words"
    assert first.plan == revised
    assert [event.phrase for event in first.promised] == ["phrase 0", "phrase 1"]
    assert second.shot.revision == 1
    with pytest.raises(ValueError, match="promised 2 events, its revision has 1"):
        archive.revise_shot(shot.shot.id, replace(plan, events=plan.events[:1]), "fewer")


def test_an_unfinished_or_finished_take_is_taken_up_and_a_failed_one_is_not(archive: Archive, run_id: int) -> None:
    shot_id = archive.shots(run_id)[0].shot.id
    take = begin(archive, shot_id, composition=["d1", "d9"])
    assert begin(archive, shot_id).id == take.id
    archive.finish_take(take.id, b"frames", seconds=2.0, seam_jump=1.5, notes=["cut off"])
    again = begin(archive, shot_id)
    assert (again.id, again.status, again.composition) == (take.id, TakeStatus.DONE, ["d1", "d9"])
    assert (again.seam_jump, again.notes, again.seconds_spent) == (1.5, ["cut off"], 2.0)
    other = begin(archive, shot_id, digest="d2")
    archive.fail_take(other.id, "out of memory", seconds=1.0)
    retry = begin(archive, shot_id, digest="d2")
    assert (other.number, retry.number) == (2, 3)
    assert archive.take(other.id).error == "out of memory"


def test_takes_are_counted_through_the_revisions_of_a_shot(archive: Archive, run_id: int, plan: ShotPlan) -> None:
    shot_id = archive.shots(run_id)[0].shot.id
    begin(archive, shot_id)
    revised = archive.revise_shot(shot_id, replace(plan, prompt="other words"), "why")
    assert begin(archive, revised.shot.id).number == 2
    assert [record.shot.revision for record in archive.takes(run_id)] == [1, 2]
    assert [record.label for record in archive.takes(run_id)] == ["1", "1"]


def test_a_take_file_lies_under_the_media_folder_and_is_checked_on_every_use(archive: Archive, run_id: int) -> None:
    take = begin(archive, archive.shots(run_id)[1].shot.id)
    assert archive.take_file(take) is None
    take = archive.finish_take(take.id, lambda path: path.write_bytes(b"frames") and None)
    path = archive.take_file(take)
    assert path == archive.media.folder / "run-000001" / "shot-002-take-01.mkv"
    path.write_bytes(b"framez")
    assert archive.take_file(take) is None


def test_databases_that_share_a_media_folder_never_touch_one_anothers_takes(tmp_path: Path, plan: ShotPlan) -> None:
    urls = (None, f"sqlite:///{tmp_path / 'other.db'}", "sqlite://", "sqlite://")
    archives = [Archive(tmp_path / "media", url) for url in urls]
    takes = []
    for number, archive in enumerate(archives):
        run = archive.open_run("A fox.", "p", {})
        living = [path.with_name(".part-1.mkv") for path in (tmp_path / "media").glob("run-*/shot-*")]
        for path in living:
            path.touch()
        archive.claim(run.id, f"owner-{number}", 60)
        assert all(path.exists() for path in living), "another database's half-written take"
        [shot] = archive.save_storyboard(run.id, title="The fox", shots=[plan])
        takes.append(archive.finish_take(begin(archive, shot.shot.id).id, f"frames {number}".encode()))
    assert all(archive.take_file(take) is not None for archive, take in zip(archives, takes, strict=True))
    assert takes[0].file == "run-000001/shot-001-take-01.mkv"
    for archive in archives:
        archive.close()
    with Archive(tmp_path / "media", f"sqlite:///{tmp_path / 'media' / '..' / 'other.db'}") as again:
        assert again.takes_folder(1) == Path(takes[1].file or "").parent.name


def test_a_take_and_the_seconds_it_took_are_kept_together_or_not_at_all(archive: Archive, run_id: int) -> None:
    archive.spend(run_id, 1.5)
    take = begin(archive, archive.shots(run_id)[0].shot.id)

    def disk_full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    def asked() -> float:
        raise AssertionError("nothing was kept")

    with pytest.raises(DiskError):
        archive.finish_take(take.id, disk_full, spent=asked)
    assert archive.run(run_id).seconds_spent == 1.5
    archive.finish_take(take.id, b"frames", seconds=3.0, spent=lambda: 4.0)
    assert (archive.run(run_id).seconds_spent, archive.take(take.id).seconds_spent) == (5.5, 3.0)

    def fails() -> float:
        raise RuntimeError("while the row is written")

    lost = begin(archive, archive.shots(run_id)[1].shot.id)
    with pytest.raises(RuntimeError):
        archive.finish_take(lost.id, b"frames", spent=fails)
    assert archive.take(lost.id).status == TakeStatus.FILMING
    assert archive.run(run_id).seconds_spent == 5.5


def test_a_lost_take_that_comes_back_the_same_keeps_its_verdict(archive: Archive, run_id: int) -> None:
    take = begin(archive, archive.shots(run_id)[0].shot.id)
    archive.finish_take(take.id, b"frames")
    judge(archive, take.id)
    archive.lose_take(take.id, "its file was altered")
    assert begin(archive, take.shot_id).status == TakeStatus.FILMING
    again = archive.finish_take(take.id, b"frames")
    assert (again.id, again.status, again.error) == (take.id, TakeStatus.DONE, None)
    assert archive.verdict(take.id) is not None
    archive.lose_take(take.id, "again")
    archive.finish_take(take.id, b"other frames")
    assert archive.verdict(take.id) is None


def test_the_first_verdict_and_the_first_remedy_stay(archive: Archive, run_id: int, plan: ShotPlan) -> None:
    take = begin(archive, archive.shots(run_id)[0].shot.id)
    judge(archive, take.id, done=False)
    judge(archive, take.id, done=True)
    revision = replace(plan, prompt="other words")
    for kind in ("re_word", "new_seed"):
        archive.save_remedy(take.id, kind=kind, changes={"seed": 5}, reason="not seen", revision=revision)
    (record,) = archive.takes(run_id, [1])
    assert record.verdict is not None
    assert record.verdict.events == [{"done": False}]
    assert record.remedy is not None
    assert (record.remedy.kind, record.remedy.changes) == ("re_word", {"seed": 5})
    assert archive.shots(run_id)[0].shot.revision == 2
    assert archive.takes(run_id, [2]) == []


def test_what_does_not_exist_is_named(archive: Archive, plan: ShotPlan) -> None:
    with pytest.raises(NotFound, match="shot with id 5"):
        begin(archive, 5)
    with pytest.raises(NotFound, match="take with id 6"):
        archive.finish_take(6, b"x")
    with pytest.raises(NotFound, match="take with id 7"):
        archive.save_remedy(7, kind="k", changes={}, reason="r")
    with pytest.raises(NotFound, match="shot with id 8"):
        archive.revise_shot(8, plan, "r")
    with pytest.raises(NotFound, match="run 9"):
        archive.save_storyboard(9, title="t", shots=[plan])


def test_a_film_replaces_the_film_before(archive: Archive, run_id: int, tmp_path: Path) -> None:
    assert archive.film(run_id) is None
    for seen in (1, 2):
        archive.save_film(
            run_id, takes=[1], missing=["2"], folder=tmp_path, files={"film.mp4": "aa"}, events_seen=seen,
            events_promised=4,
        )  # fmt: skip
    film = archive.film(run_id)
    assert film is not None
    assert (film.events_seen, film.missing, film.files) == (2, ["2"], {"film.mp4": "aa"})


def test_a_full_disk_stops_the_step_and_loses_nothing(archive: Archive, run_id: int, plan: ShotPlan) -> None:
    with archive._db.read() as session:
        pages = session.connection().exec_driver_sql("PRAGMA page_count").scalar()
        session.connection().exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskError, match=r"full.*Free some space"):
        archive.open_run("x" * 200_000, "p", {})
    with archive._db.read() as session:
        session.connection().exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert [run.id for run in archive.runs()] == [run_id]
    assert archive.open_run("x" * 200_000, "p", {}).id == run_id + 1


@pytest.mark.slow
def test_a_process_killed_while_it_writes_leaves_whole_takes_only(archive: Archive, run_id: int) -> None:
    code = (
        "import sys; from pathlib import Path; from storage.archive import Archive\n"
        "archive = Archive(Path(sys.argv[1])); shot = archive.shots(1)[0].shot.id\n"
        "for n in range(100000):\n"
        "    take = archive.begin_take(shot, seed=n, model='m', controls=[], request={}, digest=str(n))\n"
        "    archive.finish_take(take.id, bytes([n % 256]) * 300000); print(n, flush=True)\n"
    )
    for turn in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(archive.media.folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(2 * turn + 2):
            process.stdout.readline()
        time.sleep(turn * 0.003)  # somewhere in the next take
        process.kill()
        process.wait()
        process.stdout.close()
    takes = [record.take for record in archive.takes(run_id)]
    assert len(takes) >= 2
    assert all(archive.take_file(take) for take in takes if take.status == TakeStatus.DONE)
    unfinished = [take for take in takes if take.status == TakeStatus.FILMING]
    assert len(unfinished) <= 1  # each process took up what the one before had begun


@pytest.mark.slow
def test_two_processes_write_to_one_database(archive: Archive, run_id: int) -> None:
    code = (
        "import sys; from pathlib import Path; from storage.archive import Archive\n"
        "archive = Archive(Path(sys.argv[1]))\n"
        "for n in range(30): archive.spend(1, 1.0), archive.set_status(1, 'filming')\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(archive.media.folder)], cwd=ROOT) for _ in range(2)]
    threads = [threading.Thread(target=lambda: [archive.spend(run_id, 1.0) for _ in range(10)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(timeout=60) for process in started] == [0, 0]
    assert archive.run(run_id).seconds_spent == 80.0


@pytest.mark.slow
def test_a_step_waits_for_another_process_that_writes_and_builds_on_what_it_wrote(
    archive: Archive, run_id: int, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "media" / DATABASE, check_same_thread=False)
    other.execute("UPDATE run SET seconds_spent = 5")  # python's sqlite3 has begun a transaction

    def commit() -> None:
        time.sleep(0.3)
        other.commit()

    thread = threading.Thread(target=commit)
    thread.start()
    run = archive.set_status(run_id, RunStatus.FILMING)  # looks, then writes
    thread.join()
    other.close()
    assert (run.status, run.seconds_spent) == (RunStatus.FILMING, 5.0)


def fill(archive: Archive, shots: int) -> int:
    """A run with one judged take and one remedy a shot; files are left out: they are the backend's bytes."""
    run = archive.open_run(f"story of {shots}", "p", {})
    events = tuple(EventPlan(subject="fox", phrase=f"phrase {n}", start=float(n), end=n + 1.0) for n in range(3))
    plan = ShotPlan(prompt="the fox walks then jumps then spins", seconds=4.0, events=events, subjects=("fox",))
    for record in archive.save_storyboard(run.id, title="t", shots=[plan] * shots):
        take = begin(archive, record.shot.id)
        judge(archive, take.id)
        archive.save_remedy(take.id, kind="new_seed", changes={"seed": 2}, reason="not seen")
    return run.id


def test_a_whole_run_is_read_in_the_same_number_of_queries_at_any_size(archive: Archive) -> None:
    small, large = fill(archive, 2), fill(archive, 40)
    counts: list[int] = []

    def count(*_: object) -> None:
        counts[-1] += 1

    sa.event.listen(sa.Engine, "before_cursor_execute", count)
    try:
        for run_id, shots in ((small, 2), (large, 40)):
            counts.append(0)
            record = archive.record(run_id)
            assert len(record.shots) == len(record.takes) == shots
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", count)
    statements, _ = counts
    assert counts == [statements, statements]
    assert statements <= 16  # seven looks, each with its BEGIN


@pytest.mark.slow
def test_work_and_bytes_grow_with_the_shots_and_no_faster(tmp_path: Path, database_work: Counter[str]) -> None:
    size = {}
    for shots in (60, 600):
        with Archive(tmp_path / f"{shots}") as archive:
            archive.record(fill(archive, shots))
        size[shots] = (tmp_path / f"{shots}" / DATABASE).stat().st_size
    assert 0 < database_work["600"] <= 12 * database_work["60"]
    assert size[600] <= 12 * size[60]
