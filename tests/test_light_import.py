"""`import guardianflow` and `guardianflow --help` stay light: they load none of the heavy packages."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "cv2",
    "IPython",
    "mlflow",
    "nbconvert",
    "optuna",
    "pandas",
    "papermill",
    "plotly",
    "pyarrow",
    "ray",
    "scipy",
    "sqlalchemy",
    "torch",
    "ultralytics",
}

IMPORT = "import guardianflow"
HELP = """
import sys
sys.argv = ["guardianflow", "--help"]
from guardianflow.cli import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert code in (None, 0), f"--help ended with {code!r}"
"""
# What is loaded goes to stderr: stdout holds the help text.
REPORT = "\nimport json, sys\nsys.stderr.write('LOADED ' + json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"


def loaded_by(code: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter has loaded after the code."""
    done = subprocess.run(
        [sys.executable, "-c", code + REPORT], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.rpartition("LOADED ")[2]))


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import", "help"])
def test_no_heavy_package_is_loaded(code: str) -> None:
    assert loaded_by(code) & HEAVY == set()


def test_a_heavy_import_would_be_noticed() -> None:
    assert "sqlalchemy" in loaded_by("import sqlalchemy") & HEAVY


def test_the_package_root_loads_nothing_else_of_ours() -> None:
    code = (
        "import guardianflow, sys\n"
        "ours = sorted(n for n in sys.modules if n.startswith('guardianflow'))\n"
        "assert ours == ['guardianflow'], ours"
    )
    loaded_by(code)


def test_help_is_printed() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, timeout=120, check=False)
    assert "promote" in done.stdout, done.stderr
