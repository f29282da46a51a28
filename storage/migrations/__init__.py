"""The way from any shipped schema to the newest. Never edit a revision that has shipped; add the next one."""

HEAD = "0005"
"""The revision of this code; kept here so that opening a database at head needs no alembic."""
