from __future__ import annotations

import asyncio
import gc
import json
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import psutil
import pytest

from guardianflow.exceptions import InputError, NotebookError, NotFoundError, ParameterError
from guardianflow.execution.engine.notebook import execute_notebook, list_templates, notebook_folder, template_path
from guardianflow.execution.engine.outcome import NotebookFailedError, NotebookInterruptedError, NotebookResult


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_completed_notebook_holds_its_results_and_measurements(notebooks, output, saved, capfd):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    events = []
    result = execute_notebook(
        notebooks / "completes.ipynb",
        output,
        parameters={"count": 21, "greeting": '안녕 "\\{x}'},
        on_event=events.append,
    )

    notebook = saved(output)
    assert (result.status, result.error, result.notebook) == ("completed", None, output)
    assert notebook.states == ["completed"] * 5
    assert notebook.banner == []
    assert notebook.printed() == '안녕 "\\{x}, 42\n'
    assert [cell.execution_count for cell in result.cells] == [1, 2, None, 3, 4]
    record = notebook.document.metadata["guardianflow"]
    assert (record["template"], record["status"], len(record["template_sha256"])) == (
        "completes.ipynb",
        "completed",
        64,
    )
    assert notebook.document.metadata.papermill["parameters"] == {"count": 21, "greeting": '안녕 "\\{x}'}
    for cell, measured in zip(notebook.cells, result.cells, strict=True):
        assert cell.metadata["guardianflow"] == {"seconds": measured.seconds, "rss_mb": measured.rss_mb}
        assert measured.rss_mb > 20
    assert sum(cell.seconds for cell in result.cells) < result.seconds
    assert result.html == output.with_suffix(".html")
    assert "안녕" in result.html.read_text()
    assert json.loads(json.dumps(result.to_dict()))["notebook"] == str(output)

    kinds = [event.kind for event in events]
    without_print = ["cell-started", "cell-finished"]
    assert kinds == ["kernel-started", *without_print * 3, "cell-started", "stream", "cell-finished", *without_print]
    assert events[0].cells == 5
    assert not is_running(events[0].pid)
    printed = next(event for event in events if event.kind == "stream")
    assert (printed.stream, printed.cell_index, printed.text) == ("stdout", 3, '안녕 "\\{x}, 42\n')
    assert capfd.readouterr() == ("", "")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert [path.name for path in sorted(output.parent.iterdir())] == ["결과 {x}.html", "결과 {x}.ipynb"]


def test_a_cells_error_is_written_down_and_raised(notebooks, output, saved):
    with pytest.raises(NotebookFailedError, match="failed in cell 1: ZeroDivisionError: <b>nothing") as caught:
        execute_notebook(notebooks / "cell_raises.ipynb", output)

    result = caught.value.result
    assert isinstance(caught.value, NotebookError)
    assert caught.value.exit_code == 1
    assert (result.status, result.error.ename, result.error.cell_index) == ("failed", "ZeroDivisionError", 1)
    assert "raise ZeroDivisionError" in result.error.traceback
    assert "\x1b" not in result.error.traceback
    notebook = saved(output)
    assert notebook.states == ["completed", "failed", "pending"]
    assert notebook.status == "failed"
    assert notebook.document.metadata.papermill["exception"] is True
    # An error's text is text: neither HTML nor a markdown link.
    assert "&lt;b&gt;nothing" in notebook.banner[0].source
    assert 'href="javascript' not in result.html.read_text()


def test_a_failed_notebook_can_be_run_again_from_its_own_file(notebooks, tmp_path, saved):
    first, second = tmp_path / "first.ipynb", tmp_path / "second.ipynb"
    for source, target in ((notebooks / "cell_raises.ipynb", first), (first, second)):
        with pytest.raises(NotebookFailedError):
            execute_notebook(source, target, html=False)
    assert len(saved(second).banner) == len(saved(first).banner) == 2


@pytest.mark.parametrize(
    ("name", "index", "cause"),
    [
        ("kernel_is_killed", 1, "ended by SIGKILL, as it happens when the memory runs out"),
        ("kernel_exits", 0, "exit code 7"),
        ("crashes_in_c", 0, "ended by SIGSEGV"),
    ],
)
def test_a_kernels_death_is_no_completion(notebooks, output, saved, name, index, cause):
    with pytest.raises(NotebookFailedError, match=cause) as caught:
        execute_notebook(notebooks / f"{name}.ipynb", output)

    result = caught.value.result
    assert (result.status, result.error.ename, result.error.cell_index) == ("killed", "DeadKernelError", index)
    notebook = saved(output)
    assert notebook.states == ["completed"] * index + ["failed"] + ["pending"] * (len(notebook.cells) - index - 1)
    assert cause in notebook.cells[index].outputs[-1].evalue
    assert "kernel of the notebook died" in notebook.banner[0].source
    assert cause in result.html.read_text()
    if name == "kernel_is_killed":
        assert "last words" in notebook.printed()
    if name == "crashes_in_c":  # what the fault handler wrote past the cells
        assert "Fatal Python error" in result.error.traceback


