"""The environment that a wrapped script gets: the user's own, as in a plain shell.

A script runs below a notebook's kernel, and several hands have changed the environment until then: the executor
hands our settings to the kernel, the kernel sets a pager, colours and a matplotlib backend that draws into
notebooks, and MLflow's client gets short time-outs from us. None of this is the script's.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guardianflow.core.config import env_names
from guardianflow.exceptions import InputError
from guardianflow.processes.supervision.redaction import Redactor, secret_values
from guardianflow.text.redaction import redact

__all__ = ["MINIMUM", "OUTER", "child_environment", "environment_summary", "outer_environment"]

MINIMUM = (
    "PATH", "HOME", "LANG", "LANGUAGE", "LC_*", "TMPDIR", "TMP", "TEMP", "USER", "LOGNAME", "SHELL", "TERM", "TZ",
    "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "GUARDIANFLOW_KERNEL_MARK", "SYSTEMROOT", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA",
)  # fmt: skip
"""What a script gets under any allow-list: without these, not even the interpreter would start as usual.

``GUARDIANFLOW_KERNEL_MARK`` names no setting: by it, processes that a script leaves behind are found.
"""

OUTER = "GUARDIANFLOW_OUTER_ENVIRONMENT"
"""JSON object: name → what the user's shell had there, ``null`` for nothing. See :func:`outer_environment`."""

_KEPT = {"GUARDIANFLOW_KERNEL_MARK"}
_KERNEL = (
    "MPLBACKEND", "TERM", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "PAGER", "GIT_PAGER", "PYDEVD_USE_FRAME_EVAL",
    "PYDEVD_DISABLE_FILE_VALIDATION", "PYTHONWARNINGS", "ULTRALYTICS_SAFE_LOAD",
)  # fmt: skip
_MLFLOW = (
    "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "MLFLOW_DISABLE_TELEMETRY", "PGCONNECT_TIMEOUT",
)  # fmt: skip
# What ipykernel sets, for where nobody noted what was there before.
_KERNEL_VALUES = {
    "CLICOLOR": "1",
    "CLICOLOR_FORCE": "1",
    "FORCE_COLOR": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "PYDEVD_USE_FRAME_EVAL": "NO",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
_INLINE = ("module://matplotlib_inline", "module://ipykernel")
_IGNORED_WARNING = "ignore:IProgress not found"


def outer_environment() -> dict[str, str]:
    """One variable, :data:`OUTER`, with what the user's shell had where we and a kernel set something.

    To be taken in the process that the user started, and handed on to the kernel. On Linux it is what the process
    was started with, which nothing that ran in it since then has changed.
    """
    known = os.environ.get(OUTER)
    if known is not None:
        return {OUTER: known}
    first = _as_started()
    return {OUTER: json.dumps({name: first.get(name) for name in _changed_names()})}


def child_environment(base: Mapping[str, str], *, allow: Sequence[str] | None) -> dict[str, str]:
    """The whole environment of a wrapped script.

    Args:
        base: That of the process which starts it, usually ``os.environ``.
        allow: Names that it may see, besides :data:`MINIMUM`; globs such as ``CUDA_*`` are fine. ``None``: all.

    Raises:
        InputError: A name that no environment can hold.
    """
    found = _restored(base)
    if allow is not None:
        patterns = [*MINIMUM, *(_checked(name) for name in allow)]
        seen = {name for name in found if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}
        found = {name: value for name, value in found.items() if name in seen}
    return found


def environment_summary(env: Mapping[str, str]) -> dict[str, Any]:
    """What reaches the script, for a run's evidence: names and values, secrets masked.

    Args:
        env: From :func:`child_environment`.

    Returns:
        ``{"count": 2, "variables": {"HOME": "/home/a", "HF_TOKEN": "***"}}``, in the order of the names.
    """
    secrets = Redactor(secret_values(env))
    masked = {name: secrets.text(str(value)) for name, value in redact(env).items()}
    return {"count": len(masked), "variables": dict(sorted(masked.items()))}


def _restored(base: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in base.items() if name != OUTER and not name.startswith("JPY_")}
    noted = _noted(base.get(OUTER))
    if noted is not None:
        for name, value in noted.items():
            found.pop(name, None)
            if value is not None:
                found[name] = value
    elif "JPY_PARENT_PID" in base:
        found = _without_the_kernels(found)
    return found


def _noted(text: str | None) -> dict[str, str | None] | None:
    try:
        content = json.loads(text or "")
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    # Whoever else sets the variable can't make us change others than these.
    names = _changed_names()
    return {name: value for name, value in content.items() if name in names and (value is None or type(value) is str)}


def _without_the_kernels(env: Mapping[str, str]) -> dict[str, str]:
    """Best guess where nobody noted what the shell had."""
    settings = {name for name in env_names().values() if name.startswith("GUARDIANFLOW_")}
    found = {name: value for name, value in env.items() if name not in settings and _KERNEL_VALUES.get(name) != value}
    if found.get("MPLBACKEND", "").startswith(_INLINE):
        del found["MPLBACKEND"]
    warnings = [part for part in found.get("PYTHONWARNINGS", "").split(",") if part and part != _IGNORED_WARNING]
    if warnings:
        found["PYTHONWARNINGS"] = ",".join(warnings)
    else:
        found.pop("PYTHONWARNINGS", None)
    return found


def _changed_names() -> frozenset[str]:
    return frozenset((*_KERNEL, *_MLFLOW, *env_names().values())) - _KEPT


def _as_started() -> Mapping[str, str]:
    """The environment that this process was started with."""
    try:
        content = Path("/proc/self/environ").read_bytes()
    except OSError:
        return os.environ
    pairs = (os.fsdecode(part).partition("=") for part in content.split(b"\0") if b"=" in part)
    return {name: value for name, _, value in pairs}


def _checked(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        raise InputError(
            f"{name!r} is no name of an environment variable; give names or globs such as CUDA_*, without a value"
        )
    return name
