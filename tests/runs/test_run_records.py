"""Our record of a run knows whether its process lives, and only the right process may end it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from guardianflow.exceptions import NotFoundError
from guardianflow.runs.heartbeat import Pulse
from guardianflow.runs.run_records import STALE_AFTER, ProcessIdentity, RunRecord, RunRecords, RunStatus
from guardianflow.state.database import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=3)


@pytest.fixture
def records(database_url: str) -> RunRecords:
    return RunRecords(Database.open(database_url))


def a_record(run_id: str = "run-000001", **changes: object) -> RunRecord:
    base = RunRecord(
        run_id=run_id,
        tracking_uri="sqlite:///mlflow.db",
        experiment="게이트",
        kind="train",
        status=RunStatus.RUNNING,
        reason=None,
        parameters={"epochs": 3},
        template="train",
        folder=Path("/work/runs") / run_id,
        actor="kim",
        again_of=None,
        owner=ProcessIdentity.current(),
        heartbeat=NOW,
        started=NOW,
        ended=None,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


ANOTHER = ProcessIdentity("another-host", "another-boot", 4711, 1.0)

# ---- who lives --------------------------------------------------------------------------------------


def identity_of(pid: int) -> ProcessIdentity:
    code = f"from guardianflow.runs import run_records as r; print(r._start_time({pid}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return replace(ProcessIdentity.current(), pid=pid, started=float(out))


@pytest.fixture
def sleeper() -> object:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_a_process_lives_until_it_is_killed_whatever_its_heartbeat_says(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identity_of(sleeper.pid)
    assert identity.lives(LONG_AGO, NOW)
    sleeper.kill()
    time.sleep(0.2)
    assert not identity.lives(NOW, NOW), "a zombie counts as dead"
    sleeper.wait()
    assert not identity.lives(NOW, NOW)


def test_a_stopped_process_lives(sleeper: subprocess.Popen[bytes]) -> None:
    os.kill(sleeper.pid, signal.SIGSTOP)
    assert identity_of(sleeper.pid).lives(LONG_AGO, NOW)


def test_a_reused_pid_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identity_of(sleeper.pid)
    assert not replace(identity, started=identity.started - 60).lives(NOW, NOW)


def test_a_process_named_with_parentheses_and_blanks_is_read_right(tmp_path: Path) -> None:
    odd = tmp_path / "a) b (c"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "60"]) as process:
        try:
            assert identity_of(process.pid).lives(LONG_AGO, NOW)
        finally:
            process.kill()


@pytest.mark.parametrize(
    "elsewhere", [{"host": "another"}, {"boot": "another boot"}], ids=["host", "boot or container"]
)
def test_where_the_process_can_not_be_seen_only_the_heartbeat_speaks(elsewhere: dict[str, str]) -> None:
    identity = replace(ProcessIdentity.current(), **elsewhere)  # type: ignore[arg-type]
    assert identity.lives(NOW - STALE_AFTER + timedelta(seconds=1), NOW)
    assert not identity.lives(NOW - STALE_AFTER, NOW)


# ---- who may end a run ------------------------------------------------------------------------------


def test_a_run_ends_once(records: RunRecords) -> None:
    records.add(a_record())
    assert records.finish("run-000001", RunStatus.FINISHED, None)
    assert not records.finish("run-000001", RunStatus.FAILED, "too late")
    found = records.get("run-000001")
    assert (found.status, found.reason) == (RunStatus.FINISHED, None)
    assert found.ended is not None


def test_the_owner_has_the_last_word_over_one_who_took_it_for_dead(records: RunRecords) -> None:
    record = a_record()
    records.add(record)
    assert records.bury(record, RunStatus.FAILED, "its process died")
    assert records.finish(record.run_id, RunStatus.FINISHED, None, owner=record.owner)
    assert records.get(record.run_id).status == RunStatus.FINISHED


def test_a_run_that_was_taken_over_is_no_longer_its_first_owners(records: RunRecords) -> None:
    record = a_record(status=RunStatus.KILLED)
    records.add(record)
    assert records.take_over(record, ANOTHER)
    assert not records.finish(record.run_id, RunStatus.FINISHED, None, owner=record.owner)
    found = records.get(record.run_id)
    assert (found.status, found.owner) == (RunStatus.RUNNING, ANOTHER)


def test_only_one_of_two_takes_over(records: RunRecords) -> None:
    record = a_record(status=RunStatus.FAILED)
    records.add(record)
    assert records.take_over(record, ANOTHER)
    assert not records.take_over(record, replace(ANOTHER, pid=4712))


def test_a_run_that_gave_a_sign_of_life_is_not_buried(records: RunRecords) -> None:
    record = a_record()
    records.add(record)
    records.beat(record.run_id)
    assert not records.bury(record, RunStatus.FAILED, "its process died")
    assert records.get(record.run_id).status == RunStatus.RUNNING


# ---- what it says -----------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_written(records: RunRecords) -> None:
    record = a_record(reason="왜?", ended=NOW, status=RunStatus.FAILED, again_of="run-000000", progress={"done": 1})
    records.add(record)
    assert records.get(record.run_id) == record


def test_a_run_is_found_by_the_beginning_of_its_id(records: RunRecords) -> None:
    records.add(a_record("abcdef01"))
    records.add(a_record("abcdef02"))
    records.add(a_record("abc%ef03"))
    assert records.get("abcdef01").run_id == "abcdef01"
    assert records.get("abc%ef").run_id == "abc%ef03"
    with pytest.raises(NotFoundError, match="several runs: abcdef01, abcdef02"):
        records.get("abcdef")
    with pytest.raises(NotFoundError, match="guardianflow list runs"):
        records.get("abc")


def test_the_list_is_newest_first_and_can_be_narrowed(records: RunRecords) -> None:
    for number, experiment in enumerate(("a", "b", "a")):
        records.add(a_record(f"run-{number}", experiment=experiment, started=NOW + timedelta(minutes=number)))
    assert [found.run_id for found in records.list()] == ["run-2", "run-1", "run-0"]
    assert [found.run_id for found in records.list(experiment="a", limit=1)] == ["run-2"]
    assert [row["runs"] for row in records.experiments()] == [2, 1]


# ---- heartbeat and progress ---------------------------------------------------------------------------


def until(condition: object, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_the_heart_beats_until_it_is_stopped(records: RunRecords) -> None:
    records.add(a_record(heartbeat=LONG_AGO))
    pulse = Pulse(records, "run-000001", beats=True, every_s=0.05)
    assert until(lambda: records.get("run-000001").heartbeat > LONG_AGO)
    pulse.stop()
    last = records.get("run-000001").heartbeat
    time.sleep(0.2)
    assert records.get("run-000001").heartbeat == last


def test_progress_is_written_and_the_last_of_it_is_never_lost(records: RunRecords) -> None:
    records.add(a_record())
    pulse = Pulse(records, "run-000001", beats=False)
    began = time.monotonic()
    for done in range(1, 2001):
        pulse.set_progress({"done": done, "total": 2000})
    assert time.monotonic() - began < 1.0, "progress must not wait for the database"
    pulse.stop()
    assert records.get("run-000001").progress["done"] == 2000


def test_a_database_that_is_away_is_said_once_and_ends_nothing(
    records: RunRecords, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(RunRecords):
        def beat(self, run_id: str) -> None:
            raise ConnectionError("the state database went away")

    pulse = Pulse(Away(records._database), "run-000001", beats=True, every_s=0.02)
    time.sleep(0.3)
    pulse.stop()
    assert [row.levelname for row in caplog.records].count("WARNING") == 1
