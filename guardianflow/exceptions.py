"""Every error that GuardianFlow raises on purpose.

One root, :class:`GuardianFlowError`. Each leaf also inherits the builtin that fits, so that
``except ValueError`` in a user's code keeps working, and carries the exit code that the command
line returns for it: 1 the run failed, 2 bad usage or bad input, 3 refused.

A message says the rule, the value that broke it and the next thing to do. In a notebook it is all that is shown;
``%tb`` shows the traceback.
"""

from __future__ import annotations

import sys
from typing import Any

from guardianflow.text.printable import visible

__all__ = [
    "ConfigError",
    "ConflictError",
    "DatasetError",
    "GuardianFlowError",
    "HashMismatchError",
    "InputError",
    "InvalidNameError",
    "MissingDependencyError",
    "ModelFileError",
    "NotFoundError",
    "NotebookError",
    "ParameterError",
    "RefusedError",
    "RunFailedError",
    "RunInterruptedError",
    "SchemaTooNewError",
    "ScriptFailedError",
    "TrackingUnavailableError",
    "UnknownNameError",
]

_RED, _PLAIN = "\x1b[31m", "\x1b[39m"


def ipython_shell() -> Any:
    """IPython's shell, where this process has one."""
    interactive = sys.modules.get("IPython")
    return interactive.get_ipython() if interactive is not None else None


def error_lines(error: BaseException) -> list[str]:
    """What IPython shows of an error: a sentence, and to who asks once more (``%tb``) everything.

    A notebook that nobody executes by hand is a record: later there is nobody to ask, so it holds everything.
    """
    shell, told = ipython_shell(), error.__dict__
    recorded = not getattr(getattr(shell, "kernel", None), "_allow_stdin", True)
    if not (recorded or told.get("_was_shown")):
        told["_was_shown"] = True
        return [f"{_RED}{type(error).__name__}{_PLAIN}: {error}", "(%tb shows the whole traceback)"]
    lines: list[str] = shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
    return lines


class GuardianFlowError(Exception):
    """Root of all errors that GuardianFlow raises on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        """The message; what others wrote into it (a server, a file) can't do more than be read."""
        return visible(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What IPython shows, by its own protocol."""
        return error_lines(self)


class InputError(GuardianFlowError, ValueError):
    """What the caller handed over can't be used; nothing was started and no run exists."""

    exit_code = 2


class ConfigError(InputError):
    """A setting has a value that can't be used."""


class DatasetError(InputError):
    """The data.yaml or the images and labels behind it can't be used."""


class ModelFileError(InputError):
    """Weights or a model YAML that can't be loaded, or must not be."""


class InvalidNameError(InputError):
    """A name (experiment, model, alias) has a form that is not allowed."""


class ParameterError(InputError):
    """A notebook or runner was given a parameter it doesn't declare, or a wrong value for one."""


class NotFoundError(GuardianFlowError, LookupError):
    """No run, model, version, template or file of that name; the message lists what there is."""

    exit_code = 2


class UnknownNameError(GuardianFlowError, AttributeError):
    """One of our objects has no attribute of that name; the message has the nearest one."""

    exit_code = 2


class MissingDependencyError(GuardianFlowError, ImportError):
    """An optional package is needed for this call; the message names the extra to install."""

    exit_code = 2


class SchemaTooNewError(GuardianFlowError, RuntimeError):
    """The state database was written by a newer GuardianFlow than this one."""

    exit_code = 2


class RefusedError(GuardianFlowError, PermissionError):
    """A gate or a missing right stands against it; the message gives the reasons."""

    exit_code = 3


class ConflictError(GuardianFlowError, RuntimeError):
    """Somebody else changed the same thing in between, and a retry did not settle it."""


class HashMismatchError(GuardianFlowError, RuntimeError):
    """A file's sha256 differs from the one recorded when it was registered."""


class TrackingUnavailableError(GuardianFlowError, ConnectionError):
    """MLflow or a database doesn't answer and the call can't go on without it; no run was begun."""

    exit_code = 2


class RunFailedError(GuardianFlowError, RuntimeError):
    """A run began and failed; its evidence (status, notebook, log) has been written."""


class NotebookError(RunFailedError):
    """A notebook did not reach its end; the saved file says where and why."""


class ScriptFailedError(RunFailedError):
    """A wrapped script ended badly; ``result`` holds what was kept of it."""

    def __init__(self, message: str, *, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class RunInterruptedError(RunFailedError):
    """A run was stopped by Ctrl-C or SIGTERM. ``exit_code`` is 130 or 143, as shells have it."""

    def __init__(self, message: str, *, signum: int = 2) -> None:
        super().__init__(message)
        self.signum = signum
        self.exit_code = 128 + signum
