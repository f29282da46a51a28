"""Takes keep the digest of the weights that filmed them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.migrations.types import TEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Takes of before have none: nobody looked."""
    with op.batch_alter_table("take") as table:
        table.add_column(sa.Column("weights", TEXT, nullable=True))
