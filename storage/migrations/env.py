"""Alembic's entry: runs the revisions over the connection it is handed."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

import storage.tables


def render(kind: str, item: Any, _context: object) -> str | Literal[False]:
    """Write our column types as those of `migrations.types`, which a shipped revision stands on, and nothing else."""
    if kind != "type":
        return False
    if isinstance(item, storage.tables.UtcDateTime):
        return "TIME"
    if isinstance(item, AutoString):
        return "KEY" if item.length else "TEXT"
    if isinstance(item, sa.Float):
        return "NUMBER"
    return "STATUS" if isinstance(item, sa.Enum) else False


def differs(_context: object, _seen: object, _written: object, seen: Any, written: Any) -> bool | None:
    """Whether a column is another than the code's; None leaves it to alembic, which knows none of our types."""
    if isinstance(written, AutoString) and not written.length:
        return not isinstance(seen, sa.String) or seen.length is not None
    mine = {storage.tables.UtcDateTime: sa.DateTime, sa.Float: sa.Float, sa.JSON: sa.JSON | sa.String}
    return next((not isinstance(seen, kind) for ours, kind in mine.items() if isinstance(written, ours)), None)


context.configure(
    connection=context.config.attributes["connection"],
    dialect_name=context.config.attributes.get("dialect"),
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    render_item=render,
    compare_type=differs,
)
with context.begin_transaction():
    context.run_migrations()
