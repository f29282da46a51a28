"""Alembic's entry: runs the revisions over the connection it is handed."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from sqlmodel import SQLModel

import storage.tables


def render(kind: str, item: Any, _context: object) -> str | Literal[False]:
    """Write our column types in plain SQLAlchemy, so that a shipped revision depends on none of our code."""
    if kind == "type" and isinstance(item, storage.tables.UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, sa.types.TypeDecorator) and type(item).__name__ == "AutoString":
        return "sa.String()"
    if kind == "type" and isinstance(item, sa.Enum):
        return f"sa.String(length={item.length})"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    render_item=render,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
