"""From an alert to advice, and from advice to a change: on real trainings, real processes and the real gate."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricRecord
from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard.automation import AutoOptimizer, Recommendation
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.dashboard.recommendations import Recommendations
from guardianflow.exceptions import InputError, RefusedError
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.state.database import Database
from guardianflow.vision.serving import Serving
from tests.test_cli import call
from tests.trainings import tiny_runner, write_tiny_data

pytestmark = pytest.mark.timeout(600)

NOW = datetime.now(UTC)


@dataclass
class Site:
    """A work folder with one finished training; each test registers it under a model name of its own."""

    settings: Settings
    data_yaml: Path
    run_id: str
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def store(self) -> MetricsStore:
        return MetricsStore(self.settings.database_url)

    @property
    def records(self) -> RunRecords:
        return RunRecords(Database.open(self.settings.database_url))

    def registry(self) -> ModelRegistry:
        return ModelRegistry(self.settings, gate="off", preflight="off")

    def model(self, *, versions: int = 1) -> str:
        """A model with a champion; of two versions the second is in charge."""
        name = f"게이트 {next(self.numbers)}"
        for number in range(versions):
            serving = Serving(imgsz=64 + 32 * number)
            version = self.registry().register(name, self.run_id, serving=serving)
            self.registry().promote(name, version.version)
        return name

    def figure(
        self, model: str, value: float, *, hours_ago: float = 0.1, version: str | None = None, **more: str
    ) -> None:
        """A figure of a camera at night."""
        named = {"metric": "map50", "source": "inference", "site": "항구 port", "camera": "밤 1", **more}
        at = datetime.now(UTC) - timedelta(hours=hours_ago)
        self.store.save_metrics([MetricRecord(time=at, value=value, model=model, version=version, **named)])

    def optimizer(self, *, at: datetime | None = None, gate: str = "evidence") -> AutoOptimizer:
        settings = self.settings.model_copy(update={"gate": gate})
        return AutoOptimizer(settings=settings, clock=(lambda: at) if at else None)

    def advice(self, model: str, value: float = 0.4) -> Recommendation:
        """What is recommended when a model is bad at night."""
        self.figure(model, value, version=self.registry().get(model).version)
        found = self.optimizer().evaluate().recommendations
        return next(item for item in found if item.model == model)

    def in_short(self, advice: Recommendation) -> Recommendation:
        """The same advice, measured for a moment instead of the three times three seconds that tell speeds apart."""
        scenario = {**advice.scenario, "run": {**advice.scenario["run"], "seconds": 0.1, "repeats": 1}}
        rows = Recommendations(Database.open(self.settings.database_url))
        assert rows.move(advice.id, of=("open",), state="open", scenario=scenario)
        return rows.get(advice.id)

    def runs_of(self, model: str) -> list[RunRecord]:
        return [run for run in self.records.list(kind="train") if run.parameters["register_as"] == model]

    def called(self, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
        """The command line, in this process."""
        for name, value in self.settings.as_environment().items():
            monkeypatch.setenv(name, value)
        return call("optimize", *words).stdout

    def command(self, *words: str, gate: str = "off") -> subprocess.Popen[str]:
        """The command line, as a process of its own."""
        settings = self.settings.model_copy(update={"gate": gate})
        return subprocess.Popen(
            [sys.executable, "-c", "from guardianflow.cli import main; main()", "optimize", *words],
            env={**os.environ, **settings.as_environment()}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, mlflow_sqlite_template: Path) -> Site:
    root = tmp_path_factory.mktemp("site")
    work_dir = root / "작업 work"
    work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, work_dir / "mlflow.db")
    settings = Settings(work_dir=work_dir, actor="kim")
    data_yaml = write_tiny_data(root / "data", images=16)
    return Site(settings, data_yaml, tiny_runner(data_yaml, settings).run().run_id)


@pytest.fixture
def site(trained: Site) -> Site:
    """The trained site, where each test has the day's budget to itself."""
    with Database.open(trained.settings.database_url).write() as connection:
        connection.exec_driver_sql("UPDATE gf_recommendations SET decided = NULL")
    return trained


