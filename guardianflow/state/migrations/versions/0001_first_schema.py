"""The first schema: model registry, run records, metric records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this schema."""
    op.create_table(
        "gf_metric_records",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("event_id", sa.String(64), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metric", sa.String(250), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("invalid", sa.String(4), nullable=True),
        sa.Column("model", sa.String(200), nullable=True),
        sa.Column("version", sa.String(20), nullable=True),
        sa.Column("site", sa.String(200), nullable=True),
        sa.Column("camera", sa.String(200), nullable=True),
        sa.Column("task", sa.String(40), nullable=True),
        sa.Column("experiment", sa.String(200), nullable=True),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.Column("device", sa.String(100), nullable=True),
        sa.Column("source", sa.String(100), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gf_metric_records")),
        sa.UniqueConstraint("event_id", name=op.f("uq_gf_metric_records_event_id")),
    )
    op.create_index(op.f("ix_gf_metric_records_metric_time"), "gf_metric_records", ["metric", "time"], unique=False)
    op.create_index(op.f("ix_gf_metric_records_model_time"), "gf_metric_records", ["model", "time"], unique=False)
    op.create_index(op.f("ix_gf_metric_records_run_id"), "gf_metric_records", ["run_id"], unique=False)
    op.create_table(
        "gf_model_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("gen", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("version", sa.String(20), nullable=True),
        sa.Column("champion", sa.String(20), nullable=True),
        sa.Column("candidate", sa.String(20), nullable=True),
        sa.Column("rollback", sa.String(20), nullable=True),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gf_model_events")),
        sa.UniqueConstraint("name", "gen", name=op.f("uq_gf_model_events_name_gen")),
    )
    op.create_table(
        "gf_model_states",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("gen", sa.Integer(), nullable=False),
        sa.Column("champion", sa.String(20), nullable=True),
        sa.Column("candidate", sa.String(20), nullable=True),
        sa.Column("rollback", sa.String(20), nullable=True),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("champion <> rollback", name=op.f("ck_gf_model_states_two_versions")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_gf_model_states")),
    )
    op.create_table(
        "gf_model_versions",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("version", sa.String(20), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("artifact", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("dataset_fingerprint", sa.String(64), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_gf_model_versions")),
    )
    op.create_table(
        "gf_run_records",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("tracking_uri", sa.Text(), nullable=False),
        sa.Column("experiment", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("template", sa.Text(), nullable=True),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("again_of", sa.String(64), nullable=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("boot", sa.String(64), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pid_started", sa.Float(), nullable=False),
        sa.Column("heartbeat", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_gf_run_records")),
    )
    op.create_index(
        op.f("ix_gf_run_records_experiment_started"), "gf_run_records", ["experiment", "started"], unique=False
    )
    op.create_index(op.f("ix_gf_run_records_status"), "gf_run_records", ["status"], unique=False)


def downgrade() -> None:
    """Back to an empty database."""
    for name in ("run_records", "model_versions", "model_states", "model_events", "metric_records"):
        op.drop_table(f"gf_{name}")  # its indexes go with it
