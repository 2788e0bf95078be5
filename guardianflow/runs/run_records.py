"""Our own record of every run: who executes it, whether that process lives, what it was asked to do.

MLflow can't tell a run that works from one whose process was killed: both say RUNNING. This table
can, because it knows the process.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

import psutil
import sqlalchemy as sa

from guardianflow.exceptions import NotFoundError
from guardianflow.state.database import Database
from guardianflow.state.tables import UtcDateTime, run_records
from guardianflow.text.plain import Row, plain
from guardianflow.views.result_page import Rows

__all__ = ["ExperimentRow", "ProcessIdentity", "Progress", "RunRecord", "RunRecords", "RunStatus", "files_lock"]

STALE_AFTER = timedelta(minutes=2)
"""Silence after which a run on another machine counts as dead (the heartbeat is every 10 s)."""

_CLOCK_TOLERANCE_S = 1e-6 if Path("/proc/self/stat").exists() else 1.0


def files_lock(run_id: str) -> str:
    """The name of the lock under which a run's files become a version's, or are pruned; some runs share one."""
    return f"the files of runs {run_id[:2]}…"


class RunStatus:
    """MLflow's own words for a run's state."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one boot of one machine; a reused pid is another identity.

    Attributes:
        host: Host name.
        boot: Boot of the machine and process namespace: where ``pid`` means this process.
        pid: Process id.
        started: When it started, in seconds on a clock that nobody can set (Linux: since the boot).
    """

    host: str
    boot: str
    pid: int
    started: float

    @classmethod
    def current(cls) -> ProcessIdentity:
        """The identity of this process."""
        pid = os.getpid()
        return cls(socket.gethostname()[:255], _boot_id(), pid, _start_time(pid))

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine and boot, which can be seen and signalled from here."""
        return (self.host, self.boot) == (socket.gethostname()[:255], _boot_id())

    def lives(self, heartbeat: datetime, now: datetime, stale_after: timedelta = STALE_AFTER) -> bool:
        """Whether the process still runs; one that is stopped (SIGSTOP) does.

        Where this process can see it, the process table knows. On another machine, in another
        container or before a reboot only the heartbeat speaks.
        """
        if not self.is_here:
            return now - heartbeat < stale_after
        try:
            same = abs(_start_time(self.pid) - self.started) < _CLOCK_TOLERANCE_S
            return same and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


# Two machines may have the same name, and two containers of one machine the same boot.
@lru_cache(maxsize=1)
def _boot_id() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"[:64]
    except OSError:
        return str(int(psutil.boot_time()))


def _start_time(pid: int) -> float:
    """When a process started. Not psutil's time of day, which moves when the clock is set."""
    try:
        # The name in parentheses may hold blanks and parentheses; the 20th field after it is the start.
        ticks = int(
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        )
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            raise psutil.NoSuchProcess(pid) from None
        return psutil.Process(pid).create_time()
    except ProcessLookupError:
        raise psutil.NoSuchProcess(pid) from None
    return ticks / float(os.sysconf("SC_CLK_TCK"))


class Progress(TypedDict, total=False):
    """Where a run stands; empty before the first step. ``part``: how much of the step after ``done``, from 0 to 1."""

    done: int
    total: int
    unit: str
    note: str
    part: float


class ExperimentRow(TypedDict):
    """An experiment: its name, how many runs it has, and when the last one began (ISO 8601)."""

    experiment: str
    runs: int
    last: str


_INNER = frozenset({"tracking_uri", "template", "owner", "heartbeat"})
"""Fields that are for GuardianFlow itself."""


