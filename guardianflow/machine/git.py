"""Git, asked about a repository without running anything that the repository names.

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

__all__ = ["Answer", "Git"]

_TIMEOUT_S = 10.0  # for all that is asked together
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
class Answer:
    """What git said: its exit code (-1: it could not be asked), output, and whether that was cut."""

    code: int
    out: bytes = b""
    error: str = ""
    cut: bool = False

    @property
    def line(self) -> str:
        """The output as one text; empty where it failed."""
        return os.fsdecode(self.out).removesuffix("\n") if self.code == 0 else ""


class Git:
    """Git in one folder, with nothing that the repository's configuration could run."""

    def __init__(self, folder: Path, *, deadline: float = 0.0) -> None:
        self._folder = folder
        self._deadline = deadline or time.monotonic() + _TIMEOUT_S
        self._config = list(_SAFE_CONFIG)
        self.remarks: list[str] = []

    def at(self, folder: Path) -> Git:
        """The same in another folder, within the same time."""
        return Git(folder, deadline=self._deadline)

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

    def ask(self, *args: str, limit: int = _MAX_ANSWER) -> Answer:
        """What git answers, up to ``limit`` bytes of it."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            return Answer(-1, error="git took too long")
        settings = [word for item in self._config for word in ("-c", item)]
        command = ["git", "--no-pager", "-C", str(self._folder), *settings, *args]
        try:
            return _run(command, limit=limit, timeout_s=left)
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError)
            return Answer(-1, error="git is not installed" if missing else f"git can't be started ({error})")


def _run(command: Sequence[str], *, limit: int, timeout_s: float) -> Answer:
    """Into files: a pipe that somebody else keeps open would outlast the time-out."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=_environment()) as process:
            cut = _wait(process, out.fileno(), limit=limit, timeout_s=timeout_s)
        out.seek(0)
        err.seek(0)
        error = err.read(4_000).decode("utf-8", "replace").strip()
        if cut is None:
            return Answer(-1, error=f"git took more than {timeout_s:.0f} s")
        return Answer(
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
