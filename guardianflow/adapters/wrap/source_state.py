"""Which state of the user's code a run came from: commit, what was changed and not committed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from guardianflow.machine.git import Git
from guardianflow.processes.supervision.redaction import Redactor

__all__ = ["MAX_DIFF", "SourceState", "source_state"]

MAX_DIFF = 1_000_000
"""Bytes of a diff that are kept."""


class SourceState(NamedTuple):
    """The state of the repository that a folder lies in.

    Attributes:
        commit: Full id; empty outside of a repository and before the first commit.
        dirty: Whether tracked files differ from the commit; ``None`` where nobody can say.
        diff: Uncommitted changes of tracked files, secrets masked, at most :data:`MAX_DIFF` bytes of them. Binary
            files are named only.
        remark: What is missing here, and why; empty if nothing is, or where there is no repository.
    """

    commit: str = ""
    dirty: bool | None = None
    diff: str = ""
    remark: str = ""


def source_state(folder: Path) -> SourceState:
    """The state of the code in a folder; never raises, what can't be told is said in ``remark``."""
    git = Git(folder)
    top = git.ask("rev-parse", "--show-toplevel")
    if top.code != 0:
        lacking = "not a git repository" in top.error
        return SourceState(remark="" if lacking else f"git can't read the repository: {_first_line(top.error)}")
    root = Path(top.line)
    if not folder.resolve().is_relative_to(root.resolve()):
        return SourceState(remark=f"the repository's configuration names another working folder, {root}")
    git = git.at(root)
    git.disarm()
    remarks = list(git.remarks)
    commit = git.ask("rev-parse", "--verify", "--quiet", "HEAD").line
    base = commit or git.ask("hash-object", "-t", "tree", os.devnull).line
    answer = git.ask(
        "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=dirty", "--src-prefix=a/",
        "--dst-prefix=b/", base, "--", limit=MAX_DIFF,
    )  # fmt: skip
    if answer.code != 0:
        remarks.append(f"the changes can't be read: {_first_line(answer.error)}")
    if answer.cut:
        remarks.append(f"the diff was cut at {MAX_DIFF:,} bytes")
    out = answer.out[: answer.out.rfind(b"\n") + 1] if answer.cut else answer.out
    diff = Redactor().data(out).decode("utf-8", "replace") if answer.code == 0 else ""
    return SourceState(commit, bool(diff) if answer.code == 0 else None, diff, "; ".join(remarks))


def _first_line(error: str) -> str:
    return error.partition("\n")[0] or "no answer"
