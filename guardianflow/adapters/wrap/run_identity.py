"""Whether the same thing has been done before: a script, what it is made of, its arguments and its data, by content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.commands import Command
from guardianflow.files.content import hash_file

__all__ = ["IDENTITY_FILE", "RunIdentity", "run_identity"]

IDENTITY_FILE = "identity.json"

_CODE = (".py", ".ipynb", ".sh", ".bash")
_NOT_CODE = {
    ".git",
    ".hg",
    ".venv",
    "venv",
    "env",
    "node_modules",
    "__pycache__",
    "site-packages",
    ".ipynb_checkpoints",
}
_MOST_FILES = 20_000
_WHOLE_BELOW = 64_000_000  # bytes; of larger data files, size and time of change stand for the content


@dataclass(frozen=True)
class RunIdentity:
    """What makes two runs the same.

    Attributes:
        parts: ``command``, ``code``, ``data`` and ``environment`` → digest of each.
    """

    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """All parts in one."""
        return hashlib.sha256(json.dumps(dict(self.parts), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"digest": self.digest, "parts": dict(self.parts)}


def run_identity(
    command: Command, *, working_dir: Path, environment: Mapping[str, str], skip: Path | None = None
) -> RunIdentity:
    """The identity of one start of a script.

    Code is every Python file, notebook and shell script in the script's folder and below: a script is what it
    imports, too. Data is every file and folder that an argument names; a dataset's YAML counts with its images
    and labels. Files over 64 MB count by size and time of change.

    Args:
        command: What is started.
        working_dir: Where.
        environment: What was chosen of its environment, such as the interpreter.
        skip: Folder that is left out: the one that runs are kept in.
    """
    words = (command.kind, command.label, *command.args)
    return RunIdentity(
        {
            "command": _digest("\0".join(words)),
            "code": _code_digest(command, skip),
            "data": _data_digest(command, working_dir, skip),
            "environment": _digest(json.dumps(dict(environment), sort_keys=True)),
        }
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _code_digest(command: Command, skip: Path | None) -> str:
    if command.script is None:
        return ""
    whole = hashlib.sha256(_content(command.script).encode())
    for path in _files(command.script.parent, endings=_CODE, skip=skip):
        whole.update(f"{path.relative_to(command.script.parent)}\0{_content(path)}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def _data_digest(command: Command, working_dir: Path, skip: Path | None) -> str:
    whole = hashlib.sha256()
    for word in command.args:
        for text in dict.fromkeys((word, word.partition("=")[2])):
            path = _existing(working_dir, text)
            if path is not None:
                whole.update(f"{text}\0{_path_digest(path, skip)}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def _existing(working_dir: Path, text: str) -> Path | None:
    if not text or text.startswith("-") or "\0" in text:
        return None
    path = working_dir / Path(text)
    try:
        return path if path.exists() else None
    except OSError:  # too long for a name
        return None


def _path_digest(path: Path, skip: Path | None) -> str:
    if path.is_dir():
        return _digest("\n".join(f"{file.relative_to(path)}\0{_stamp(file)}" for file in _files(path, skip=skip)))
    found = _content(path)
    if path.suffix.lower() in {".yaml", ".yml"}:
        found += _dataset_fingerprint(path)
    return found


def _dataset_fingerprint(path: Path) -> str:
    from guardianflow.data.dataset import fingerprint_dataset, read_dataset
    from guardianflow.exceptions import GuardianFlowError

    try:
        return fingerprint_dataset(read_dataset(path)).total
    except (GuardianFlowError, OSError, ValueError):
        return ""  # some other YAML: its own content is all there is


def _content(path: Path) -> str:
    try:
        if not path.is_file():
            return "not a file"
        if path.stat().st_size > _WHOLE_BELOW:
            return _stamp(path)
        return hash_file(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _stamp(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError:
        return "gone"
    return f"{facts.st_size}:{facts.st_mtime_ns}"


def _files(folder: Path, *, endings: tuple[str, ...] = (), skip: Path | None = None) -> Iterator[Path]:
    """Files below a folder in a fixed order; links are not followed."""
    seen = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _NOT_CODE and not name.startswith(".") and Path(place) / name != skip
        )
        for name in sorted(names):
            if endings and not name.endswith(endings):
                continue
            seen += 1
            if seen > _MOST_FILES:
                return
            yield Path(place) / name
