"""Any database ends at this code's schema, or is refused and left as it was."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from storage.archive import DATABASE, Archive
from storage.database import Database, _prepare_sqlite
from storage.errors import DiskError, SchemaError, StorageError
from storage.migrations import HEAD
from storage.migrations.upgrade import config

ROOT = Path(__file__).parents[2]


def test_the_head_this_code_names_is_the_newest_revision() -> None:
    assert ScriptDirectory.from_config(config()).get_current_head() == HEAD


def test_the_revisions_make_exactly_the_tables_of_the_code(archive: Archive, tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'media' / DATABASE}")
    with engine.begin() as connection:
        command.check(config(connection))  # raises where autogenerate would find a difference
    engine.dispose()


def test_sqlite_is_opened_durable_and_strict(archive: Archive) -> None:
    with archive._db.read() as session:
        said = [
            session.connection().exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert said == ["wal", 2, 1, 30000]


def test_a_database_of_a_newer_fabula_is_refused_and_left_alone(tmp_path: Path) -> None:
    Archive(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(SchemaError, match=r"9999.*update fabula"):
        Archive(tmp_path)


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE) as raw:
        raw.execute("CREATE TABLE photos (id INTEGER)")
    raw.close()
    with pytest.raises(SchemaError, match="photos"):
        Archive(tmp_path)
    with sqlite3.connect(tmp_path / DATABASE) as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]
    raw.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"not a database at all" * 100)
    with pytest.raises(SchemaError, match=rf"{DATABASE}.*move it away"):
        Archive(tmp_path)


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / DATABASE).mkdir()
    with pytest.raises(DiskError, match=rf"{DATABASE}.*folder exists"):
        Archive(tmp_path)


@pytest.mark.parametrize("url", ["no url", "nosuchdb://host/name"])
def test_a_wrong_url_says_what_was_expected(tmp_path: Path, url: str) -> None:
    with pytest.raises(StorageError, match=r"Expected a database URL|No driver"):
        Archive(tmp_path, url)


@pytest.mark.parametrize(
    "url", ["postgresql//reader:hush@host/db", "postgresql://reader:hu/sh@host:port/db", "://reader:hush@host"]
)
def test_a_wrong_url_is_told_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(StorageError, match="host") as raised:
        Archive(tmp_path, url)
    assert "hu" not in str(raised.value)


def test_a_database_in_memory_serves_dry_work() -> None:
    database = Database("sqlite://")
    with database.read() as session:
        assert session.connection().exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == HEAD
    database.close()


@pytest.mark.slow
def test_processes_that_open_a_new_database_together_all_get_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from storage.archive import Archive; "
        "print(Archive(Path(sys.argv[1])).open_run('story', 'p', {}).id)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in started] == ["1"] * 3


@pytest.mark.slow
def test_many_connections_to_a_new_database_all_get_their_write_ahead_log(tmp_path: Path) -> None:
    many, errors = 8, list[BaseException]()

    def connect(file: Path, together: threading.Barrier) -> None:
        try:
            connection = sqlite3.connect(file, timeout=30)
            together.wait()
            _prepare_sqlite(connection, None)
            connection.execute("CREATE TABLE IF NOT EXISTS runs (id)")
            connection.close()
        except BaseException as error:
            errors.append(error)

    for attempt in range(25):
        file, together = tmp_path / f"{attempt}.db", threading.Barrier(many)
        threads = [threading.Thread(target=connect, args=(file, together)) for _ in range(many)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


def test_a_database_of_the_first_schema_keeps_its_takes(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / DATABASE}")
    with engine.begin() as connection:
        command.upgrade(config(connection), "0001")
        for statement in OLD_TAKE:
            connection.exec_driver_sql(statement)
    engine.dispose()
    with Archive(tmp_path) as archive:
        (record,) = archive.takes(1)
        assert (record.take.model, record.take.weights, archive.weights(1)) == ("bundled", None, None)


OLD_TAKE = (
    "INSERT INTO story (id, digest, text, created) VALUES (1, 'd', 'A fox.', '2026-01-01')",
    'INSERT INTO run (id, story_id, key, profile, options, asked, status, title, style, "cast", places, notes, '
    "seconds_spent, created) VALUES (1, 1, 'k', 'p', '{}', '{}', 'done', '', '', '[]', '[]', '[]', 0, '2026-01-01')",
    "INSERT INTO shot (id, run_id, number, part, revision, prompt, subjects, camera, seconds, transition, reason) "
    "VALUES (1, 1, 1, '', 1, 'A fox.', '[]', 'static', 4, 'cut', '')",
    "INSERT INTO take (id, shot_id, number, status, seed, model, controls, request, request_digest, composition, "
    "notes, seconds_spent, created) "
    "VALUES (1, 1, 1, 'done', 7, 'bundled', '[]', '{}', 'r', '[]', '[]', 1, '2026-01-01')",
)
