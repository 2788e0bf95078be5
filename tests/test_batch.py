"""``guardianflow batch``: many scenario files as people and programs run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from guardianflow.core.config import Settings
from guardianflow.runs.run_records import RunRecords, RunStatus
from guardianflow.state.database import Database
from guardianflow.testing.executor_suite import wait_until
from tests.test_cli import call, call_json
from tests.test_cli import workplace as workplace  # noqa: PLC0414 - a fixture

_HANGS = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"


def scenario(folder: Path, name: str, script: str, *args: object, text: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    code = folder / f"{name}.py"
    code.write_text(script, encoding="utf-8")
    file = folder / f"{name}.yaml"
    listed = json.dumps([str(arg) for arg in args])
    file.write_text(
        f"kind: wrap\nexperiment: batch 시험\nrun:\n  script_path: {code}\n  working_dir: {folder}\n"
        f"  args: {listed}\n{text}",
        encoding="utf-8",
    )
    return file


def test_a_folder_is_executed_and_one_that_fails_holds_up_no_other(workplace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "시나리오"
    scenario(folder, "a", "print('loss: 0.5')")
    scenario(folder, "b", "raise SystemExit('the disk is made of cheese')")
    scenario(folder, "c", "")
    (folder / "c.py").unlink()
    (folder / "notes.txt").write_text("no scenario")
    done = call("batch", str(folder), str(folder / "a.yaml"), "--at-once", "3", "--json", code=1)
    found = json.loads(done.stdout)
    assert [Path(row["file"]).name for row in found["runs"]] == ["a.yaml", "b.yaml", "c.yaml"]
    assert [row["status"] for row in found["runs"]] == ["finished", "failed", "refused"]
    assert (found["finished"], found["failed"], found["refused"], found["exit_code"]) == (1, 1, 1, 1)
    assert found["runs"][0]["metrics"]["loss"] == 0.5
    assert "c.py" in found["runs"][2]["error"]["message"]
    assert found["runs"][2]["run_id"] == ""
    assert any("is named twice and executed once" in remark for remark in found["remarks"])
    assert "3/3" in done.stderr
    records = RunRecords(Database.open(Settings().database_url))
    assert records.get(found["runs"][1]["run_id"]).status == RunStatus.FAILED


def test_people_see_a_table_at_the_end(workplace: Path, tmp_path: Path) -> None:
    shown = call("batch", str(scenario(tmp_path / "x", "only", "print('loss: 0.5')")), "--set", "experiment=other")
    assert "1 scenarios · 1 finished" in shown.stdout
    assert "loss 0.500" in shown.stdout
    assert "other" in shown.stdout


def test_nothing_begins_where_a_file_can_not_be_used(workplace: Path, tmp_path: Path) -> None:
    good = scenario(tmp_path / "x", "good", "")
    bad = scenario(tmp_path / "x", "bad", "", text="epochs: 3\n")
    (tmp_path / "x" / "data.yaml").write_text("train: images\n")
    refused = call("batch", str(tmp_path / "x"), code=2)
    assert "2 of 3 scenario files can't be used; nothing was started" in refused.stderr
    assert f"{bad}:7: there is no 'epochs'" in refused.stderr
    assert "data.yaml:1: kind must be one of" in refused.stderr
    assert call_json("list", "runs")["runs"] == []
    assert good.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["{empty}"], "holds no scenario file"),
        (["{empty}/none.yaml"], "there is no file or folder"),
        (["{good}", "--executor", "slurm"], "there is no executor named 'slurm'. Known: local, ray"),
        (["{good}", "--address", "http://head:8265"], "add --executor ray"),
        (["{good}", "--executor", "ray", "--address", "http://127.0.0.1:9"], "no Ray cluster answers at http://127.0.0.1:9"),
        (["{good}", "--executor", "ray", "--address", "ray://head:10001"], "is no address of a Ray dashboard"),
        (["{good}", "--set", "run.nothing=1"], "there is no 'run.nothing'"),
    ],
)  # fmt: skip
def test_bad_input_is_a_sentence(workplace: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    good = scenario(tmp_path / "x", "good", "")
    said = [word.format(empty=tmp_path / "empty", good=good) for word in words]
    refused = call("batch", *said, code=2)
    assert sentence in refused.stderr.replace("\n", " ")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_what_runs_and_says_what_became_of_each(
    workplace: Path, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    places = [tmp_path / "pid-a", tmp_path / "pid-b"]
    for name, place in zip("ab", places, strict=True):
        scenario(tmp_path / "x", name, _HANGS, place)
    scenario(tmp_path / "x", "c", "")
    main = "from guardianflow.cli import main; main()"
    command = [sys.executable, "-c", main, "batch", str(tmp_path / "x"), "--at-once", "2", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_until(lambda: all(place.exists() and place.read_text() for place in places))
        os.killpg(process.pid, signum)
        out, err = process.communicate(timeout=90)
    assert process.returncode == code, err
    assert "Traceback" not in err
    found = json.loads(out)
    assert [row["status"] for row in found["runs"]] == ["cancelled"] * 3
    records = RunRecords(Database.open(Settings().database_url))
    for row in found["runs"][:2]:
        assert records.get(row["run_id"]).status == RunStatus.KILLED
    assert found["runs"][2]["run_id"] == ""
    assert not any(psutil.pid_exists(int(place.read_text())) for place in places)
