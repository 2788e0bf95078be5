"""The file experiments.yaml: read under caps, changed under a lock, written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from guardianflow.adapters.experiments.seen import Seen, read_seen, write_seen
from guardianflow.adapters.experiments.yaml_text import YamlProblem
from guardianflow.exceptions import ConflictError, InputError
from guardianflow.files.process_lock import process_lock
from guardianflow.text.printable import printable

__all__ = ["MAX_BYTES", "ExperimentFile"]

MAX_BYTES = 5_000_000
_ATTEMPTS = 5
_LOCK_TIMEOUT_S = 30
_BOM = "\ufeff"


class ExperimentFile:
    """One experiments.yaml.

    A link is followed: the file that it leads to is the one that is read, locked and replaced.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lock_path(self) -> Path:
        """The lock, beside the file; it stays, so that all lock the same one."""
        target = self._target()
        return target.with_name(f".{target.name}.lock")

    def seen(self) -> dict[str, Seen]:
        """What is known of the entries, by name."""
        return read_seen(self._seen_path())

    def note(self, change: Callable[[dict[str, Seen]], None]) -> None:
        """Change what is known of the entries while no other process does.

        Raises:
            InputError: It can't be written.
            ConflictError: Another process holds the lock.
        """
        with self._locked(self._target()):
            before = self.seen()
            after = dict(before)
            change(after)
            try:
                if after != before:
                    write_seen(self._seen_path(), after)
            except OSError as error:
                raise InputError(
                    f"{printable(self._seen_path())} can't be written ({error.strerror or error}); "
                    "check its folder's rights and the free space"
                ) from error

    def _seen_path(self) -> Path:
        target = self._target()
        return target.with_name(f".{target.name}.seen.json")

    def read(self) -> str | None:
        """The text without its byte-order mark; None where there is no file.

        Raises:
            InputError: A folder, a pipe, too large, not UTF-8, or not readable.
        """
        raw = self._read_bytes()
        return None if raw is None else self._decoded(raw).removeprefix(_BOM)

    def change(self, edit: Callable[[str | None], str | None]) -> bool:
        """Read, change and replace the file while no other process does.

        Args:
            edit: Gets the text (None where there is no file) and returns the new one; None for no change.

        Returns:
            Whether the file changed.

        Raises:
            InputError: The file can't be read or written, or the change can't be put into it. It is as it was.
            ConflictError: Another process holds the lock, or somebody saves the file again and again.
        """
        target = self._target()
        with self._locked(target):
            for _ in range(_ATTEMPTS):
                raw = self._read_bytes()
                old = None if raw is None else self._decoded(raw)
                try:
                    new = edit(None if old is None else old.removeprefix(_BOM))
                except YamlProblem as problem:
                    raise InputError(f"{printable(self.path)}: {problem}; the file is as it was") from None
                if new is None or (old is not None and new == old.removeprefix(_BOM)):
                    return False
                mark = _BOM if old is not None and old.startswith(_BOM) else ""
                # An editor takes no lock: what it saved meanwhile is read again, not overwritten.
                if self._replace(target, (mark + new).encode(), expected=raw):
                    return True
        raise ConflictError(f"{printable(self.path)} is being changed by another program all the time; try again")

    def _target(self) -> Path:
        return Path(os.path.realpath(self.path))

    @contextlib.contextmanager
    def _locked(self, target: Path) -> Iterator[None]:
        if not target.parent.is_dir():
            raise InputError(
                f"{printable(self.path)} can't be made, for there is no folder {printable(target.parent)}; "
                f"make it first"
            )
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(process_lock(self.lock_path, timeout_s=_LOCK_TIMEOUT_S, what=target.name))
            except OSError as error:
                raise InputError(
                    f"{printable(self.path)} can't be changed ({error.strerror or error} at its lock "
                    f"{printable(self.lock_path)}); check the rights of its folder"
                ) from error
            # Whoever was killed while writing left a draft; with the lock in hand nobody is writing one.
            for draft in target.parent.glob(f".{glob.escape(target.name)}.{'[0-9a-f]' * 12}.part"):
                with contextlib.suppress(OSError):
                    draft.unlink()
            yield

    def _read_bytes(self) -> bytes | None:
        try:
            mode = self.path.stat().st_mode
            if stat.S_ISDIR(mode):
                raise InputError(
                    f"{printable(self.path)} is a folder; name the file, for example "
                    f"{printable(self.path / 'experiments.yaml')}"
                )
            if not stat.S_ISREG(mode):  # a pipe would block, a device never ends
                raise InputError(f"{printable(self.path)} is no regular file; name the experiments.yaml itself")
            with self.path.open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(
                f"{printable(self.path)} can't be read ({error.strerror or error}); check the path and its rights"
            ) from error
        if len(raw) > MAX_BYTES:
            raise InputError(
                f"{printable(self.path)} is larger than {MAX_BYTES:,} bytes; keep experiments in several files"
            )
        return raw

    def _decoded(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise InputError(
                f"{printable(self.path)}, line {line}: byte {error.start} is not UTF-8; save the file as UTF-8"
            ) from None

    def _replace(self, target: Path, content: bytes, *, expected: bytes | None) -> bool:
        if len(content) > MAX_BYTES:
            raise InputError(
                f"{printable(self.path)} would grow beyond {MAX_BYTES:,} bytes and is as it was; "
                f"list what shall stay out under `ignore:`, or keep experiments in several files"
            )
        if expected is not None and not _is_writable(target):
            raise InputError(f"{printable(self.path)} is write-protected; allow writing (chmod u+w), or name another")
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.part")
        try:
            _write_draft(draft, content, like=target)
            if self._read_bytes() != expected:
                return False
            draft.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            raise InputError(
                f"{printable(self.path)} can't be written ({error.strerror or error}) and is as it was; "
                f"check its folder's rights and the free space"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        return True


def _is_writable(target: Path) -> bool:
    """Whether a person lets the file be changed; replacing it would ask nobody, and root may always."""
    return os.access(target, os.W_OK) and bool(target.stat().st_mode & 0o222)


def _write_draft(draft: Path, content: bytes, *, like: Path) -> None:
    with draft.open("xb") as stream:
        with contextlib.suppress(FileNotFoundError):
            old = like.stat()
            _keep_rights(stream.fileno(), old)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _keep_rights(descriptor: int, old: os.stat_result) -> None:
    if hasattr(os, "fchown"):
        with contextlib.suppress(PermissionError):  # only root may give a file away
            os.fchown(descriptor, old.st_uid, old.st_gid)
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _sync_folder(folder: Path) -> None:
    """The new name, too, is on the disk before anybody is told so."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems can't
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
