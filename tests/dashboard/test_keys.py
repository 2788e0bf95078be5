"""Keys: made once, shown once, a ladder of roles, and gone the moment they are revoked."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from guardianflow.cli import app
from guardianflow.dashboard.keys import ROLES, Key, Keys
from guardianflow.exceptions import InputError, InvalidNameError, NotFoundError, RefusedError
from guardianflow.state.database import Database


@pytest.fixture
def keys(database_url: str) -> Keys:
    return Keys(Database.open(database_url))


def test_a_token_opens_and_its_secret_is_kept_nowhere(tmp_path: Path) -> None:
    keys = Keys(Database.open(f"sqlite:///{tmp_path}/state.db"))
    key, token = keys.create("gate server", "ingester", by="kim")
    assert keys.check(token) == key
    assert (key.name, key.role, key.created_by) == ("gate server", "ingester", "kim")
    secret = token.rpartition("_")[2]
    with sqlite3.connect(tmp_path / "state.db") as connection:
        assert secret not in "\n".join(connection.iterdump())
    assert secret not in json.dumps(key.to_dict()) + repr(key)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_what_those_before_it_may_and_no_more(keys: Keys, role: str) -> None:
    key, _ = keys.create("kim", role, by="lee")
    ladder = list(ROLES)
    for other in ladder:
        if ladder.index(other) <= ladder.index(role):
            key.require(other)
        else:
            with pytest.raises(RefusedError, match=f"needs the role {other}; key 'kim' is {role}"):
                key.require(other)


def test_what_is_no_token_opens_nothing(keys: Keys) -> None:
    _, token = keys.create("kim", "promoter", by="lee")
    head, _, secret = token.rpartition("_")
    other = "0" if secret[0] != "0" else "1"
    wrong = [
        "", "gf_", token[:-1], token + "0", token.upper(), f" {token}", f"{token}\n", f"{head}_{other}{secret[1:]}",
        f"gf_{'0' * 16}_{secret}", f"gf_{'0' * 16}_{'0' * 64}", f"{head}_{'٠' * 64}",
    ]  # fmt: skip
    assert [text for text in wrong if keys.check(text) is not None] == []


def test_a_revoked_key_opens_nothing_and_keeps_its_name(keys: Keys) -> None:
    _, token = keys.create("kim", "promoter", by="lee")
    revoked = keys.revoke("kim")
    assert keys.check(token) is None
    assert revoked.revoked is not None
    assert not revoked.may("viewer")
    assert keys.revoke("kim") == revoked
    assert keys.any()
    with pytest.raises(InputError, match="named 'kim' was made before"):
        keys.create("kim", "viewer", by="lee")
    assert [key.name for key in keys.list()] == ["kim"]


def test_a_key_that_can_not_be_made_says_why(keys: Keys) -> None:
    assert not keys.any()
    with pytest.raises(InputError, match="no role 'admin'; roles: viewer"):
        keys.create("kim", "admin", by="lee")
    with pytest.raises(InvalidNameError, match="key name"):
        keys.create("a/b", "viewer", by="lee")
    with pytest.raises(NotFoundError, match="no key named 'kim'; known: none yet"):
        keys.revoke("kim")
    assert keys.list() == []


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("GUARDIANFLOW_ACTOR", "kim")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


@pytest.mark.usefixtures("workplace")
def test_the_verbs_make_show_and_revoke_keys() -> None:
    made = call("keys", "create", "gate server", "--role", "ingester")
    token = made.stdout.strip()
    assert token.startswith("gf_")
    assert token not in made.stderr
    assert "can't be shown again" in made.stderr
    document = json.loads(call("keys", "create", "lee", "--role", "viewer", "--json").stdout)
    assert document["token"].startswith("gf_")
    assert (document["created_by"], document["role"]) == ("kim", "viewer")
    listed = call("keys", "list").stdout
    assert "gate server" in listed
    assert token.rpartition("_")[2] not in listed
    call("keys", "revoke", "gate server")
    assert "answers nobody" in call("keys", "revoke", "lee").stderr
    rows = json.loads(call("keys", "list", "--json").stdout)["keys"]
    assert [row["name"] for row in rows if row["revoked"]] == ["gate server", "lee"]
    assert "no role 'root'" in call("keys", "create", "x", "--role", "root", code=2).stderr


def test_a_key_says_its_role_when_it_refuses() -> None:
    from datetime import UTC, datetime

    key = Key("0" * 16, "kim", "viewer", datetime(2026, 5, 1, tzinfo=UTC), "lee")
    with pytest.raises(RefusedError, match="guardianflow keys create NAME --role promoter"):
        key.require("promoter")
