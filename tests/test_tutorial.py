"""The guides of docs/ from the first command to the last, in an empty folder, as a new user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guardianflow.adapters.experiment_registry import ExperimentRegistry
from guardianflow.runs.run_records import RunRecords
from guardianflow.state.database import Database
from tests.guides import ROOT, follow, parse, steps

TUTORIAL = ROOT / "docs" / "TUTORIAL.md"
WRAP = ROOT / "docs" / "WRAP.md"


@pytest.mark.slow
@pytest.mark.fire
@pytest.mark.timeout(900)
def test_every_command_of_the_tutorial_works(tmp_path: Path) -> None:
    folder = tmp_path / "처음 first"
    folder.mkdir()
    outputs = follow(TUTORIAL, folder)
    ledger = json.loads(next(out for text, out in outputs.items() if text.endswith("history gate-detector --json")))
    moves = [(event["action"], event["version"]) for event in reversed(ledger["history"])]
    assert moves == [
        ("register", "1"), ("promote", "1"), ("register", "2"), ("promote", "2"), ("rollback", "1"), ("register", "3"),
    ]  # fmt: skip
    made = {page.name for page in folder.glob("**/guardianflow-work/runs/*/*/*.html")}
    assert {"train.html", "infer.html", "quantize.html"} <= made


@pytest.mark.slow
@pytest.mark.fire
@pytest.mark.timeout(600)
def test_every_command_of_the_wrapping_guide_works(tmp_path: Path) -> None:
    folder = tmp_path / "처음 first"
    folder.mkdir()
    outputs = follow(WRAP, folder)
    runs = RunRecords(Database.open(f"sqlite:///{folder}/guardianflow-work/guardianflow.db")).list()
    assert [run.status for run in runs] == ["FINISHED"] * 5, "one for each command but a dry run and an unneeded one"
    assert "1.00    training   torch       train.py" in outputs["guardianflow scan . --write experiments.yaml"]
    assert ExperimentRegistry(folder / "experiments.yaml").get("quick").last_run is not None


@pytest.mark.parametrize("guide", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_the_command_line_knows_every_command_of_a_guide(guide: Path) -> None:
    parse(guide)


def test_a_command_that_the_command_line_does_not_know_is_noticed(tmp_path: Path) -> None:
    guide = tmp_path / "guide.md"
    for line in ("guardianflow trian", "guardianflow train --epohcs 3", "guardianflow runs prune --al"):
        guide.write_text(f"```console\n$ {line}\n```\n", encoding="utf-8")
        with pytest.raises(AssertionError, match="guardianflow"):
            parse(guide)
    guide.write_text("```console\n$ guardianflow train --epochs 3\n$ guardianflow list runs\n```\n", encoding="utf-8")
    assert parse(guide) == 2


def test_the_tutorial_has_commands_to_try() -> None:
    kinds = [kind for kind, _ in steps(TUTORIAL.read_text(encoding="utf-8"))]
    assert kinds.count("console") >= 10
    assert kinds.count("python") >= 2


def test_a_command_without_a_prompt_would_be_noticed() -> None:
    with pytest.raises(AssertionError, match="lacks"):
        steps("```console\nguardianflow --help\n```\n")


def test_the_wrapping_guide_has_commands_to_try() -> None:
    kinds = [kind for kind, _ in steps(WRAP.read_text(encoding="utf-8"))]
    assert kinds.count("console") >= 8
    assert kinds.count("file") == 2
    assert kinds.count("python") == 1
