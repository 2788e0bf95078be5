"""Under which name a file's metric is handed out, where several files have the same names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from guardianflow.adapters.wrap.metrics.line_names import kept_name
from guardianflow.core.metrics import legal_metric_name
from guardianflow.text.names import free_name

__all__ = ["FileMetricNames"]


class FileMetricNames:
    """Whose a metric's name is, and the prefix of the files that come second.

    The first table that has a name keeps it bare. A later one with any of its names gets a prefix for all of them: its
    folder's name, or its own where it lies beside the first or in the root. Event files of one folder are one run; a
    tag that a table also has is the table's.

    Args:
        root: The working folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._owners: dict[tuple[bool, str], Path] = {}  # a table's own path, or the folder of event files
        self._prefixes: dict[Path, str] = {}
        self._full: dict[tuple[Path, str], str] = {}
        self._tables: set[str] = set()  # full names that a table has

    def name(self, name: str, *, path: Path, events: bool, columns: Sequence[str]) -> str:
        """The name under which a point is handed out; ``""`` where a table has the same one.

        Args:
            name: The column's or tag's own, legal name.
            path: The file.
            events: It is an event file.
            columns: All names that the file is known to have.
        """
        owner = path.parent if events else path
        full = self._full.get((owner, name))
        if full is None:
            full = self._full[owner, name] = self._claim(name, path, events, columns)
            if not events:
                self._tables.add(full)
        return "" if events and full in self._tables else full

    def _claim(self, name: str, path: Path, events: bool, columns: Sequence[str]) -> str:
        owner = path.parent if events else path
        rivals = (self._owners.get((events, other), owner) for other in (name, *columns))
        rival = next((rival for rival in rivals if rival != owner), None)
        if rival is not None and owner not in self._prefixes:
            beside = not events and rival.parent == path.parent
            self._prefixes[owner] = free_name(
                kept_name(path.stem if beside else self._folder(path)), self._prefixes.values()
            )
        if owner in self._prefixes:
            return legal_metric_name(f"{self._prefixes[owner]}/{name}")
        self._owners[events, name] = owner
        return name

    def _folder(self, path: Path) -> str:
        return path.stem if path.parent == self._root else path.parent.name
