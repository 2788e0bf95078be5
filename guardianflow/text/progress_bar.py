"""A progress bar for where we are: a terminal, or a notebook that somebody runs by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from tqdm import tqdm

from guardianflow._kernel import in_a_kernel

__all__ = ["cell_line", "progress_bar"]


def progress_bar(total: int, *, desc: str, unit: str, shown: bool, layout: str | None = None) -> Any:
    """The bar of tqdm: on stderr, or as one line of the cell's output, of which the last state is what stays.

    Args:
        total: How many steps there are.
        desc: What they are called together.
        unit: What one is called.
        shown: Whether to show anything.
        layout: tqdm's ``bar_format``.
    """
    asked: dict[str, Any] = {"total": total, "desc": desc, "unit": unit, "disable": not shown, "bar_format": layout}
    if in_a_kernel():
        return tqdm(**asked, ncols=100, file=_CellLine())
    return tqdm(**asked, dynamic_ncols=True, file=sys.stderr)


def cell_line(*, shown: bool) -> Callable[[str], None]:
    """What writes one line of the cell's output, each time anew; it does nothing where nothing is to be shown."""
    return _CellLine().write if shown else _nothing


def _nothing(_: str) -> None:
    """Nobody watches."""


class _CellLine:
    """A line of a cell's output that is drawn anew; tqdm's own widget is "0%" for ever in a notebook that was saved."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._shown: Any = None

    def write(self, text: str) -> None:
        line = text.strip()
        if not line:
            return
        if self._shown is None:
            self._shown = import_module("IPython.display").display({"text/plain": line}, raw=True, display_id=True)
        else:
            self._shown.update({"text/plain": line}, raw=True)

    def flush(self) -> None:
        """Nothing waits."""