@dataclass(frozen=True)
class RunRecord(Row):
    """One run as our database knows it.

    Attributes:
        run_id: The MLflow run id.
        tracking_uri: MLflow, with the password masked.
        experiment: Experiment name.
        kind: ``"train"`` and so on; the template notebook's name.
        status: See :class:`RunStatus`.
        reason: Why it ended so, where it did not simply finish.
        parameters: What the run was asked to do, enough to execute it again.
        template: The template notebook, or ``None`` for a run in-process.
        folder: ``<work_dir>/runs/<experiment>/<run_id>``.
        actor: Who started it.
        again_of: The run that this one repeats.
        owner: The process that executes it.
        heartbeat: Last sign of life, UTC.
        started: UTC.
        ended: UTC, or ``None`` while it runs.
        progress: Where it stands.
        pruned: When its files were removed (:mod:`guardianflow.execution.run_pruning`), UTC; ``None`` while they are
            there.
    """

    run_id: str
    tracking_uri: str
    experiment: str
    kind: str
    status: str
    reason: str | None
    parameters: Mapping[str, Any]
    template: str | None
    folder: Path
    actor: str
    again_of: str | None
    owner: ProcessIdentity
    heartbeat: datetime
    started: datetime
    ended: datetime | None
    progress: Progress = field(default_factory=Progress)
    pruned: datetime | None = None

    def require_files(self) -> None:
        """Make sure that the run's files weren't pruned.

        Raises:
            NotFoundError: They were.
        """
        if self.pruned is not None:
            raise NotFoundError(
                f"the files of run {self.run_id} were removed on {self.pruned:%Y-%m-%d} (`guardianflow runs prune`): "
                "its notebook, page and figures are left, but no model. Repeat it: "
                f"`guardianflow run --again {self.run_id}`"
            )

    @property
    def notebook(self) -> Path | None:
        """The executed notebook, where there is one."""
        path = self.folder / f"{self.kind}.ipynb"
        return path if path.exists() else None

    def shown(self) -> dict[str, str]:
        """What a list of runs shows of it."""
        total, unit = self.progress.get("total"), self.progress.get("unit", "")
        return {
            "run": self.run_id[:12],
            "experiment": self.experiment,
            "kind": self.kind,
            "status": self.status,
            "progress": f"{self.progress.get('done')}/{total} {unit}" if total else "",
            "started": f"{self.started:%Y-%m-%d %H:%M} UTC",
            "note": self.reason or ("files pruned" if self.pruned else self.progress.get("note", "")),
        }

    def _repr_html_(self) -> str:
        return Rows([self])._repr_html_()

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        row = {name: value for name, value in super().to_dict().items() if name not in _INNER}
        return {**row, "notebook": plain(self.notebook), "host": self.owner.host, "pid": self.owner.pid}


