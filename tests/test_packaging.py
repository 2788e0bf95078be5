"""What travels: a wheel built from this checkout holds the package, the notebooks and the licence."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive, built by the pinned backend without network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def names_in_wheel(folder: Path) -> set[str]:
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return set(wheel.namelist())


def tracked(folder: str, pattern: str) -> list[Path]:
    return [
        path for path in (ROOT / folder).rglob(pattern) if not {"__pycache__", ".ipynb_checkpoints"} & {*path.parts}
    ]


def test_every_module_is_in_the_wheel(built: Path) -> None:
    ours = {path.relative_to(ROOT).as_posix() for path in tracked("guardianflow", "*.py")}
    assert "guardianflow/cli.py" in ours
    assert ours <= names_in_wheel(built)
    assert "guardianflow/py.typed" in names_in_wheel(built)


def test_the_migrations_are_in_the_wheel(built: Path) -> None:
    migrations = {name for name in names_in_wheel(built) if name.startswith("guardianflow/state/migrations/versions/0")}
    assert migrations
    assert {path.name for path in tracked("guardianflow/state/migrations", "*.mako")} <= {
        name.rpartition("/")[2] for name in names_in_wheel(built)
    }


def test_the_notebooks_travel_in_the_wheel(built: Path) -> None:
    folder = ROOT / "notebooks"
    ours = {
        f"guardianflow/_notebooks/{path.relative_to(folder).as_posix()}"
        for path in [*tracked("notebooks", "*.ipynb"), *tracked("notebooks", "*.json")]
    }
    assert "guardianflow/_notebooks/templates/train.ipynb" in ours
    assert ours <= names_in_wheel(built)


def test_the_stack_travels_in_the_wheel(built: Path) -> None:
    ours = {f"guardianflow/_stack/{name}" for name in ("docker-compose.yml", ".env.example")}
    ours |= {f"guardianflow/_stack/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "grafana").rglob("*.*")}
    assert ours <= names_in_wheel(built)


def test_nothing_stray_is_in_the_wheel(built: Path) -> None:
    tops = {name.partition("/")[0] for name in names_in_wheel(built)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"guardianflow"}
    assert not [name for name in names_in_wheel(built) if "__pycache__" in name or "checkpoint" in name]


def test_the_wheel_names_its_licence_and_command(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        text = {name.rpartition("/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
        assert "License-Expression: AGPL-3.0-or-later" in wheel.read(text["METADATA"]).decode()
        assert "guardianflow = guardianflow.cli:main" in wheel.read(text["entry_points.txt"]).decode()
        assert "GNU AFFERO GENERAL PUBLIC LICENSE" in wheel.read(text["LICENSE"]).decode()


def test_the_source_archive_can_be_set_up_and_built_from(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"pyproject.toml", "README.md", "LICENSE", "Makefile", "tools/setup.sh", "requirements/base.lock"}
    assert needed <= names
    assert "notebooks/templates/train.ipynb" in names
