"""Finished runs in MLflow and the metrics store: each once, whatever is moved, grown, killed or broken."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guardianflow.adapters.finished_runs.folders import FinishedRun
from guardianflow.adapters.finished_runs.run_import import ImportReport, as_stored, import_runs, new_rows
from guardianflow.adapters.scan.findings import FoundRun, ScanReport
from guardianflow.adapters.scan.scan import scan_folder
from guardianflow.core.config import Settings
from guardianflow.core.metrics import SaveReport
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.exceptions import InputError, InvalidNameError, ModelFileError, TrackingUnavailableError
from guardianflow.runs.mlflow_import import DIGEST_TAG, STATE_TAG
from guardianflow.runs.mlflow_runs import make_client
from guardianflow.runs.run_records import RunRecords
from guardianflow.state.database import Database
from tests.adapters.test_run_folders import (
    database,
    file_store,
    folder_content,
    write_events,
    write_lightning,
    write_results,
    write_ultralytics,
)

__all__ = ["database", "file_store"]  # fixtures

ODD = "옛 실험 [1] #2 100%"


@pytest.fixture
def settings(training_settings: Settings) -> Settings:
    return training_settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / ODD
    path.mkdir()
    return path


def bring(folder: Path, settings: Settings, **options: Any) -> ImportReport:
    options.setdefault("sink", MetricsStore(settings.database_url))
    return import_runs(scan_folder(folder), settings=settings, **options)


def all_runs(settings: Settings) -> list[Any]:
    client = make_client(settings)
    experiments = [found.experiment_id for found in client.search_experiments()]
    return list(client.search_runs(experiments, max_results=1000))


def curve(settings: Settings, run_id: str, metric: str) -> list[tuple[int, float]]:
    points = make_client(settings).get_metric_history(run_id, metric)
    return sorted((point.step, point.value) for point in points)


def files_of(settings: Settings, run_id: str) -> set[str]:
    client = make_client(settings)

    def below(place: str | None) -> Iterator[str]:
        for item in client.list_artifacts(run_id, place):
            if item.is_dir:
                yield from below(item.path)
            else:
                yield item.path

    return set(below(None))


def stored_rows(settings: Settings) -> int:
    return len(MetricsStore(settings.database_url).query_metrics(source="import", include_invalid=True))


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "results.csv").read_text(encoding="utf-8").splitlines()))


def three_runs(folder: Path) -> list[Path]:
    return [
        write_ultralytics(folder / "runs" / "detect" / name, epochs=epochs, asked=5, seed=seed)
        for seed, (name, epochs) in enumerate((("train", 5), ("train 2", 3), ("학습 3", 4)))
    ]


class TestOneTrainingOfSeveralLoggers:
    def test_tables_and_events_of_lightning_are_one_run(self, folder: Path, settings: Settings) -> None:
        write_lightning(folder / "csv_logs" / "version_0", epochs=4)
        losses = [1 / (epoch + 1) for epoch in range(4)]
        events = folder / "lightning_logs" / "version_0"
        write_events(events, {"train_loss": losses, "hp_metric": [0.125]})
        (events / "hparams.yaml").write_text("batch: 8\nlr: 0.02\n", encoding="utf-8")

        report = bring(folder, settings)

        (run,) = report.imported
        assert run.path == folder / "csv_logs" / "version_0"
        assert {"train_loss", "val_loss", "hp_metric"} <= set(run.metrics)
        assert make_client(settings).get_run(run.run_id).data.params == {"lr": "0.01", "max_epochs": "3", "batch": "8"}
        assert any("lightning_logs" in remark and "no run of its own" in remark for remark in run.remarks)
        again = bring(folder, settings)
        assert (again.imported, [row.run_id for row in again.already]) == ((), [run.run_id])

    def test_a_training_of_ultralytics_that_mlflow_logged_as_well_is_one_run(
        self, folder: Path, settings: Settings, mlflow_sqlite_template: Path
    ) -> None:
        from mlflow import MlflowClient

        trained = write_ultralytics(folder / "runs" / "train")
        write_ultralytics(folder / "runs" / "other", seed=7)
        store = folder / "mlflow.db"
        store.write_bytes(mlflow_sqlite_template.read_bytes())
        uri = f"sqlite:///{store}"
        client = MlflowClient(uri, uri)
        ids = [client.create_run("0").info.run_id for _ in range(2)]
        for row in table(trained):
            for name, value in row.items():
                if name not in {"epoch", "time"}:
                    step = int(row["epoch"]) - 1  # Ultralytics' callback counts from 0
                    client.log_metric(ids[0], name.replace("(B)", "B"), float(value), step=step)
            client.log_metric(ids[1], "metrics/mAP50B", 0.1 * float(row["epoch"]), step=int(row["epoch"]))
        client.log_param(ids[0], "git", "abc")
        for run_id in ids:
            client.set_terminated(run_id)

        report = bring(folder, settings)

        assert sorted((run.kind, run.path.name) for run in report.imported) == [
            ("mlflow", "mlflow.db"), ("ultralytics", "other"), ("ultralytics", "train"),
        ]  # fmt: skip
        merged = next(run for run in report.imported if run.path == trained)
        assert make_client(settings).get_run(merged.run_id).data.params["git"] == "abc"
        assert any(ids[0][:12] in remark or "mlflow" in remark for remark in merged.remarks)
        assert not bring(folder, settings).imported

    def test_what_keras_logs_of_training_and_validation_is_one_run(self, folder: Path, settings: Settings) -> None:
        write_events(folder / "logs" / "a" / "train", {"epoch_loss": [0.5, 0.25]})
        write_events(folder / "logs" / "a" / "validation", {"epoch_loss": [0.75, 0.5]})
        write_events(folder / "logs" / "b" / "train", {"epoch_loss": [0.5, 0.125]})

        report = bring(folder, settings)

        assert sorted((run.path.relative_to(folder).as_posix(), sorted(run.metrics)) for run in report.imported) == [
            ("logs/a", ["train/epoch_loss", "validation/epoch_loss"]), ("logs/b/train", ["epoch_loss"]),
        ]  # fmt: skip
        assert not bring(folder, settings).imported

    def test_two_trainings_that_are_equal_to_the_last_digit_stay_two(self, folder: Path, settings: Settings) -> None:
        write_ultralytics(folder / "runs" / "a", settings={"name": "a"})
        write_ultralytics(folder / "runs" / "b", settings={"name": "b"})

        assert len(bring(folder, settings).imported) == 2

    def test_a_run_whose_other_description_was_imported_before_is_brought_up_to_date(
        self, folder: Path, settings: Settings
    ) -> None:
        losses = [1 / (epoch + 1) for epoch in range(4)]
        write_events(folder / "lightning_logs" / "version_0", {"train_loss": losses})
        (folder / "lightning_logs" / "version_0" / "hparams.yaml").write_text("batch: 8\n", encoding="utf-8")
        (first,) = bring(folder, settings).imported
        write_lightning(folder / "csv_logs" / "version_0", epochs=4)

        report = bring(folder, settings)

        (run,) = report.imported
        assert (run.run_id, run.updated) == (first.run_id, True)
        assert curve(settings, run.run_id, "val_loss") == [(9 + 10 * n, round(2 / (n + 1), 6)) for n in range(4)]
        assert not bring(folder, settings).imported


class TestThreeUltralyticsRuns:
    def test_three_runs_with_the_curves_of_their_tables_and_then_nothing_new(
        self, folder: Path, settings: Settings
    ) -> None:
        paths = three_runs(folder)
        untouched = folder_content(folder)

        first = bring(folder, settings)
        rows_stored = stored_rows(settings)
        second = bring(folder, settings)

        assert [run.path for run in first.imported] == sorted(paths)
        assert not first.already
        assert not first.failed
        assert len(all_runs(settings)) == 3
        for run in first.imported:
            expected = table(run.path)
            assert run.epochs == len(expected)
            for column in expected[0]:
                if column in ("epoch", "time"):
                    continue
                name = column.replace("(B)", "_B")
                assert curve(settings, run.run_id, name) == [
                    (int(row["epoch"]), float(row[column])) for row in expected
                ]
            assert curve(settings, run.run_id, "map50_95") == curve(settings, run.run_id, "metrics/mAP50-95_B")
        assert second.imported == ()
        assert {run.run_id for run in second.already} == {run.run_id for run in first.imported}
        assert len(all_runs(settings)) == 3
        assert stored_rows(settings) == rows_stored > 0
        assert folder_content(folder) == untouched

    def test_parameters_files_times_and_status(self, folder: Path, settings: Settings) -> None:
        three_runs(folder)
        with (folder / "runs/detect/train/args.yaml").open("a", encoding="utf-8") as file:
            file.write("hub_api_key: s3cret\n")

        report = bring(folder, settings)

        run = make_client(settings).get_run(report.imported[0].run_id)
        assert run.data.params["imgsz"] == "640"
        assert run.data.params["hub_api_key"] == "***"
        assert run.info.run_name == "train"
        assert run.info.status == "FINISHED"
        assert run.info.end_time - run.info.start_time == pytest.approx(5 * 7250, abs=5)
        assert run.data.tags[STATE_TAG] == "complete"
        assert {"weights/best.pt", "weights/last.pt", "args.yaml", "results.csv", "labels.jpg"} <= files_of(
            settings, run.info.run_id
        )
        assert make_client(settings).get_experiment(run.info.experiment_id).name == "detect"

    def test_our_records_show_them_and_say_where_they_came_from(self, folder: Path, settings: Settings) -> None:
        three_runs(folder)

        report = bring(folder, settings)

        records = RunRecords(Database.open(settings.database_url)).list(kind="import")
        assert {record.run_id for record in records} == {run.run_id for run in report.imported}
        record = next(record for record in records if record.run_id == report.imported[0].run_id)
        assert (record.status, record.experiment, record.progress["done"]) == ("FINISHED", "detect", 5)
        assert record.parameters["imgsz"] == 640
        told = json.loads((record.folder / "import.json").read_text(encoding="utf-8"))
        assert told["path"] == str(folder / "runs/detect/train")

    def test_the_store_has_the_curves(self, folder: Path, settings: Settings) -> None:
        three_runs(folder)

        run = bring(folder, settings).imported[0]

        frame = MetricsStore(settings.database_url).query_metrics(run_id=run.run_id, metric="map50")
        assert list(frame["value"]) == [float(row["metrics/mAP50(B)"]) for row in table(run.path)]
        assert set(frame["source"]) == {"import"}
        assert set(frame["task"]) == {"detection"}

    def test_an_imported_pointer_is_not_registered(self, folder: Path, settings: Settings) -> None:
        from guardianflow.core.registry import ModelRegistry

        path = three_runs(folder)[0]
        (path / "weights" / "best.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        run = next(run for run in bring(folder, settings).imported if run.path == path)
        with pytest.raises(ModelFileError, match="pointer of Git LFS"):
            ModelRegistry(settings).register("문 카메라", run.run_id)
        assert ModelRegistry(settings).list_models() == []

    def test_an_imported_model_can_be_registered(self, folder: Path, settings: Settings) -> None:
        from guardianflow.core.registry import ModelRegistry
        from tests.vision.backends.small_models import weights

        for path in three_runs(folder):
            shutil.copy(weights(), path / "weights" / "best.pt")
        run = bring(folder, settings).imported[0]

        version = ModelRegistry(settings).register("문 카메라", run.run_id)

        assert run.register_command == f"guardianflow register NAME --run {run.run_id}"
        assert version.artifact == "weights/best.pt"
        assert version.metrics["map50"] == run.metrics["map50"]
        assert version.serving is not None

    def test_another_experiment_may_be_named_and_must_be_legal(self, folder: Path, settings: Settings) -> None:
        three_runs(folder)

        with pytest.raises(InvalidNameError):
            bring(folder, settings, experiment="a/b")
        report = bring(folder, settings, experiment="옛것")

        assert {run.experiment for run in report.imported} == {"옛것"}
        assert bring(folder, settings).imported == ()

    def test_repeating_one_says_that_it_was_imported(self, folder: Path, settings: Settings) -> None:
        from guardianflow.scenario.factory import plan_again

        three_runs(folder)
        run_id = bring(folder, settings).imported[0].run_id

        with pytest.raises(InputError, match="import"):
            plan_again(RunRecords(Database.open(settings.database_url)).get(run_id))


def test_either_state_database_keeps_the_records(
    database_url: str, folder: Path, tmp_path: Path, mlflow_sqlite_template: Path
) -> None:
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, work_dir / "mlflow.db")
    settings = Settings(work_dir=work_dir, database_url=database_url)
    path = write_ultralytics(folder / "train", epochs=2, asked=3, settings={"bad": ".nan", "day": "2024-01-02"})
    bring(folder, settings)
    write_results(path / "results.csv", 3)

    (grown,) = bring(folder, settings).imported

    record = RunRecords(Database.open(database_url)).get(grown.run_id)
    assert (record.progress["done"], record.parameters["bad"], record.parameters["day"]) == (3, "nan", "2024-01-02")
    assert bring(folder, settings).imported == ()


class TestWhatIsTheSame:
    def test_a_copy_and_a_moved_folder_are_no_new_runs(self, folder: Path, settings: Settings) -> None:
        path = write_ultralytics(folder / "a" / "train")
        bring(folder, settings)
        shutil.copytree(path, folder / "b" / "copy")
        path.rename(folder / "umgezogen")

        report = bring(folder, settings)

        assert report.imported == ()
        assert len(report.already) == 2
        assert len(all_runs(settings)) == 1

    @pytest.mark.parametrize("moved", [False, True])
    def test_a_run_that_has_grown_is_brought_up_to_date(self, folder: Path, settings: Settings, moved: bool) -> None:
        path = write_ultralytics(folder / "train", epochs=2, asked=4, plot=False)
        first = bring(folder, settings).imported[0]
        before = stored_rows(settings)
        write_results(path / "results.csv", 4)
        (path / "weights" / "best.pt").write_bytes(b"PK better")
        if moved:
            path = path.rename(folder / "elsewhere")

        report = bring(folder, settings)

        (grown,) = report.imported
        assert (grown.run_id, grown.updated, first.status, grown.status) == (first.run_id, True, "KILLED", "FINISHED")
        assert curve(settings, grown.run_id, "map50") == [
            (int(row["epoch"]), float(row["metrics/mAP50(B)"])) for row in table(path)
        ]
        assert len(all_runs(settings)) == 1
        assert make_client(settings).get_run(grown.run_id).info.status == "FINISHED"
        assert stored_rows(settings) == 2 * before
        record = RunRecords(Database.open(settings.database_url)).get(grown.run_id)
        assert (record.status, record.progress["done"]) == ("FINISHED", 4)
        assert bring(folder, settings).imported == ()

    def test_a_run_that_was_trained_anew_in_its_folder_is_another(self, folder: Path, settings: Settings) -> None:
        path = write_ultralytics(folder / "train", epochs=3)
        first = bring(folder, settings).imported[0]
        write_results(path / "results.csv", 3, seed=7)

        (anew,) = bring(folder, settings).imported

        assert anew.run_id != first.run_id
        assert len(all_runs(settings)) == 2

    def test_a_copy_that_went_on_training_leaves_the_first_alone(self, folder: Path, settings: Settings) -> None:
        path = write_ultralytics(folder / "train", epochs=2, asked=4)
        first = bring(folder, settings).imported[0]
        shutil.copytree(path, folder / "branch")
        write_results(folder / "branch" / "results.csv", 4)

        (branch,) = bring(folder, settings).imported

        assert branch.run_id != first.run_id
        assert len(curve(settings, first.run_id, "map50")) == 2

    def test_two_runs_that_begin_alike_stay_two(self, folder: Path, settings: Settings) -> None:
        logs = folder / "lightning_logs"
        write_lightning(logs / "version_0", epochs=2, hparams="lr: 0.1\n")
        write_lightning(logs / "version_1", epochs=4, hparams="lr: 0.1\n")

        report = bring(folder, settings)

        assert len({run.run_id for run in report.imported}) == 2
        assert [run.epochs for run in report.imported] == [2, 4]
        assert bring(folder, settings).imported == ()

    def test_nan_and_infinity_dont_make_it_new(self, folder: Path, settings: Settings) -> None:
        path = write_ultralytics(folder / "train", epochs=0, asked=3)
        rows = ["epoch,time,train/box_loss,lr/pg0", "1,1.5,nan,0.1", "2,3.0,inf,0.1"]
        (path / "results.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        first = bring(folder, settings).imported[0]
        with (path / "results.csv").open("a", encoding="utf-8") as file:
            file.write("3,4.5,0.5,0.1\n")

        (grown,) = bring(folder, settings).imported

        assert grown.run_id == first.run_id
        values = [value for _, value in curve(settings, grown.run_id, "train/box_loss")]
        assert len(values) == 3
        assert math.isnan(values[0])
        assert values[2] == 0.5


class TestOtherKinds:
    def test_lightning_and_tensorboard(self, folder: Path, settings: Settings) -> None:
        write_lightning(folder / "lightning_logs" / "version_0")
        write_events(folder / "logs" / "실행 1", {"loss/train": [3.0, 2.0, 1.0]})

        report = bring(folder, settings)

        kinds = {run.kind: run for run in report.imported}
        assert curve(settings, kinds["lightning"].run_id, "val_loss") == [(9, 2.0), (19, 1.0), (29, 0.666667)]
        assert curve(settings, kinds["tensorboard"].run_id, "loss/train") == [(0, 3.0), (1, 2.0), (2, 1.0)]
        assert kinds["lightning"].artifact == "checkpoints/epoch=2-step=30.ckpt"
        assert "--artifact" in kinds["lightning"].register_command
        assert bring(folder, settings).imported == ()

    @pytest.mark.parametrize("store", ["file_store", "database"])
    def test_an_mlflow_store_with_nested_runs(
        self, store: str, request: pytest.FixtureRequest, settings: Settings
    ) -> None:
        path, _ = request.getfixturevalue(store)
        before = folder_content(path.parent)

        report = bring(path.parent, settings)

        assert not report.failed
        parent, child = report.imported
        assert (parent.name, child.name, parent.experiment) == ("parent", "child", "현장 [A]-B")
        client = make_client(settings)
        assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id
        run = client.get_run(parent.run_id)
        assert (run.info.status, run.info.start_time, run.info.end_time) == (
            "FAILED",
            1_700_000_000_000,
            1_700_000_009_000,
        )
        assert run.data.params == {"lr": "0.1", "db.password": "***"}
        assert run.data.tags["team"] == "gate"
        assert run.data.tags["mlflow.user"] == settings.actor
        assert [(point.step, point.timestamp) for point in client.get_metric_history(parent.run_id, "train/loss")] == [
            (0, 1_700_000_000_000), (1, 1_700_000_000_001), (2, 1_700_000_000_002)
        ]  # fmt: skip
        again = bring(path.parent, settings)
        assert (again.imported, len(again.already)) == ((), 2)
        assert folder_content(path.parent) == before

    def test_our_own_work_folder_is_left_alone(self, settings: Settings, folder: Path) -> None:
        path = write_ultralytics(settings.work_dir / "runs" / "train")
        found = FoundRun(path.relative_to(settings.work_dir.parent), "ultralytics", "train")
        scan = ScanReport(settings.work_dir.parent, runs=(found,))

        assert import_runs(scan, settings=settings, sink=MetricsStore(settings.database_url)) == ImportReport()

    def test_the_database_behind_our_own_mlflow_is_not_doubled(self, settings: Settings, folder: Path) -> None:
        write_ultralytics(folder / "train")
        bring(folder, settings)
        shutil.copytree(
            settings.work_dir, folder / "backup", ignore=shutil.ignore_patterns("artifacts", "guardian*", "runs")
        )

        report = bring(folder, settings)

        assert report.imported == ()
        assert any("describes the same training" in remark for run in report.already for remark in run.remarks)
        shutil.rmtree(folder / "train")
        alone = bring(folder, settings)
        assert alone.imported == ()
        assert any("itself has the run" in remark for run in alone.already for remark in run.remarks)


class TestWhatGoesWrong:
    def test_a_broken_run_stops_no_other(self, folder: Path, settings: Settings) -> None:
        good = write_ultralytics(folder / "runs" / "good")
        broken = folder / "runs" / "broken"
        broken.mkdir()
        (broken / "events.out.tfevents.1700000000.host.1.0").write_bytes(b"\xff" * 400)
        (folder / "mlflow.db").write_bytes(b"SQLite format 3\x00" + b"\x00" * 300)

        report = bring(folder, settings)

        assert [run.path for run in report.imported] == [good]
        assert {path for path, _ in report.failed} == {broken, folder / "mlflow.db"}
        assert all(reason for _, reason in report.failed)

    def test_names_that_nothing_takes_are_made_legal(self, folder: Path, settings: Settings) -> None:
        name = os.fsdecode(b"\xff\xfe run\x07")
        write_ultralytics(folder / "a:b@c" / name, settings={"name": "x", "save_dir": "x"})

        report = bring(folder, settings)

        assert not report.failed
        assert report.imported[0].experiment == "a-b-c"
        json.dumps(report.to_dict(), allow_nan=False).encode()

    def test_a_folder_that_has_gone_since_the_scan_is_told(self, folder: Path, settings: Settings) -> None:
        path = write_ultralytics(folder / "train")
        scan = scan_folder(folder)
        shutil.rmtree(path)

        report = import_runs(scan, settings=settings, sink=MetricsStore(settings.database_url))

        assert "no longer there" in report.failed[0].reason

    def test_a_store_that_was_away_gets_the_figures_from_the_next_import(
        self, folder: Path, settings: Settings
    ) -> None:
        class Away:
            def save_metrics(self, records: Any) -> SaveReport:
                raise TrackingUnavailableError("the store does not answer")

        write_ultralytics(folder / "train")

        first = bring(folder, settings, sink=Away())
        assert len(first.imported) == 1
        assert stored_rows(settings) == 0
        second = bring(folder, settings)

        assert len(second.already) == 1
        assert stored_rows(settings) > 0

    def test_an_mlflow_that_is_away_is_an_error_not_a_list_of_failures(self, folder: Path, tmp_path: Path) -> None:
        write_ultralytics(folder / "train")
        away = Settings(work_dir=tmp_path / "away", mlflow_tracking_uri="http://127.0.0.1:9")

        with pytest.raises(TrackingUnavailableError):
            bring(folder, away)

    def test_nothing_found_asks_nobody(self, folder: Path, tmp_path: Path) -> None:
        away = Settings(work_dir=tmp_path / "away", mlflow_tracking_uri="http://127.0.0.1:9")

        assert import_runs(ScanReport(folder), settings=away, sink=MetricsStore(away.database_url)) == ImportReport()

    def test_the_page_escapes_what_comes_from_outside(self, folder: Path, settings: Settings) -> None:
        write_ultralytics(folder / "<img src=x onerror=alert(1)>")

        page = bring(folder, settings)._repr_html_()

        assert "<img" not in page
        assert "&lt;img" in page


_IMPORT = """
import sys
from pathlib import Path
from guardianflow.adapters.finished_runs.run_import import import_runs
from guardianflow.adapters.scan.scan import scan_folder
from guardianflow.core.config import Settings
from guardianflow.dashboard.metrics_store import MetricsStore

