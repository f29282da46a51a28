"""A schedule is due when its time has come, and runs once each time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.exc import StatementError

from storage.archive import Archive
from storage.errors import NotFound

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
    won: list[bool] = []
    threads = [
        threading.Thread(target=lambda: won.append(archive.claim_due(due, NIGHT, NIGHT + DAY))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]
    assert archive.due(NIGHT) == []
    (again,) = archive.due(NIGHT + DAY)
    assert again.last_run == NIGHT


def test_a_schedule_of_the_same_name_is_replaced_and_can_be_forgotten(archive: Archive) -> None:
    archive.add_schedule("a", cron="0 2 * * *", batch=[], next_run=NIGHT)
    archive.add_schedule("a", cron="0 4 * * *", batch=[{"n": 1}], next_run=NIGHT + DAY)
    (kept,) = archive.schedules()
    assert (kept.cron, kept.batch) == ("0 4 * * *", [{"n": 1}])
    archive.remove_schedule("a")
    assert archive.schedules() == []
    with pytest.raises(NotFound, match="'a'"):
        archive.remove_schedule("a")
