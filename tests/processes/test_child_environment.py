"""A wrapped script sees the environment of a plain shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from guardianflow.exceptions import InputError
from guardianflow.processes.supervision.environment import (
    MINIMUM,
    OUTER,
    child_environment,
    environment_summary,
    outer_environment,
)

SHELL = {
    "PATH": "/bin",
    "HOME": "/home/김",
    "TERM": "xterm",
    "MY_VAR": "a b",
    "PAGER": "less",
    "HF_TOKEN": "hf_secret1",
}
KERNEL = {
    "JPY_PARENT_PID": "1",
    "TERM": "xterm-color",
    "CLICOLOR": "1",
    "FORCE_COLOR": "1",
    "CLICOLOR_FORCE": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYDEVD_USE_FRAME_EVAL": "NO",
    "GUARDIANFLOW_DATABASE_URL": "postgresql://u:p@h/d",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "6",
    "PYTHONWARNINGS": "ignore:IProgress not found",
}


def test_without_a_list_everything_stays() -> None:
    assert child_environment(SHELL, allow=None) == SHELL


def test_what_a_kernel_set_is_put_back_to_what_the_shell_had() -> None:
    noted = {name: SHELL.get(name) for name in KERNEL if name != "JPY_PARENT_PID"}
    base = {**SHELL, **KERNEL, OUTER: json.dumps(noted)}
    assert child_environment(base, allow=None) == SHELL


def test_without_a_note_the_kernels_own_values_go() -> None:
    found = child_environment({**SHELL, **KERNEL}, allow=None)
    assert found == {
        **{name: value for name, value in SHELL.items() if name != "PAGER"},
        "TERM": "xterm-color",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "6",
    }


def test_a_warning_filter_of_the_users_own_stays() -> None:
    base = {"JPY_PARENT_PID": "1", "PYTHONWARNINGS": "error,ignore:IProgress not found", "MPLBACKEND": "agg"}
    assert child_environment(base, allow=None) == {"PYTHONWARNINGS": "error", "MPLBACKEND": "agg"}


def test_outside_a_kernel_colours_and_pagers_are_the_users() -> None:
    base = {"FORCE_COLOR": "1", "PAGER": "cat", "GUARDIANFLOW_GATE": "off"}
    assert child_environment(base, allow=None) == base


@pytest.mark.parametrize("note", ["", "{", "[]", "3", '{"PATH": "/evil", "MY_VAR": null, "TERM": 3}'])
def test_a_broken_or_foreign_note_changes_nothing_else(note: str) -> None:
    assert child_environment({**SHELL, OUTER: note}, allow=None) == SHELL


def test_a_list_lets_only_its_names_and_the_minimum_through() -> None:
    base = {**SHELL, "CUDA_HOME": "/cuda", "CUDA_VISIBLE_DEVICES": "0", "LC_ALL": "C.UTF-8", "cuda_x": "1"}
    found = child_environment(base, allow=["CUDA_*", "MISSING"])
    assert found == {
        "PATH": "/bin",
        "HOME": "/home/김",
        "TERM": "xterm",
        "CUDA_HOME": "/cuda",
        "CUDA_VISIBLE_DEVICES": "0",
        "LC_ALL": "C.UTF-8",
    }
    assert "HF_TOKEN" not in MINIMUM


def test_an_empty_list_leaves_the_minimum() -> None:
    assert set(child_environment(SHELL, allow=[])) == {"PATH", "HOME", "TERM"}


@pytest.mark.parametrize("name", ["", "A=B", "A\0B"])
def test_names_that_no_environment_holds_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        child_environment({}, allow=[name])


def test_the_summary_shows_names_and_hides_secrets() -> None:
    env = {"HF_TOKEN": "hf_secret1", "URL": "http://u:geheim99@h", "ECHO": "say hf_secret1", "A": "1", "B": "geheim99"}
    assert environment_summary(env) == {
        "count": 5,
        "variables": {"A": "1", "B": "***", "ECHO": "say ***", "HF_TOKEN": "***", "URL": "http://u:***@h"},
    }


def test_what_the_shell_had_is_known_in_spite_of_what_the_process_changed(tmp_path: Path) -> None:
    script = tmp_path / "시작 x.py"
    script.write_text(
        "import json, os\n"
        "os.environ['PAGER'] = 'cat'; os.environ['MLFLOW_HTTP_REQUEST_TIMEOUT'] = '6'; os.environ['OTHER'] = 'mine'\n"
        "from guardianflow.processes.supervision.environment import child_environment, outer_environment\n"
        "print(json.dumps(child_environment({**os.environ, **outer_environment()}, allow=None)))\n",
        encoding="utf-8",
    )
    base = {name: value for name, value in os.environ.items() if name not in {"PAGER", "MLFLOW_HTTP_REQUEST_TIMEOUT"}}
    env = {**base, "PAGER": "less"}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["PAGER"] == ("less" if sys.platform == "linux" else "cat")
    assert found["OTHER"] == "mine"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in found or sys.platform != "linux"


def test_a_note_from_further_out_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OUTER, '{"PAGER": "most"}')
    assert outer_environment() == {OUTER: '{"PAGER": "most"}'}
