"""What runs inside the process of one cell: ``python -m guardianflow.vision.benchmark.cell SPEC.json STEP``.

``prepare`` exports the model, ``measure`` opens it and measures. A result is written once, whole, at the end;
a process that dies before leaves none, and who started it
(:mod:`guardianflow.vision.benchmark.cell_process`) says how it died.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.exceptions import GuardianFlowError, MissingDependencyError
from guardianflow.files.run_folder import write_json
from guardianflow.vision.benchmark.cell_results import CellProgress, CellResult, CellSpec
from guardianflow.vision.model_artifacts import ModelFile

__all__ = ["main"]

_MEMORY_TYPES = {"MemoryError", "OutOfMemoryError", "_ArrayMemoryError"}
_MEMORY_WORDS = (
    "out of memory", "bad_alloc", "bad allocation", "can't allocate memory", "cannot allocate memory",
    "failed to allocate memory", "cudaerrormemoryallocation", "not enough memory",
)  # fmt: skip


@dataclass
class Report:
    """Tells the parent where the cell is: one line of JSON each time."""

    path: Path
    step: str = "start"
    _told: float = field(default=0.0)

    def __call__(self, step: str, done: int = 0, total: int = 0, text: str = "") -> None:
        self.step = step
        line = json.dumps(asdict(CellProgress(step, done, total, text))) + "\n"
        with self.path.open("ab") as file:
            file.write(line.encode())

    def often(self, step: str, done: int, total: int) -> None:
        """The same for what is called for every image: at most five times a second."""
        now = time.monotonic()
        if now - self._told >= 0.2 or done == total:
            self._told = now
            self(step, done, total)


def main(
    arguments: Sequence[str] | None = None,
    *,
    open_backend: Callable[..., Any] | None = None,
    prepare_model: Callable[..., Any] | None = None,
) -> int:
    """Run one step of a cell.

    Args:
        arguments: File of the specification, and step.
        open_backend: Default: that of the catalogue.
        prepare_model: Default: that of the exports.
    """
    file, step = sys.argv[1:] if arguments is None else arguments
    faulthandler.enable()
    _be_the_first_to_go()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    spec = CellSpec.from_dict(json.loads(Path(file).read_text(encoding="utf-8")))
    folder, report = Path(file).parent, Report(Path(file).parent / "progress.jsonl")
    result = CellResult(spec, "ok")
    try:
        if step == "prepare":
            write_json(folder / "prepared.json", _prepare(spec, report, prepare_model))
            return _leave(0)
        from guardianflow.vision.benchmark.cell_work import measure_cell

        measure_cell(result, report=report, model=_prepared(spec, folder), opener=open_backend)
    except Exception as error:  # noqa: BLE001 - whatever it is, the matrix goes on and the reason is kept
        traceback.print_exc()
        (result.status, result.reason), result.failed_in = classify(error), report.step
    for mode in result.modes:
        mode.save_latencies(folder)
    write_json(folder / "result.json", result.to_dict())
    return _leave(0)


def classify(error: BaseException) -> tuple[str, str]:
    """Status and reason of a cell that ended with an exception."""
    text = " ".join(str(error).split()) or type(error).__name__
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & _MEMORY_TYPES or any(word in text.lower() for word in _MEMORY_WORDS):
        return "out_of_memory", f"it ran out of memory ({text[:300]}); choose a smaller batch or image side"
    if isinstance(error, MissingDependencyError):
        return "unavailable", text[:600]
    if isinstance(error, GuardianFlowError):
        return "failed", text[:600]
    return "failed", f"{type(error).__name__}: {text[:400]}"


def _prepare(spec: CellSpec, report: Report, prepare_model: Callable[..., Any] | None) -> dict[str, Any]:
    """The file that the backend loads: the model itself, or an export of it."""
    report("prepare", text=f"{spec.backend} {spec.precision}")
    began = time.perf_counter()
    if prepare_model is None:
        require_backend(spec.backend)
        from guardianflow.vision.export import prepare_model as export

        prepare_model = export
    model = prepare_model(
        spec.model,
        backend=spec.backend,
        precision=spec.precision,
        imgsz=spec.side,
        batch=spec.batch,
        folder=Path(spec.exports) if spec.exports else Path(spec.folder).parent / "exports",
    )
    return {"model": model.to_dict(), "seconds": time.perf_counter() - began}


def require_backend(name: str) -> None:
    """Refuse a backend that this machine lacks, before anything is exported for it.

    Raises:
        MissingDependencyError: Why it is missing, and what installs it.
    """
    from guardianflow.vision.backends.catalog import availability

    found = availability(name)
    if not found.ok:
        raise MissingDependencyError(found.reason)


def _prepared(spec: CellSpec, folder: Path) -> ModelFile:
    path = folder / "prepared.json"
    if not path.is_file():
        return spec.model
    return ModelFile.from_dict(json.loads(path.read_text(encoding="utf-8"))["model"])


def _leave(code: int) -> int:
    """Logs are out; what a runtime does while it is torn down can't change what was measured."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return code


def _be_the_first_to_go() -> None:
    """Where memory runs out for all, the system should end the cell and not who started it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


if __name__ == "__main__":
    code = main()
    os._exit(code)  # the result is on the disk; runtimes that crash in their own exit handlers don't get to
