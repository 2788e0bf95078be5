"""Which state of the user's code a run came from: commit, branch, what was changed and not committed.

Git reads a repository's own configuration, and that can name programs to run: a file-system monitor, a diff
driver, a text converter, a filter, a hook, an ssh command. None of them is run here. Filters that the user
configured for all repositories (git-lfs) are the user's own and stay.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guardianflow.processes.supervision.redaction import Redactor

__all__ = ["MAX_DIFF", "SourceState", "source_state"]

MAX_DIFF = 1_000_000
"""Bytes of a diff that are kept."""

_TIMEOUT_S = 10.0  # for all of it together
_MAX_ANSWER = 4_000_000
_SAFE_CONFIG = (
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "core.sshCommand=false",
    "core.pager=cat",
    "core.quotePath=false",
    "core.alternateRefsCommand=true",
    "diff.external=",
    "diff.trustExitCode=false",
    f"diff.orderFile={os.devnull}",
    "protocol.allow=never",
)
_KEPT = {"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CEILING_DIRECTORIES"}


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


@dataclass(frozen=True)
class _Answer:
    code: int
    out: bytes = b""
    error: str = ""
    cut: bool = False

    @property
    def line(self) -> str:
        return os.fsdecode(self.out).removesuffix("\n") if self.code == 0 else ""


def source_state(folder: Path) -> SourceState:
    """The state of the code in a folder; never raises, what can't be told is said in ``remark``."""
    git = _Git(folder)
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


class _Git:
    """Git in one folder, with nothing that the repository's configuration could run."""

    def __init__(self, folder: Path, *, deadline: float = 0.0) -> None:
        self._folder = folder
        self._deadline = deadline or time.monotonic() + _TIMEOUT_S
        self._config = list(_SAFE_CONFIG)
        self.remarks: list[str] = []

    def at(self, folder: Path) -> _Git:
        """The same in another folder, within the same time."""
        return _Git(folder, deadline=self._deadline)

    def disarm(self) -> None:
        """Turn off the filters that this repository's own configuration names."""
        answer = self.ask("config", "--list", "-z", "--show-scope", "--name-only")
        fields = os.fsdecode(answer.out).split("\0")
        own = [name for scope, name in zip(fields[::2], fields[1::2], strict=False) if scope in {"local", "worktree"}]
        filters = {name.rpartition(".")[0] for name in own if name.startswith("filter.") and name.count(".") >= 2}
        for name in sorted(filters):
            self._config += [f"{name}.clean=", f"{name}.smudge=", f"{name}.process=", f"{name}.required=false"]
        if filters:
            self.remarks.append(
                f"filters of the repository's own configuration were not run: {', '.join(sorted(filters))}"
            )

    def ask(self, *args: str, limit: int = _MAX_ANSWER) -> _Answer:
        """What git answers, up to ``limit`` bytes of it."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            return _Answer(-1, error="git took too long")
        settings = [word for item in self._config for word in ("-c", item)]
        command = ["git", "--no-pager", "-C", str(self._folder), *settings, *args]
        try:
            return _run(command, limit=limit, timeout_s=left)
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError)
            return _Answer(-1, error="git is not installed" if missing else f"git can't be started ({error})")


def _run(command: Sequence[str], *, limit: int, timeout_s: float) -> _Answer:
    """Into files: a pipe that somebody else keeps open would outlast the time-out."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=_environment()) as process:
            cut = _wait(process, out.fileno(), limit=limit, timeout_s=timeout_s)
        out.seek(0)
        err.seek(0)
        error = err.read(4_000).decode("utf-8", "replace").strip()
        if cut is None:
            return _Answer(-1, error=f"git took more than {timeout_s:.0f} s")
        return _Answer(
            0 if cut else process.returncode, out.read(limit), error, cut or os.fstat(out.fileno()).st_size > limit
        )


def _wait(process: subprocess.Popen[bytes], out: int, *, limit: int, timeout_s: float) -> bool | None:
    """Whether it was stopped because it wrote enough; ``None`` where it took too long."""
    end = time.monotonic() + timeout_s
    pause = 0.002
    while process.poll() is None:
        if os.fstat(out).st_size > limit or time.monotonic() > end:
            enough = os.fstat(out).st_size > limit
            process.kill()
            return True if enough else None
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
    return False


def _environment() -> dict[str, str]:
    # A GIT_DIR or GIT_EXTERNAL_DIFF from outside would lead elsewhere.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT}
    return {
        **env,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_PAGER": "cat",
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "C",
    }


def _why_not(answer: _Answer) -> str:
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


def _commit(git: _Git) -> str:
    return git.ask("rev-parse", "--verify", "--quiet", "HEAD").line


def _diff(git: _Git, commit: str, remarks: list[str]) -> tuple[str, bool | None]:
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
