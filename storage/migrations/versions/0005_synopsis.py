"""Shots keep the sentences that their frames read one after the other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Frames of earlier shots read the prompt."""
    none = sa.text("('[]')")  # MySQL takes a JSON column's default as an expression alone, hence the parentheses
    op.add_column("shot", sa.Column("synopsis", sa.JSON(), nullable=False, server_default=none))
