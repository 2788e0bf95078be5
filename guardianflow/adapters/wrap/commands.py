"""What is to be started: a script, module, notebook or program, and its arguments as a list of words."""

from __future__ import annotations

import difflib
import importlib.util
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.machinery import PathFinder
from pathlib import Path

from guardianflow.adapters.wrap.parameters.notebook_arguments import notebook_words
from guardianflow.exceptions import InputError
from guardianflow.text.command_lines import search_path
from guardianflow.text.printable import printable

__all__ = ["Command", "find_module", "read_command"]

_SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "ash", "busybox", "fish"}
_FIRST_LINE = 256  # bytes; the kernel reads no more of it either
_MOST_NAMES = 5_000


@dataclass(frozen=True)
class Command:
    """One start of something that people already have.

    Attributes:
        kind: ``python``, ``module``, ``notebook``, ``shell`` or ``binary``.
        argv: What is started; a list of words, never a line for a shell.
        script: The file whose text can be read; None for a program, and for a module that is no file.
        args: The user's own arguments.
        environment: Added to the child's environment.
    """

    kind: str
    argv: tuple[str, ...]
    script: Path | None = None
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The command as a person would type it; for reading, never to be executed."""
        return shlex.join(self.argv)


def read_command(
    script_path: str,
    args: Sequence[str] = (),
    *,
    working_dir: Path,
    module: bool = False,
    python: str = "",
    buffered: bool = False,
    executed_notebook: Path = Path(os.devnull),
) -> Command:
    """Find out what a path or name is and how it is started.

    Args:
        script_path: A Python file, notebook, shell script or program, relative to ``working_dir``; or a
            program's name on PATH; or, with ``module``, a dotted name as after ``python -m``.
        args: The words that it is given. A notebook takes ``key=value``, ``--key value`` or ``--key=value``.
        working_dir: Where it will run.
        module: ``script_path`` is a module.
        python: Interpreter for Python files and modules; empty: this one.
        buffered: Leave Python's buffering of its output alone, which delays what it prints.
        executed_notebook: Where the executed notebook is written.

    Raises:
        InputError: Nothing of that name can be started; the message says why and names what is near.
    """
    words = tuple(str(word) for word in args)
    if not script_path.strip():
        raise InputError("there is nothing to run: the script's path is empty; name a script, module or program")
    if bad := [word for word in (script_path, *words) if "\0" in word]:
        raise InputError(f"{printable(bad[0])} holds a null byte, which no command line can carry; take it out")
    if not working_dir.is_dir():
        raise InputError(f"there is no working folder {printable(working_dir)}; create it, or name another one")
    folder = Path(os.path.abspath(working_dir))  # noqa: PTH100 - links stay links, as the person wrote them
    interpreter = _interpreter(python, folder)
    if module:
        file = find_module(script_path, folder, own=not python)
        made = Command("module", (interpreter, "-m", script_path, *words), file, words)
    elif program := _program(script_path, folder):
        made = Command("binary", (program, *words), None, words)
    elif (path := _located(script_path, folder)).suffix.lower() == ".ipynb":
        rest = notebook_words(path, words, target=executed_notebook, folder=folder)
        made = Command("notebook", (sys.executable, "-P", "-m", "papermill", *rest), path, words)
    else:
        made = _file(path, words, interpreter)
    return made if buffered else replace(made, environment={"PYTHONUNBUFFERED": "1"})


def _file(path: Path, words: tuple[str, ...], interpreter: str) -> Command:
    """A script or a program: what its ending doesn't tell, its first line and its rights do."""
    suffix, runs = path.suffix.lower(), os.access(path, os.X_OK)
    asked = _first_line(path)
    names = [Path(word).name for word in " ".join(asked).split() if not word.startswith("-") and "=" not in word]
    named = next((name for name in names if name != "env"), "")
    is_python = named.startswith(("python", "pypy"))
    if suffix in {".py", ".pyw"} or (is_python and not runs):
        return Command("python", (interpreter, str(path), *words), path, words)
    if named in _SHELLS or suffix[1:] in _SHELLS:
        shell = asked if named in _SHELLS else ["bash" if suffix == ".sh" and shutil.which("bash") else suffix[1:]]
        if shutil.which(shell[0]) is None:
            raise InputError(f"{printable(path)} needs {printable(shell[0])}, which isn't there; install or change it")
        return Command("shell", (*shell, str(path), *words), path, words)
    if runs:
        readable = path if is_python and path.parent.name not in {"bin", "Scripts"} else None
        return Command("binary", (str(path), *words), readable, words)
    raise InputError(
        f"{printable(path)} is neither a Python file, a notebook nor a shell script, and not executable; "
        "make it executable with `chmod +x`, or name the program that runs it and pass the file as its argument"
    )


