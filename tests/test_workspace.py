"""``guardianflow init``: the folder for a user's own work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from guardianflow.core.config import Settings, env_names
from guardianflow.exceptions import InputError
from guardianflow.execution.engine.notebook import list_templates, template_path
from guardianflow.workspace import START, create_workspace, open_workspace
from tests.checkouts import copy_checkout, git, its_environment


@pytest.fixture
def no_settings(monkeypatch):
    for name in env_names().values():
        monkeypatch.delenv(name, raising=False)


def test_a_workspace_has_settings_scenarios_notebooks_and_a_gitignore(tmp_path):
    made = create_workspace(tmp_path / "현장 A")

    assert {str(path.relative_to(made.folder)) for path in made.created} == {
        "guardianflow.toml",
        ".gitignore",
        "scenarios/README.md",
        START,
        *(f"notebooks/{name}.ipynb" for name in list_templates()),
    }
    assert "train" in list_templates()
    assert made.kept == ()
    assert (made.folder / "notebooks/train.ipynb").read_bytes() == template_path("train").read_bytes()
    assert made.to_dict()["folder"] == str(tmp_path / "현장 A")


def test_its_settings_are_found_from_inside_and_give_every_default(tmp_path, monkeypatch, no_settings):
    made = create_workspace(tmp_path / "w")
    monkeypatch.chdir(made.folder / "notebooks")
    settings = Settings()

    assert settings.work_dir == made.folder / "guardianflow-work"
    assert settings.origins["work_dir"] == "guardianflow.toml"
    text = (made.folder / "guardianflow.toml").read_text(encoding="utf-8")
    assert [name for name, env in env_names().items() if name not in text and env not in text] == [
        "aws_secret_access_key",  # a file for secrets is .env
        "aws_session_token",
    ]


def test_each_commented_setting_is_valid_when_it_is_uncommented(tmp_path, monkeypatch, no_settings):
    made = create_workspace(tmp_path)
    file = made.folder / "guardianflow.toml"
    lines = file.read_text(encoding="utf-8").splitlines()
    settings = [line.removeprefix("# ") for line in lines if " = " in line]
    file.write_text("\n".join(settings), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    assert {name for name, origin in Settings().origins.items() if origin == "guardianflow.toml"} == {
        line.split(" = ")[0] for line in settings
    }
    assert len(settings) == 17


def test_what_is_there_is_kept_and_named(tmp_path):
    create_workspace(tmp_path)
    (tmp_path / "guardianflow.toml").write_text('actor = "mine"\n', encoding="utf-8")
    (tmp_path / ".gitignore").unlink()
    again = create_workspace(tmp_path)

    assert [path.name for path in again.created] == [".gitignore"]
    assert list(again) == [tmp_path / ".gitignore"]
    assert tmp_path / "guardianflow.toml" in again.kept
    assert (tmp_path / "guardianflow.toml").read_text(encoding="utf-8") == 'actor = "mine"\n'


def test_a_folder_of_a_workspace_opens_the_whole_of_it_and_brings_what_is_missing(tmp_path):
    made = create_workspace(tmp_path / "w")
    (made.folder / "scenarios/README.md").unlink()
    (made.folder / "notebooks/wrap.ipynb").unlink()
    (made.folder / START).write_text("mine", encoding="utf-8")
    opened = open_workspace(made.folder / "notebooks")

    assert opened.folder == made.folder
    assert opened.created == (made.folder / "notebooks/wrap.ipynb",)
    assert (made.folder / START).read_text(encoding="utf-8") == "mine"
    assert open_workspace(tmp_path / "new").folder == tmp_path / "new"
    assert (tmp_path / "new/guardianflow.toml").is_file()


def test_a_checkout_is_never_opened_itself_and_has_one_work_folder(tmp_path, no_settings):
    checkout = copy_checkout(tmp_path / "체크 out")
    work = checkout / "guardianflow-work"
    asked = (
        "import os; from guardianflow.workspace import open_workspace; from guardianflow import Settings\n"
        "opened = open_workspace('.'); print(opened.folder)\n"
        "for folder in ('.', 'notebooks', opened.folder / 'notebooks'): os.chdir(folder); print(Settings().work_dir)\n"
    )
    (checkout / "notebooks/notebooks").mkdir()
    said = subprocess.run(
        [sys.executable, "-c", asked], check=True, capture_output=True, text=True,
        cwd=checkout / "notebooks", env=its_environment(checkout),
    ).stdout  # fmt: skip

    assert set(said.split("\n")) == {str(work), ""}
    assert (work / "notebooks/train.ipynb").read_bytes() == template_path("train").read_bytes()
    assert not (work / "guardianflow.toml").exists()
    assert git(checkout, "status", "--porcelain") == ""

    # Somebody opens a template all the same: what running it leaves is nothing, what was typed is not executed.
    notebook = json.loads((checkout / "notebooks/templates/train.ipynb").read_bytes())
    cell = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    cell["execution_count"] = 1
    assert "templates/train.ipynb" in found_there(checkout, notebook)
    cell["source"].append("\nprint(1)")
    assert "train.ipynb was edited where it lies" in found_there(checkout, notebook)


def found_there(checkout: Path, train: dict[str, object]) -> str:
    """What is said of a checkout's template for trainings, once it is this notebook."""
    (checkout / "notebooks/templates/train.ipynb").write_text(json.dumps(train), encoding="utf-8")
    find = "from guardianflow.execution.engine.notebook import template_path; print(template_path('train'))"
    done = subprocess.run(
        [sys.executable, "-c", find], check=False, capture_output=True, text=True,
        cwd=checkout, env=its_environment(checkout),
    )  # fmt: skip
    return done.stdout + done.stderr


def test_results_and_secrets_stay_out_of_git(tmp_path):
    create_workspace(tmp_path)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in (".env", "guardianflow-work/mlflow.db", "notebooks/best.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    shown = subprocess.run(
        ["git", "-C", str(tmp_path), "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True
    )
    untracked = {line[3:] for line in shown.stdout.splitlines()}

    assert {"guardianflow.toml", ".gitignore", "scenarios/README.md", "notebooks/train.ipynb"} <= untracked
    assert not {".env", "guardianflow-work/mlflow.db", "notebooks/best.pt"} & untracked


@pytest.mark.parametrize("below", ["", "deeper", "deeper/still"])
def test_a_file_in_the_way_is_a_clear_error(tmp_path, below):
    (tmp_path / "taken").write_text("mine", encoding="utf-8")

    with pytest.raises(InputError, match="file"):
        create_workspace(tmp_path / "taken" / below)
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "mine"


def test_a_folder_that_may_not_be_written_is_a_clear_error(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    if os.access(locked, os.W_OK):  # root may write anywhere: take a file system that nobody may
        if not Path("/proc/self").is_dir():
            pytest.skip("running as root without /proc: no folder is read-only here")
        locked = "/proc/self"
    with pytest.raises(InputError, match=r"can't be (written|made)") as caught:
        create_workspace(f"{locked}/w")
    assert "Choose" in str(caught.value)
