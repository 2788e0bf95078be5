"""One registry shape for every extension point: a name leads to an entry."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from guardianflow.exceptions import InputError, NotFoundError

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind of thing, listed without importing any of them.

    Built-ins are declared as data (``{"train": "package.module:Attribute"}``); other packages add
    theirs through the entry-point group, and a program adds its own with :meth:`register`.

    Args:
        what: What the names stand for, in the singular, as error messages say it.
        builtins: Name → ``"module:attribute"``.
        group: Entry-point group that other packages may use.
    """

    def __init__(self, what: str, builtins: Mapping[str, str], *, group: str | None = None) -> None:
        self.what = what
        self._entries: dict[str, str | T] = dict(builtins)
        self._group = group
        self._scanned = group is None

    def register(self, name: str, entry: T | str, *, replace: bool = False) -> None:
        """Add an entry: the object itself, or ``"module:attribute"`` to import on first use."""
        if name in self._entries and not replace:
            raise InputError(f"{self.what} {name!r} exists already; pass replace=True to change it")
        self._entries[name] = entry

    def names(self) -> list[str]:
        """All known names, sorted."""
        self._scan()
        return sorted(self._entries)

    def get(self, name: str) -> T:
        """The entry behind a name, imported now if it wasn't yet.

        Raises:
            NotFoundError: No such name; the message lists the known ones.
        """
        self._scan()
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise NotFoundError(f"there is no {self.what} named {name!r}.{hint} Known: {', '.join(self.names())}")
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = cast(T, getattr(import_module(module), attribute))
            self._entries[name] = entry
        return entry

    def __contains__(self, name: object) -> bool:
        self._scan()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _scan(self) -> None:
        if self._scanned or self._group is None:
            return
        self._scanned = True
        for point in entry_points(group=self._group):
            value: Any = point.value
            self._entries.setdefault(point.name, value)
