"""Settings: five layers, where each value came from, paths, and what is shown of secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine.url import make_url

from guardianflow.core.config import Settings, env_names, find_env_file, mask_secrets, sqlite_path, sqlite_url
from guardianflow.exceptions import ConfigError
from guardianflow.state.database import Database

NAMES = tuple(env_names().values())


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An empty folder that is the current one, with no setting in the environment."""
    for name in [*os.environ]:
        if name in NAMES or name.startswith("GUARDIANFLOW_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "현장 관제 100%"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_defaults_need_no_server_and_live_in_one_folder(workspace):
    settings = Settings()

    assert settings.work_dir == workspace / "guardianflow-work"
    assert sqlite_path(settings.mlflow_tracking_uri) == settings.work_dir / "mlflow.db"
    assert sqlite_path(settings.database_url) == settings.work_dir / "guardianflow.db"
    assert settings.is_embedded
    assert settings.actor
    assert set(settings.origins.values()) == {"default"}
    assert not settings.work_dir.exists()  # reading settings creates nothing


def test_each_layer_beats_the_ones_below_and_is_named_as_the_origin(workspace, monkeypatch):
    seen = []

    def look(**arguments):
        settings = Settings(**arguments)
        seen.append((settings.actor, settings.origins["actor"]))

    (workspace / "guardianflow.toml").write_text('actor = "from toml"\n', encoding="utf-8")
    look()
    (workspace / ".env").write_text("GUARDIANFLOW_ACTOR=from dotenv\n", encoding="utf-8")
    look()
    monkeypatch.setenv("GUARDIANFLOW_ACTOR", "from environment")
    look()
    look(actor="from argument")

    assert seen == [
        ("from toml", "guardianflow.toml"),
        ("from dotenv", ".env"),
        ("from environment", "environment"),
        ("from argument", "argument"),
    ]


@pytest.mark.parametrize("name", env_names())
def test_every_setting_is_read_from_its_environment_name(workspace, monkeypatch, name):
    known = {
        "mlflow_tracking_uri": "http://127.0.0.1:5000",
        "database_url": "postgresql://h/d",
        "gate": "off",
        "language": "ko",
        "gate_override_actors": "['kim']",
    }
    value = known.get(name, "0.5" if name.startswith("gate_") else "/a/b")
    monkeypatch.setenv(env_names()[name], value.strip("[']"))
    settings = Settings()
    read = getattr(settings, name)

    assert (read.get_secret_value() if hasattr(read, "get_secret_value") else str(read)) == value
    assert settings.origins == {key: "environment" if key == name else "default" for key in env_names()}


def test_who_may_override_the_gate_is_a_list_or_names_with_commas(workspace, monkeypatch):
    assert Settings().gate_override_actors == []
    monkeypatch.setenv("GUARDIANFLOW_GATE_OVERRIDE_ACTORS", " kim, 이 영희 ,,")
    assert Settings().gate_override_actors == ["kim", "이 영희"]
    assert Settings(gate_override_actors=["lee"]).gate_override_actors == ["lee"]


@pytest.mark.parametrize("actors", [[], ["kim"], ["kim", "이 영희"]])
def test_another_process_gets_the_same_settings_through_its_environment(workspace, monkeypatch, actors):
    here = Settings(gate_override_actors=actors, gate="off", gate_margin=0.5, aws_secret_access_key="s3cret")
    for name, value in here.as_environment().items():
        monkeypatch.setenv(name, value)
    there = Settings()
    assert there.gate_override_actors == actors
    assert (there.gate, there.gate_margin, there.work_dir) == ("off", 0.5, here.work_dir)
    assert there.aws_secret_access_key.get_secret_value() == "s3cret"
    [shown] = [row["value"] for row in there.describe() if row["name"] == "gate_override_actors"]
    assert shown == ",".join(actors)


@pytest.mark.parametrize(
    ("name", "value"), [("gate", "no"), ("gate_margin", "2"), ("gate_size_ratio", "0"), ("gate_latency_ratio", "x")]
)
def test_a_gate_that_makes_no_sense_is_refused(workspace, monkeypatch, name, value):
    monkeypatch.setenv(env_names()[name], value)
    with pytest.raises(ConfigError, match=f"{name} = '{value}' \\(from environment\\)"):
        Settings()


def test_foreign_variables_of_similar_name_are_ignored(workspace, monkeypatch):
    for name in ("DATABASE_URL", "ACTOR", "WORK_DIR", "EXPERIMENTS_BASE"):
        monkeypatch.setenv(name, "postgresql://somebody-elses/app")
    monkeypatch.setenv("GUARDIANFLOW_UNHEARD_OF", "1")
    (workspace / ".env").write_text("DATABASE_URL=postgresql://x/y\nDJANGO_KEY=1\n", encoding="utf-8")

    assert Settings().describe() == [row for row in Settings().describe() if "somebody" not in row["value"]]
    assert set(Settings().origins.values()) == {"default"}


def test_an_empty_variable_counts_as_not_set(workspace, monkeypatch):
    monkeypatch.setenv("GUARDIANFLOW_DATABASE_URL", "")

    assert Settings().database_url == sqlite_url(workspace / "guardianflow-work/guardianflow.db")
    assert Settings().origins["database_url"] == "default"


def test_files_are_found_from_a_sub_folder_and_their_paths_count_from_their_folder(workspace, monkeypatch):
    (workspace / "guardianflow.toml").write_text(
        'work_dir = "작업"\ndatabase_url = "sqlite:///상태 db/x.db"\n', encoding="utf-8"
    )
    (workspace / ".env").write_text("GUARDIANFLOW_EXPERIMENTS_BASE=code\n", encoding="utf-8")
    deep = workspace / "notebooks/deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    settings = Settings()

    assert settings.work_dir == workspace / "작업"
    assert sqlite_path(settings.database_url) == workspace / "상태 db/x.db"
    assert settings.experiments_base == workspace / "code"
    assert settings.origins["experiments_base"] == ".env"


def test_paths_from_the_environment_and_arguments_count_from_the_current_folder(workspace, monkeypatch):
    (workspace / "guardianflow.toml").write_text("", encoding="utf-8")
    deep = workspace / "deep"
    deep.mkdir()
    monkeypatch.chdir(deep)
    monkeypatch.setenv("GUARDIANFLOW_DATABASE_URL", "sqlite:///state.db")

    assert sqlite_path(Settings().database_url) == deep / "state.db"
    assert Settings(work_dir="w").work_dir == deep / "w"
    assert Settings().work_dir == workspace / "guardianflow-work"


def test_the_nearest_dotenv_inside_the_workspace_wins_and_one_above_it_is_not_read(workspace, monkeypatch):
    (workspace.parent / ".env").write_text("GUARDIANFLOW_ACTOR=stranger\n", encoding="utf-8")
    deep = workspace / "deep"
    deep.mkdir()
    monkeypatch.chdir(deep)
    assert find_env_file() is None

    (workspace / "guardianflow.toml").write_text("", encoding="utf-8")
    assert find_env_file() is None
    (workspace / ".env").write_text("GUARDIANFLOW_ACTOR=workspace\n", encoding="utf-8")
    assert Settings().actor == "workspace"
    (deep / ".env").write_text("GUARDIANFLOW_ACTOR=nearest\n", encoding="utf-8")
    assert Settings().actor == "nearest"


@pytest.mark.parametrize("name", ["a b", "100%", "50%41", "what?", "#1", "현장", "a+b&c=d", "%25"])
def test_a_sqlite_url_leads_back_to_its_file_whatever_the_folder_is_called(workspace, name):
    path = workspace / name / "mlflow.db"

    assert sqlite_path(sqlite_url(path)) == path
    assert Path(make_url(sqlite_url(path)).database) == path
    assert sqlite_path(Settings(work_dir=path.parent).database_url) == path.parent / "guardianflow.db"


def test_the_state_database_is_created_in_a_folder_with_difficult_letters(workspace):
    settings = Settings(work_dir=workspace / "50%41 #1 현장?")
    opened = Database.open(settings.database_url)
    opened.make()
    opened.close()

    assert (settings.work_dir / "guardianflow.db").is_file()
    assert [item.name for item in workspace.iterdir()] == ["50%41 #1 현장?"]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite+pysqlite:///b.db?timeout=3", "b.db"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("sqlite:///file:x.db?uri=true", None),
        ("postgresql://u:p@h/d", None),
    ],
)
def test_sqlite_path_knows_which_urls_are_files(url, path):
    assert sqlite_path(url) == (path and Path(path))


def test_a_relative_sqlite_url_keeps_its_query(workspace):
    settings = Settings(database_url="sqlite:///x.db?timeout=3")

    assert settings.database_url == sqlite_url(workspace / "x.db") + "?timeout=3"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:s3cret@db/gf", "postgresql://ann:***@db/gf"),
        ("postgresql://ann:s3@cret@db/gf", "postgresql://ann:***@db/gf"),
        ("postgresql+psycopg://ann:s3/cret@db/gf", "postgresql+psycopg://ann:***@db/gf"),
        ("redis://:s3cret@db", "redis://:***@db"),
        ("postgresql://db/gf?user=ann&password=s3cret&x=1", "postgresql://db/gf?user=ann&password=***&x=1"),
        ("http://db:5000/path", "http://db:5000/path"),
    ],
)
def test_passwords_in_urls_are_masked(url, shown):
    assert mask_secrets(f"see {url} now") == f"see {shown} now"


def test_nothing_that_is_shown_holds_a_secret(workspace, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA-s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key-s3cret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-s3cret")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:url-s3cret@host/")
    settings = Settings(database_url="postgresql://ann:db-s3cret@host/gf")

    for text in (repr(settings), str(settings), json.dumps(settings.describe())):
        assert "AKIA" not in text
    assert "s3cret" not in json.dumps(settings.describe())
    assert "key-s3cret" not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('work_dri = "x"', r"unknown key: 'work_dri'; did you mean 'work_dir'\?"),
        ('GUARDIANFLOW_WORK_DIR = "x"', r"did you mean 'work_dir'\?"),
        ("[mlflow]\nuri = 1", r"unknown key: 'mlflow'; did you mean|Known: mlflow_tracking_uri"),
        ("work_dir = ", "not valid TOML"),
        ("work_dir = 3", r"work_dir = '3' \(from guardianflow.toml\)"),
        ('database_url = "state.db"', r"database_url = 'state.db' \(from guardianflow.toml\): must be a URL such as"),
    ],
)
def test_a_wrong_guardianflow_toml_is_one_sentence_with_the_next_step(workspace, text, message):
    (workspace / "guardianflow.toml").write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=message) as caught:
        Settings()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_byte_order_mark_is_no_error(workspace):
    (workspace / "guardianflow.toml").write_text('actor = "jin"\n', encoding="utf-8-sig")

    assert Settings().actor == "jin"


