"""The documents say what the code says: the links, the pictures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.runs.run_records import RunRecords
from guardianflow.state.database import Database
from tests.guides import ROOT, follow

LINK = re.compile(r"\]\((?P<target>[^)#]+)(?:#[^)]*)?\)")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in LINK.finditer(document.read_text(encoding="utf-8")):
        target = link["target"].strip()
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.slow
@pytest.mark.fire
@pytest.mark.timeout(900)
def test_every_command_of_the_sweeping_guide_works(tmp_path: Path) -> None:
    folder = tmp_path / "처음 first"
    folder.mkdir()
    outputs = follow(ROOT / "docs" / "SWEEPS.md", folder)
    settings = Settings(work_dir=folder / "guardianflow-work")
    runs = RunRecords(Database.open(settings.database_url)).list()
    assert {run.status for run in runs} == {"FINISHED"}
    trained = {run.run_id for run in runs if run.kind == "train"}
    assert len(trained) == 3 + 2, "three trials, none of them twice, and the batch"
    registry = ModelRegistry(settings)
    registered = {version.run_id for state in registry.list_models() for version in registry.list_versions(state.name)}
    assert {run.run_id for run in runs if run.pruned} == trained - registered
    assert "gate-sweep" in outputs["guardianflow study list"]


def test_the_readme_names_the_licence_and_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "AGPL-3.0-or-later" in text
    assert "make demo" in text
    assert "make test" in text
