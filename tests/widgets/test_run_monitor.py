"""The run monitor: what it shows of a run that goes on, and who may end it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import psutil
import pytest

from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricRecord
from guardianflow.dashboard.keys import Keys
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.runs.run_records import ProcessIdentity, RunRecord, RunRecords, _start_time
from guardianflow.state.database import Database
from guardianflow.widgets.run_monitor import RunMonitor

HOSTILE = '<img src=x onerror="alert(1)"> \'"'
RUN = "a" * 32


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(work_dir=tmp_path / "work", database_url=f"sqlite:///{tmp_path}/state.db", actor="kim")


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process that could execute a run."""
    made = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield made
    made.kill()
    made.wait()


@pytest.fixture
def record(settings: Settings, worker: subprocess.Popen[bytes]) -> RunRecord:
    """A training in its second epoch, with a log and names that no page may take for markup."""
    now, here = datetime.now(UTC), ProcessIdentity.current()
    folder = settings.runs_dir / "odd" / RUN
    folder.mkdir(parents=True)
    (folder / "training.log").write_text(f"first\n{HOSTILE} epoch 2\n", encoding="utf-8")
    made = RunRecord(
        run_id=RUN, tracking_uri="", experiment=HOSTILE, kind="train", status="RUNNING", reason=None, parameters={},
        template="train", folder=folder, actor="kim", again_of=None, heartbeat=now, started=now, ended=None,
        owner=replace(here, pid=worker.pid, started=_start_time(worker.pid)),
        progress={"done": 2, "total": 8, "unit": "epoch", "note": HOSTILE},
    )  # fmt: skip
    RunRecords(Database.open(settings.database_url)).add(made)
    for epoch, value in enumerate((0.2, 0.5), start=1):
        MetricsStore(settings.database_url).save_metrics(
            MetricRecord(time=now, metric=metric, value=value, run_id=RUN, tags={"epoch": str(epoch)})
            for metric in ("map50", "recall")
        )
    return made


def html_of(made: RunMonitor) -> str:
    return made._top.value + "".join(card.children[0].value for card in made._list.children)


def press(made: RunMonitor, *places: int) -> str:
    for place in places:
        buttons = [each for each in made._list.children[0].children[1].children if hasattr(each, "click")]
        buttons[place].click()
    return unescape(made._said.value)


def test_a_run_that_goes_on_is_shown_with_curve_figures_and_log(settings: Settings, record: RunRecord) -> None:
    made = RunMonitor(settings=settings, language="en")
    html = html_of(made)
    assert all(text in html for text in (">running<", "epoch 2 of 8", "0.50", "kim on", "epoch 2", 'width:25.0%"'))
    assert html.count("<polyline") == 1
    assert "<img" not in html
    assert html.count("&lt;img") >= 4
    card = made._list.children[0]
    later = MetricRecord(time=datetime.now(UTC), metric="map50", value=0.75, run_id=RUN, tags={"epoch": "3"})
    MetricsStore(settings.database_url).save_metrics([later])
    made._tick.beat = 1
    assert "0.75" in html_of(made)
    assert made._list.children[0] is card


def test_an_end_is_asked_for_twice_and_told_to_the_process(
    settings: Settings, record: RunRecord, worker: subprocess.Popen[bytes]
) -> None:
    made = RunMonitor(RUN[:8], settings, language="en")
    press(made, 0)  # Cancel …
    made._tick.beat = 1
    assert "kept" in made._list.children[0].children[1].children[0].value  # the question stands while it is drawn anew
    press(made, 1)  # Let it run
    assert worker.poll() is None
    assert "was told to end" in press(made, 0, 0)
    assert worker.wait(20) != 0
    made._tick.beat = 2
    assert "process lost" in html_of(made)  # a real run would have written its end
    assert len(made._list.children[0].children) == 1  # nothing is left to cancel


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("role", ["", "viewer", "ingester", "operator"])
def test_on_a_page_an_operators_key_ends_a_run(
    settings: Settings, record: RunRecord, worker: subprocess.Popen[bytes], role: str
) -> None:
    made = RunMonitor(settings=settings, language="en")
    if role:
        made._key.value = Keys(Database.open(settings.database_url)).create(f"Kim {role}", role, by="tests")[1]
    said = press(made, 0, 0)
    if role == "operator":
        assert "was told to end" in said
        assert worker.wait(20) != 0
    else:
        assert ("Type a key first" if not role else "needs the role operator") in said
        assert psutil.pid_exists(worker.pid)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"host": "elsewhere"}, "runs on elsewhere, and only there"), ({"boot": "another boot"}, "and only there")],
)
def test_a_run_on_another_machine_is_said_so_and_not_touched(
    settings: Settings, record: RunRecord, worker: subprocess.Popen[bytes], change: dict[str, str], sentence: str
) -> None:
    records = RunRecords(Database.open(settings.database_url))
    records.add(replace(record, run_id="b" * 32, owner=replace(record.owner, **change)))
    assert sentence in press(RunMonitor("b" * 32, settings, language="en"), 0, 0)
    assert worker.poll() is None


def test_a_run_that_is_not_there_is_said(settings: Settings) -> None:
    assert "there is no run" in unescape(RunMonitor("nothing here", settings, language="en")._top.value)
    assert "Nothing runs at the moment." in RunMonitor(settings=settings, language="en")._top.value
