"""Which state of the user's code a run came from: commit, branch, what was changed and not committed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from guardianflow.machine.git import Answer, Git
from guardianflow.processes.supervision.redaction import Redactor

__all__ = ["MAX_DIFF", "SourceState", "source_state"]

MAX_DIFF = 1_000_000
"""Bytes of a diff that are kept."""


@dataclass(frozen=True)
class SourceState:
    """The state of the repository that a folder lies in.

    Attributes:
        commit: Full id; empty outside of a repository and before the first commit.
        dirty: Whether tracked files differ from the commit; ``None`` where nobody can say.
        diff: Uncommitted changes of tracked files, secrets masked, at most :data:`MAX_DIFF` bytes of them. Binary
            files are named only.
        remark: What is missing here, and why; empty if nothing is.
    """

    commit: str = ""
    dirty: bool | None = None
    diff: str = ""
    remark: str = ""


def source_state(folder: Path) -> SourceState:
    """The state of the code in a folder; never raises, what can't be told is said in ``remark``."""
    git = Git(folder)
    inside = git.ask("rev-parse", "--is-inside-work-tree", "--is-bare-repository")
    if inside.code != 0:
        return SourceState(remark=_why_not(inside))
    if inside.line.splitlines()[:1] != ["true"]:
        return SourceState(commit=_commit(git), remark=f"{folder} belongs to a bare repository, or lies within .git")
    root = Path(git.ask("rev-parse", "--show-toplevel").line or folder)
    if not _contains(root, folder):
        return SourceState(remark=f"the repository's configuration names another working folder, {root}")
    git = git.at(root)
    git.disarm()
    remarks = list(git.remarks)
    commit = _commit(git)
    if not commit:
        remarks.append("there is no commit yet")
    if "/modules/" in git.ask("rev-parse", "--absolute-git-dir").line:
        remarks.append("the folder is a submodule; the state is that of the submodule")
    diff, dirty = _diff(git, commit, remarks)
    return SourceState(commit, dirty, diff, "; ".join(remarks))


def _why_not(answer: Answer) -> str:
    if "not a git repository" in answer.error:
        return "the folder is in no git repository"
    if "dubious ownership" in answer.error:
        return "git doesn't trust the repository, which belongs to another user (dubious ownership; safe.directory)"
    return f"git can't read the repository: {answer.error.splitlines()[0] if answer.error else 'no answer'}"


def _contains(root: Path, folder: Path) -> bool:
    try:
        return folder.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return False


def _commit(git: Git) -> str:
    return git.ask("rev-parse", "--verify", "--quiet", "HEAD").line


def _diff(git: Git, commit: str, remarks: list[str]) -> tuple[str, bool | None]:
    base = commit or git.ask("hash-object", "-t", "tree", os.devnull).line
    answer = git.ask(
        "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=dirty", "--src-prefix=a/",
        "--dst-prefix=b/", base, "--", limit=MAX_DIFF,
    )  # fmt: skip
    if answer.code != 0:
        remarks.append(f"the changes can't be read: {answer.error.splitlines()[0] if answer.error else 'git failed'}")
        return "", None
    out = answer.out
    if answer.cut:
        out = out[: out.rfind(b"\n") + 1] or out
        remarks.append(f"the diff was cut at {MAX_DIFF:,} bytes")
    return Redactor().data(out).decode("utf-8", "replace"), bool(out)
