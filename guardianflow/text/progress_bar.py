"""A progress bar for where we are: a terminal, or a notebook that somebody runs by hand."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from tqdm import tqdm

from guardianflow._kernel import in_a_kernel

__all__ = ["progress_bar"]


def progress_bar(total: int, *, desc: str, unit: str, shown: bool) -> Any:
    """The bar of tqdm: on stderr, or as one line of the cell's output, of which the last state is what stays."""
    if in_a_kernel():
        return tqdm(total=total, desc=desc, unit=unit, ncols=100, disable=not shown, file=_CellLine())
    return tqdm(total=total, desc=desc, unit=unit, dynamic_ncols=True, disable=not shown, file=sys.stderr)


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
