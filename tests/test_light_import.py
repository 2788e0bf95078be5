"""`import guardianflow` and `guardianflow --help` stay light; a verb's options are made when it is called."""

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
    "pydantic",
    "ray",
    "scipy",
    "sqlalchemy",
    "torch",
    "ultralytics",
}

IMPORT = "import guardianflow"
CALL = """
import sys
sys.argv = ["guardianflow", *WORDS]
from guardianflow.cli import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert code in (None, 0), f"{sys.argv} ended with {code!r}"
"""


def call(*words: str) -> str:
    """A program that calls our command line."""
    return CALL.replace("WORDS", repr(words))


# What is loaded goes to stderr: stdout holds the help text.
REPORT = "\nimport json, sys\nsys.stderr.write('LOADED ' + json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"


def loaded_by(code: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter has loaded after the code."""
    done = subprocess.run(
        [sys.executable, "-c", code + REPORT], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.rpartition("LOADED ")[2]))


LIGHT = ["--help", "--version", "list --help", "init --help", "scenario --help", "scenario new --help"]


@pytest.mark.parametrize("code", [IMPORT, *(call(*words.split()) for words in LIGHT)], ids=["import", *LIGHT])
def test_no_heavy_package_is_loaded(code: str) -> None:
    assert loaded_by(code) & HEAVY == set()


def test_the_options_of_a_run_are_made_where_they_are_asked_for() -> None:
    assert loaded_by(call("train", "--help")) & HEAVY == {"pydantic"}


def test_help_imports_no_verb() -> None:
    code = call("--help") + "assert not [name for name in sys.modules if name.startswith('guardianflow.verbs')]"
    loaded_by(code)


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
    done = subprocess.run(
        [sys.executable, "-c", call("--help")], capture_output=True, text=True, timeout=120, check=False
    )
    assert "promote" in done.stdout, done.stderr
