"""Shots keep whose motion they have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.migrations.types import TEXT

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Shots of before have their own."""
    with op.batch_alter_table("shot") as table:
        table.add_column(sa.Column("motion_from", TEXT, nullable=True))
