"""Alembic, configured in code: no ini file, no working directory."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from storage.errors import SchemaError
from storage.migrations import HEAD


def config(connection: sa.Connection | None = None, dialect: str | None = None) -> Config:
    """Alembic's settings for this folder, over an open connection, or to write SQL in a dialect."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    settings.attributes["dialect"] = dialect
    return settings


def upgrade(connection: sa.Connection, version: str | None, shown: str) -> None:
    """Bring the schema from `version` (None: an empty database) to head, inside the caller's transaction."""
    if version == HEAD:
        return  # another process was faster
    scripts = ScriptDirectory.from_config(config())
    known = {script.revision for script in scripts.walk_revisions()}
    if version is not None and version not in known:
        raise SchemaError(
            f"{shown} has schema {version}, this fabula knows up to {HEAD}: update fabula, or name another database"
        )
    command.upgrade(config(connection), "head")
