"""A progress bar for where we are: a terminal, or a notebook that somebody runs by hand."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from guardianflow._imports import is_installed

__all__ = ["in_a_kernel", "progress_bar"]


def progress_bar(total: int, *, desc: str, unit: str, shown: bool) -> Any:
    """The bar of tqdm; ``tqdm.auto`` warns in kernels that lack ipywidgets."""
    module = import_module("tqdm.auto" if is_installed("ipywidgets") else "tqdm")
    # A kernel shows stderr as an alarm; a terminal keeps stdout for data.
    stream = sys.stdout if in_a_kernel() else sys.stderr
    return module.tqdm(total=total, desc=desc, unit=unit, dynamic_ncols=True, disable=not shown, file=stream)


def in_a_kernel() -> bool:
    """Whether this process is a notebook's kernel."""
    # Behind an executor that is no kernel, the executor's own display follows the run's record.
    interactive = sys.modules.get("IPython")
    return interactive is not None and interactive.get_ipython() is not None
