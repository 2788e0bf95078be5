"""The schema of the state database: which one this code expects, and how an older one gets there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from guardianflow.exceptions import SchemaTooNewError
from guardianflow.state.state_file import back_up
from guardianflow.text.remarks import remark

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["HEAD", "VERSION_TABLE", "require_known", "revision", "upgrade"]

HEAD = "0004"
"""The migration this code expects. A constant, so that opening a current database needs no Alembic."""

VERSION_TABLE = "guardianflow_version"
"""Not Alembic's default: in a database shared with MLflow, ``alembic_version`` is MLflow's."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x67_66_6C_77  # advisory-lock key: "gflw"


def upgrade(engine: Engine, where: str) -> None:
    """Apply the migrations that a database lacks, one process at a time; what is there already is remarked on.

    Args:
        engine: The database.
        where: Its URL, without secrets.

    Raises:
        SchemaTooNewError: The database is newer than this code.
        sqlalchemy.exc.DBAPIError: It doesn't answer, or we may not make tables in it.
    """
    with engine.connect() as connection:
        connection.execution_options(guardianflow_read=True)
        if revision(connection) == HEAD:
            return
    with engine.connect() as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        if revision(connection) != HEAD:  # another process may have been faster
            _migrate(connection, where)


def revision(connection: Connection) -> str | None:
    """The schema of a database; ``None`` where it has none of ours."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    return None if found is None else str(found)


def require_known(found: str, where: str) -> None:
    """Refuse a schema that this code doesn't know.

    Raises:
        SchemaTooNewError: A newer GuardianFlow has written it.
    """
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found not in known:
        raise SchemaTooNewError(
            f"the state database {where} has schema {found!r}, "
            f"written by a newer GuardianFlow; this one knows up to {HEAD!r}. "
            "Upgrade with `pip install --upgrade guardianflow`, or set GUARDIANFLOW_DATABASE_URL to another database."
        )


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _migrate(connection: Connection, where: str) -> None:
    """Run the migrations inside the caller's transaction: all of them, or none."""
    from alembic import command

    current = revision(connection)
    if current is not None:
        require_known(current, where)
        said = f"the state database {where} goes from schema {current} to {HEAD}; "
        if connection.dialect.name == "sqlite":
            remark(f"{said}as it was, it is kept as {back_up(Path(str(connection.engine.url.database)), current)}")
        else:
            remark(f"{said}an older GuardianFlow can't open it from now on")
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
