"""Schedules keep who films what is due."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.migrations.types import TEXT, TIME

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody films anything of before."""
    with op.batch_alter_table("schedule") as table:
        table.add_column(sa.Column("owner", TEXT, nullable=True))
        table.add_column(sa.Column("owner_until", TIME, nullable=True))
