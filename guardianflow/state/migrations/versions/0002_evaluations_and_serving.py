"""How a version is served and what it was made from; what is known of a model file on labelled images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OTHER_FORMATS = (
    ("%.onnx", "onnx", "onnxruntime"),
    ("%openvino%", "openvino", "openvino"),
    ("%.engine", "tensorrt", "tensorrt"),
)


def upgrade() -> None:
    """To this schema; versions that were registered before are served as their file's name says."""
    for column in (
        sa.Column("backend", sa.String(40), nullable=False, server_default="torch"),
        sa.Column("precision", sa.String(40), nullable=False, server_default="fp32"),
        sa.Column("imgsz", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("format", sa.String(40), nullable=False, server_default="torch"),
        sa.Column("parent_version", sa.String(64), nullable=True),
        sa.Column("parent_run", sa.String(64), nullable=True),
    ):
        op.add_column("gf_model_versions", column)
    versions = sa.table("gf_model_versions", *(sa.column(name) for name in ("artifact", "format", "backend")))
    for pattern, kind, backend in _OTHER_FORMATS:
        match = sa.func.lower(versions.c.artifact).like(pattern)
        op.execute(versions.update().where(match).values(format=kind, backend=backend))
    op.create_table(
        "gf_model_evaluations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("dataset_fingerprint", sa.String(64), nullable=False),
        sa.Column("split", sa.String(40), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("images_sha256", sa.String(64), nullable=False),
        sa.Column("backend", sa.String(40), nullable=False),
        sa.Column("precision", sa.String(40), nullable=False),
        sa.Column("imgsz", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(200), nullable=False),
        sa.Column("machine", sa.JSON(), nullable=False),
        sa.Column("protocol", sa.JSON(), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("artifact", sa.Text(), nullable=False),
        sa.Column("record_sha256", sa.String(64), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("per_class", sa.JSON(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gf_model_evaluations")),
    )
    op.create_index(
        op.f("ix_gf_model_evaluations_sha256_dataset_fingerprint"),
        "gf_model_evaluations",
        ["sha256", "dataset_fingerprint"],
        unique=False,
    )


def downgrade() -> None:
    """Back to versions that don't know how they are served."""
    op.drop_table("gf_model_evaluations")
    for name in ("parent_run", "parent_version", "format", "imgsz", "precision", "backend"):
        op.drop_column("gf_model_versions", name)
