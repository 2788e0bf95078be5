"""A script run as a child that is watched: its output kept, its limits held, nothing of it left when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ended", "Limits", "SupervisedProcess"]

OnOutput = Callable[[str, bytes], None]


@dataclass(frozen=True)
class Limits:
    """What a script may take, and how long it has to end by itself when it is told to.

    Attributes:
        timeout_s: A script that takes longer is ended, s; 0: no limit.
        memory_mb: A script that holds more together with its children is ended, MB (10^6 bytes); 0: no limit.
        interrupt_grace_s: From SIGINT until SIGTERM follows, s.
        terminate_grace_s: From SIGTERM until SIGKILL follows, s.
        log_bytes: Most that is kept of each stream: its first and its last half.
    """

    timeout_s: float = 0
    memory_mb: float = 0
    interrupt_grace_s: float = 4
    terminate_grace_s: float = 4
    log_bytes: int = 8_000_000


@dataclass(frozen=True)
class Ended:
    """How a script ended, and what it took.

    Attributes:
        exit_code: As the script gave it; ``None`` where a signal ended it.
        signal: That signal (``"SIGSEGV"``), or empty.
        stopped: Who ended it, where it wasn't the script itself: ``"timeout"``, ``"out_of_memory"``,
            ``"interrupted"``, ``"terminated"``, or empty.
        reason: Why it didn't end well, in one sentence, with the next step where there is one; empty where it did.
        wall_s: From its start to its end, s.
        cpu_s: User and system time of it and of all its children that were waited for, s.
        peak_memory_mb: Most that it and its children held at once, MB; sampled, and no less than the kernel's own
            figure for the largest of them.
        left_behind: Processes that outlived the script and were ended.
        stdout_bytes: All that it wrote there, kept or not.
        stderr_bytes: The same for stderr.
        unread_bytes: What ``on_output`` didn't get since it was behind.
        remarks: What went wrong beside the script, such as a log that could not be written.
    """

    exit_code: int | None
    signal: str
    stopped: str
    reason: str
    wall_s: float
    cpu_s: float
    peak_memory_mb: float
    left_behind: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    unread_bytes: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the script ended by itself, and said that all went well."""
        return self.exit_code == 0 and not self.stopped


class SupervisedProcess:
    """One run of a script.

    Args:
        argv: What is started, never a shell's string.
        cwd: Where it runs.
        environment: The script's whole environment.
        folder: Where ``stdout.log`` and ``stderr.log`` go.
        limits: What it may take.
        on_output: Told ``("stdout" | "stderr", chunk)`` in whole lines where there are any, in :meth:`run`'s thread.
        on_start: Told the script's process id.
        on_tick: Called about twice a second while it runs, in :meth:`run`'s thread.
        secrets: Values that are taken out of the logs.
        live: Folder with the FIFOs that :class:`~guardianflow.adapters.live_output.LiveOutput` made.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        folder: Path,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        on_output: OnOutput | None = None,
        on_start: Callable[[int], None] | None = None,
        on_tick: Callable[[], None] | None = None,
        secrets: Sequence[str] = (),
        live: Path | None = None,
    ) -> None:
        self.ended: Ended | None = None

    def run(self) -> Ended:
        """Start it, watch it, and see it ended.

        Raises:
            RunFailedError: It could not be started.
            BaseException: Whatever came while it ran (``KeyboardInterrupt``, ``Signalled``, an error of a callback);
                the script has then been ended, and :attr:`ended` says how.
        """
        raise NotImplementedError
