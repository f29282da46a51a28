"""One database: its engine, its pragmas, short transactions and the way to the newest schema.

Knows SQLAlchemy and SQLite's habits; knows nothing of runs, shots or takes.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlmodel import Session

from storage.errors import DiskError, SchemaError, StorageError
from storage.media import make_folder
from storage.migrations import HEAD

BUSY_SECONDS = 30.0
"""How long a writer of another process is waited for."""
LARGEST = 2**63 - 1
"""The largest whole number that a row can hold."""


class Database:
    """A thread-safe door to one database, at the newest schema from the moment it is open."""

    def __init__(self, url: str) -> None:
        """Open and migrate; DiskError when the file cannot be opened, SchemaError when it is not ours or newer."""
        try:
            self.url = sa.make_url(url)
        except (exc.ArgumentError, ValueError) as error:  # ValueError: a port that is no number
            shown = url.rpartition("@")[2]  # what stands before it may hold a password
            raise StorageError(f"Expected a database URL such as sqlite:///fabula.db, got {shown!r}") from error
        self._sqlite = self.url.get_backend_name() == "sqlite"
        self._memory = self._sqlite and self.url.database in (None, "", ":memory:")
        if self._sqlite and not self._memory:
            make_folder(Path(str(self.url.database)).parent)
        self.place = self._find_place()
        """Which database this is, by whatever driver it is reached: a file by its path; in memory, like no other."""
        self._engine = self._make_engine()
        self._writing = self._engine.execution_options(writes=True)
        self._turn: contextlib.AbstractContextManager[Any] = (
            threading.RLock() if self._sqlite else contextlib.nullcontext()
        )
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of every connection; calling it twice is harmless."""
        self._engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A session for looking; rows stay usable after it is closed."""
        with self._named_errors(), Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, undone by an exception.

        On SQLite it holds the write lock from its first statement (a reader that turns writer would fail at once
        instead of waiting), and the threads of this process queue up instead of polling the file.
        """
        with self._named_errors(), self._turn, Session(self._writing, expire_on_commit=False) as session:
            yield session
            session.commit()

    def _make_engine(self) -> sa.Engine:
        try:
            if not self._sqlite:
                return sa.create_engine(self.url, pool_pre_ping=True)
            engine = sa.create_engine(
                self.url,
                connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
                poolclass=sa.StaticPool if self._memory else sa.QueuePool,
            )
        except (exc.NoSuchModuleError, ModuleNotFoundError) as error:
            raise StorageError(f"No driver for {self.url.drivername!r}: install one, e.g. psycopg ({error})") from error
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _migrate(self) -> None:
        with self._named_errors():
            with self._engine.connect() as connection:
                if _version(connection) == HEAD:
                    return
            from storage.migrations.upgrade import upgrade  # alembic takes a while to import; rarely needed

            with self._turn, self._writing.connect() as connection, _alone(connection), connection.begin():
                upgrade(connection, _version(connection), self._shown)

    @property
    def _shown(self) -> str:
        return without_password(self.url)

    def _find_place(self) -> str:
        if not self._sqlite:
            address = self.url
            return f"{address.get_backend_name()}://{address.host}:{address.port or ''}/{address.database}"
        return f"sqlite:///{secrets.token_hex(8) if self._memory else Path(str(self.url.database)).resolve()}"

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except exc.OperationalError as error:
            raise DiskError(f"Database {self._shown}: {error.orig}. {_remedy(str(error.orig))}") from error
        except OverflowError as error:
            raise StorageError(f"Database {self._shown}: expected numbers of at most {LARGEST} ({error})") from error
        except exc.DatabaseError as error:
            if "not a database" in str(error.orig) or "malformed" in str(error.orig):
                raise SchemaError(
                    f"{self._shown} is not a readable database ({error.orig}): move it away or name another one"
                ) from error
            raise


def without_password(url: str | sa.URL) -> str:
    """A database's address fit for a screen or a log: without its password, in the query neither."""
    try:
        address = sa.make_url(url)
    except exc.ArgumentError:
        return "***"  # nobody can tell where in it a password stands
    return address.difference_update_query(["password"]).render_as_string(hide_password=True)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    _write_ahead(cursor)
    for pragma in (
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={int(BUSY_SECONDS * 1000)}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Keep a write-ahead log; SQLite waits for nobody here, so of many who open a new database some are refused."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.01)


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _alone(connection: sa.Connection) -> Iterator[None]:
    """Nobody else brings this server's schema to its newest form meanwhile; SQLite's own write lock sees to that."""
    if connection.dialect.name not in _LOCKS:
        yield
        return
    lock, free = _LOCKS[connection.dialect.name]
    connection.exec_driver_sql(lock)
    connection.commit()  # what is read from here on was there when the lock was got
    try:
        yield
    finally:
        connection.rollback()
        connection.exec_driver_sql(free)
        connection.commit()


_MYSQL = (f"SELECT GET_LOCK('fabula', {int(BUSY_SECONDS)})", "SELECT RELEASE_LOCK('fabula')")
_LOCKS = {
    "postgresql": ("SELECT pg_advisory_lock(hashtext('fabula'))", "SELECT pg_advisory_unlock(hashtext('fabula'))"),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}


def _version(connection: sa.Connection) -> str | None:
    """The schema's revision; None for an empty database; SchemaError for tables that are not ours."""
    names = set(sa.inspect(connection).get_table_names())
    if "alembic_version" in names:
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if names:
        raise SchemaError(f"The database holds tables {sorted(names)[:5]} but none of fabula's: name an empty database")
    return None


def _remedy(reason: str) -> str:
    """What a person can do about SQLite's short complaints."""
    for sign, remedy in (
        ("full", "Free some space and resume the run."),
        ("unable to open", "Check that the folder exists and may be written."),
        ("readonly", "Make the file and its folder writable."),
        ("locked", "Another process holds the database; try again when it is done."),
    ):
        if sign in reason:
            return remedy
    return "Check that the database can be reached, then resume the run."
