"""Executed notebooks are trusted in JupyterLab, where Jupyter keeps its signatures and they are ours to write."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

__all__ = ["sign"]

log = logging.getLogger(__name__)

_BUSY_S = 20.0


def sign(notebook: Path) -> bool:
    """Enter an executed notebook among those that JupyterLab trusts on this machine.

    It never raises, and makes neither a folder, a key nor a database: where JupyterLab was never started there is
    nobody who would read them.

    Args:
        notebook: As it was written last; a later change ends the trust.

    Returns:
        Whether it was entered.
    """
    try:
        from jupyter_core.paths import jupyter_data_dir

        folder = Path(jupyter_data_dir())
        files = [folder / "notebook_secret", folder / "nbsignatures.db"]
        if not all(file.is_file() and file.stat().st_uid == os.geteuid() for file in files):
            return False
        _enter(notebook, folder)
    except Exception as error:  # noqa: BLE001 - a run must not fail for it, whatever is wrong with that folder
        log.debug("%s is not signed: %s", notebook, error)
        return False
    return True


def _enter(notebook: Path, folder: Path) -> None:
    import sqlite3

    import nbformat
    from nbformat.sign import NotebookNotary, SQLiteSignatureStore

    class Store(SQLiteSignatureStore):  # type: ignore[misc, unused-ignore]
        """Waits for others; nbformat's own puts a database aside that is merely busy."""

        def _connect_db(self, db_file: str) -> sqlite3.Connection:
            return sqlite3.connect(db_file, timeout=_BUSY_S)

    with contextlib.closing(Store(str(folder / "nbsignatures.db"))) as store:
        notary = NotebookNotary(data_dir=str(folder), store_factory=lambda: store)
        notary.sign(nbformat.read(notebook, as_version=4))
