"""Ending a run from elsewhere: its process is told, and ends the run as on Ctrl-C."""

from __future__ import annotations

import os
import signal

from guardianflow.core.config import Settings
from guardianflow.exceptions import InputError, NotFoundError, RefusedError
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.state.database import Database

__all__ = ["cancel_run"]


def cancel_run(settings: Settings, run_id: str) -> RunRecord:
    """Tell the process of a run to end it; status, notebook and figures so far are kept.

    Args:
        settings: Where the run is.
        run_id: Which run.

    Returns:
        The run as it was when its process was told; it ends within seconds.

    Raises:
        NotFoundError: There is no such run, or its process is gone.
        InputError: It has ended already.
        RefusedError: It runs on another machine, in this very process, or under another user.
    """
    records = RunRecords(Database.open(settings.database_url))
    record = records.get(run_id)
    owner, name = record.owner, f"run {record.run_id[:12]}"
    if record.status != RunStatus.RUNNING:
        raise InputError(f"{name} has ended already ({record.status}), so there is nothing to cancel")
    if not owner.is_here:
        raise RefusedError(f"{name} runs on {owner.host}, and only there it can be ended (process {owner.pid})")
    if owner.pid == os.getpid():
        raise RefusedError(f"{name} runs in this notebook's own kernel: interrupt the kernel (■ in the toolbar)")
    if not owner.lives(record.heartbeat, records.now()):
        raise NotFoundError(f"the process of {name} is gone; `guardianflow runs reap` puts its status right")
    try:
        os.kill(owner.pid, signal.SIGTERM)
    except ProcessLookupError:
        raise NotFoundError(f"the process of {name} has just ended; look again") from None
    except PermissionError:
        raise RefusedError(f"{name} belongs to another user of {owner.host}; ask {record.actor} to end it") from None
    return record
