"""A notebook's run says what its cells worked with: values that would not be used are refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from guardianflow.adapters.wrap.commands import read_command
from guardianflow.adapters.wrap.parameters.script_parameters import ResolvedParameters, resolve_parameters
from guardianflow.exceptions import InputError

Cell = str | tuple[str, str]
TAGGED = ("lr = 0.1\nepochs = 2", "parameters")


def write(folder: Path, *cells: Cell) -> Path:
    notebook = nbformat.v4.new_notebook()
    for cell in cells:
        text, tags = (cell, []) if isinstance(cell, str) else (cell[0], [cell[1]])
        made = nbformat.v4.new_code_cell(text)
        made.metadata["tags"] = tags
        notebook.cells.append(made)
    path = folder / "학습 n.ipynb"
    nbformat.write(notebook, path)
    return path


def resolved(path: Path, *words: str) -> ResolvedParameters:
    return resolve_parameters(read_command(path.name, words, working_dir=path.parent), working_dir=path.parent)


@pytest.mark.parametrize(
    ("cells", "words", "parts"),
    [
        (["lr = 0.1\nprint(lr)"], ["--lr", "0.01"], ["lr=0.01 would not be used", "at the top", "code cell 1, line 1",
                                                    "`lr = 0.1`", "that tag in Jupyter"]),
        (["lr = 0.1\nprint(lr)"], ["-p", "lr", "0.01"], ["lr=0.01 would not be used"]),
        (["from config import *", "lr = 0.1\nprint(lr)"], ["lr=0.01"], ["code cell 2, line 1"]),
        (["print(1)"], ["seed=1"], ["no cell is tagged", "nothing says that it takes seed"]),
        ([TAGGED, "lr = 0.2", "print(lr)"], ["lr=0.01"], ["would not be used", "code cell 2, line 1",
                                                         "take that line out"]),
        ([TAGGED, ("lr = 0.2", "parameters"), "print(lr)"], ["lr=0.01"], ["code cell 2, line 1"]),
        ([TAGGED, "def f(lr):\n    return 1\nf(1)\nlr = 3"], ["lr=0.01"], ["line 4"]),
        ([TAGGED, "print(lr, epochs)"], ["epoch=1"], ["has no epoch", "did you mean 'epochs'?"]),
        ([TAGGED, "print(lr, epochs)"], ["seed=1"], ["has no seed", "known: epochs, lr"]),
    ],
)  # fmt: skip
def test_a_value_that_no_cell_would_work_with_is_refused(
    tmp_path: Path, cells: list[Cell], words: list[str], parts: list[str]
) -> None:
    path = write(tmp_path, *cells)
    with pytest.raises(InputError) as refused:
        read_command(path.name, words, working_dir=tmp_path)
    assert str(path) in str(refused.value)
    for part in parts:
        assert part in str(refused.value)


@pytest.mark.parametrize(
    "cells",
    [
        [TAGGED, "print(lr)"],
        ["def train():\n    return lr", TAGGED, "train()"],
        [TAGGED, "train(\n    data,\n    lr=0.5)", "print(lr)"],
        [TAGGED, "lr = float(lr)"],
        [TAGGED, "lr *= 2"],
        [TAGGED, "for step in range(3):\n    print(lr)\nlr = 0"],
        [TAGGED, "def train():\n    return lr", "train()\nlr = 0"],
        [TAGGED, "class Net:\n    lr = 3\n    def step(self):\n        return lr", "Net()"],
        [TAGGED, "!python train.py --lr {lr}"],
        [TAGGED, "%%bash -s $lr\necho $1"],
        [TAGGED, "if DEBUG:\n    lr = 1", "print(lr)"],
        [TAGGED, ("lr = 0.5", "injected-parameters"), "print(lr)"],
        [("lr <- 0.1", "parameters"), "x <- lr"],
    ],
)
def test_a_value_that_is_used_is_taken(tmp_path: Path, cells: list[Cell]) -> None:
    assert resolved(write(tmp_path, *cells), "lr=0.01").values["lr"] == 0.01


def test_a_default_that_a_later_cell_replaces_is_recorded_as_it_is_used(tmp_path: Path) -> None:
    found = resolved(write(tmp_path, TAGGED, "lr = 0.2\nepochs = len(files)", "print(lr, epochs)"))
    assert found.values == {"lr": 0.2}
    assert found.remarks == (
        "lr is 0.2: code cell 2, line 1 (`lr = 0.2`) sets it anew",
        "epochs is not known: code cell 2, line 2 (`epochs = len(files)`) sets it anew",
    )
    two = write(tmp_path, TAGGED, ("lr = 0.3", "parameters"), "print(lr, epochs)")
    assert resolved(two).values == {"lr": 0.3, "epochs": 2}
    assert resolved(two, "epochs=5").values == {"lr": 0.3, "epochs": 5}


def test_what_an_earlier_run_put_in_counts_until_another_value_is_put_in(tmp_path: Path) -> None:
    path = write(tmp_path, TAGGED, ("lr = 0.5", "injected-parameters"), "print(lr, epochs)")
    assert resolved(path).values == {"lr": 0.5, "epochs": 2}
    assert resolved(path, "epochs=5").values == {"lr": 0.1, "epochs": 5}
