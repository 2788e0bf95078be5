"""Whether this machine and these settings can do the work, and what to do where they can't.

The checks run side by side, each with its own time limit, so a server that is dead costs
:data:`NETWORK_SECONDS` and not a minute. Nothing is changed: no workspace, no MLflow database and no
folder is made, and no database is migrated.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.doctor import machine, services
from guardianflow.doctor.render import render
from guardianflow.doctor.report import Check, DoctorReport, Status
from guardianflow.exceptions import GuardianFlowError

__all__ = ["NETWORK_SECONDS", "Check", "DoctorReport", "Status", "examine", "render"]

NETWORK_SECONDS = 5.0
"""What a server may take; each of its sockets gets less."""


@dataclass(frozen=True)
class _Probe:
    """One examination: what it runs, how long it may take, and what to do when it doesn't end."""

    name: str
    run: Callable[[Settings], list[Check]]
    advice: str
    seconds: float = NETWORK_SECONDS


def examine(settings: Settings) -> DoctorReport:
    """Look at the machine, the packages, the disk and the servers that the settings name.

    Never raises because of what it finds: a probe that breaks is a failed check.
    """
    import guardianflow.state.database  # noqa: F401 - imported before the clock of its probe starts

    started = time.monotonic()
    tasks = [_Task(probe, settings) for probe in _PROBES]
    for task in tasks:
        task.start()
    checks = [check for task in tasks for check in task.wait(started)]
    return DoctorReport(tuple(settings.describe()), tuple(checks), time.monotonic() - started)


class _Task(threading.Thread):
    """A probe in a daemon thread: one that hangs is left behind."""

    def __init__(self, probe: _Probe, settings: Settings) -> None:
        super().__init__(name=f"doctor-{probe.name}", daemon=True)
        self._probe = probe
        self._settings = settings
        self._checks: list[Check] = []

    def run(self) -> None:
        try:
            found = self._probe.run(self._settings)
        except Exception as error:  # noqa: BLE001 - one broken probe must not hide the others' findings
            broken = "" if isinstance(error, GuardianFlowError) else f"the check itself broke: {type(error).__name__}: "
            detail = f"{broken}{error}"
            found = [Check(self._probe.name, "fail", detail, self._probe.advice)]
        self._checks = [Check(c.name, c.status, mask_secrets(c.detail), mask_secrets(c.advice)) for c in found]

    def wait(self, started: float) -> list[Check]:
        self.join(max(0.0, started + self._probe.seconds - time.monotonic()))
        if self._checks:
            return self._checks
        detail = f"no answer within {self._probe.seconds:.0f} s"
        return [Check(self._probe.name, "fail", detail, self._probe.advice)]


_PROBES = (
    _Probe("packages", machine.check_packages, "Install GuardianFlow again."),
    _Probe("machine", machine.check_machine, "Look at the machine's load."),
    _Probe(
        "torch", machine.check_devices, "Run `python -c 'import torch'` and see what it says.", machine.IMPORT_SECONDS
    ),
    _Probe("backends", machine.check_backends, "Install GuardianFlow again."),
    _Probe("disk", machine.check_disk, "The disk of GUARDIANFLOW_WORK_DIR hangs: check its mount."),
    _Probe("mlflow", services.check_mlflow, services.MLFLOW_ADVICE),
    _Probe("database", services.check_database, services.DATABASE_ADVICE),
    _Probe("s3", services.check_s3, services.S3_ADVICE),
    _Probe("kernel", machine.check_kernel, "pip install --force-reinstall ipykernel"),
    _Probe("safe load", machine.check_safe_load, "pip install --upgrade ultralytics"),
)