def test_at_its_time_limit_the_cell_may_end_its_own_run(notebooks, output, saved, tmp_path):
    with pytest.raises(NotebookFailedError, match="reached its limit of 3 s") as caught:
        execute_notebook(
            notebooks / "sleeps.ipynb", output, parameters={"folder": tmp_path}, timeout_s=3, stop_grace_s=30
        )

    result = caught.value.result
    assert (tmp_path / "was-interrupted").exists()
    assert (result.status, result.error.ename, result.error.cell_index) == ("timeout", "TimeoutError", 3)
    assert result.seconds < 20
    assert saved(output).states == ["completed"] * 3 + ["failed", "pending"]
    assert "its time was up" in saved(output).banner[0].source


def test_a_cell_that_swallows_the_interrupt_still_ends_the_notebook(notebooks, output, saved, tmp_path):
    with pytest.raises(NotebookFailedError) as caught:
        execute_notebook(
            notebooks / "swallows_interrupt.ipynb",
            output,
            parameters={"folder": str(tmp_path)},
            timeout_s=3,
            html=False,
        )
    assert (caught.value.result.status, caught.value.result.error.cell_index) == ("timeout", 2)
    assert saved(output).states == ["completed"] * 3 + ["pending"]
    assert saved(output).printed() == "ended in order\n"


def test_a_kernel_deaf_to_signals_is_killed_after_the_grace(notebooks, output, saved, tmp_path):
    pids = []
    with pytest.raises(NotebookFailedError) as caught:
        execute_notebook(
            notebooks / "ignores_interrupts.ipynb",
            output,
            parameters={"folder": str(tmp_path), "deaf": True},
            timeout_s=3,
            stop_grace_s=0.5,
            html=False,
            on_event=lambda event: pids.append(event.pid) if event.pid else None,
        )
    assert caught.value.result.status == "timeout"
    assert caught.value.result.seconds < 30
    assert saved(output).states == ["completed", "completed", "failed", "pending"]
    assert not is_running(pids[0])


@pytest.mark.parametrize("parent", ["", "SIGSTOP"])
def test_nothing_that_the_notebook_started_is_left_behind(notebooks, output, tmp_path, parent):
    """Not even what bears no mark, in a notebook that halts its kernel's parent."""
    asked = {"folder": str(tmp_path), "parent": parent}
    execute_notebook(notebooks / "leaves_children.ipynb", output, parameters=asked, html=False)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3
    assert [pid for pid in pids if is_running(pid)] == []


def test_a_notebook_that_ends_itself_with_exit_0_has_not_failed(notebooks, output, saved, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="gf") as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        result = execute_notebook(notebooks / "exits_cleanly.ipynb", output, html=False)
        assert list(Path(folder).glob("*/*")) == []  # sockets and connection file are gone
    assert result.status == "completed"
    assert saved(output).states == ["completed", "pending"]


def test_two_notebooks_at_once_from_threads_do_not_mix(notebooks, tmp_path, saved):
    def run(number: int) -> NotebookResult:
        return execute_notebook(
            notebooks / "completes.ipynb", tmp_path / f"{number}.ipynb", parameters={"count": number}, html=False
        )

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, [10, 20]))
    assert [result.status for result in results] == ["completed", "completed"]
    assert [saved(result.notebook).printed() for result in results] == ["hello, 20\n", "hello, 40\n"]


def test_it_runs_inside_a_running_event_loop_and_leaves_no_file_open(notebooks, tmp_path):
    # A cell of JupyterLab is just this: code inside a loop that runs already.
    async def cell(number: int) -> str:
        return execute_notebook(notebooks / "completes.ipynb", tmp_path / f"{number}.ipynb", html=False).status

    async def session() -> list[int]:
        counts = []
        for number in range(3):
            assert await cell(number) == "completed"
            gc.collect()
            counts.append(psutil.Process().num_fds())
        return counts

    first, *_, last = asyncio.run(session())
    assert last <= first


def test_the_kernel_is_the_running_python_whatever_is_installed(notebooks, output, saved, tmp_path, monkeypatch):
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["/no/such/python", "{connection_file}"], "display_name": "broken", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    here = tmp_path / "작업 폴더"
    here.mkdir()
    execute_notebook(
        notebooks / "shows_environment.ipynb", output, cwd=here, environment={"SITE_COLOUR": "파랑"}, html=False
    )
    assert json.loads(saved(output).printed()) == {"cwd": str(here), "python": sys.executable, "colour": "파랑"}
    assert Path.cwd() != here

    with pytest.raises(NotebookFailedError, match=r"did not start.*no/such/python") as caught:
        execute_notebook(notebooks / "completes.ipynb", output, kernel_name="python3", html=False)
    assert caught.value.result.status == "failed"
    assert set(saved(output).states) == {"pending"}


