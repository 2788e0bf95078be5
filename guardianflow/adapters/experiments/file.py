"""The file experiments.yaml: read under caps, changed under a lock, written whole or not at all.

What a scan saw of the entries, and their last runs, is no person's to write: it lies in a JSON file beside it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from guardianflow.adapters.experiments.entries import LastRun
from guardianflow.exceptions import ConflictError, InputError
from guardianflow.files.process_lock import process_lock
from guardianflow.files.run_folder import write_json
from guardianflow.text.printable import printable

__all__ = ["MAX_BYTES", "ExperimentFile", "Seen"]

MAX_BYTES = 5_000_000
_ATTEMPTS = 5
_LOCK_TIMEOUT_S = 30


@dataclass(frozen=True)
class Seen:
    """What the last scan saw of an entry's script, and its last run.

    See :class:`~guardianflow.adapters.experiments.entries.ExperimentEntry`, which has the same fields.
    """

    role: str = ""
    score: float | None = None
    reasons: tuple[str, ...] = ()
    last_run: LastRun | None = None


_SEEN = TypeAdapter(dict[str, Seen])


class ExperimentFile:
    """One experiments.yaml.

    A link is followed: the file that it leads to is the one that is read, locked and replaced.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> str | None:
        """The text, with its byte-order mark if it has one; None where there is no file.

        Raises:
            InputError: A folder, a pipe, too large, not UTF-8, or not readable.
        """
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):  # a pipe would block, a device never ends
                raise OSError("it is no file")
            with self.path.open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
            if len(raw) > MAX_BYTES:
                raise InputError(
                    f"{printable(self.path)} is larger than {MAX_BYTES:,} bytes; keep experiments in several files"
                )
            return raw.decode("utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise InputError(
                f"{printable(self.path)}: byte {error.start} is not UTF-8; save the file as UTF-8"
            ) from None
        except OSError as error:
            raise InputError(
                f"{printable(self.path)} can't be read ({error.strerror or error}); name the experiments.yaml itself, "
                "and check its rights"
            ) from error

    def change(self, edit: Callable[[str | None], str | None]) -> None:
        """Read, change and replace the file while no other process does.

        Args:
            edit: Gets the text (None where there is no file) and returns the new one; None for no change.

        Raises:
            InputError: The file can't be read or written. It is as it was.
            ConflictError: Another process holds the lock, or somebody saves the file again and again.
        """
        with self._locked():
            for _ in range(_ATTEMPTS):
                old = self.read()
                new = edit(old)
                # An editor takes no lock: what it saved meanwhile is read again, not overwritten.
                if new is None or self._replace(new.encode(), expected=old):
                    return
        raise ConflictError(f"{printable(self.path)} is being changed by another program all the time; try again")

    def seen(self) -> dict[str, Seen]:
        """What is known of the entries, by name; nothing where it is gone or damaged: the next scan makes it anew."""
        try:
            return _SEEN.validate_json(self._beside(".seen.json").read_bytes())
        except (OSError, ValueError):
            return {}

    def note(self, change: Callable[[dict[str, Seen]], None]) -> None:
        """Change what is known of the entries while no other process does.

        Raises:
            InputError: It can't be written.
            ConflictError: Another process holds the lock.
        """
        with self._locked():
            before, after = self.seen(), self.seen()
            change(after)
            if after != before:
                write_json(self._beside(".seen.json"), {name: asdict(each) for name, each in after.items()})

    def _beside(self, end: str) -> Path:
        target = Path(os.path.realpath(self.path))
        return target.with_name(f".{target.name}{end}") if end else target

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._beside(".lock")
        if not lock.parent.is_dir():
            raise InputError(
                f"{printable(self.path)} can't be made, for there is no folder {printable(lock.parent)}; make it first"
            )
        try:
            with process_lock(lock, timeout_s=_LOCK_TIMEOUT_S, what=self.path.name):
                yield
        except OSError as error:
            raise InputError(
                f"{printable(self.path)} can't be written ({error.strerror or error} at {printable(error.filename)}) "
                "and is as it was; check its folder's rights and the free space"
            ) from error

    def _replace(self, content: bytes, *, expected: str | None) -> bool:
        """Whether the file still was what was expected, and is the new one now."""
        if len(content) > MAX_BYTES:
            raise InputError(
                f"{printable(self.path)} would grow beyond {MAX_BYTES:,} bytes and is as it was; "
                f"list what shall stay out under `ignore:`, or keep experiments in several files"
            )
        target, draft = self._beside(""), self._beside(".part")
        old = target.stat() if target.exists() else None
        # Replacing a file would ask nobody, and root may always.
        if old is not None and not (os.access(target, os.W_OK) and old.st_mode & 0o222):
            raise InputError(f"{printable(self.path)} is write-protected; allow writing (chmod u+w), or name another")
        draft.unlink(missing_ok=True)  # of one who was killed while writing: the lock is ours
        try:
            with draft.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            if old is not None:
                with contextlib.suppress(PermissionError, AttributeError):  # only root may give a file away
                    os.chown(draft, old.st_uid, old.st_gid)
                draft.chmod(stat.S_IMODE(old.st_mode))
            if self.read() != expected:
                return False
            draft.replace(target)
            return True
        finally:
            draft.unlink(missing_ok=True)
