"""What a wrapped script prints, live at the terminal, although a notebook's kernel stands between the two."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO

__all__ = ["LiveOutput", "live_folder"]

VARIABLE = "GUARDIANFLOW_LIVE_OUTPUT"


def live_folder() -> Path | None:
    """Where somebody waits for what the script prints, or ``None``."""
    raise NotImplementedError


class LiveOutput:
    """Two FIFOs, and threads that copy what comes through them until the block's end.

    Args:
        stdout: Where the script's stdout goes, such as ``sys.stdout.buffer``.
        stderr: Where its stderr goes.
    """

    folder: Path
    environment: dict[str, str]

    def __init__(self, stdout: BinaryIO, stderr: BinaryIO) -> None:
        raise NotImplementedError

    def __enter__(self) -> LiveOutput:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError
