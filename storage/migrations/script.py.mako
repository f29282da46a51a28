"""${message}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.migrations.types import KEY, NUMBER, STATUS, TEXT, TIME  # those that are used
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """Bring the schema forward."""
    ${upgrades if upgrades else "pass"}
