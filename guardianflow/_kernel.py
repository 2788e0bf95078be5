"""Whether this process is a notebook's kernel, and whether a person sits before it."""

from __future__ import annotations

from functools import partial

from guardianflow.exceptions import error_lines, ipython_shell

__all__ = ["by_hand", "in_a_kernel", "show_as_sentence"]


def in_a_kernel() -> bool:
    """Whether this process is a notebook's kernel."""
    return ipython_shell() is not None


def by_hand() -> bool:
    """Whether a person executes the cell that runs now: papermill, nbclient, Voila and nbval answer no questions."""
    return bool(getattr(getattr(ipython_shell(), "kernel", None), "_allow_stdin", False))


def show_as_sentence(error: BaseException, sentence: str) -> None:
    """Let a builtin error say this, and let a notebook show it as it shows ours."""
    error.args = (sentence,)
    error._render_traceback_ = partial(error_lines, error)  # type: ignore[attr-defined]
