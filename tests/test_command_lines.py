"""Every command that README, the demo and our messages name can be typed as it stands, where it stands."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardianflow.cli import VERBS, app
from guardianflow.core.config import Settings
from guardianflow.demo.story import _mlflow_pages
from guardianflow.text import command_lines
from guardianflow.text.command_lines import command, program, typed

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


SCRIPT = """
import argparse
import torch
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
weight = torch.zeros(1, requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=0.1)
for epoch in range(parser.parse_args().epochs):
    loss = (weight - 1).pow(2).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("loss:", float(loss))
torch.save(weight, "model.pt")
"""


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type a line at a shell that knows nothing of this checkout: a bare PATH, a HOME of its own."""
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", **environment}
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, env=bare, capture_output=True, text=True, timeout=300, check=False
    )


def readme_commands() -> list[str]:
    """The lines of README's blocks of commands, those that end with a backslash put together."""
    blocks = re.findall(r"(?:^    .+\n)+", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    text = "".join(blocks).replace("\\\n", " ")
    return [" ".join(line.partition("   #")[0].split()) for line in text.splitlines()]


def test_the_verbs_that_are_known_in_texts_are_those_of_the_command_line() -> None:
    assert set(command_lines.VERBS) == set(VERBS)


@pytest.mark.timeout(600)
def test_every_command_of_readme_can_be_typed_in_a_fresh_folder(
    tmp_path: Path, mlflow_sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("GUARDIANFLOW_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    place = tmp_path / "시작 here"  # a folder that is not above ~/projects
    for folder in (tmp_path / "projects", place / "guardianflow-work"):
        folder.mkdir(parents=True)
    (tmp_path / "projects" / "train.py").write_text(SCRIPT, encoding="utf-8")
    (place / "train.py").write_text("print('loss: 0.5')", encoding="utf-8")
    (place / ".venv").symlink_to(BIN.parent)
    shutil.copyfile(mlflow_sqlite_template, place / "guardianflow-work" / "mlflow.db")
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(tmp_path))
    commands = readme_commands()
    assert len(commands) == 27
    for line in commands:
        words = [word.replace("~", str(tmp_path), 1) if word[0] == "~" else word for word in shlex.split(line)]
        if words[0] == "make":
            done = shell(f"{line} --dry-run", ROOT)
            assert done.returncode == 0, done.stderr
            continue
        assert words[0] == ".venv/bin/guardianflow"
        typed_words, target = (words[:-2], words[-1]) if ">" in words else (words, "")
        serves = words[1] in {"api", "dashboard"}
        result = CliRunner().invoke(app, [*typed_words[1:], *(["--help"] if serves else [])])
        if target:
            Path(target).write_text(result.stdout, encoding="utf-8")
        # The others want the reader's data or model, which isn't there.
        ours = (
            serves or words[1] in {"wrap", "scan", "scenario", "keys"} or words[1:] in (["optimize"], ["runs", "prune"])
        )
        assert result.exit_code == (0 if ours else 2), (line, result.stdout, result.stderr)
        assert ours or result.stderr.startswith("error: "), (line, result.stderr)
    by_name = shell(".venv/bin/guardianflow history my-detector", place)
    assert (by_name.returncode, by_name.stderr.startswith("error: there is no model named 'my-detector'")) == (2, True)
    assert ".venv/bin/guardianflow register" in by_name.stderr


def test_a_scan_from_elsewhere_says_so_and_what_it_names_next_runs(
    tmp_path: Path, mlflow_sqlite_template: Path
) -> None:
    projects, place = tmp_path / "내 projects", tmp_path / "place"
    for folder in (projects, place / "guardianflow-work"):
        folder.mkdir(parents=True)
    shutil.copyfile(mlflow_sqlite_template, place / "guardianflow-work" / "mlflow.db")
    (projects / "훈련 it's.py").write_text(SCRIPT, encoding="utf-8")
    scan = f"{BIN}/guardianflow scan {shlex.quote(str(projects))} --write 'my list.yaml'"
    said = shell(scan, place)
    assert said.returncode == 0, said.stderr
    assert f"note      1 of the scripts lie outside {place}" in said.stderr
    [following] = [line.removeprefix("next: ") for line in said.stderr.splitlines() if line.startswith("next: ")]
    shown = shell(following, place)
    assert shown.returncode == 0, shown.stderr
    assert f"in         {projects}" in shown.stderr
    document = json.loads(shell(f"{scan} --json", place).stdout)
    assert document["experiments"]["remarks"][0].startswith("1 of the scripts lie outside")


def test_a_program_is_named_as_the_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    absolute = shlex.quote(str(BIN / "guardianflow"))
    assert typed("run `guardianflow doctor`, or guardianflow list runs; guardianflow from source, mlflow 3") == (
        f"run `{absolute} doctor`, or {absolute} list runs; guardianflow from source, mlflow 3"
    )
    assert typed(typed("`guardianflow doctor`")) == f"`{absolute} doctor`"
    monkeypatch.chdir(BIN.parents[1])
    assert program("guardianflow") == f"{BIN.parent.name}/bin/guardianflow"
    assert program("guardianflow", anywhere=True) == absolute
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}/usr/bin")
    assert typed("`guardianflow doctor`") == "`guardianflow doctor`"


def test_errors_init_and_doctor_name_commands_that_run(tmp_path: Path) -> None:
    refused = shell(f"{BIN}/guardianflow history nothing", tmp_path)
    assert f"`{shlex.quote(str(BIN / 'guardianflow'))} register`" in refused.stderr
    document = json.loads(shell(f"{BIN}/guardianflow history nothing --json", tmp_path).stdout)
    assert document["error"]["message"] in refused.stderr
    made = shell(f"{BIN}/guardianflow init '새 place'", tmp_path)
    [following] = [line.removeprefix("next: ") for line in made.stderr.splitlines() if line.startswith("next: ")]
    assert following.startswith("cd '새 place' && ")
    assert shell(f"{following} --help", tmp_path).returncode == 0


def test_a_command_for_another_work_folder_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GUARDIANFLOW_WORK_DIR", raising=False)
    assert command("history", "게이트 a", settings=Settings()) == "guardianflow history '게이트 a'"
    other = Settings(work_dir=tmp_path / "데모 b")
    line = typed(command("keys", "create", "Kim", "--role", "viewer", "--json", settings=other))
    assert line.startswith(f"GUARDIANFLOW_WORK_DIR='{tmp_path}/데모 b' ")
    assert json.loads(shell(line, tmp_path).stdout)["name"] == "Kim"
    assert (tmp_path / "데모 b").is_dir()


def test_the_demo_names_mlflows_pages_without_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(work_dir=tmp_path / "데모 b")
    assert _mlflow_pages(settings).endswith(f"mlflow server --backend-store-uri '{settings.mlflow_tracking_uri}'")
    with_login = Settings(mlflow_tracking_uri="postgresql://kim:hunter2@host/mlflow")
    assert _mlflow_pages(with_login).endswith('--backend-store-uri "$MLFLOW_TRACKING_URI"')
    assert _mlflow_pages(Settings(mlflow_tracking_uri="http://kim:hunter2@host:5000")) == "http://kim:***@host:5000"
