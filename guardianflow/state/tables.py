"""The tables of our own state: registry ledger, run records, metrics, alerts, recommendations, keys.

In the database every name begins with ``gf_``: a team may keep MLflow in the same PostgreSQL
database, and MLflow has tables called ``model_versions``, ``runs`` and ``metrics``.
Whoever changes a table here adds a migration under ``migrations/versions``; a test compares both.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

__all__ = [
    "UtcDateTime",
    "alerts",
    "api_keys",
    "metadata",
    "metric_records",
    "model_evaluations",
    "model_events",
    "model_states",
    "model_versions",
    "recommendations",
    "run_records",
]


class UtcDateTime(sa.TypeDecorator[datetime]):
    """A point in time: stored in UTC, handed back time-zone aware.

    SQLite keeps no time zone, so ``09:00+09:00`` would come back as ``09:00`` of nobody knows where.
    A naive value is taken as UTC.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """To UTC."""
        del dialect  # the same everywhere
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Aware, in UTC."""
        return self.process_bind_param(value, dialect)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_JSON = sa.JSON()
_TIME = UtcDateTime()
_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")

model_states = sa.Table(
    "gf_model_states",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("gen", sa.Integer, nullable=False),
    sa.Column("champion", sa.String(20)),
    sa.Column("candidate", sa.String(20)),
    sa.Column("rollback", sa.String(20)),
    sa.Column("updated", _TIME, nullable=False),
    sa.CheckConstraint("champion <> rollback", name="two_versions"),
)
"""The authority over aliases: one row a model, moved by compare-and-set on ``gen``."""

model_versions = sa.Table(
    "gf_model_versions",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("version", sa.String(20), primary_key=True),
    sa.Column("run_id", sa.String(64), nullable=False),
    sa.Column("artifact", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("dataset_fingerprint", sa.String(64)),
    sa.Column("metrics", _JSON, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("created", _TIME, nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("backend", sa.String(40), nullable=False, server_default="torch"),
    sa.Column("precision", sa.String(40), nullable=False, server_default="fp32"),
    sa.Column("imgsz", sa.Integer, nullable=False, server_default="0"),
    sa.Column("format", sa.String(40), nullable=False, server_default="torch"),
    sa.Column("parent_version", sa.String(64)),
    sa.Column("parent_run", sa.String(64)),
)
"""What was registered: one row a version, with the hash its file must have and how it is served.

Status: ready, rejected, deleting (perhaps still in MLflow), deleted. The defaults are those of rows
from before versions knew how they are served.
"""

model_evaluations = sa.Table(
    "gf_model_evaluations",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("dataset_fingerprint", sa.String(64), nullable=False),
    sa.Column("split", sa.String(40), nullable=False),
    sa.Column("images", sa.Integer, nullable=False),
    sa.Column("images_sha256", sa.String(64), nullable=False),
    sa.Column("backend", sa.String(40), nullable=False),
    sa.Column("precision", sa.String(40), nullable=False),
    sa.Column("imgsz", sa.Integer, nullable=False),
    sa.Column("device", sa.String(200), nullable=False),
    sa.Column("machine", _JSON, nullable=False),
    sa.Column("protocol", _JSON, nullable=False),
    sa.Column("run_id", sa.String(64), nullable=False),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("artifact", sa.Text, nullable=False),
    sa.Column("record_sha256", sa.String(64), nullable=False),
    sa.Column("metrics", _JSON, nullable=False),
    sa.Column("per_class", _JSON, nullable=False),
    sa.Column("time", _TIME, nullable=False),
)
"""What is known of a model file on labelled images: one row an evaluation, and where its predictions lie."""
sa.Index(None, model_evaluations.c.sha256, model_evaluations.c.dataset_fingerprint)

model_events = sa.Table(
    "gf_model_events",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("gen", sa.Integer, nullable=False),
    sa.Column("action", sa.String(20), nullable=False),
    sa.Column("version", sa.String(20)),
    sa.Column("champion", sa.String(20)),
    sa.Column("candidate", sa.String(20)),
    sa.Column("rollback", sa.String(20)),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("evidence", _JSON, nullable=False),
    sa.Column("time", _TIME, nullable=False),
    sa.UniqueConstraint("name", "gen"),
)
"""The ledger: append-only, one row for every move of a model's state, written with the move."""

