"""Signals, a full disk and a kill, each on a real process that executes a notebook."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

RUN = """
import json, os, resource, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits SIG_IGN
options = json.loads(sys.argv[1])
limit = options.pop("file_limit", None)
from guardianflow.execution.engine.notebook import execute_notebook
if limit:
    import papermill, nbclient, jupyter_client.manager
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
answer = {}
try:
    result = execute_notebook(**options, on_event=lambda e: e.pid and os.write(2, b"kernel %d\\n" % e.pid))
except Exception as error:
    result = getattr(error, "result", None)
    answer = {"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
answer["result"] = result.to_dict() if result else None
answer["handlers"] = [signal.getsignal(s) is d for s, d in
                      ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL))]
print(json.dumps(answer))
"""


class Run:
    """A process of its own that executes a notebook, in a process group of its own as in a terminal."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, json.dumps(options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def answer(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        assert "Traceback" not in err, err
        found: dict[str, Any] = json.loads(out)
        return found


@contextmanager
def running(options: dict[str, Any]) -> Iterator[Run]:
    run = Run(options)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
        run.process.communicate()


def wait_for(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def marked_processes(path: Path) -> list[int]:
    """Processes that work in this test's own folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(path) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    ("signum", "status", "exit_code"), [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)]
)
def test_a_signal_lets_the_cell_end_its_run_and_then_ends_the_notebook(
    notebooks, output, saved, tmp_path, signum, status, exit_code
):
    options = {
        "template": str(notebooks / "sleeps.ipynb"),
        "output": str(output),
        "parameters": {"folder": str(tmp_path)},
        "cwd": str(tmp_path),
    }
    with running(options) as run:
        wait_for((tmp_path / "began").exists)
        os.killpg(run.process.pid, signum)
        answer = run.answer()

    assert (answer["error"], answer["exit_code"]) == ("NotebookInterruptedError", exit_code)
    assert f"stopped by {signum.name}" in answer["message"]
    assert (tmp_path / "was-interrupted").exists()
    assert (answer["result"]["status"], answer["result"]["error"]["cell_index"]) == (status, 3)
    notebook = saved(output)
    assert notebook.status == status
    assert notebook.states == ["completed"] * 3 + ["failed", "pending"]
    assert signum.name in notebook.banner[0].source
    assert signum.name in Path(answer["result"]["html"]).read_text()
    assert answer["handlers"] == [True, True]
    assert marked_processes(tmp_path) == []


def test_a_second_ctrl_c_does_not_wait_for_the_grace(notebooks, output, saved, tmp_path):
    options = {
        "template": str(notebooks / "ignores_interrupts.ipynb"),
        "output": str(output),
        "parameters": {"folder": str(tmp_path)},
        "stop_grace_s": 300,
        "html": False,
    }
    with running(options) as run:
        wait_for((tmp_path / "began").exists)
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert run.process.poll() is None
        run.process.send_signal(signal.SIGINT)
        answer = run.answer()
    assert answer["result"]["status"] == "interrupted"
    assert saved(output).states == ["completed", "completed", "failed", "pending"]


def test_a_signal_takes_the_kernels_children_along(notebooks, output, tmp_path):
    options = {
        "template": str(notebooks / "leaves_children.ipynb"),
        "output": str(output),
        "parameters": {"folder": str(tmp_path), "wait": True},
        "cwd": str(tmp_path),
        "html": False,
    }
    with running(options) as run:
        wait_for((tmp_path / "began").exists)
        assert len(marked_processes(tmp_path)) == 3
        run.process.terminate()
        assert run.answer()["result"]["status"] == "terminated"
    assert marked_processes(tmp_path) == []


@pytest.mark.parametrize("how", ["the process", "the kernel's parent"])
def test_a_kill_takes_the_kernels_children_and_its_sockets_along(notebooks, output, tmp_path, monkeypatch, how):
    theirs = how != "the process"
    options = {
        "template": str(notebooks / "leaves_children.ipynb"),
        "output": str(output),
        "parameters": {"folder": str(tmp_path), "wait": True, "parent": "SIGKILL" if theirs else ""},
        "cwd": str(tmp_path),
        "html": False,
    }
    with tempfile.TemporaryDirectory(prefix="gf") as temporary, monkeypatch.context() as patch:
        patch.setenv("TMPDIR", temporary)
        with running(options) as run:
            if theirs:
                assert run.answer()["result"]["status"] == "killed"
                assert len((tmp_path / "pids").read_text().split()) == 3
            else:
                wait_for((tmp_path / "began").exists)
                assert len(list(Path(temporary).glob("*/*/kernel.json"))) == 1
                run.process.kill()
                run.process.wait()
            wait_for(lambda: marked_processes(tmp_path) == [], 10)
            wait_for(lambda: not list(Path(temporary).glob("*/*")), 10)


def test_after_a_kill_of_the_process_the_file_is_whole_and_the_kernel_gone(notebooks, output, saved, tmp_path):
    options = {
        "template": str(notebooks / "sleeps.ipynb"),
        "output": str(output),
        "parameters": {"folder": str(tmp_path)},
        "cwd": str(tmp_path),
    }
    with running(options) as run:
        wait_for((tmp_path / "began").exists)
        run.process.kill()
        run.process.wait()
    assert saved(output).status == "running"
    assert saved(output).states == ["completed"] * 3 + ["running", "pending"]
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    wait_for(lambda: marked_processes(tmp_path) == [], 10)


def test_when_the_disk_is_full_at_the_end_the_error_says_so_and_the_old_file_is_whole(notebooks, output, saved):
    options = {
        "template": str(notebooks / "prints_much.ipynb"),
        "output": str(output),
        "html": False,
        "file_limit": 8192,
    }
    with running(options) as run:
        answer = run.answer()
    assert (answer["error"], answer["exit_code"]) == ("NotebookFailedError", 1)
    assert "File too large" in answer["message"]
    assert "ended as completed" in answer["message"]
    assert saved(output).status == "running"
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_when_the_disk_is_full_at_the_start_nothing_begins(notebooks, output):
    options = {"template": str(notebooks / "completes.ipynb"), "output": str(output), "file_limit": 100}
    with running(options) as run:
        answer = run.answer()
    assert (answer["error"], answer["exit_code"], answer["result"]) == ("InputError", 2, None)
    assert "Nothing was started" in answer["message"]
    assert list(output.parent.iterdir()) == []


def test_papermills_own_command_line_gets_the_truth_from_the_engine(notebooks, tmp_path, saved):
    output = tmp_path / "out.ipynb"
    cli = (
        "from guardianflow.execution.engine.papermill_engine import register_engine; register_engine(); "
        "from papermill.cli import papermill; papermill()"
    )
    done = subprocess.run(
        [sys.executable, "-c", cli, str(notebooks / "kernel_is_killed.ipynb"), str(output), "--engine", "guardianflow"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "ended by SIGKILL" in done.stderr
    assert saved(output).states == ["completed", "failed", "pending"]
    assert len(saved(output).banner) == 2


def test_importing_the_module_loads_nothing_heavy():
    code = (
        "import sys; import guardianflow.execution.engine.notebook, guardianflow.execution.engine.papermill_engine; "
        "heavy = {'papermill', 'nbclient', 'nbformat', 'nbconvert', 'jupyter_client', 'zmq', 'plotly', 'pandas'}; "
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
