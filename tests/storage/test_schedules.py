"""A schedule is due when its time has come, and runs once each time."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy.exc import StatementError

from storage.archive import Archive
from storage.errors import NotFound
from storage.lease import new_owner

NIGHT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def test_only_enabled_schedules_whose_time_has_come_are_due(archive: Archive) -> None:
    archive.add_schedule("late", cron="0 3 * * *", batch=[], next_run=NIGHT + timedelta(hours=1))
    archive.add_schedule("off", cron="0 2 * * *", batch=[], next_run=NIGHT, enabled=False)
    archive.add_schedule("now", cron="0 2 * * *", batch=[{"story": "a.txt"}], next_run=NIGHT)
    (due,) = archive.due(NIGHT)
    assert (due.name, due.batch, due.next_run) == ("now", [{"story": "a.txt"}], NIGHT)
    assert [s.name for s in archive.due(NIGHT + timedelta(hours=2))] == ["now", "late"]
    assert [s.name for s in archive.schedules()] == ["late", "now", "off"]


def test_a_time_in_another_zone_is_the_same_moment(archive: Archive) -> None:
    archive.add_schedule("a", cron="x", batch=[], next_run=NIGHT.astimezone(timezone(timedelta(hours=9))))
    assert [s.next_run for s in archive.due(NIGHT)] == [NIGHT]


def test_a_naive_time_is_refused(archive: Archive) -> None:
    with pytest.raises(StatementError, match="Expected an aware datetime"):
        archive.add_schedule("a", cron="x", batch=[], next_run=datetime(2026, 3, 1))


def test_of_many_processes_one_claims_what_is_due(archive: Archive) -> None:
    archive.add_schedule("a", cron="x", batch=[], next_run=NIGHT)
    (due,) = archive.due(NIGHT)
    owners = [new_owner() for _ in range(8)]
    won: list[str] = []

    def claim(owner: str) -> None:
        if archive.claim_due(due, owner, 60, NIGHT):
            won.append(owner)

    threads = [threading.Thread(target=claim, args=(owner,)) for owner in owners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = won
    assert archive.due(NIGHT) == []  # it is being filmed
    for owner in owners:  # only the holder's word counts
        if owner != winner:
            archive.finish_due(due, owner, NIGHT + DAY)
            archive.leave_due(due, owner)
    assert archive.due(NIGHT + DAY) == []
    archive.finish_due(due, winner, NIGHT + DAY)
    archive.leave_due(due, winner)
    assert archive.due(NIGHT) == []
    (again,) = archive.due(NIGHT + DAY)
    assert again.last_run == NIGHT


def test_what_was_left_or_whose_process_died_is_due_again(archive: Archive) -> None:
    archive.add_schedule("a", cron="x", batch=[], next_run=NIGHT)
    (due,) = archive.due(NIGHT)
    owner = new_owner()
    assert archive.claim_due(due, owner, 60, NIGHT)
    archive.leave_due(due, owner)
    (due,) = archive.due(NIGHT)
    dead = subprocess.run(
        [sys.executable, "-c", "from storage.lease import new_owner; print(new_owner())"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert archive.claim_due(due, dead, 3600, NIGHT)
    (due,) = archive.due(NIGHT)  # its holder is gone, though its time is not up
    assert archive.claim_due(due, owner, -1, NIGHT)
    (due,) = archive.due(NIGHT)  # its holder lives, but did not say so in time
    archive.renew_due(due, owner, 60)
    assert archive.due(NIGHT) == []


def test_a_schedule_that_is_replaced_while_it_is_filmed_keeps_its_new_time(archive: Archive) -> None:
    archive.add_schedule("a", cron="x", batch=[], next_run=NIGHT)
    (due,) = archive.due(NIGHT)
    owner = new_owner()
    assert archive.claim_due(due, owner, 60, NIGHT)
    archive.add_schedule("a", cron="x", batch=[], next_run=NIGHT + timedelta(hours=1))
    archive.finish_due(due, owner, NIGHT + DAY)
    (kept,) = archive.schedules()
    assert kept.next_run == NIGHT + timedelta(hours=1)
    assert not archive.renew_due(due, owner, 60)


def test_a_holder_that_said_so_just_now_is_not_robbed_by_who_looked_before(archive: Archive) -> None:
    archive.add_schedule("a", cron="x", batch=[], next_run=NIGHT)
    (due,) = archive.due(NIGHT)
    owner = new_owner()
    assert archive.claim_due(due, owner, -1, NIGHT)
    (seen,) = archive.due(NIGHT)
    assert archive.renew_due(due, owner, 60)
    assert not archive.claim_due(seen, new_owner(), 60, NIGHT)


def test_a_schedule_that_fails_each_time_keeps_no_other_waiting(archive: Archive) -> None:
    for name in ("fails", "waits"):
        archive.add_schedule(name, cron="x", batch=[], next_run=NIGHT if name == "fails" else NIGHT + DAY)
    first, _ = archive.due(NIGHT + 2 * DAY)
    owner = new_owner()
    assert archive.claim_due(first, owner, 60, NIGHT + 2 * DAY)
    archive.leave_due(first, owner)
    assert [row.name for row in archive.due(NIGHT + 2 * DAY)] == ["waits", "fails"]


def test_a_schedule_of_the_same_name_is_replaced_and_can_be_forgotten(archive: Archive) -> None:
    archive.add_schedule("a", cron="0 2 * * *", batch=[], next_run=NIGHT)
    archive.add_schedule("a", cron="0 4 * * *", batch=[{"n": 1}], next_run=NIGHT + DAY)
    (kept,) = archive.schedules()
    assert (kept.cron, kept.batch) == ("0 4 * * *", [{"n": 1}])
    archive.remove_schedule("a")
    assert archive.schedules() == []
    with pytest.raises(NotFound, match="'a'"):
        archive.remove_schedule("a")
