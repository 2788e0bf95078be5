"""A file in the current folder that is named like an installed package is not imported by what we start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from guardianflow.core.config import Settings
from guardianflow.doctor.machine import check_devices
from guardianflow.execution.engine.notebook import execute_notebook
from tests.adapters.test_source_state import git

FOREIGN = ("psutil", "guardianflow", "torch", "numpy", "papermill", "mlflow", "json", "zmq", "traitlets", "IPython")
SEEN = """
import importlib.util
for name in {names!r}:
    print(name, importlib.util.find_spec(name).origin)
import mine
print(mine.WORD)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with modules that tell when they were run, and one of the user's own."""
    place = tmp_path / "받은 것 received"
    place.mkdir()
    for name in FOREIGN:
        text = f"from pathlib import Path\nPath({str(tmp_path / 'was_run')!r}).write_text({name!r})\n"
        (place / f"{name}.py").write_text(text, encoding="utf-8")
    (place / "mine.py").write_text("WORD = 'beside'\n", encoding="utf-8")
    monkeypatch.chdir(place)
    return place


def untouched(folder: Path) -> bool:
    return not (folder.parent / "was_run").exists()


def test_a_notebook_imports_what_is_installed_first_and_what_lies_beside_it_last(folder: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SEEN.format(names=FOREIGN))])
    nbformat.write(notebook, folder / "own.ipynb")
    execute_notebook(folder / "own.ipynb", folder / "done.ipynb", cwd=folder)
    [cell] = nbformat.read(folder / "done.ipynb", as_version=4).cells
    printed = "".join(output.text for output in cell.outputs if "text" in output)
    assert str(folder) not in printed
    assert printed.splitlines()[-1] == "beside"
    assert untouched(folder)


def test_doctor_asks_the_installed_torch(folder: Path) -> None:
    assert check_devices(Settings(work_dir=folder / "work"))[0].name == "torch"
    assert untouched(folder)


@pytest.mark.parametrize("words", [["scan", "."], ["wrap", "own.ipynb"]])
def test_a_command_typed_there_runs_none_of_it(folder: Path, mlflow_sqlite_template: Path, words: list[str]) -> None:
    (folder / "guardianflow-work").mkdir()
    shutil.copyfile(mlflow_sqlite_template, folder / "guardianflow-work" / "mlflow.db")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]), folder / "own.ipynb")
    program = Path(sys.executable).with_name("guardianflow")
    done = subprocess.run([program, *words], cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert untouched(folder)


@pytest.mark.skipif(os.name != "posix", reason="needs a shell script")
def test_a_runs_commit_is_read_without_what_the_repository_would_run(tmp_path: Path) -> None:
    from guardianflow.machine.environment import git_facts

    repository, marker = tmp_path / "code", tmp_path / "was_run"
    repository.mkdir()
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch '{marker}'\ncat\n", encoding="utf-8")
    program.chmod(0o755)
    git(repository, "init", "-q")
    (repository / ".gitattributes").write_text("*.py filter=evil diff=evil\n", encoding="utf-8")
    (repository / "train.py").write_text("lr = 1\n", encoding="utf-8")
    git(repository, "add", ".")
    git(repository, "-c", "user.name=kim", "-c", "user.email=kim@site", "commit", "-q", "-m", "one")
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.process", "core.sshCommand", "diff.evil.textconv"):
        git(repository, "config", key, str(program))
    (repository / "train.py").write_text("lr = 2\n", encoding="utf-8")
    subprocess.run(["git", "-C", str(repository), "status"], capture_output=True, check=False)
    assert marker.exists(), "the attack is a real one"
    marker.unlink()
    (repository / "train.py").write_text("lr = 33\n", encoding="utf-8")
    facts = git_facts(repository)
    assert not marker.exists()
    assert facts["guardianflow.git_dirty"] == "true"
    assert len(facts["mlflow.source.git.commit"]) == 40