def test_a_listener_that_fails_does_not_stop_the_run(notebooks, output, caplog):
    calls = []

    def listener(event):
        calls.append(event)
        raise OSError("the terminal has gone")

    assert execute_notebook(notebooks / "completes.ipynb", output, on_event=listener, html=False).status == "completed"
    assert len(calls) == 1
    assert "listener" in caplog.text


def test_a_progress_bar_keeps_one_line(notebooks, output, saved):
    execute_notebook(notebooks / "prints_progress.ipynb", output, html=False)
    assert saved(output).printed() == "line\n199%\nend\n"


def test_of_our_own_bar_the_last_state_stays(tmp_path, output):
    source = """
from guardianflow.text.progress_bar import progress_bar
with progress_bar(3, desc="trials", unit="trial", shown=True) as bar:
    for number in range(3):
        bar.set_postfix_str(f"best {number}")
        bar.update()
"""
    path = tmp_path / "bar.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)
    execute_notebook(path, output, html=False)
    [shown] = [output for cell in nbformat.read(output, 4).cells for output in cell.get("outputs", ())]
    assert [*shown.data] == ["text/plain"]
    assert "trials: 100%" in shown.data["text/plain"]
    assert "best 2" in shown.data["text/plain"]


def test_a_notebook_begins_without_grammars_that_it_does_not_need():
    pytest.importorskip("rfc3987_syntax", reason="rfc3987-syntax is missing: make setup")
    code = "import guardianflow.execution.engine, nbformat, sys; print('lark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"parameters": {"cout": 1}}, ParameterError, "Did you mean 'count'"),
        ({"parameters": {"x\nimport os": 1}}, ParameterError, "is not allowed"),
        ({"kernel_name": "fortran"}, NotFoundError, "no Jupyter kernel named 'fortran'"),
        ({"cwd": "/no/such/folder"}, NotFoundError, "no folder"),
        ({"timeout_s": 0}, InputError, "timeout_s = 0 must be more than 0"),
    ],
)
def test_what_cannot_begin_begins_nothing(notebooks, output, options, error, message):
    with pytest.raises(error, match=message) as caught:
        execute_notebook(notebooks / "completes.ipynb", output, **options)
    assert caught.value.exit_code == 2
    assert not output.exists()


def test_an_output_that_cannot_be_made_is_refused(notebooks, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be made"):
        execute_notebook(notebooks / "completes.ipynb", tmp_path / "file" / "out.ipynb")
    with pytest.raises(InputError, match=r"must end in \.ipynb"):
        execute_notebook(notebooks / "completes.ipynb", tmp_path / "out.txt")
    (tmp_path / "taken.ipynb").mkdir()
    with pytest.raises(InputError, match="can't be written"):
        execute_notebook(notebooks / "completes.ipynb", tmp_path / "taken.ipynb")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["file", "taken.ipynb"]


def test_a_notebook_that_no_execution_made_is_not_replaced(notebooks, tmp_path):
    mine = Path(shutil.copy(notebooks / "completes.ipynb", tmp_path / "mine.ipynb"))
    before = mine.read_bytes()
    for source in (mine, notebooks / "completes.ipynb"):  # the template itself, and another one
        with pytest.raises(InputError, match="was not made by an execution; it is not replaced"):
            execute_notebook(source, mine, html=False)
    assert mine.read_bytes() == before
    made = execute_notebook(mine, tmp_path / "made.ipynb", html=False).notebook
    assert execute_notebook(mine, made, html=False).status == "completed"  # its own it replaces


def test_the_errors_survive_a_process_border(tmp_path):
    result = NotebookResult(tmp_path / "a.ipynb", None, "interrupted", None, (), 1.0)
    for error in (NotebookFailedError("no", result), NotebookInterruptedError("no", result, 15)):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.result, copy.exit_code) == (type(error), "no", result, error.exit_code)
    assert NotebookInterruptedError("no", result, 15).exit_code == 143


def test_templates_are_found_by_name():
    assert list_templates() == sorted(path.stem for path in notebook_folder("templates").glob("*.ipynb"))
    with pytest.raises(NotFoundError, match="Known: "):
        template_path("../train")
    for name in list_templates():
        assert template_path(name) == template_path(f"{name}.ipynb")
        assert template_path(name).is_file()


def test_a_workspace_may_have_templates_of_its_own(tmp_path):
    (tmp_path / "train.ipynb").write_bytes(template_path("train").read_bytes())
    assert template_path("train", tmp_path) == tmp_path / "train.ipynb"
    assert template_path("infer", tmp_path) == template_path("infer")
    with pytest.raises(NotFoundError, match=r"templates = .* is no folder"):
        template_path("infer", tmp_path / "gone")


def test_sockets_stay_short_under_a_long_temporary_folder(notebooks, output, tmp_path, monkeypatch):
    long = tmp_path / ("긴" * 60)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert execute_notebook(notebooks / "completes.ipynb", output, html=False).status == "completed"
    assert list(long.iterdir()) == []
