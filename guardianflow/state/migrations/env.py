"""Alembic's entry: runs the migrations on the connection that state/database.py hands over."""

from __future__ import annotations

from alembic import context

from guardianflow.state.database import VERSION_TABLE, metadata


def run() -> None:
    """Run what was asked for within the caller's transaction."""
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise RuntimeError(
            "these migrations run through guardianflow.state.database.upgrade, which holds the lock; "
            "open the database with `guardianflow doctor` to apply them"
        )
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        render_as_batch=connection.dialect.name == "sqlite",
        # A shared database holds MLflow's tables too: they are none of our business.
        include_name=lambda name, kind, _: kind != "table" or (name or "").startswith("gf_"),
    )
    with context.begin_transaction():
        context.run_migrations()


run()
