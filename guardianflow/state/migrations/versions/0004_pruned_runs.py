"""Runs whose files were removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this schema."""
    op.add_column("gf_run_records", sa.Column("pruned", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Back to a state that doesn't say it."""
    op.drop_column("gf_run_records", "pruned")
