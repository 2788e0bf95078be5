"""The documents say what the code says: the table of levels, the links, the pictures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_architecture import LEVELS, ROOT

ARCHITECTURE = ROOT / "docs" / "ARCHITECTURE.md"
ROW = re.compile(r"^\| (?P<level>\d+) \| (?P<modules>.+) \|$", re.MULTILINE)
LINK = re.compile(r"\]\((?P<target>[^)#]+)(?:#[^)]*)?\)")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def documented_levels(text: str) -> dict[str, int]:
    """Module → level, as the table of ARCHITECTURE.md has it."""
    return {
        module: int(row["level"]) for row in ROW.finditer(text) for module in re.findall(r"`([\w.]+)`", row["modules"])
    }


def existing_levels() -> dict[str, int]:
    """Module → level, of the modules and folders that are there."""
    package = ROOT / "guardianflow"
    found = {}
    for module, level in LEVELS.items():
        path = package / module.replace(".", "/")
        is_folder_of_many = module in {"core", "dashboard", "scenario"}
        if not is_folder_of_many and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()):
            found[module] = level
    return found


def test_the_documented_levels_are_the_real_ones() -> None:
    assert documented_levels(ARCHITECTURE.read_text(encoding="utf-8")) == existing_levels()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in LINK.finditer(document.read_text(encoding="utf-8")):
        target = link["target"].strip()
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_readme_names_the_licence_and_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "AGPL-3.0-or-later" in text
    assert "make demo" in text
    assert "make test" in text
