"""One cell of the matrix in a process of its own: started, watched, and told apart by how it ended.

A runtime that crashes, hangs or takes all memory takes its own process along and nothing else; what became of it
is a :class:`~guardianflow.vision.benchmark.cell_results.CellResult` like any other.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guardianflow.exceptions import InputError
from guardianflow.files.run_folder import write_json
from guardianflow.processes.control_group import ControlGroup
from guardianflow.processes.keeper import kept
from guardianflow.processes.process_watch import ProcessWatch, memory_limit
from guardianflow.vision.backends.catalog import BACKENDS
from guardianflow.vision.benchmark.cell_results import CellProgress, CellResult, CellSpec

__all__ = ["CELL_PROGRAM", "run_cell"]

log = logging.getLogger(__name__)

CELL_PROGRAM = (sys.executable, "-P", "-m", "guardianflow.vision.benchmark.cell")
"""What is started; ``-P``: nothing is imported from the folder that we happen to be in."""

SPEC_FILE, RESULT_FILE, PREPARED_FILE = "cell.json", "result.json", "prepared.json"
PROGRESS_FILE, LOG_FILE = "progress.jsonl", "cell.log"

_POLL_S = 0.05
_GRACE_S = 3.0
_TAIL_BYTES = 20_000
_SIGNALS = {
    "SIGSEGV": "a segmentation fault",
    "SIGABRT": "it gave itself up (abort)",
    "SIGBUS": "a bus error",
    "SIGFPE": "an arithmetic error",
    "SIGILL": "an instruction that this CPU doesn't have",
    "SIGTERM": "it was told to end",
}
_MEMORY_WORDS = ("bad_alloc", "out of memory", "Cannot allocate memory", "can't allocate memory", "MemoryError")


def run_cell(
    spec: CellSpec,
    *,
    memory_limit_mb: float = 0,
    timeout_s: float = 3600.0,
    on_progress: Callable[[CellProgress], None] | None = None,
    program: Sequence[str] = CELL_PROGRAM,
) -> CellResult:
    """Measure one cell in a process of its own, whatever becomes of it.

    A model that the backend can't load as it is gets exported first, in a process of its own too: what the
    export takes in memory and leaves loaded is no part of what is measured.

    Args:
        spec: What to measure; its folder must be empty or that of the same cell, which is then done again.
        memory_limit_mb: A cell whose processes hold more is ended, MB (10^6 bytes); 0: nine tenths of what is
            available when it starts.
        timeout_s: A cell that takes longer is ended, s.
        on_progress: Told where the cell is, in this thread.
        program: What to start with the specification's file and a step; for tests.

    Returns:
        The result; ``status`` says how it ended, and never is an exception raised for what the cell did.

    Raises:
        InputError: The limits make no sense.
    """
    if timeout_s <= 0 or memory_limit_mb < 0:
        raise InputError(
            f"a cell needs a timeout above 0 s and a memory limit of at least 0 MB, not {timeout_s}, {memory_limit_mb}"
        )
    folder = Path(spec.folder)
    _tidy(folder)
    write_json(folder / SPEC_FILE, spec.to_dict())
    limit = memory_limit(memory_limit_mb)
    deadline = time.monotonic() + timeout_s
    began = time.perf_counter()
    for step in ("prepare", "measure") if _needs_export(spec) else ("measure",):
        ended = _Watched(program, folder, step, limit, deadline, timeout_s, on_progress).run()
        result = _outcome(spec, step, ended)
        if result is not None:
            break
    else:  # pragma: no cover - the last step always has an outcome
        raise AssertionError
    if not (folder / RESULT_FILE).is_file():  # a cell that could not write its own result has one, too
        write_json(folder / RESULT_FILE, result.to_dict())
    return replace(
        result,
        peak_rss_mb=ended.peak_rss_mb,
        seconds=time.perf_counter() - began,
        prepare_s=_prepare_seconds(folder),
        log=str(folder / LOG_FILE),
    )


def _needs_export(spec: CellSpec) -> bool:
    """Whether the backend can't load the model as it is."""
    return spec.backend in BACKENDS and spec.model.format not in BACKENDS.get(spec.backend).formats