def _interpreter(python: str, folder: Path) -> str:
    if not python:
        return sys.executable
    found = shutil.which(python) if os.sep not in python else shutil.which(str(folder / Path(python).expanduser()))
    if found is None:
        raise InputError(f"the interpreter {printable(python)} can't be executed; name a Python program, or none")
    return os.path.abspath(found)  # noqa: PTH100 - the link in a virtual environment is what makes it one


def _program(name: str, folder: Path) -> str:
    """The program on PATH that a bare word means, as in a shell; a file here whose name has an ending comes first."""
    if os.sep in name or (Path(name).suffix and os.path.isfile(folder / name)):  # noqa: PTH113 - never raises
        return ""
    found = shutil.which(name, path=search_path())
    return os.path.abspath(found) if found else ""  # noqa: PTH100 - busybox and the like go by the link's name


def _located(script_path: str, folder: Path) -> Path:
    """The file that a path means.

    Raises:
        InputError: There is none, or it is a folder, a pipe or the like.
    """
    path = Path(os.path.abspath(folder / Path(script_path).expanduser()))  # noqa: PTH100 - see read_command
    try:
        mode = path.stat().st_mode
    except OSError:
        mode = 0
    if stat.S_ISREG(mode):
        return path
    if stat.S_ISDIR(mode):
        raise InputError(f"{printable(path)} is a folder; name a script in it{_near('', path)}, or run it as a module")
    if os.path.lexists(path):
        raise InputError(f"{printable(path)} is no regular file, or a link to nothing; name a script or a program")
    programs = search_path().split(os.pathsep) if os.sep not in script_path else []
    raise InputError(
        f"there is no {printable(path)}{' and no such program on PATH' if programs else ''}; check the name"
        f"{_near(path.name, path.parent, *programs)}"
    )


def _near(name: str, *folders: Path | str) -> str:
    """What is called like that in these folders, else the scripts in the first of them, in parentheses."""
    known = {one for folder in folders for one in _names_in(folder)}
    scripts = [one for one in _names_in(folders[0]) if one.endswith((".py", ".ipynb", ".sh"))]
    found = difflib.get_close_matches(name, sorted(known), n=3) or scripts[:3]
    return f" (near it: {', '.join(map(printable, found))})" if found else ""


def _names_in(folder: Path | str) -> list[str]:
    try:
        return sorted(os.listdir(folder))[:_MOST_NAMES]  # noqa: PTH208 - names are all that is needed
    except OSError:
        return []


def _first_line(path: Path) -> list[str]:
    """The program that a file's first line names, and the rest of the line as one word, as the kernel passes it."""
    try:
        with path.open("rb") as stream:
            first = stream.read(_FIRST_LINE).partition(b"\n")[0]
    except OSError:
        return []
    return first[2:].decode("utf-8", "replace").strip().split(None, 1) if first.startswith(b"#!") else []


def find_module(name: str, folder: Path, *, own: bool = True) -> Path | None:
    """The file that ``python -m name`` runs, found by its path: nothing is imported.

    Args:
        name: Dotted name of a module, or of a package with a ``__main__``.
        folder: Where it will run: Python looks there first.
        own: It runs in this interpreter, so a name that isn't found is an error.

    Raises:
        InputError: There is no such module, or the name is none.
    """
    first, *rest = name.split(".")
    if not all(part.isidentifier() for part in (first, *rest)):
        raise InputError(f"{printable(name)} is no module name; write it as after `python -m`, such as package.train")
    try:
        spec = PathFinder.find_spec(first, [str(folder), *sys.path]) or importlib.util.find_spec(first)  # no import
    except (ImportError, ValueError):
        spec = None
    for part in rest:
        places = list(spec.submodule_search_locations or ()) if spec else []
        spec = PathFinder.find_spec(part, places)
    if spec is None and own:
        raise InputError(
            f"there is no module {printable(name)}, neither below {printable(folder)} nor installed; check the name"
            f"{_near(rest[-1] if rest else first, folder.joinpath(first, *rest[:-1]))}"
        )
    if spec is not None and spec.submodule_search_locations is not None:  # a package
        spec = PathFinder.find_spec("__main__", list(spec.submodule_search_locations))
    return Path(spec.origin) if spec is not None and spec.origin and spec.has_location else None
