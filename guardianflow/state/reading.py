"""What a role that only reads may see: the columns that Grafana's dashboards show, and nothing else.

Whoever may look at a dashboard may send any SQL through it, so the role is the border. A test holds the lists against
the columns that the dashboards' SQL uses.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from guardianflow.exceptions import ConfigError

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
    connection: sa.Connection,
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
    quote = connection.dialect.identifier_preparer.quote_identifier
    reader, database = quote(role), quote(str(connection.scalar(sa.text("SELECT current_database()"))))
    statements = [
        f"REVOKE CREATE ON SCHEMA public FROM PUBLIC, {reader}",
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC, {reader}",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {reader}",
        f"GRANT CONNECT ON DATABASE {database} TO {reader}",
        f"GRANT USAGE ON SCHEMA public TO {reader}",
        *(
            f"GRANT SELECT ({', '.join(map(quote, columns.split()))}) ON public.{quote(table)} TO {reader}"
            for table, columns in tables.items()
        ),
        f"ALTER ROLE {reader} SET default_transaction_read_only = on",
        f"ALTER ROLE {reader} SET statement_timeout = '{_LONGEST}'",
    ]
    for name, address in (addresses or {}).items():
        value = sa.literal(address).compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        statements.append(f"ALTER ROLE {reader} SET {quote('guardianflow')}.{quote(name)} = {value}")
    try:
        for statement in statements:
            connection.exec_driver_sql(statement)
    except sa.exc.ProgrammingError as error:
        said = str(error.orig).partition("\n")[0]
        raise ConfigError(
            f"{role!r} could not be made a reader of database {database}: {said}. "
            "Migrate the database and make the role first, and connect as an administrator."
        ) from error