def _tidy(folder: Path) -> None:
    """An old result must not pass for that of a process that crashed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (RESULT_FILE, PREPARED_FILE, PROGRESS_FILE, LOG_FILE, "clip.webp"):
        (folder / name).unlink(missing_ok=True)
    for file in folder.glob("latencies_*.npy"):
        file.unlink()
    for name in ("evaluation", "tracking"):
        shutil.rmtree(folder / name, ignore_errors=True)


@dataclass(frozen=True)
class _Ended:
    """How a process ended.

    Attributes:
        code: As :class:`subprocess.Popen` has it: negative for a signal.
        stopped: ``"timeout"`` or ``"out_of_memory"`` where we ended it.
        reason: Why we did, in a sentence.
        step: Where it was.
        peak_rss_mb: Most memory seen, MB.
        tail: End of its log.
    """

    code: int
    stopped: str
    reason: str
    step: str
    peak_rss_mb: float
    tail: str


@dataclass
class _Watched:
    """A process and what watches it."""

    program: Sequence[str]
    folder: Path
    step: str
    limit_mb: float
    deadline: float
    timeout_s: float
    on_progress: Callable[[CellProgress], None] | None
    _read: int = 0
    _last: CellProgress = field(default_factory=lambda: CellProgress("start"))

    def run(self) -> _Ended:
        group = ControlGroup()
        with (self.folder / LOG_FILE).open("ab") as log_file:
            process = subprocess.Popen(
                kept([*self.program, str(self.folder / SPEC_FILE), self.step], grace_s=0.0),
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **group.environment},
                start_new_session=True,  # Ctrl-C reaches this process alone, and it ends the cell
            )
        watch = ProcessWatch(process.pid, kept=True, group=group)
        try:
            stopped, reason = self._watch(process, watch)
        except BaseException:
            _end(process, watch)
            raise
        if stopped:
            _end(process, watch)
        else:
            watch.end()
        self._report()
        tail = _tail(self.folder / LOG_FILE)
        return _Ended(process.returncode, stopped, reason, self._last.step, watch.peak_mb, tail)

    def _watch(self, process: subprocess.Popen[bytes], watch: ProcessWatch) -> tuple[str, str]:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
                return "", ""
            held = watch.read()
            self._report()
            if held > self.limit_mb:
                return "out_of_memory", (
                    f"it held {held:,.0f} MB of memory in step {self._last.step} and may take {self.limit_mb:,.0f} MB; "
                    "choose a smaller batch or image side, or allow it more memory"
                )
            if time.monotonic() > self.deadline:
                return "timeout", (
                    f"it was not done after {self.timeout_s:,.0f} s and was ended in step {self._last.step}; "
                    "measure fewer images or seconds, or allow it more time"
                )

    def _report(self) -> None:
        """Pass on what the cell wrote since the last time; a line that isn't whole yet waits."""
        path = self.folder / PROGRESS_FILE
        if not path.is_file():
            return
        with path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._read += whole
        for line in text[:whole].splitlines():
            try:
                self._last = CellProgress(**json.loads(line))
            except (ValueError, TypeError):
                continue
            if self.on_progress is not None:
                self.on_progress(self._last)


def _end(process: subprocess.Popen[bytes], watch: ProcessWatch) -> None:
    """SIGTERM to all of it, and SIGKILL to what is left after a while."""
    watch.signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    watch.end()
    process.wait()


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read().decode("utf-8", errors="replace")


def _outcome(spec: CellSpec, step: str, ended: _Ended) -> CellResult | None:
    """What came of a step; ``None`` where the next one may begin."""
    folder = Path(spec.folder)
    written = _read_result(folder)
    if written is not None:  # written last and whole: what happened after it changes nothing that was measured
        return written if ended.code == 0 else replace(written, warnings=(*written.warnings, _after_the_end(ended)))
    if ended.stopped:
        return CellResult(spec, ended.stopped, ended.reason, failed_in=ended.step)
    if ended.code == 0 and step == "prepare" and (folder / PREPARED_FILE).is_file():
        return None
    status, reason = _how_it_died(ended)
    return CellResult(spec, status, reason, failed_in=ended.step)


def _read_result(folder: Path) -> CellResult | None:
    try:
        return CellResult.load(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        if (folder / RESULT_FILE).exists():
            log.warning("the result in %s can't be read: %s", folder, error)
        return None


def _how_it_died(ended: _Ended) -> tuple[str, str]:
    where = f"in step {ended.step}"
    if ended.code == 0:
        return "failed", f"it ended {where} without a result; its log may say why"
    if ended.code > 0:
        status = "out_of_memory" if _speaks_of_memory(ended.tail) else "failed"
        return status, f"it failed {where}: {_last_line(ended.tail) or f'exit code {ended.code}'}"
    try:
        name = signal.Signals(-ended.code).name
    except ValueError:
        name = f"signal {-ended.code}"
    if name == "SIGKILL":
        return "out_of_memory", f"it was killed {where} from outside (SIGKILL), as the system does when memory runs out"
    if name == "SIGABRT" and _speaks_of_memory(ended.tail):
        return "out_of_memory", f"it ran out of memory {where} (abort); choose a smaller batch or image side"
    return "crashed", f"it crashed {where}: {_SIGNALS.get(name, 'a signal')} ({name}); its log holds the stack"


def _after_the_end(ended: _Ended) -> str:
    status, reason = (ended.stopped, ended.reason) if ended.stopped else _how_it_died(ended)
    return f"after its result was written the process did not end well ({status}: {reason})"


def _speaks_of_memory(tail: str) -> bool:
    return any(word in tail for word in _MEMORY_WORDS)


def _last_line(tail: str) -> str:
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""


def _prepare_seconds(folder: Path) -> float:
    try:
        values: Mapping[str, Any] = json.loads((folder / PREPARED_FILE).read_text(encoding="utf-8"))
        return float(values["seconds"])
    except (OSError, ValueError, KeyError):
        return 0.0
