"""Optional packages: imported when they are called for, with the extra to install named."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from guardianflow.exceptions import MissingDependencyError

__all__ = ["is_installed", "require"]


def require(module: str, *, extra: str, purpose: str | None = None) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Args:
        module: Import name, for example ``"pynvml"``.
        extra: The extra of this project that installs it.
        purpose: What it is needed for, in a few words.

    Raises:
        MissingDependencyError: The package is absent or can't be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = f" for {purpose}" if purpose else ""
        raise MissingDependencyError(
            f"{module!r} is needed{what} and can't be imported ({error}). "
            f"Install it with: pip install 'guardianflow[{extra}]'"
        ) from error


def is_installed(module: str) -> bool:
    """Whether a package can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
