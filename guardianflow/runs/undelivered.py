"""What MLflow did not take: kept in the run's folder, in order, until it is sent.

Several processes may work on one folder: the kernel that ends, the process that executes the
notebook, ``guardianflow runs reap``. Whoever sends takes a snapshot, and afterwards removes exactly
what that snapshot held; whatever was appended meanwhile stays.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from guardianflow.exceptions import ConflictError
from guardianflow.files.process_lock import process_lock
from guardianflow.runs.delivery import Operation, Refusal

__all__ = ["REFUSED", "UNDELIVERED", "Snapshot", "Undelivered", "keep_refusal"]

log = logging.getLogger(__name__)

UNDELIVERED = "undelivered.jsonl"
REFUSED = "refused.jsonl"
_LOCK = ".undelivered.lock"
_LOCK_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Snapshot:
    """The operations that lay in the file at one moment."""

    operations: Sequence[Operation]
    content: bytes


class Undelivered:
    """The file of one run.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / UNDELIVERED

    def read(self) -> Snapshot:
        """What lies there now; a line that a crash cut off is left out."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return Snapshot((), b"")
        return Snapshot(tuple(_parsed(content, self.path)), content)

    def append(self, operations: Iterable[Operation]) -> bool:
        """Keep operations behind those that lie there.

        Returns:
            ``False`` if they can't be kept (the disk is full, say); the log says what that means.
        """
        new = _lines(operations)
        return not new or self._rewrite(lambda old: _ended(old) + new)

    def settle(self, taken: Snapshot, left: Iterable[Operation]) -> bool:
        """Replace what a snapshot held by what is left of it; the file goes when it is empty.

        Returns:
            ``False`` if the new state can't be written; then the old one is still there, and sending
            it once more changes nothing.
        """
        if not taken.content:
            return self.append(left)
        rest = _lines(left)

        def settled(old: bytes) -> bytes:
            sent = taken.content
            while sent and not old.startswith(sent):  # somebody else has sent its beginning, too, and settled that
                sent = sent[sent.find(b"\n") + 1 :] if b"\n" in sent else b""
            return rest + old[len(sent) :]

        return self._rewrite(settled)

    def _rewrite(self, change: Callable[[bytes], bytes]) -> bool:
        draft = self.path.with_name(f".{UNDELIVERED}.{os.getpid()}.part")
        try:
            with process_lock(self.path.with_name(_LOCK), timeout_s=_LOCK_TIMEOUT_S, what="what MLflow did not take"):
                old = self.path.read_bytes() if self.path.exists() else b""
                new = change(old)
                if not new:
                    self.path.unlink(missing_ok=True)
                    return True
                with draft.open("wb") as file:
                    file.write(new)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(self.path)
                return True
        except (OSError, ConflictError) as error:
            log.error(  # noqa: TRY400 - a full disk needs no traceback
                "what MLflow did not take can't be kept in %s (%s); it is missing from MLflow for good, the files of "
                "the run are here. Free space, then run it again if MLflow must have it.",
                self.path, getattr(error, "strerror", None) or error,
            )  # fmt: skip
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            return False


def keep_refusal(folder: Path, refusal: Refusal) -> None:
    """Say in the log what MLflow refused for good, and keep it in ``refused.jsonl``."""
    operation = refusal.operation
    path = folder / REFUSED
    log.warning("MLflow refused %s of run %s: %s; kept in %s", operation, operation.run_id, refusal.reason, path)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"reason": refusal.reason, **asdict(operation)}) + "\n")
    except OSError as error:
        log.warning("%s can't be written: %s", path, error.strerror or error)


def _lines(operations: Iterable[Operation]) -> bytes:
    return "".join(json.dumps(asdict(operation)) + "\n" for operation in operations).encode()


def _ended(content: bytes) -> bytes:
    # A line that was cut off must not swallow the next one.
    return content if not content or content.endswith(b"\n") else content + b"\n"


def _parsed(content: bytes, path: Path) -> Iterable[Operation]:
    for line in content.splitlines():
        try:
            yield Operation(**json.loads(line))
        except (ValueError, TypeError):
            log.warning("%s has a broken line, left out", path)
