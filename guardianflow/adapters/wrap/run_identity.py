"""Whether the same thing has been done before: a script, what it is made of, its arguments and its data, by content."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from guardianflow.adapters.wrap.artifacts import walk
from guardianflow.adapters.wrap.commands import Command
from guardianflow.data.dataset import fingerprint_dataset, read_dataset
from guardianflow.exceptions import GuardianFlowError
from guardianflow.files.content import hash_file
from guardianflow.files.run_folder import write_json

__all__ = ["keep_identity", "kept_identity", "run_identity"]

_FILE = "identity.json"
_CODE = (".py", ".ipynb", ".sh", ".bash")
_MOST_FILES = 20_000
_WHOLE_BELOW = 64_000_000  # bytes; of larger data files, size and time of change stand for the content


def run_identity(command: Command, *, working_dir: Path, chosen: Sequence[object], skip: Path) -> str:
    """One hash of what makes two starts of a script the same.

    Code is every Python file, notebook and shell script in the script's folder and below: a script is what it
    imports, too. Data is every file and folder that an argument names; a dataset's YAML counts with its images
    and labels. Files over 64 MB, and all in a folder of data, count by size and time of change.

    Args:
        command: What is started.
        working_dir: Where.
        chosen: What was chosen beside it, such as the interpreter.
        skip: Folder that is left out: the one that runs are kept in.
    """
    code, data = {}, {}
    if command.script is not None:
        code = {name: _content(path) for name, path in _below(command.script.parent, skip, endings=_CODE)}
        code[""] = _content(command.script)
    for word in command.args:
        for text in {word, word.partition("=")[2]}:
            if (path := _existing(working_dir, text)) is not None:
                data[text] = _data(path, skip)
    same = json.dumps([command.kind, command.argv, code, data, chosen], sort_keys=True)
    return hashlib.sha256(same.encode()).hexdigest()


def keep_identity(folder: Path, digest: str) -> None:
    """Leave it in a run's folder."""
    write_json(folder / _FILE, {"digest": digest})


def kept_identity(folder: Path) -> str:
    """What was left in a run's folder; empty where nothing was."""
    try:
        return str(json.loads((folder / _FILE).read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _existing(working_dir: Path, text: str) -> Path | None:
    try:
        path = working_dir / text
        return path if text and not text.startswith("-") and path.exists() else None
    except (OSError, ValueError):  # too long for a name, or none
        return None


def _data(path: Path, skip: Path) -> object:
    if path.is_dir():
        return {name: _content(file, whole_below=0) for name, file in _below(path, skip)}
    if path.suffix.lower() in {".yaml", ".yml"}:
        try:
            return _content(path), fingerprint_dataset(read_dataset(path)).total
        except (GuardianFlowError, OSError, ValueError):  # some other YAML: its own content is all there is
            pass
    return _content(path)


def _content(path: Path, *, whole_below: int = _WHOLE_BELOW) -> str:
    try:
        facts = path.stat()
        if stat.S_ISREG(facts.st_mode) and facts.st_size < whole_below:
            return hash_file(path)
        return f"{facts.st_size}:{facts.st_mtime_ns}"
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _below(folder: Path, skip: Path, *, endings: tuple[str, ...] = ("",)) -> Iterator[tuple[str, Path]]:
    """Names and paths of the files below a folder."""
    walked = walk(os.path.abspath(folder), skip=[str(skip)])  # noqa: PTH100 - a link stays one
    names = (inside + name for inside, _, names in walked for name in names if name.endswith(endings))
    return ((name, folder / name) for name in islice(names, _MOST_FILES))
