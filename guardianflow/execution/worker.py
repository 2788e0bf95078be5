"""One plan in a process of its own: ``python -P -m guardianflow.execution.worker``.

The order comes as a line of JSON on stdin, or, where nobody holds our stdin, in the variable :data:`ORDER`. What there
is to say goes to stdout, each a line of JSON behind :data:`MARK`: ``{"run": id}`` as soon as the run exists,
``{"log": [level, text]}``, and last ``{"outcome": …}`` or ``{"error": …}``. Who ordered it says ``go`` when it has
noted the run; when its end of stdin closes, it is gone, and the run ends.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from guardianflow import exceptions
from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, RunFailedError, RunInterruptedError
from guardianflow.execution.executors import LocalExecutor, RunOutcome
from guardianflow.runs.run_records import RunRecord
from guardianflow.scenario.experiment_design import RunPlan, Trial
from guardianflow.scenario.factory import KINDS
from guardianflow.text.plain import plain

__all__ = ["ENTRYPOINT", "GO", "MARK", "ORDER", "error_from", "order_of", "outcome_from", "said_in"]

ENTRYPOINT = ("-P", "-m", "guardianflow.execution.worker")
"""What the interpreter is called with; nothing of the user's stands in it."""
ORDER = "GUARDIANFLOW_WORKER_ORDER"
MARK = "guardianflow> "
GO = "go\n"


# --- what both sides read and write ---------------------------------------------------------------


def order_of(plan: RunPlan) -> str:
    """A plan as one line of JSON, with the folder that its relative paths start from."""
    order = {
        "kind": plan.kind,
        "scenario": plan.scenario.model_dump(mode="json"),
        "again_of": plan.again_of,
        "resume": plan.resume,
        "trial": asdict(plan.trial) if plan.trial else None,
        "folder": str(Path.cwd()),
    }
    return json.dumps(order)


def _plan_of(order: Mapping[str, Any]) -> RunPlan:
    scenario = KINDS.get(order["kind"]).scenario.model_validate(order["scenario"])
    trial = Trial(**order["trial"]) if order["trial"] else None
    return RunPlan(scenario, again_of=order["again_of"], resume=order["resume"], trial=trial)


def said_in(line: str) -> Mapping[str, Any] | None:
    """What a worker says in a line; ``None`` for any other line."""
    head, mark, text = line.partition(MARK)
    if head or not mark:
        return None
    try:
        said = json.loads(text)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def outcome_from(said: Mapping[str, Any]) -> RunOutcome:
    """The outcome that a worker has said."""
    paths = {name: Path(said[name]) if said[name] else None for name in ("notebook", "html")}
    return RunOutcome(**{**said, **paths, "folder": Path(said["folder"])})


def error_from(said: Mapping[str, Any]) -> GuardianFlowError:
    """The error that a worker has said, as its executor raised it; of a notebook's errors the sentence."""
    if said["signum"]:
        return RunInterruptedError(said["message"], signum=said["signum"])
    known: Any = getattr(exceptions, said["type"]) if said["type"] in exceptions.__all__ else RunFailedError
    error: GuardianFlowError = known(said["message"])
    return error


# --- the worker -----------------------------------------------------------------------------------


class _Voice(logging.Handler):
    """Says things on what was stdout; whatever else is printed goes to stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = threading.RLock()
        self._stream = os.fdopen(os.dup(1), "w", encoding="ascii")
        os.dup2(2, 1)

    def say(self, **what: Any) -> None:
        with self._turn:
            self._stream.write(f"\n{MARK}{json.dumps(what)}\n")  # whoever shares it may have left a line half full
            self._stream.flush()

    def emit(self, record: logging.LogRecord) -> None:
        self.say(log=[record.levelno, record.getMessage()])


def main() -> None:
    """Do what was ordered, and say what came of it."""
    voice = _Voice()
    logging.basicConfig(level=os.environ.get("GUARDIANFLOW_LOG", "WARNING").upper(), handlers=[voice])
    if hasattr(signal, "pthread_sigmask"):  # Ray blocks it, and a kernel of ours is interrupted by it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever was started in the background ignores it
    given = os.environ.pop(ORDER, "")
    alone = bool(given)

    def begin(record: RunRecord) -> None:
        voice.say(run=record.run_id)
        if not alone:
            _wait_for_go()

    try:
        order = json.loads(given or sys.stdin.readline())
        if Path(order["folder"]).is_dir():  # on another machine it may not be there
            os.chdir(order["folder"])
        outcome = LocalExecutor(Settings(), on_run=begin).execute(_plan_of(order))
        voice.say(outcome=plain(asdict(outcome)))
    except Exception as error:  # noqa: BLE001 - whoever ordered it must hear of it, whatever it is
        if not isinstance(error, GuardianFlowError):
            traceback.print_exc()
            error = RunFailedError(f"{type(error).__name__}: {error}")
        signum = getattr(error, "signum", 0)
        voice.say(error={"type": type(error).__name__, "message": str(error), "signum": signum})


def _wait_for_go() -> None:
    if not sys.stdin.readline():
        raise RunInterruptedError("whoever started it is gone", signum=signal.SIGTERM)
    threading.Thread(target=_end_with_the_other_side, daemon=True).start()


def _end_with_the_other_side() -> None:
    os.read(0, 1)  # returns when it is closed; not through sys.stdin, whose lock would hold up our end
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
