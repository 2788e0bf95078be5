"""What the tests of notebook execution share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[1] / "fixtures" / "notebooks"


class SavedNotebook:
    """An executed notebook as it lies on disk, without the banner cells."""

    def __init__(self, path: Path) -> None:
        self.document = nbformat.read(path, as_version=4)
        nbformat.validate(self.document)
        tag = "papermill-error-cell-tag"
        self.banner = [c for c in self.document.cells if tag in c.metadata.get("tags", [])]
        self.cells = [c for c in self.document.cells if c not in self.banner]

    @property
    def states(self) -> list[str]:
        return [cell.metadata.papermill["status"] for cell in self.cells]

    @property
    def status(self) -> str:
        return str(self.document.metadata["guardianflow"]["status"])

    def printed(self) -> str:
        outputs: list[Any] = [o for cell in self.cells for o in cell.get("outputs", [])]
        return "".join(o.text for o in outputs if o.output_type == "stream")


@pytest.fixture(scope="session")
def notebooks() -> Path:
    """The folder of fixture notebooks, one defect each."""
    return NOTEBOOKS


@pytest.fixture
def saved() -> type[SavedNotebook]:
    """Reads an executed notebook from disk."""
    return SavedNotebook


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A path that breaks what is careless with paths: Korean letters, a space, braces, a missing folder."""
    return tmp_path / "실행 {run} %s" / "결과 {x}.ipynb"