settings = Settings(work_dir=Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
report = import_runs(scan_folder(sys.argv[1]), settings=settings, sink=MetricsStore(settings.database_url))
print(len(report.imported), len(report.already), len(report.failed), flush=True)
"""


def start_import(folder: Path, settings: Settings) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _IMPORT, str(folder), str(settings.work_dir)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


class TestProcesses:
    def test_two_imports_at_once_double_nothing(self, folder: Path, settings: Settings) -> None:
        three_runs(folder)
        both = [start_import(folder, settings) for _ in range(2)]
        for process in both:
            go(process)

        counts = [[int(word) for word in process.communicate(timeout=120)[0].split()] for process in both]

        assert sum(count[0] for count in counts) == 3
        assert sum(count[1] for count in counts) == 3
        assert sum(count[2] for count in counts) == 0
        assert len(all_runs(settings)) == 3

    @pytest.mark.parametrize("moment", ["first run seen", "weights arrived"])
    def test_an_import_that_was_killed_is_completed_by_the_next(
        self, folder: Path, settings: Settings, moment: str
    ) -> None:
        paths = three_runs(folder)
        for path in paths:
            for number in range(60):
                (path / f"val_batch{number}.jpg").write_bytes(os.urandom(2000))
        process = start_import(folder, settings)
        go(process)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if moment == "first run seen" and all_runs(settings):
                break
            if moment == "weights arrived" and any(settings.work_dir.rglob("artifacts/**/best.pt")):
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        half = [run for run in all_runs(settings) if run.data.tags.get(STATE_TAG) == "writing"]

        report = bring(folder, settings)

        assert half, "the kill came too late to show anything"
        assert not report.failed
        assert len(report.imported) + len(report.already) == 3
        runs = all_runs(settings)
        assert len(runs) == 3
        assert {run.data.tags[STATE_TAG] for run in runs} == {"complete"}
        assert len({run.data.tags[DIGEST_TAG] for run in runs}) == 3
        for run in (*report.imported, *report.already):
            assert curve(settings, run.run_id, "map50") == [
                (int(row["epoch"]), float(row["metrics/mAP50(B)"])) for row in table(run.path)
            ]
            assert len(files_of(settings, run.run_id)) == 66
        assert bring(folder, settings).imported == ()
        assert len(RunRecords(Database.open(settings.database_url)).list(kind="import")) == 3

    def test_an_update_that_was_interrupted_is_completed_by_the_next(self, folder: Path, settings: Settings) -> None:
        class Interrupted:
            def save_metrics(self, records: Any) -> SaveReport:
                raise KeyboardInterrupt

        path = write_ultralytics(folder / "train", epochs=2, asked=4)
        first = bring(folder, settings).imported[0]
        write_results(path / "results.csv", 4)
        with pytest.raises(KeyboardInterrupt):
            bring(folder, settings, sink=Interrupted())

        (grown,) = bring(folder, settings).imported

        assert grown.run_id == first.run_id
        assert [step for step, _ in curve(settings, grown.run_id, "map50")] == [1, 2, 3, 4]
        assert len(all_runs(settings)) == 1

    def test_what_a_killed_import_left_of_a_folder_that_has_gone_is_removed(
        self, folder: Path, settings: Settings
    ) -> None:
        write_ultralytics(folder / "stays")
        (run,) = bring(folder, settings).imported
        client = make_client(settings)
        left = client.create_run(
            client.get_run(run.run_id).info.experiment_id, tags={STATE_TAG: "writing", DIGEST_TAG: "f" * 64}
        )

        bring(folder, settings)

        assert [item.info.run_id for item in all_runs(settings)] == [run.run_id]
        assert client.get_run(left.info.run_id).info.lifecycle_stage == "deleted"


def test_a_long_curve_is_thinned_and_a_longer_one_adds_to_it() -> None:
    def run(epochs: int) -> FinishedRun:
        points = [(epoch, epoch / 7, epoch) for epoch in range(epochs)]
        return FinishedRun(
            Path("train"),
            "ultralytics",
            "train",
            "runs",
            {},
            {"loss": points},
            epochs,
            "FINISHED",
            None,
            None,
            "d",
            "s",
        )

    first = {(step, repr(value)) for _, value, _, step in new_rows(run(25_000), {})}
    second = {(step, repr(value)) for _, value, _, step in new_rows(run(90_000), {"loss": first})}

    assert len(first) == 12_501
    assert 24_999 in {step for step, _ in first}
    assert first <= as_stored(run(90_000).history)["loss"]
    assert not first & second
    assert max(step for step, _ in second) == 89_999


@pytest.mark.slow
def test_a_run_that_ultralytics_has_really_trained(tiny_data: Path, folder: Path, settings: Settings) -> None:
    program = (
        "import sys; from ultralytics import YOLO\n"
        "YOLO('yolo11n.yaml').train(data=sys.argv[1], epochs=2, imgsz=32, batch=4, device='cpu', workers=0,"
        " project=sys.argv[2], name='train', plots=True)"
    )
    environment = {**os.environ, "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    subprocess.run(
        [sys.executable, "-c", program, str(tiny_data), str(folder / "runs")],
        check=True, cwd=folder, env=environment, capture_output=True, timeout=500,
    )  # fmt: skip

    report = bring(folder, settings)

    run = next(run for run in report.imported if run.kind == "ultralytics")
    assert (run.epochs, run.status, run.experiment, run.artifact) == (2, "FINISHED", "runs", "weights/best.pt")
    for column in table(run.path)[0]:
        if column not in ("epoch", "time"):
            expected = [(int(row["epoch"]), float(row[column])) for row in table(run.path)]
            assert curve(settings, run.run_id, column.replace("(B)", "_B")) == expected
    assert bring(folder, settings).imported == ()
