"""The name that was meant: of an object's attributes, or among others that are known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from guardianflow.exceptions import UnknownNameError

__all__ = ["NearestNames", "nearest"]


def nearest(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'epochs'?"``, or where nothing is near all that is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


class NearestNames:
    """An object that says of an attribute that it doesn't have which one was meant."""

    if not TYPE_CHECKING:  # or every name would do

        def __getattr__(self, name: str) -> object:
            if name.startswith("_") or hasattr(type(self), name):  # the latter: a property that failed itself
                return object.__getattribute__(self, name)
            known = (each for each in dir(self) if not each.startswith("_"))
            raise UnknownNameError(f"{type(self).__name__} has no {name!r}; {nearest(name, known)}")
