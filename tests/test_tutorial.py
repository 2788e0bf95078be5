"""docs/TUTORIAL.md from the first command to the last, in an empty folder, as a new user types them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = ROOT / "docs" / "TUTORIAL.md"
EXPECTED = re.compile(r"  # exits with (\d)$")
BLOCK = re.compile(r"^```(?P<kind>console|python)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)


def steps(text: str) -> list[tuple[str, str]]:
    """(kind, command or program) of each block, commands one by one, in order."""
    found: list[tuple[str, str]] = []
    for block in BLOCK.finditer(text):
        if block["kind"] == "python":
            found.append(("python", block["text"]))
        else:
            lines = [line for line in block["text"].splitlines() if line.strip()]
            assert all(line.startswith("$ ") for line in lines), f"a line of a console block lacks `$ `: {lines}"
            found += [("console", line[2:]) for line in lines]
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_of_the_tutorial_works(tmp_path: Path) -> None:
    folder = tmp_path / "처음 first"
    folder.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GUARDIANFLOW_", "MLFLOW_"))}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    outputs: dict[str, str] = {}
    for kind, text in steps(TUTORIAL.read_text(encoding="utf-8")):
        expected = EXPECTED.search(text)
        words = shlex.split(EXPECTED.sub("", text)) if kind == "console" else ["python", "-c", text]
        if words[0] == "cd":
            folder = folder / words[1]
            continue
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == (int(expected[1]) if expected else 0), f"{text}\n{done.stdout}\n{done.stderr}"
        outputs[text] = done.stdout

    ledger = json.loads(outputs["guardianflow history gate-detector --json"])["history"]
    moves = [(event["action"], event["version"]) for event in reversed(ledger)]
    assert moves == [
        ("register", "1"), ("promote", "1"), ("register", "2"), ("promote", "2"), ("rollback", "1"), ("register", "3"),
    ]  # fmt: skip
    made = {page.name for page in folder.glob("guardianflow-work/runs/*/*/*.html")}
    assert {"train.html", "infer.html", "quantize.html"} <= made


def test_the_tutorial_has_commands_to_try() -> None:
    kinds = [kind for kind, _ in steps(TUTORIAL.read_text(encoding="utf-8"))]
    assert kinds.count("console") >= 10
    assert kinds.count("python") >= 2


def test_a_command_without_a_prompt_would_be_noticed() -> None:
    with pytest.raises(AssertionError, match="lacks"):
        steps("```console\nguardianflow --help\n```\n")
