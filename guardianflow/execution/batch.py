"""Many scenario files, executed through one pool."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, InputError, NotFoundError, RunInterruptedError
from guardianflow.execution.executors import RunOutcome
from guardianflow.execution.pool import make_pool
from guardianflow.processes.interrupts import signals_raise
from guardianflow.scenario.experiment_design import RunPlan
from guardianflow.scenario.file import load_scenario
from guardianflow.text.printable import printable
from guardianflow.text.remarks import remark

__all__ = ["Batch", "BatchRow"]

_SUFFIXES = (".yaml", ".yml")


@dataclass(eq=False)
class BatchRow:
    """One scenario file, and what became of it.

    Attributes:
        file: The file.
        plan: What it asks for.
        status: ``waiting``, ``running``, ``finished``, ``failed``, ``refused`` (no run was made) or ``cancelled``.
        run_id: Its run, as soon as there is one.
        outcome: Of a run that finished.
        error: Why it did not.
    """

    file: Path
    plan: RunPlan
    status: str = "waiting"
    run_id: str = ""
    outcome: RunOutcome | None = None
    error: GuardianFlowError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        known: dict[str, Any] = {"kind": self.plan.kind, "experiment": self.plan.experiment_name, "run_id": self.run_id}
        if self.outcome is not None:
            known = self.outcome.to_dict()
        error = {"type": type(self.error).__name__, "message": str(self.error)} if self.error else None
        return {"file": str(self.file), **known, "status": self.status, "error": error}

    def ended(self, future: Future[RunOutcome]) -> None:
        """Note what came of its plan."""
        error = future.exception()
        if error is None:
            self.outcome = future.result()
            self.status, self.run_id = "finished", self.outcome.run_id
            return
        if not isinstance(error, GuardianFlowError):
            raise error
        self.error = error
        if isinstance(error, RunInterruptedError):
            self.status = "cancelled"
        else:
            self.status = "failed" if self.run_id or error.exit_code == 1 else "refused"


@dataclass
class Batch:
    """Scenario files to be executed.

    Attributes:
        rows: One a file, in order.
        signum: The signal that ended it; 0: none did.
        seconds: Wall-clock time of everything.
    """

    rows: list[BatchRow]
    signum: int = 0
    seconds: float = 0.0

    @classmethod
    def read(cls, places: Sequence[Path], changes: Sequence[str] = ()) -> Batch:
        """Read all files before any of them begins.

        Args:
            places: Scenario files, and folders of them (``*.yaml``, ``*.yml``; folders in them are left alone).
            changes: Changes of each scenario, such as ``"model.imgsz=320"``.

        Raises:
            InputError: Names every file that can't be used, and why.
        """
        rows, faults = [], []
        for file in _files(places):
            try:
                rows.append(BatchRow(file, RunPlan(load_scenario(file, changes))))
            except GuardianFlowError as error:
                faults.append(str(error))
        if faults:
            count = f"{len(faults)} of {len(faults) + len(rows)} scenario files can't be used; nothing was started"
            raise InputError("\n".join([f"{count}:", *faults]) if len(faults) > 1 else faults[0])
        return cls(rows)

    def run(
        self,
        settings: Settings,
        *,
        executor: str = "local",
        at_once: int = 1,
        address: str = "",
        on_change: Callable[[BatchRow], None] | None = None,
    ) -> None:
        """Execute them; one that fails doesn't hold up the others. A signal cancels what is left.

        Args:
            settings: Where to.
            executor: ``local`` or ``ray``.
            at_once: How many run at the same time.
            address: Of a Ray cluster's dashboard.
            on_change: Told each row whose run has begun or ended.

        Raises:
            GuardianFlowError: The executor can't be used; nothing was started.
        """
        began, tell = time.perf_counter(), on_change or (lambda _: None)

        def begin(plan: RunPlan, run_id: str) -> None:
            row = next(row for row in self.rows if row.plan is plan)
            row.run_id, row.status = run_id, "running"
            tell(row)

        pool = make_pool(settings, executor=executor, at_once=at_once, address=address, on_run=begin)
        futures: dict[Future[RunOutcome], BatchRow] = {}
        try:
            with signals_raise(), pool:
                futures = {pool.submit(row.plan): row for row in self.rows}
                for future in as_completed(futures):
                    futures[future].ended(future)
                    tell(futures[future])
        except RunInterruptedError as error:
            self.signum = error.signum
            for future, row in futures.items():
                if row.status in {"waiting", "running"}:
                    row.ended(future)
        self.seconds = time.perf_counter() - began

    def count(self, status: str) -> int:
        """How many files have a status."""
        return sum(row.status == status for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 where all finished; 1 where a run failed; 2 where only input was refused; 128 + signal after a signal."""
        if self.signum:
            return 128 + self.signum
        codes = [row.error.exit_code for row in self.rows if row.error and row.status == "refused"]
        return 1 if self.count("failed") or self.count("cancelled") else max(codes, default=0)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON types."""
        counts = {status: self.count(status) for status in ("finished", "failed", "refused", "cancelled")}
        rows = [row.to_dict() for row in self.rows]
        return {"runs": rows, **counts, "seconds": round(self.seconds, 3), "exit_code": self.exit_code}


def _files(places: Sequence[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for place in places:
        here = [place]
        if place.is_dir():
            here = [file for file in sorted(place.iterdir()) if file.suffix in _SUFFIXES and file.name[0] != "."]
            if not here:
                raise InputError(
                    f"{printable(place)} holds no scenario file (*.yaml); `guardianflow scenario new train` prints one"
                )
        elif not place.exists():
            raise NotFoundError(f"there is no file or folder {printable(place)}; name scenario files, or their folder")
        for file in here:
            if file.resolve() in found:
                remark(f"{printable(file)} is named twice and executed once")
            found.setdefault(file.resolve(), file)
    return list(found.values())