run_records = sa.Table(
    "gf_run_records",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("tracking_uri", sa.Text, nullable=False),
    sa.Column("experiment", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("parameters", _JSON, nullable=False),
    sa.Column("template", sa.Text),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("again_of", sa.String(64)),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("boot", sa.String(64), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("pid_started", sa.Float, nullable=False),
    sa.Column("heartbeat", _TIME, nullable=False),
    sa.Column("started", _TIME, nullable=False),
    sa.Column("ended", _TIME),
    sa.Column("progress", _JSON, nullable=False),
    sa.Column("pruned", _TIME),
)
"""One row a run: who executes it, whether that process lives, and what it was asked to do."""
sa.Index(None, run_records.c.status)
sa.Index(None, run_records.c.experiment, run_records.c.started)

metric_records = sa.Table(
    "gf_metric_records",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.String(64), nullable=False, unique=True),
    sa.Column("time", _TIME, nullable=False),
    sa.Column("received", _TIME, nullable=False),
    sa.Column("metric", sa.String(250), nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("invalid", sa.String(4)),
    sa.Column("model", sa.String(200)),
    sa.Column("version", sa.String(20)),
    sa.Column("site", sa.String(200)),
    sa.Column("camera", sa.String(200)),
    sa.Column("task", sa.String(40)),
    sa.Column("experiment", sa.String(200)),
    sa.Column("run_id", sa.String(64)),
    sa.Column("device", sa.String(100)),
    sa.Column("source", sa.String(100)),
    sa.Column("tags", _JSON, nullable=False),
)
"""Measurements. ``value`` is NULL exactly where ``invalid`` says nan, inf or -inf."""
sa.Index(None, metric_records.c.metric, metric_records.c.time)
sa.Index(None, metric_records.c.model, metric_records.c.time)
sa.Index(None, metric_records.c.run_id)

api_keys = sa.Table(
    "gf_api_keys",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("secret_sha256", sa.String(64), nullable=False),
    sa.Column("created", _TIME, nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("revoked", _TIME),
)
"""Who may ask the API for what; of the secret only its hash is here. A revoked key keeps its name for the ledger."""

alerts = sa.Table(
    "gf_alerts",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("open_key", sa.String(64), unique=True),
    sa.Column("rule", sa.String(200), nullable=False),
    sa.Column("metric", sa.String(250), nullable=False),
    sa.Column("model", sa.String(200)),
    sa.Column("site", sa.String(200)),
    sa.Column("camera", sa.String(200)),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("facts", _JSON, nullable=False),
    sa.Column("since", _TIME, nullable=False),
    sa.Column("fired", _TIME),
    sa.Column("last_true", _TIME, nullable=False),
    sa.Column("clear_since", _TIME),
    sa.Column("resolved", _TIME),
    sa.Column("ended_by", sa.String(40)),
    sa.Column("acked", _TIME),
    sa.Column("acked_by", sa.String(200)),
    sa.Column("ack_reason", sa.Text),
)
"""One row an occurrence of an alert. ``open_key`` names rule and series while it is pending or firing, so that a
series has one open alert a rule, whoever evaluates; it is NULL once the alert is resolved."""
sa.Index(None, alerts.c.state)

recommendations = sa.Table(
    "gf_recommendations",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("alert_id", sa.BigInteger, nullable=False, unique=True),
    sa.Column("action", sa.String(40), nullable=False),
    sa.Column("model", sa.String(200), nullable=False),
    sa.Column("site", sa.String(200)),
    sa.Column("camera", sa.String(200)),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("facts", _JSON, nullable=False),
    sa.Column("cost", _JSON, nullable=False),
    sa.Column("scenario", _JSON, nullable=False),
    sa.Column("created", _TIME, nullable=False),
    sa.Column("actor", sa.String(200)),
    sa.Column("may_promote", sa.Boolean),
    sa.Column("reason", sa.Text),
    sa.Column("decided", _TIME),
    sa.Column("run_id", sa.String(64)),
    sa.Column("version", sa.String(20)),
    sa.Column("ended", _TIME),
    sa.Column("outcome", _JSON, nullable=False),
)
"""What is advised because of an alert, one row an alert, and what became of it."""
sa.Index(None, recommendations.c.state)
