"""What JupyterLab trusts: notebooks that were executed here, where it keeps its signatures."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.sign import NotebookNotary

from guardianflow.execution.engine.notebook import execute_notebook
from guardianflow.execution.engine.signing import sign


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jupyter's data folder, not there yet."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    return tmp_path / "jupyter"


@pytest.fixture
def notary(folder: Path) -> Iterator[NotebookNotary]:
    """As JupyterLab opens it, which makes key and database."""
    folder.mkdir()
    notary = NotebookNotary(data_dir=str(folder))
    assert notary.secret
    yield notary
    notary.store.close()


def written(path: Path, text: str = "1") -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text)]), path)
    return path


def trusted(notary: NotebookNotary, notebook: Path) -> bool:
    return bool(notary.check_signature(nbformat.read(notebook, as_version=4)))


def test_an_executed_notebook_is_trusted_until_it_is_changed(notary, notebooks: Path, tmp_path: Path) -> None:
    result = execute_notebook(notebooks / "completes.ipynb", tmp_path / "done.ipynb", html=False)
    assert trusted(notary, result.notebook)
    text = result.notebook.read_text(encoding="utf-8")
    result.notebook.write_text(text.replace('"source"', '"source" ').replace("completed", "failed"), encoding="utf-8")
    assert not trusted(notary, result.notebook)


def test_nothing_is_made_where_jupyter_was_never_used(folder: Path, tmp_path: Path) -> None:
    notebook = written(tmp_path / "a.ipynb")
    assert not sign(notebook)
    assert not folder.exists()
    folder.mkdir()
    assert not sign(notebook)
    assert list(folder.iterdir()) == []


def test_a_damaged_database_is_left_alone(notary, folder: Path, tmp_path: Path) -> None:
    (folder / "nbsignatures.db").write_bytes(b"no database" * 100)
    assert not sign(written(tmp_path / "a.ipynb"))
    assert {file.name for file in folder.iterdir()} == {"notebook_secret", "nbsignatures.db"}


def test_who_finds_the_database_busy_waits(notary, folder: Path, tmp_path: Path) -> None:
    notebooks = [written(tmp_path / f"{number}.ipynb", str(number)) for number in range(4)]
    with sqlite3.connect(folder / "nbsignatures.db") as busy:
        busy.execute("BEGIN EXCLUSIVE")
        threads = [threading.Thread(target=sign, args=(notebook,)) for notebook in notebooks]
        for thread in threads:
            thread.start()
        threads[0].join(0.3)
        assert threads[0].is_alive()
    for thread in threads:
        thread.join(20)
    busy.close()
    assert all(trusted(notary, notebook) for notebook in notebooks)
