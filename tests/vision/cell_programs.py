"""A cell whose backend does what its name says: ``python cell_programs.py KIND SPEC STEP``."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from guardianflow.exceptions import MissingDependencyError
from guardianflow.vision.benchmark.cell import main
from tests.vision.simulated_detectors import EmptyBackend


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


hoard = []
child = []


def fill_memory() -> None:
    """Take 20 MB more each time, for good, and write to it so that it is really held."""
    hoard.append(bytearray(b"x") * 20_000_000)


def fill_memory_in_a_child() -> None:
    if not child:
        code = "import time; hoard = bytearray(b'x') * 400_000_000; time.sleep(600)"
        child.append(subprocess.Popen([sys.executable, "-c", code]))
        Path("child.pid").write_text(str(child[0].pid))
    time.sleep(0.3)


def leave_a_child() -> None:
    """One that no parent, session or environment leads to."""
    if not child:
        code = "import os; os.setsid(); print(os.getpid(), flush=True); os.execve('/bin/sleep', ['sleep', '600'], {})"
        code = f"import os; os.fork() or exec({code!r})"
        with Path("child.pid").open("wb") as file:
            child.append(subprocess.run([sys.executable, "-c", code], stdout=file, check=True))
        time.sleep(0.2)


def raise_error(error: Exception):
    def act() -> None:
        raise error

    return act


def be_deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def print_and_fail() -> None:
    print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
    os.abort()


def open_and_fail(*_: object, **__: object):
    raise MissingDependencyError("the fake runtime is not installed; install it")


ACTS = {
    "good": lambda: time.sleep(0.002),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "abort-for-memory": print_and_fail,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hungry": fill_memory,
    "hungry-child": fill_memory_in_a_child,
    "leaves-child": leave_a_child,
    "deaf": be_deaf,
    "cuda": raise_error(OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    "memory": raise_error(MemoryError()),
    "raises": raise_error(RuntimeError("the kernel of layer 7\nis missing")),
    "quits": lambda: os._exit(0),
    "exits": lambda: sys.exit("no more"),
}


def open_backend(model: object, *, backend: str, options: object) -> EmptyBackend:
    del model, backend, options
    if sys.argv[1] == "sees":
        return EmptyBackend(ACTS["good"], box=(32, 32, 24, 24))
    return EmptyBackend(ACTS[sys.argv[1]])


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    opener = open_and_fail if kind == "missing" else open_backend
    code = main(arguments[-2:], open_backend=opener)
    if kind == "good":
        ctypes.string_at(0) if os.environ.get("CRASH_AT_EXIT") else None
    os._exit(code)
