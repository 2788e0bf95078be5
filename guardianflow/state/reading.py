"""What a role that only reads may see: the columns that Grafana's dashboards show, and nothing else.

Whoever may look at a dashboard may send any SQL through it, so the role is the border. A test holds the lists against
the columns that the dashboards' SQL uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from guardianflow.exceptions import ConfigError

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

__all__ = ["MLFLOW", "STATE", "grant_reading"]

STATE: Mapping[str, str] = {
    "gf_alerts": "id rule metric model site camera state value facts since fired resolved ended_by acked acked_by",
    "gf_metric_records": "id time metric value invalid model version site camera experiment run_id source tags",
    "gf_model_evaluations": "sha256 dataset_fingerprint split images backend precision imgsz device metrics time",
    "gf_model_events": "id name action version champion actor reason time",
    "gf_model_states": "name champion candidate rollback updated",
    "gf_model_versions": "name version run_id sha256 size_bytes metrics status created created_by backend precision "
    "imgsz format",
    "gf_recommendations": "id action model site camera state facts created actor reason outcome",
    "gf_run_records": "run_id experiment kind status reason actor host heartbeat started ended progress",
}
"""Table of our own state → its columns that may be read."""

MLFLOW: Mapping[str, str] = {
    "experiments": "experiment_id name",
    "latest_metrics": "key run_uuid",
    "metrics": "key value timestamp step is_nan run_uuid",
    "runs": "run_uuid name experiment_id start_time end_time lifecycle_stage",
}
"""Table of MLflow → its columns that may be read."""

_LONGEST = "30s"


def grant_reading(
    connection: psycopg.Connection[Any],
    role: str,
    tables: Mapping[str, str] = STATE,
    *,
    addresses: Mapping[str, str] | None = None,
) -> None:
    """Let a role read some columns of the connected PostgreSQL database, and do nothing else there.

    What it was granted before in this schema is taken back first, so calling it again after a migration is all there is
    to an upgrade. Its transactions are read-only and its statements end after 30 s by default.

    Args:
        connection: Of an administrator: who may grant what the tables' owner has, and alter the role.
        role: Its name. It exists and owns nothing.
        tables: Table → its columns that may be read, divided by blanks: :data:`STATE` or :data:`MLFLOW`.
        addresses: Where the dashboards' links lead, as a browser reaches it, without a slash at the end: of ``pages``,
            ``api`` and ``mlflow``. Default: each service's usual port on this machine.

    Raises:
        ConfigError: The role or a table isn't there, or the connection may not grant.
    """
    from psycopg import Error

    try:
        with connection.transaction():
            for statement in _statements(connection.info.dbname, role, tables, addresses or {}):
                connection.execute(statement)
    except Error as error:
        said = str(error).partition("\n")[0]
        raise ConfigError(
            f"{role!r} could not be made a reader of database {connection.info.dbname!r}: {said}. "
            "Migrate the database and make the role first, and connect as an administrator."
        ) from error


def _statements(
    database: str, role: str, tables: Mapping[str, str], addresses: Mapping[str, str]
) -> Iterator[sql.Composed]:
    from psycopg import sql

    names = {"reader": sql.Identifier(role), "database": sql.Identifier(database)}
    yield sql.SQL("REVOKE CREATE ON SCHEMA public FROM PUBLIC, {reader}").format(**names)
    yield sql.SQL("REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC, {reader}").format(**names)
    yield sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {reader}").format(**names)
    yield sql.SQL("GRANT CONNECT ON DATABASE {database} TO {reader}").format(**names)
    yield sql.SQL("GRANT USAGE ON SCHEMA public TO {reader}").format(**names)
    for table, columns in tables.items():
        listed = sql.SQL(", ").join(map(sql.Identifier, columns.split()))
        place = sql.Identifier("public", table)
        yield sql.SQL("GRANT SELECT ({}) ON {} TO {}").format(listed, place, names["reader"])
    settings = [("default_transaction_read_only", "on"), ("statement_timeout", _LONGEST)]
    settings += [(f"guardianflow.{name}", address) for name, address in addresses.items()]
    for setting, value in settings:
        place = sql.Identifier(*setting.split("."))
        yield sql.SQL("ALTER ROLE {} SET {} = {}").format(names["reader"], place, sql.Literal(value))
