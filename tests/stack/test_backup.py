"""What a backup is held against before anything is written; the way there and back is in test_stack.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from guardianflow.exceptions import GuardianFlowError, InputError, NotFoundError
from guardianflow.stack.backup import back_up, restore
from guardianflow.stack.compose import Stack, read_stack
from guardianflow.stack.preparing import DATABASES, init_stack


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """One that isn't up: whoever asks PostgreSQL or S3 fails."""
    init_stack(tmp_path / "stack")
    file = tmp_path / "stack" / ".env"
    text = file.read_text().replace("POSTGRES_PORT=5432", "POSTGRES_PORT=1")
    file.write_text(text.replace("S3_PORT=8333", "S3_PORT=1"))
    return read_stack(tmp_path / "stack")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A backup with one object."""
    folder = tmp_path / "백업 copy"
    content = b"weights"
    sha256 = hashlib.sha256(content).hexdigest()
    dumps = {name: hashlib.sha256(name.encode()).hexdigest() for name in DATABASES}
    for each, what in ((sha256, content), *((dumps[name], name.encode()) for name in DATABASES)):
        (folder / "files" / each[:2]).mkdir(parents=True, exist_ok=True)
        (folder / "files" / each[:2] / each).write_bytes(what)
    objects = {"1/run/artifacts/weights/best.pt": {"etag": '"x"', "size": 7, "sha256": sha256}}
    (folder / "manifest.json").write_text(json.dumps({"version": "0", "made": "", "dumps": dumps, "objects": objects}))
    return folder


def edit(copy: Path, **changes: Any) -> None:
    path = copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_whole_backup_comes_as_far_as_the_server(stack: Stack, copy: Path) -> None:
    with pytest.raises(GuardianFlowError, match="connection"):
        restore(stack, copy)


def test_a_folder_without_a_manifest_is_no_backup(stack: Stack, copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(NotFoundError, match="there is no backup"):
        restore(stack, copy)


@pytest.mark.parametrize("what", ["guardianflow", "weights"])
def test_a_changed_or_missing_file_is_found_before_anything_is_restored(stack: Stack, copy: Path, what: str) -> None:
    file = next(path for path in copy.glob("files/*/*") if path.read_bytes() == what.encode())
    file.write_bytes(b"other")
    with pytest.raises(InputError, match="not what was backed up; nothing was restored"):
        restore(stack, copy)
    file.unlink()
    with pytest.raises(InputError, match="nothing was restored"):
        restore(stack, copy)


@pytest.mark.parametrize(
    "objects", [{"k": {"sha256": "../../../etc/passwd"}}, {"k": {"sha256": "A" * 64}}, {"k": {}}, [], {"k": 3}]
)
def test_a_manifest_leads_nowhere_else(stack: Stack, copy: Path, objects: Any) -> None:
    edit(copy, objects=objects)
    with pytest.raises(InputError, match="is no manifest of a backup"):
        restore(stack, copy)


def test_a_manifest_of_other_databases_is_none(stack: Stack, copy: Path) -> None:
    edit(copy, dumps={"postgres": "0" * 64})
    with pytest.raises(InputError, match="other databases"):
        restore(stack, copy)


def test_a_folder_that_holds_something_else_stays_as_it_is(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="something else than a backup"):
        back_up(stack, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_an_earlier_backup_stays_good_while_a_new_one_fails(stack: Stack, copy: Path) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(GuardianFlowError):
        back_up(stack, copy)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