class RunRecords:
    """Reads and writes run records in the state database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, record: RunRecord) -> None:
        """Insert the record of a run that has just been created."""
        row = {each.name: getattr(record, each.name) for each in fields(record) if each.name != "owner"}
        row |= {"folder": str(record.folder), "parameters": dict(record.parameters), **_owner_row(record.owner)}
        with self._database.write() as connection:
            connection.execute(run_records.insert().values(row))

    def get(self, run_id: str) -> RunRecord:
        """One run, by its id or an unambiguous beginning of it (at least 6 characters).

        Raises:
            NotFoundError: No such run, or several; the message lists what there is.
        """
        table = run_records
        with self._database.read() as connection:
            rows = connection.execute(sa.select(table).where(table.c.run_id == run_id)).mappings().all()
            if not rows and len(run_id) >= 6:
                match = table.c.run_id.startswith(run_id, autoescape=True)
                rows = connection.execute(sa.select(table).where(match).limit(5)).mappings().all()
        if len(rows) > 1:
            raise NotFoundError(f"run id {run_id!r} fits several runs: {', '.join(row['run_id'] for row in rows)}")
        if not rows:
            raise NotFoundError(f"there is no run {run_id!r} here; `guardianflow list runs` shows the known ones")
        return _record(rows[0])

    def list(
        self,
        *,
        experiment: str | None = None,
        status: str | None = None,
        kind: str | None = None,
        but: Collection[str] = (),
        limit: int = 100,
    ) -> Rows[RunRecord]:
        """The newest runs first; those of the kinds in ``but`` are left out."""
        table = run_records
        query = sa.select(table).order_by(table.c.started.desc(), table.c.run_id).limit(limit)
        for column, value in ((table.c.experiment, experiment), (table.c.status, status), (table.c.kind, kind)):
            if value is not None:
                query = query.where(column == value)
        if but:
            query = query.where(table.c.kind.not_in(list(but)))
        with self._database.read() as connection:
            return Rows(_record(row) for row in connection.execute(query).mappings())

    def experiments(self) -> Sequence[ExperimentRow]:
        """Each experiment with the number of its runs and the time of the last one."""
        table = run_records
        last = sa.func.max(table.c.started).label("last")
        query = sa.select(table.c.experiment, sa.func.count().label("runs"), last)
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(table.c.experiment).order_by(last.desc()))
            return [ExperimentRow(experiment=name, runs=runs, last=last.isoformat()) for name, runs, last in rows]

    def now(self) -> datetime:
        """The time that heartbeats are measured by: the server's, where several machines share one."""
        if self._database.is_sqlite:
            return datetime.now(UTC)
        with self._database.read() as connection:
            return connection.execute(sa.select(sa.func.now(type_=UtcDateTime()))).scalar_one()

    def beat(self, run_id: str) -> None:
        """Sign of life."""
        self._change(run_id, heartbeat=self._clock())

    def set_progress(self, run_id: str, progress: Progress) -> None:
        """Where the run stands."""
        self._change(run_id, heartbeat=self._clock(), progress=progress)

    def take_over(self, seen: RunRecord, owner: ProcessIdentity) -> bool:
        """Hand a run that had ended to a process: it runs again (resume).

        Returns:
            ``False`` if the run has changed since it was seen: somebody else took it, or its files are pruned.
        """
        return self._change(
            seen.run_id,
            *_as_seen(seen),
            run_records.c.pruned.is_(None),
            status=RunStatus.RUNNING,
            reason=None,
            ended=None,
            heartbeat=self._clock(),
            **_owner_row(owner),
        )

    def finish(self, run_id: str, status: str, reason: str | None, *, owner: ProcessIdentity | None = None) -> bool:
        """Write the terminal status.

        Args:
            run_id: Which run.
            status: Its terminal status.
            reason: Why it ended so.
            owner: The process that executes it. It has the last word, also over somebody who took it
                for dead; a run that another process has taken over since is no longer its own.

        Returns:
            ``False`` if the run had ended already, or belongs to another process.
        """
        allowed = [run_records.c.status == RunStatus.RUNNING] if owner is None else _owned_by(owner)
        now = self._clock()
        return self._change(run_id, *allowed, status=status, reason=reason, ended=now, heartbeat=now)

    def bury(self, seen: RunRecord, status: str, reason: str | None) -> bool:
        """End a run whose process died; ``False`` if it gave a sign of life since it was seen."""
        return self._change(seen.run_id, *_as_seen(seen), status=status, reason=reason, ended=self._clock())

    def set_pruned(self, seen: RunRecord) -> bool:
        """Say of a run that had ended that its files go; ``False`` if it has changed since, or they went."""
        return self._change(seen.run_id, *_as_seen(seen), run_records.c.pruned.is_(None), pruned=self._clock())

    def _clock(self) -> Any:
        return datetime.now(UTC) if self._database.is_sqlite else sa.func.now()

    def _change(self, run_id: str, *conditions: Any, **values: Any) -> bool:
        query = run_records.update().where(run_records.c.run_id == run_id, *conditions).values(**values)
        with self._database.write() as connection:
            return connection.execute(query).rowcount == 1


def _owner_row(owner: ProcessIdentity) -> dict[str, object]:
    return {"host": owner.host, "boot": owner.boot, "pid": owner.pid, "pid_started": owner.started}


def _owned_by(owner: ProcessIdentity) -> list[Any]:
    table = run_records.c
    # The start time is left out: it is a float, and host, boot and pid name one living process.
    return [table.host == owner.host, table.boot == owner.boot, table.pid == owner.pid]


def _as_seen(seen: RunRecord) -> list[Any]:
    table = run_records.c
    return [*_owned_by(seen.owner), table.status == seen.status, table.heartbeat == seen.heartbeat]


def _record(row: Mapping[Any, Any]) -> RunRecord:
    values = dict(row)
    owner = ProcessIdentity(*(values.pop(name) for name in ("host", "boot", "pid", "pid_started")))
    return RunRecord(**{**values, "folder": Path(values["folder"])}, owner=owner)
