"""What is to be started: a script, module, notebook or program, and its arguments as a list of words."""

from __future__ import annotations

import difflib
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guardianflow.adapters.wrap.parameters.notebook_arguments import notebook_words
from guardianflow.exceptions import InputError
from guardianflow.text.command_lines import search_path
from guardianflow.text.printable import printable

__all__ = ["Command", "find_module", "read_command"]

_SHELLS = {".sh": ("bash", "sh"), ".bash": ("bash",), ".zsh": ("zsh",), ".ksh": ("ksh",)}
_SHELL_NAMES = {"sh", "bash", "dash", "zsh", "ksh", "ash", "busybox", "fish"}
_FIRST_LINE = 256  # bytes; the kernel reads no more of it either


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

    @property
    def label(self) -> str:
        """A few words for the run's name: the script or module without folder and ending, ``yolo detect train``."""
        if self.kind == "module":
            return self.argv[2]
        if self.script is not None:
            return self.script.stem
        words = [Path(self.argv[0]).name]
        for word in self.args[:2]:
            if not word.replace("_", "").replace("-", "").isalnum() or word.startswith("-"):
                break
            words.append(word)
        return " ".join(words)


def read_command(
    script_path: str,
    args: Sequence[str] = (),
    *,
    working_dir: Path,
    module: bool = False,
    python: str = "",
    buffered: bool = False,
    executed_notebook: Path | None = None,
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
        executed_notebook: Where the executed notebook is written; None: nowhere.

    Raises:
        InputError: Nothing of that name can be started; the message says why and names what is near.
    """
    words = tuple(str(word) for word in args)
    if not script_path.strip():
        raise InputError("there is nothing to run: the script's path is empty; name a script, module or program")
    bad = next((word for word in (script_path, *words) if "\0" in word), None)
    if bad is not None:
        raise InputError(f"{printable(bad)} holds a null byte, which no command line can carry; take it out")
    if not working_dir.is_dir():
        raise InputError(f"the working folder {printable(working_dir)} is no folder; create it or name another one")
    environment = {} if buffered else {"PYTHONUNBUFFERED": "1"}
    folder = Path(os.path.abspath(working_dir))  # noqa: PTH100 - links stay links, as the person wrote them
    interpreter = _interpreter(python, folder)
    if module:
        file = find_module(script_path, folder, own=not python)
        return Command("module", (interpreter, "-m", script_path, *words), file, words, environment)
    path = _located(script_path, folder)
    if path is None:
        program = _program(script_path, folder)
        return Command("binary", (program, *words), None, words, environment)
    suffix = path.suffix.lower()
    if suffix in {".py", ".pyw"}:
        return Command("python", (interpreter, str(path), *words), path, words, environment)
    if suffix == ".ipynb":
        target = executed_notebook if executed_notebook is not None else Path(os.devnull)
        argv = (sys.executable, "-P", "-m", "papermill", *notebook_words(path, words, target=target, folder=folder))
        return Command("notebook", argv, path, words, environment)
    return _other_file(path, words, interpreter, environment)


def _other_file(path: Path, words: tuple[str, ...], interpreter: str, environment: Mapping[str, str]) -> Command:
    """A file that only its first line and its rights tell about."""
    first = _first_line(path)
    named = _named_program(first)
    if path.suffix.lower() in _SHELLS or named in _SHELL_NAMES:
        return Command("shell", (*_shell(path, first), str(path), *words), path, words, environment)
    is_python = named.startswith("python") or named == "pypy3"
    if os.access(path, os.X_OK):
        readable = path if is_python and path.parent.name not in {"bin", "Scripts"} else None
        return Command("binary", (str(path), *words), readable, words, environment)
    if is_python:
        return Command("python", (interpreter, str(path), *words), path, words, environment)
    raise InputError(
        f"{printable(path)} is neither a Python file, a notebook nor a shell script, and not executable; "
        "make it executable with `chmod +x`, or name the program that runs it and pass the file as its argument"
    )


def _interpreter(python: str, folder: Path) -> str:
    if not python:
        return sys.executable
    found = shutil.which(python) if os.sep not in python else shutil.which(str(folder / Path(python).expanduser()))
    if found is None:
        raise InputError(
            f"the interpreter {printable(python)} can't be executed; name a Python program or leave it out"
        )
    return os.path.abspath(found)  # noqa: PTH100 - the link in a virtual environment is what makes it one


def _located(script_path: str, folder: Path) -> Path | None:
    """The file of that path; None where it's a bare word that names no file here.

    Raises:
        InputError: It is a folder, a pipe or the like, or can't be looked at.
    """
    given = Path(script_path).expanduser() if script_path.startswith("~") else Path(script_path)
    path = Path(os.path.abspath(folder / given))  # noqa: PTH100 - see read_command
    bare = os.sep not in script_path and not script_path.startswith("~")
    try:
        if path.is_file():
            if not os.access(path, os.R_OK) and not os.access(path, os.X_OK):
                raise InputError(f"{printable(path)} may not be read; check its rights")
            # A bare word is the program of that name, unless the file here is a script or executable itself.
            plain_data = bare and not path.suffix and not os.access(path, os.X_OK) and not _first_line(path)
            return None if plain_data and _on_path(script_path) else path
        there = path.exists() or path.is_symlink()
    except OSError as error:
        raise InputError(f"{printable(path)} can't be looked at ({error.strerror}); check the path") from None
    if bare and _on_path(script_path):
        return None
    if path.is_dir():
        raise InputError(
            f"{printable(path)} is a folder; name a script in it{_listed(_scripts(path))}, or run it as a module"
        )
    if path.is_symlink() and not path.exists():
        raise InputError(f"{printable(path)} is a link to something that isn't there; mend the link")
    if there:
        raise InputError(f"{printable(path)} is no regular file; name a script or a program")
    return None if bare and not path.suffix else _missing(path)


def _missing(path: Path) -> Path:
    parent = path.parent
    if not parent.is_dir():
        raise InputError(f"there is no {printable(path)}: its folder {printable(parent)} isn't there; check the path")
    near = difflib.get_close_matches(path.name, _names_in(parent), n=3, cutoff=0.5) or _scripts(parent)
    raise InputError(
        f"there is no {printable(path.name)} in {printable(parent)}; near it:{_listed(near) or ' nothing'}"
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(one.name for one in list(os.scandir(folder))[:5_000])
    except OSError:
        return []


def _scripts(folder: Path) -> list[str]:
    return [name for name in _names_in(folder) if name.endswith((".py", ".ipynb", ".sh"))][:3]


def _listed(names: Sequence[str]) -> str:
    return f" ({', '.join(printable(name) for name in names)})" if names else ""


def _on_path(name: str) -> str | None:
    return shutil.which(name, path=search_path())


def _program(name: str, folder: Path) -> str:
    found = _on_path(name) if os.sep not in name else None
    if found is not None:
        return os.path.abspath(found)  # noqa: PTH100 - busybox and the like go by the link's name
    known = {one for place in search_path().split(os.pathsep) for one in _names_in(Path(place))}
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.7) or _scripts(folder)
    raise InputError(
        f"{printable(name)} is neither a file in {printable(folder)} nor a program on PATH; near it:"
        f"{_listed(near) or ' nothing'}"
    )


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            first = stream.read(_FIRST_LINE).partition(b"\n")[0]
    except OSError:
        return ""
    return first[2:].decode("utf-8", "replace").strip() if first.startswith(b"#!") else ""


def _named_program(first: str) -> str:
    """The program that a first line names: ``bash`` of ``/usr/bin/env -S bash -e``."""
    words = [Path(word).name for word in first.split()]
    if words[:1] == ["env"]:
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return words[0] if words else ""


def _shell(path: Path, first: str) -> list[str]:
    if first and _named_program(first) in _SHELL_NAMES:
        program, _, rest = first.partition(" ")
        if shutil.which(program) is None:
            raise InputError(
                f"{printable(path)} asks for {printable(program)} in its first line, which isn't there; install it or "
                "change that line"
            )
        return [program, *([rest.strip()] if rest.strip() else [])]  # one word, as the kernel passes it
    for name in _SHELLS.get(path.suffix.lower(), ("sh",)):
        if found := shutil.which(name):
            return [found]
    raise InputError(f"there is no shell for {printable(path)}; install bash")


def find_module(name: str, folder: Path, *, own: bool = True) -> Path | None:
    """The file that ``python -m name`` runs, found by its path: nothing is imported.

    Args:
        name: Dotted name of a module, or of a package with a ``__main__``.
        folder: Where it will run: Python looks there first.
        own: It runs in this interpreter, so a name that isn't found is an error.

    Raises:
        InputError: There is no such module, or the name is none.
    """
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        raise InputError(f"{printable(name)} is no module name; write it as after `python -m`, such as package.train")
    places = [folder]
    spec = None
    if not _below(folder, parts[:1]):
        try:
            spec = importlib.util.find_spec(parts[0])  # of a name without a dot: looked up, not imported
        except (ImportError, ValueError, AttributeError):
            spec = None
        if spec is not None and spec.submodule_search_locations is not None:
            places = [Path(one).parent for one in spec.submodule_search_locations]
        elif spec is not None:
            origin = Path(spec.origin) if spec.origin and spec.has_location else None
            return origin if len(parts) == 1 else None
    found = next((file for place in places if (file := _below(place, parts))), None)
    if found is not None or not own or (spec is not None and len(parts) == 1):
        return found if found is not None and found.is_file() else None
    near = difflib.get_close_matches(parts[-1], _modules(places, parts), n=3, cutoff=0.5)
    raise InputError(
        f"there is no module {printable(name)}, neither below {printable(folder)} nor installed; near it:"
        f"{_listed(near) or ' nothing'}"
    )


def _below(place: Path, parts: Sequence[str]) -> Path | None:
    """The module's file, its package's ``__main__.py``, or the package's folder."""
    base = place.joinpath(*parts)
    file = base.with_name(f"{base.name}.py")
    main = base / "__main__.py"
    # A package wins over a module of the same name.
    if base.is_dir() and (main.is_file() or (base / "__init__.py").is_file()):
        return main if main.is_file() else base
    return file if file.is_file() else base if base.is_dir() and len(parts) == 1 else None


def _modules(places: Sequence[Path], parts: Sequence[str]) -> list[str]:
    return [name.removesuffix(".py") for place in places for name in _names_in(place.joinpath(*parts[:-1]))]
