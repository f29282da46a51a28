"""The archive in other dialects than SQLite's, and on the servers that FABULA_TEST_DATABASES names.

It holds SQLAlchemy URLs with spaces between, such as mysql+pymysql://ann:x@127.0.0.1:3306/films; every test drops and
makes the database that is named.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from storage.archive import Archive
from storage.errors import RunBusy
from storage.lease import new_owner
from storage.migrations.upgrade import config
from storage.records import EventPlan, ShotPlan

SERVERS = os.environ.get("FABULA_TEST_DATABASES", "").split()
Cli = Callable[..., Any]


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql", "mariadb"])
def test_every_revision_can_be_said_in_the_dialect(dialect: str) -> None:
    settings = config(dialect=dialect)
    settings.output_buffer = io.StringIO()
    command.upgrade(settings, "head", sql=True)  # raises for a column that the dialect has no type for
    said = settings.output_buffer.getvalue()
    assert said.count("CREATE TABLE") == 11  # ten tables of ours, and alembic's
    assert ("LONGTEXT" in said, "DATETIME(6)" in said, "DOUBLE" in said) == (dialect in ("mysql", "mariadb"),) * 3


@pytest.fixture(params=SERVERS or [pytest.param("", marks=pytest.mark.skip("FABULA_TEST_DATABASES names no server"))])
def server(request: pytest.FixtureRequest) -> str:
    """An empty database on a server."""
    url = sa.make_url(request.param)
    postgres = url.get_backend_name() == "postgresql"
    other = url.set(database="postgres" if postgres else "information_schema")
    engine = sa.create_engine(other, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE IF EXISTS {url.database}" + " WITH (FORCE)" * postgres))
        connection.execute(sa.text(f"CREATE DATABASE {url.database}" + " CHARACTER SET utf8mb4" * (not postgres)))
    engine.dispose()
    return url.render_as_string(hide_password=False)


def test_the_revisions_make_the_tables_of_the_code(server: str, tmp_path: Path) -> None:
    Archive(tmp_path, server).close()
    engine = sa.create_engine(server)
    with engine.begin() as connection:
        command.check(config(connection))
    engine.dispose()


def test_what_is_kept_comes_back_whole(server: str, tmp_path: Path) -> None:
    story = "Ein Fuchs \N{FOX FACE} läuft. " * 20_000
    event = EventPlan(subject="狐", phrase="läuft", start=0.1, end=1 / 3)
    plan = ShotPlan(prompt=story, seconds=4.1, subjects=("狐",), events=(event,), synopsis=("Eins.", "Zwei."))
    with Archive(tmp_path, server) as archive:
        run = archive.open_run(story, "p", {"seed": 1})
        archive.save_storyboard(run.id, title="Fuchs \N{FOX FACE}", shots=[plan])
    with Archive(tmp_path, server) as again:
        assert again.story(run.id) == story
        assert again.run(run.id).created == run.created
        assert [record.plan for record in again.shots(run.id)] == [plan]


def test_a_run_has_one_holder_and_one_row_whoever_comes_at_the_same_time(server: str, tmp_path: Path) -> None:
    runs, claims, together = set[int](), list[str](), threading.Barrier(4)

    def come() -> None:
        together.wait()
        with Archive(tmp_path, server) as archive:  # one of them makes the tables
            together.wait()
            run = archive.open_run("A fox.", "p", {})
            runs.add(run.id)
            together.wait()
            try:
                archive.claim(run.id, new_owner(), 60)
                claims.append("held")
            except RunBusy:
                claims.append("busy")

    threads = [threading.Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(runs), sorted(claims)) == (1, ["busy", "busy", "busy", "held"])


def test_a_story_is_filmed_shown_and_filmed_again_for_nothing(server: str, cli: Cli, desk: Path) -> None:
    first = cli("run", "A red fox jumps high up in the meadow.", "--database", server, "--json")
    assert first.code == 0, first.err
    second = cli("run", "A red fox jumps high up in the meadow.", "--database", server, "--json")
    assert second.data["run"] == first.data["run"] == cli("show", "--database", server, "--json").data["run"]
    assert len(cli("runs", "--database", server, "--json").data["runs"]) == 1
    assert cli("retry", 1, "--shot", 1, "--database", server).code == 0