def said_by(process: subprocess.Popen[str], *, code: int = 0) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, (process.returncode, out, err)
    assert "Traceback" not in err
    return out


def wait_for(what: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.1)


@contextlib.contextmanager
def added(image: Path, data_yaml: Path) -> Iterator[None]:
    """A labelled image more, for the length of the block: the data is that of the other tests, too."""
    split, labels = image.parent.name, data_yaml.parent / "labels"
    new = [image.with_name(f"new{image.suffix}"), labels / split / "new.txt"]
    shutil.copy(image, new[0])
    shutil.copy(labels / split / f"{image.stem}.txt", new[1])
    try:
        yield
    finally:
        for path in new:
            path.unlink()


def last_words_of_children() -> list[str]:
    found: list[str] = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            found += child.cmdline()[-1:]
    return found


# --- advice --------------------------------------------------------------------------------------


def test_an_alert_leads_to_one_recommendation_and_says_that_the_data_is_unchanged(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = site.model()
    advice = site.advice(model)
    for _ in range(3):
        again = [item for item in site.optimizer().evaluate().recommendations if item.model == model]
        assert [item.id for item in again] == [advice.id]
    assert (advice.action, advice.state, advice.camera) == ("retrain", "open", "밤 1")
    assert advice.facts["dataset_changed"] is False
    assert advice.facts["passed_over"] == {"roll_back": "there is no version to roll back to"}
    assert advice.scenario["run"]["register_as"] == model
    assert advice.cost["based_on"] == site.run_id
    out = site.called(monkeypatch)
    assert f"recommendation {advice.id}: open" in out
    assert "the dataset is unchanged since it was trained, so little is to be expected of training again" in out
    assert f"data_yaml: {site.data_yaml}" in out
    assert f"guardianflow optimize --apply {advice.id}" in out
    assert site.runs_of(model) == []  # a dry run is the default


def test_a_changed_dataset_is_the_reason_to_train_again(site: Site) -> None:
    image = next((site.data_yaml.parent / "images" / "train").iterdir())
    with added(image, site.data_yaml):
        advice = site.advice(site.model())
    assert advice.facts["dataset_changed"] is True
    assert "its dataset has changed since it was trained: 16 images then, 17 now" in advice.facts["why"]
    assert list(advice.facts["caveats"]) == []


def test_a_champion_that_is_worse_than_the_one_before_is_rolled_back_once_by_two_at_once(site: Site) -> None:
    model = site.model(versions=2)
    for hours in (1, 2, 3):
        site.figure(model, 0.9, version="1", hours_ago=hours)
    advice = site.advice(model)
    assert advice.action == "roll_back"
    assert advice.facts["figures_before"] == {"count": 3, "p50": 0.9}
    both = [site.command("--apply", str(advice.id), "--json") for _ in range(2)]
    answers = [json.loads(said_by(process)) for process in both]
    assert [answer["state"] for answer in answers] == ["applied", "applied"]
    history = site.registry().history(model)
    assert [event.action for event in history].count("rollback") == 1
    assert history[0].reason.startswith(f"recommendation {advice.id}: roll_back because map50 < 0.75")
    assert site.registry().get(model).version == "1"
    found = [run for run in site.records.list(kind="optimize") if run.parameters["recommendation"] == advice.id]
    assert [run.status for run in found] == [RunStatus.FINISHED]
    assert site.optimizer().apply(advice.id).state == "applied"  # asked again, nothing is done


def test_a_champion_that_was_no_better_before_is_not_rolled_back(site: Site) -> None:
    model = site.model(versions=2)
    site.figure(model, 0.5, version="1", hours_ago=2)
    advice = site.advice(model)
    assert advice.action == "retrain"
    assert advice.facts["passed_over"]["roll_back"] == "version 1 was no better: map50 was 0.5 there"


def test_what_an_alert_can_not_be_advised_on_is_said(site: Site) -> None:
    site.figure("nobody's", 0.1)
    said = "\n".join(site.optimizer().evaluate().remarks)
    assert (
        "model nobody's, site 항구 port, camera 밤 1): nothing is advised: no version of \"nobody's\" is in charge"
        in said
    )


def test_a_silent_camera_is_named_and_nothing_is_advised(site: Site) -> None:
    model = site.model()
    for camera, hours in (("문 gate", 3.0), ("밤 1", 0.1)):
        site.figure(model, 20, metric="latency_ms_p95", source="service", camera=camera, hours_ago=hours)
    found = site.optimizer().evaluate()
    silent = [alert for alert in found.alerts if alert.model == model]
    assert [(alert.rule, alert.camera, alert.state) for alert in silent] == [("silent", "문 gate", "firing")]
    assert any("camera 문 gate): it stopped reporting" in text for text in found.remarks)
    assert [item for item in found.recommendations if item.model == model] == []


def test_a_month_of_noise_leads_to_no_recommendation(tmp_path: Path) -> None:
    settings, luck = Settings(work_dir=tmp_path), random.Random(18)
    begin = NOW - timedelta(days=30)
    named = {"model": "gate", "site": "port", "camera": "1"}
    records = []
    for step in range(720 * 6):
        at = begin + timedelta(minutes=10 * step)
        if step % 6 == 0:
            named_so = {**named, "metric": "map50", "source": "inference"}
            records.append(MetricRecord(time=at, value=luck.gauss(0.80, 0.01), **named_so))
        for name, value in (("latency_ms_p95", luck.lognormvariate(3.0, 0.15)), ("gpu_util", luck.gauss(70, 8))):
            records.append(MetricRecord(time=at, metric=name, value=value, source="service", **named))
    MetricsStore(settings.database_url).save_metrics(records)
    optimizer = AutoOptimizer(settings=settings)
    for hour in range(6, 720, 6):
        found = optimizer.evaluate(begin + timedelta(hours=hour))
        assert [alert for alert in found.alerts if alert.state == "firing"] == []
    assert optimizer.list() == []


def test_looking_loads_neither_torch_nor_mlflow(site: Site) -> None:
    site.figure(site.model(), 0.3)
    code = (
        "import sys; from guardianflow.dashboard.automation import AutoOptimizer; optimizer = AutoOptimizer(); "
        "assert optimizer.evaluate().recommendations and optimizer.list(); "
        "print([name for name in ('torch', 'mlflow', 'ultralytics', 'papermill') if name in sys.modules])"
    )
    environment = {**os.environ, **site.settings.as_environment()}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# --- limits --------------------------------------------------------------------------------------


def test_a_cooldown_and_a_budget_refuse_with_the_time(site: Site) -> None:
    model, other = site.model(), site.model()
    first, rows = site.advice(model), Recommendations(Database.open(site.settings.database_url))
    future = NOW + timedelta(days=40)  # after all that other tests decided
    rows.move(first.id, of=("open",), state="refused", decided=future, ended=future)
    site.figure(model, 0.4, version="1", camera="밤 2")
    second = next(item for item in site.optimizer().evaluate().recommendations if item.camera == "밤 2")
    with pytest.raises(
        RefusedError, match=rf"retrain was applied to {model} on .* \(recommendation {first.id}\)"
    ) as refused:
        site.optimizer(at=future + timedelta(hours=23)).require_applicable(second.id)
    assert f"allowed from {future + timedelta(days=1):%Y-%m-%d %H:%M} UTC on" in str(refused.value)
    assert refused.value.exit_code == 3
    assert site.optimizer(at=future + timedelta(hours=25)).require_applicable(second.id).state == "open"

    for hours in (1, 2):
        spent = site.advice(site.model())
        rows.move(spent.id, of=("open",), state="applied", decided=future + timedelta(hours=hours))
    third = site.advice(other)
    with pytest.raises(RefusedError, match="3 recommendations were applied within 24 hours, of 3 allowed") as refused:
        site.optimizer(at=future + timedelta(hours=3)).start(third.id, actor="kim", may_promote=True)
    assert f"the next is allowed from {future + timedelta(days=1):%Y-%m-%d %H:%M} UTC on" in str(refused.value)
    assert site.optimizer().get(third.id).state == "open"


def test_a_dismissal_says_why_and_stands(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    advice = site.advice(site.model())
    with pytest.raises(InputError, match="a dismissal must say why"):
        site.optimizer().dismiss(advice.id, actor="lee", reason=" ")
    site.called(monkeypatch, "--dismiss", str(advice.id), "--reason", "the lens\nwas dirty")
    found = site.optimizer().get(advice.id)
    assert (found.state, found.actor, found.reason) == ("dismissed", "kim", "the lens was dirty")
    with pytest.raises(RefusedError, match="was dismissed: the lens was dirty"):
        site.optimizer().apply(advice.id)
    with pytest.raises(RefusedError, match="it is dismissed already"):
        site.optimizer().dismiss(advice.id, actor="lee", reason="again")


def test_advice_on_a_model_that_recovered_or_has_another_champion_is_withdrawn(site: Site) -> None:
    model = site.model(versions=2)
    advice = site.advice(model)
    site.registry().promote(model, "1")
    done = site.optimizer().apply(advice.id)
    assert done.state == "withdrawn"
    assert f"advised of version 2, and version 1 is in charge of {model} now" in str(done.reason)
    with pytest.raises(RefusedError, match="was withdrawn"):
        site.optimizer().apply(advice.id)


# --- applications --------------------------------------------------------------------------------


def test_an_operator_gets_a_candidate_and_a_promoter_decides(site: Site) -> None:
    model = site.model()
    advice = site.advice(model)
    optimizer = site.optimizer(gate="off")
    began = optimizer.start(advice.id, actor="op", may_promote=False)
    assert began.state == "applying"
    assert optimizer.start(advice.id, actor="boss", may_promote=True).actor == "op"  # claimed is claimed
    said_by(site.command("--apply", str(advice.id)))  # with the process that start() made: one does it, one waits
    log = site.settings.work_dir / "logs" / f"recommendation-{advice.id}.log"
    wait_for(lambda: str(advice.id) not in last_words_of_children())
    assert "Traceback" not in log.read_text()
    waiting = optimizer.get(advice.id)
    assert (waiting.state, waiting.actor, waiting.version) == ("waiting", "op", "2")
    assert site.registry().get(model).version == "1"
    assert site.registry().get(model, "candidate").created_by == "op"
    assert len(site.runs_of(model)) == 1
    with pytest.raises(RefusedError, match="waits for somebody who may promote: version 2 is ready"):
        optimizer.start(advice.id, actor="op", may_promote=False)
    done = optimizer.apply(advice.id, actor="boss", may_promote=True)
    assert (done.state, done.outcome["champion"]) == ("applied", "2")
    event = site.registry().history(model)[0]
    assert (event.action, event.actor, event.evidence["recommendation"]) == ("promote", "boss", advice.id)
    assert len(site.runs_of(model)) == 1


def test_killed_in_the_middle_and_started_again_it_is_done_once(site: Site) -> None:
    model = site.model()
    advice = site.advice(model)
    process = site.command("--apply", str(advice.id))
    wait_for(lambda: site.runs_of(model) and (site.runs_of(model)[0].folder / "training" / "args.yaml").exists())
    for each in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        each.send_signal(signal.SIGKILL)
    process.communicate()
    assert site.optimizer().get(advice.id).state == "applying"
    assert site.optimizer().get(advice.id).run_id == site.runs_of(model)[0].run_id
    said_by(site.command("--apply", str(advice.id)))
    done = site.optimizer().get(advice.id)
    assert (done.state, done.version) == ("applied", "2")
    assert [run.status for run in site.runs_of(model)].count(RunStatus.FINISHED) == 1
    assert [event.action for event in site.registry().history(model)].count(
        "promote"
    ) == 2  # the first champion, and this
    assert [version.version for version in site.registry().list_versions(model)] == ["2", "1"]


def test_the_gate_refuses_after_the_champion_was_seen_on_the_candidates_images(site: Site) -> None:
    model = site.model()
    advice = site.advice(model)
    image = next((site.data_yaml.parent / "images" / "val").iterdir())
    with added(image, site.data_yaml):
        said_by(site.command("--apply", str(advice.id), gate="evidence"), code=3)
    done = site.optimizer().get(advice.id)
    assert done.state == "refused"
    assert "mAP50-95" in done.outcome["reasons"][0]
    checks = {check["name"]: check["outcome"] for check in done.outcome["verdict"]["checks"]}
    assert checks["evidence"] == "passed"  # both were seen on the same images
    assert site.records.get(done.outcome["runs"]["champion measured"]).kind == "infer"
    assert site.registry().get(model).version == "1"
    known = site.store.query_metrics(model=model, source="inference")
    assert set(known["site"]) == {"항구 port"}  # what was measured for the gate is no figure of a site


def test_slow_service_is_answered_with_an_int8_version_that_the_gate_judges(site: Site) -> None:
    model = site.model()
    for minute in range(6):
        live = {"metric": "latency_ms_p95", "source": "service"}
        site.figure(model, 45.0, version="1", hours_ago=minute / 60, **live)
    optimizer = site.optimizer(gate="off")
    optimizer.evaluate(datetime.now(UTC) - timedelta(minutes=11))  # the rule must hold for ten minutes
    assert not [item for item in optimizer.evaluate().recommendations if item.model == model]
    later = datetime.now(UTC) + timedelta(minutes=11)
    [advice] = [item for item in site.optimizer(at=later).evaluate().recommendations if item.model == model]
    assert (advice.action, advice.scenario["kind"]) == ("quantize", "quantize")
    assert "int8 on openvino takes less time and space" in advice.facts["why"]
    done = optimizer.apply(site.in_short(advice))
    assert done.state == "applied", done.outcome["said"]
    champion = site.registry().get(model)
    assert (champion.version, champion.serving.precision, champion.serving.backend) == ("2", "int8", "openvino")
    assert champion.serving.parent_version == "1"


def test_an_idle_processor_is_answered_with_the_speeds_of_larger_batches_and_nothing_is_promoted(site: Site) -> None:
    model = site.model()
    for minute in range(6):
        site.figure(model, 12.0, version="1", hours_ago=minute / 60, metric="gpu_util", source="service")
    site.optimizer().evaluate()
    later = datetime.now(UTC) + timedelta(minutes=31)
    [advice] = [item for item in site.optimizer(at=later).evaluate().recommendations if item.model == model]
    assert (advice.action, advice.facts["batch_sizes"]) == ("raise_batch", [1, 2, 4])
    done = site.optimizer().apply(site.in_short(advice))
    assert (done.state, done.outcome["promoted"]) == ("applied", False), done.outcome
    assert set(done.outcome["throughput_fps"]) == {"1", "2", "4"}
    assert all(speed > 0 for speed in done.outcome["throughput_fps"].values())
    assert site.registry().get(model).version == "1"


def test_a_watch_tells_what_is_new_and_ends_with_ctrl_c(tmp_path: Path, mlflow_sqlite_template: Path) -> None:
    settings = Settings(work_dir=tmp_path, actor="kim")
    MetricsStore(settings.database_url)
    process = subprocess.Popen(
        [sys.executable, "-uc", "from guardianflow.cli import main; main()", "optimize", "--watch", "1s"],
        env={**os.environ, **settings.as_environment()}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
    reader.start()
    wait_for(lambda: any("nothing is advised" in line for line in lines))
    record = MetricRecord(datetime.now(UTC), "map50", 0.4, model="gate", site="항구", source="inference")
    MetricsStore(settings.database_url).save_metrics([record])
    wait_for(lambda: any("map50-low" in line and "firing" in line for line in lines))
    said = lambda: [line.strip() for line in lines].count("nothing is advised")  # noqa: E731
    wait_for(lambda: said() == 2)
    time.sleep(2.5)  # two more looks
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    reader.join(10)
    assert said() == 2, "nothing is said again while nothing is new"


def test_a_watch_makes_no_json_document(site: Site) -> None:
    assert "never ends" in call("optimize", "--watch", "15m", "--json", code=2).stderr