def test_a_file_that_is_no_text_is_named(workspace):
    (workspace / "guardianflow.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"guardianflow\.toml is not valid TOML"):
        Settings()
    (workspace / "guardianflow.toml").unlink()
    (workspace / ".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"\.env is not UTF-8"):
        Settings()


def test_an_unknown_argument_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'work_dir'"):
        Settings(workdir="x")


def test_a_wrong_secret_is_not_repeated_in_the_error(workspace):
    (workspace / "guardianflow.toml").write_text("aws_secret_access_key = 12345678", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"aws_secret_access_key = \(hidden\)") as caught:
        Settings()
    assert "12345678" not in str(caught.value)


def test_settings_do_not_change():
    with pytest.raises(Exception, match="frozen"):
        Settings().actor = "x"


def test_export_hands_s3_settings_to_the_environment_and_overwrites_nothing(workspace):
    settings = Settings(
        mlflow_s3_endpoint_url="http://127.0.0.1:8333", aws_access_key_id="ours", aws_secret_access_key="hidden"
    )
    environment = {"AWS_ACCESS_KEY_ID": "theirs", "AWS_SECRET_ACCESS_KEY": ""}
    written = settings.export(environment)

    assert written == ["MLFLOW_S3_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY"]
    assert environment == {
        "AWS_ACCESS_KEY_ID": "theirs",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:8333",
    }
    assert settings.export(environment) == []


def test_importing_settings_loads_nothing_heavy():
    script = (
        "import sys, guardianflow.core.config\n"
        "heavy = {'sqlalchemy', 'mlflow', 'pandas', 'torch', 'numpy', 'psutil', 'yaml', 'requests'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_vanished_current_folder_is_said_plainly(tmp_path):
    gone = tmp_path / "gone"
    script = (
        "import os, sys\nfrom guardianflow.core.config import Settings\n"
        "from guardianflow.exceptions import ConfigError\n"
        "os.mkdir(sys.argv[1]); os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])\n"
        "try: Settings()\nexcept ConfigError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, gone], capture_output=True, text=True, timeout=60, check=True)

    assert "no longer exists" in done.stdout
