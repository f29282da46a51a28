"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.migrations.types import KEY, NUMBER, STATUS, TEXT, TIME

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From an empty database to the first schema."""
    op.create_table(
        "schedule",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("cron", TEXT, nullable=False),
        sa.Column("batch", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("next_run", TIME, nullable=False),
        sa.Column("last_run", TIME, nullable=True),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_schedule_name"), "schedule", ["name"], unique=True)
    op.create_table(
        "story",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", KEY, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_story_digest"), "story", ["digest"], unique=True)
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("story_id", sa.Integer(), nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("profile", TEXT, nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("status", STATUS, nullable=False),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("style", TEXT, nullable=False),
        sa.Column("cast", sa.JSON(), nullable=False),
        sa.Column("places", sa.JSON(), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("seconds_spent", NUMBER, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("finished", TIME, nullable=True),
        sa.Column("owner", TEXT, nullable=True),
        sa.Column("owner_until", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["story_id"],
            ["story.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_run_key"), "run", ["key"], unique=True)
    op.create_index(op.f("ix_run_story_id"), "run", ["story_id"], unique=False)
    op.create_table(
        "film",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("takes", sa.JSON(), nullable=False),
        sa.Column("missing", sa.JSON(), nullable=False),
        sa.Column("folder", TEXT, nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("events_seen", sa.Integer(), nullable=False),
        sa.Column("events_promised", sa.Integer(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["run.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id"),
    )
    op.create_table(
        "modelcall",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("prompt_name", TEXT, nullable=False),
        sa.Column("prompt_digest", TEXT, nullable=False),
        sa.Column("input_digest", KEY, nullable=False),
        sa.Column("status", STATUS, nullable=False),
        sa.Column("answer", TEXT, nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("tokens_in", sa.Integer(), nullable=False),
        sa.Column("tokens_out", sa.Integer(), nullable=False),
        sa.Column("cost", NUMBER, nullable=False),
        sa.Column("seconds", NUMBER, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["run.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_modelcall_run_id_input_digest", "modelcall", ["run_id", "input_digest"], unique=False)
    op.create_table(
        "shot",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("part", KEY, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("prompt", TEXT, nullable=False),
        sa.Column("subjects", sa.JSON(), nullable=False),
        sa.Column("place", TEXT, nullable=True),
        sa.Column("camera", TEXT, nullable=False),
        sa.Column("seconds", NUMBER, nullable=False),
        sa.Column("transition", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("error", TEXT, nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["run.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id", "number", "part", "revision"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("shot_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("phrase", TEXT, nullable=False),
        sa.Column("start", NUMBER, nullable=False),
        sa.Column("end", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(
            ["shot_id"],
            ["shot.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("shot_id", "number"),
    )
    op.create_table(
        "take",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("shot_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", STATUS, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("controls", sa.JSON(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("request_digest", TEXT, nullable=False),
        sa.Column("composition", sa.JSON(), nullable=False),
        sa.Column("file", TEXT, nullable=True),
        sa.Column("sha256", TEXT, nullable=True),
        sa.Column("seam_jump", NUMBER, nullable=True),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("seconds_spent", NUMBER, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["shot_id"],
            ["shot.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("shot_id", "number"),
    )
    op.create_table(
        "remedy",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("shot_id", sa.Integer(), nullable=False),
        sa.Column("after_take_id", sa.Integer(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["after_take_id"],
            ["take.id"],
        ),
        sa.ForeignKeyConstraint(
            ["shot_id"],
            ["shot.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_remedy_after_take_id"), "remedy", ["after_take_id"], unique=True)
    op.create_index(op.f("ix_remedy_shot_id"), "remedy", ["shot_id"], unique=False)
    op.create_table(
        "verdict",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("take_id", sa.Integer(), nullable=False),
        sa.Column("critic", TEXT, nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("identity", NUMBER, nullable=False),
        sa.Column("quality", NUMBER, nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("seconds_spent", NUMBER, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["take_id"],
            ["take.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("take_id"),
    )
