"""What a path or a name is, and how it is started: the commands are really run here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from guardianflow.adapters.wrap.commands import Command, find_module, read_command
from guardianflow.adapters.wrap.parameters.script_parameters import read_declared, resolve_parameters
from guardianflow.exceptions import InputError


def run(command: Command, folder: Path) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command.argv,
        cwd=folder,
        env={**bare, **command.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def notebook(path: Path, *cells: str | tuple[str, list[str]]) -> Path:
    made = []
    for number, cell in enumerate(cells):
        source, tags = cell if isinstance(cell, tuple) else (cell, [])
        made.append(
            {"cell_type": "code", "id": f"c{number}", "metadata": {"tags": tags}, "source": source, "outputs": [],
             "execution_count": None}
        )  # fmt: skip
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(
        json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": made}), encoding="utf-8"
    )
    return path


SHOW = "import sys, os\nprint(sys.argv[1:], os.environ.get('PYTHONUNBUFFERED'))\n"


@pytest.mark.parametrize("name", ["train.py", "학습 폴더/내 train.py", "-x.py", "a'b;$(x).py"])
def test_a_python_file_runs_unmodified_with_its_words(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(SHOW)
    words = ("--lr", "0.1", "a b", "$(touch hacked)", "", "가")
    command = read_command(name, words, working_dir=tmp_path)
    assert command.kind == "python"
    assert run(command, tmp_path).stdout == f"{list(words)} 1\n"
    assert command.script == tmp_path / name


def test_buffering_is_left_alone_on_request(tmp_path: Path) -> None:
    (tmp_path / "t.py").write_text(SHOW)
    assert read_command("t.py", working_dir=tmp_path, buffered=True).environment == {}


def test_a_linked_script_is_run_by_its_link(tmp_path: Path) -> None:
    (tmp_path / "real.py").write_text(SHOW)
    (tmp_path / "link.py").symlink_to("real.py")
    command = read_command("link.py", working_dir=tmp_path)
    assert command.script == tmp_path / "link.py"
    assert run(command, tmp_path).returncode == 0


def test_a_relative_working_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "t.py").write_text(SHOW)
    monkeypatch.chdir(tmp_path)
    command = read_command("t.py", working_dir=Path("w"))
    assert run(command, tmp_path / "w").returncode == 0


# -- modules ------------------------------------------------------------------------------------


def package(folder: Path) -> None:
    inner = folder / "team" / "jobs"
    inner.mkdir(parents=True)
    (folder / "team" / "__init__.py").write_text("open('imported', 'w').close()\n")
    (inner / "__init__.py").write_text("")
    (inner / "__main__.py").write_text("print('main')\n")
    (inner / "train.py").write_text(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', default=0.5)\nprint(p.parse_args())\n"
    )


def test_a_module_is_found_without_being_imported(tmp_path: Path) -> None:
    package(tmp_path)
    command = read_command("team.jobs.train", ("--lr", "1"), working_dir=tmp_path, module=True)
    assert not (tmp_path / "imported").exists()
    assert command.script == tmp_path / "team/jobs/train.py"
    assert resolve_parameters(command, working_dir=tmp_path).values == {"lr": "1"}
    assert run(command, tmp_path).stdout == "Namespace(lr='1')\n"
    assert read_command("team.jobs", working_dir=tmp_path, module=True).script == tmp_path / "team/jobs/__main__.py"


def test_installed_modules_are_found_by_their_path() -> None:
    before = set(sys.modules)
    found = find_module("torch.distributed.run", Path("/"))
    assert found is not None
    assert found.parts[-3:] == ("torch", "distributed", "run.py")
    assert "torch" in before or "torch" not in sys.modules
    assert [one for one in read_declared(found).parameters if one.name == "nproc_per_node"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("team.jobs.trian", "train"),
        ("no.such", "no module"),
        ("a b", "module name"),
        ("../x", "module name"),
        ("", "empty"),
    ],
)
def test_a_module_that_is_not_there_is_an_error(name: str, sentence: str, tmp_path: Path) -> None:
    package(tmp_path)
    with pytest.raises(InputError, match=sentence):
        read_command(name, working_dir=tmp_path, module=True)


# -- shell scripts and programs -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.sh", 'echo "$1|$PYTHONUNBUFFERED"\n'),
        ("run it.sh", '#!/bin/sh\necho "$1|$PYTHONUNBUFFERED"\n'),
        ("./go", '#!/usr/bin/env bash\nx=("$1"); echo "${x[0]}|$PYTHONUNBUFFERED"\n'),
        ("e.sh", '#!/bin/sh -e\necho "$1|$PYTHONUNBUFFERED"; false; echo never\n'),
    ],
)
def test_shell_scripts_run_by_the_interpreter_of_their_first_line(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    command = read_command(name, ("a b",), working_dir=tmp_path)
    assert command.kind == "shell"
    assert run(command, tmp_path).stdout == "a b|1\n"


def test_programs_are_found_on_path_and_beside_this_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert run(read_command("echo", ("x",), working_dir=tmp_path), tmp_path).stdout == "x\n"
    command = read_command("yolo", ("detect", "train", "data=x"), working_dir=tmp_path)
    assert command.kind == "binary"
    assert command.argv[0] == str(Path(sys.executable).parent / "yolo")
    assert command.script is None
    assert command.line.endswith("yolo detect train data=x")


def test_an_own_executable_is_run_as_it_is(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    source = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--x')\nprint(p.parse_args())\n"
    tool.write_text(f"#!{sys.executable}\n{source}")
    tool.chmod(0o755)
    command = read_command("./tool", ("--x", "1"), working_dir=tmp_path)
    assert command.kind == "binary"
    assert run(command, tmp_path).stdout == "Namespace(x='1')\n"
    assert resolve_parameters(command, working_dir=tmp_path).values == {"x": "1"}


# -- what can't be started ----------------------------------------------------------------------


def test_each_thing_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "go.py").write_text("")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "dangling.py").symlink_to("nothing.py")
    (tmp_path / "odd.sh").write_text("#!/no/such/bash\n")
    os.mkfifo(tmp_path / "pipe.py")
    cases: Mapping[str, str] = {
        "trian.py": "near it: train.py",
        "folder": r"is a folder.*go\.py",
        "notes.txt": "not executable",
        "dangling.py": "a link to nothing",
        "odd.sh": "/no/such/bash",
        "pipe.py": "no regular file",
        "no/such/train.py": "there is no",
        "yoloo": "yolo",
        "": "empty",
        "a\0b": "null byte",
    }
    for name, sentence in cases.items():
        with pytest.raises(InputError, match=sentence):
            read_command(name, working_dir=tmp_path)
    with pytest.raises(InputError, match="null byte"):
        read_command("train.py", ("a\0",), working_dir=tmp_path)
    with pytest.raises(InputError, match="working folder"):
        read_command("train.py", working_dir=tmp_path / "none")
    with pytest.raises(InputError, match="interpreter"):
        read_command("train.py", working_dir=tmp_path, python="no-such-python")


# -- notebooks ----------------------------------------------------------------------------------

PARAMETERS = "lr = 0.1\nname = 'a'\nsteps: int = 2 * 5\nfast = False\nsizes = [1]\nboth = None\n"
CELL = "import json, os\nprint(json.dumps([lr, name, steps, fast, sizes, both, os.path.basename(os.getcwd())]))"


def test_a_notebook_declares_its_tagged_cell(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", "%matplotlib inline", (PARAMETERS, ["parameters"]), "K = 3")
    declared = read_declared(path)
    assert [(one.name, one.type, one.default) for one in declared.parameters] == [
        ("lr", "float", 0.1), ("name", "str", "a"), ("steps", "int", 10), ("fast", "bool", False),
        ("sizes", "list", [1]), ("both", "str", None),
    ]  # fmt: skip
    read = resolve_parameters(read_command(str(path), working_dir=tmp_path), working_dir=tmp_path, constants=True)
    assert (read.values["K"], read.origins["K"], read.origins["lr"]) == (3, "constant", "default")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 3}', '{"cells": [1, {"metadata": 2}]}'])
def test_a_broken_notebook_is_no_crash(text: str, tmp_path: Path) -> None:
    (tmp_path / "n.ipynb").write_text(text)
    assert read_declared(tmp_path / "n.ipynb").parameters == ()


@pytest.mark.parametrize("word", ["x y=1", "import=1", "a.b=1", "--x", "plain"])
def test_a_word_that_is_no_parameter_of_a_notebook_is_refused(word: str, tmp_path: Path) -> None:
    notebook(tmp_path / "n.ipynb", (PARAMETERS, ["parameters"]))
    with pytest.raises(InputError):
        read_command("n.ipynb", (word,), working_dir=tmp_path)


def test_a_notebook_runs_with_the_parameters_that_are_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "내 폴더 {x}"
    folder.mkdir()
    notebook(folder / "학습 {1}.ipynb", (PARAMETERS, ["parameters"]), CELL)
    words = ("lr=1e-3", "name=007", "--steps", "-3", "--fast=true", "sizes=[2, 1e-05]")
    out = folder / "out {2}.ipynb"
    command = read_command("학습 {1}.ipynb", words, working_dir=folder, executed_notebook=out)
    result = run(command, folder)
    assert result.returncode == 0, result.stderr
    assert json.dumps([0.001, "007", -3, True, [2, 1e-05], None, "내 폴더 {x}"]) in result.stderr + result.stdout
    assert json.loads(out.read_text(encoding="utf-8"))["cells"]
    values = resolve_parameters(command, working_dir=folder).values
    assert values == {"lr": 0.001, "name": "007", "steps": -3, "fast": True, "sizes": [2, 1e-05], "both": None}


def test_what_a_notebook_prints_is_seen_while_it_runs(tmp_path: Path) -> None:
    waits = "import pathlib, time\nprint('first')\nwhile not pathlib.Path('go').exists():\n    time.sleep(0.05)"
    notebook(tmp_path / "n.ipynb", waits)
    command = read_command("n.ipynb", working_dir=tmp_path)
    with subprocess.Popen(
        command.argv, cwd=tmp_path, env={**os.environ, **command.environment}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any(line == "first\n" for line in process.stderr)  # it can't end before the next line
        (tmp_path / "go").touch()
    assert process.returncode == 0


def test_a_failing_cell_ends_the_command_with_an_error(tmp_path: Path) -> None:
    notebook(tmp_path / "n.ipynb", "print('before')", "1 / 0")
    result = run(read_command("n.ipynb", working_dir=tmp_path), tmp_path)
    assert result.returncode != 0
    assert "before" in result.stderr + result.stdout
    assert "ZeroDivisionError" in result.stderr
