"""Alerts, what is advised because of them, and the keys of the API."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this schema."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    time = sa.DateTime(timezone=True)
    op.create_table(
        "gf_api_keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("created", time, nullable=False),
        sa.Column("created_by", sa.String(200), nullable=False),
        sa.Column("revoked", time, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gf_api_keys")),
        sa.UniqueConstraint("name", name=op.f("uq_gf_api_keys_name")),
    )
    op.create_table(
        "gf_alerts",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("open_key", sa.String(64), nullable=True),
        sa.Column("rule", sa.String(200), nullable=False),
        sa.Column("metric", sa.String(250), nullable=False),
        sa.Column("model", sa.String(200), nullable=True),
        sa.Column("site", sa.String(200), nullable=True),
        sa.Column("camera", sa.String(200), nullable=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("since", time, nullable=False),
        sa.Column("fired", time, nullable=True),
        sa.Column("last_true", time, nullable=False),
        sa.Column("clear_since", time, nullable=True),
        sa.Column("resolved", time, nullable=True),
        sa.Column("ended_by", sa.String(40), nullable=True),
        sa.Column("acked", time, nullable=True),
        sa.Column("acked_by", sa.String(200), nullable=True),
        sa.Column("ack_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gf_alerts")),
        sa.UniqueConstraint("open_key", name=op.f("uq_gf_alerts_open_key")),
    )
    op.create_index(op.f("ix_gf_alerts_state"), "gf_alerts", ["state"], unique=False)
    op.create_table(
        "gf_recommendations",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("alert_id", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("site", sa.String(200), nullable=True),
        sa.Column("camera", sa.String(200), nullable=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("cost", sa.JSON(), nullable=False),
        sa.Column("scenario", sa.JSON(), nullable=False),
        sa.Column("created", time, nullable=False),
        sa.Column("actor", sa.String(200), nullable=True),
        sa.Column("may_promote", sa.Boolean(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("decided", time, nullable=True),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.Column("version", sa.String(20), nullable=True),
        sa.Column("ended", time, nullable=True),
        sa.Column("outcome", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gf_recommendations")),
        sa.UniqueConstraint("alert_id", name=op.f("uq_gf_recommendations_alert_id")),
    )
    op.create_index(op.f("ix_gf_recommendations_state"), "gf_recommendations", ["state"], unique=False)


def downgrade() -> None:
    """Back to a state that knows of neither."""
    for name in ("gf_recommendations", "gf_alerts", "gf_api_keys"):
        op.drop_table(name)
