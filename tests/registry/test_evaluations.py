"""The index of evidence: found again by file and data, read from its folder or from MLflow, or not believed."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from guardianflow.core.config import Settings
from guardianflow.exceptions import HashMismatchError, InputError, NotFoundError
from guardianflow.registry.evaluations import EvaluationRow, Evaluations, evaluation_row, machine_facts
from guardianflow.registry.ledger import Ledger
from guardianflow.runs.tracking import TrackedRun
from guardianflow.state import database as module
from guardianflow.state.database import Database
from guardianflow.vision.serving import Serving
from tests.registry.evidence_world import FINGERPRINT, evaluate, record_of

ONE, OTHER = "1" * 64, "2" * 64


@pytest.fixture
def settings(tmp_path: Path, mlflow_sqlite_template: Path, database_url: str) -> Settings:
    work_dir = tmp_path / "작업 work"
    work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, work_dir / "mlflow.db")
    return Settings(work_dir=work_dir, database_url=database_url, actor="kim")


@pytest.fixture
def evaluations(settings: Settings) -> Evaluations:
    return Evaluations(settings)


def kept(settings: Settings, tmp_path: Path) -> EvaluationRow:
    """An evaluation whose predictions lie in a folder and in MLflow."""
    folder = tmp_path / "kept"
    with TrackedRun.start(settings, experiment="gate", kind="infer", parameters={"experiment_name": "gate"}) as run:
        row = evaluate(Evaluations(settings), ONE, folder, 0.9, run_id=run.run_id)
        run.log_artifact(folder, "evaluation")
    return row


def test_an_evaluation_is_found_by_file_and_data_newest_first(evaluations, tmp_path):
    first = evaluate(evaluations, ONE, tmp_path / "a", 0.9, run_id="r1", metrics={"map50_95": 0.5, "x": math.nan})
    second = evaluate(evaluations, ONE, tmp_path / "b", 0.9, run_id="r2")
    evaluate(evaluations, OTHER, tmp_path / "c", 0.9)
    evaluate(evaluations, ONE, tmp_path / "d", 0.9, dataset_fingerprint="e" * 64)

    found = evaluations.find(sha256=ONE, fingerprint=FINGERPRINT)
    assert found == [second, first]
    assert found[1].metrics == {"map50_95": 0.5}
    assert found[0].protocol == {"confidence_floor": 0.001, "iou": 0.7, "max_det": 300}
    assert (found[0].images, found[0].split, found[0].backend, found[0].imgsz) == (40, "val", "torch", 320)
    assert len(evaluations.find(sha256=ONE)) == 3
    assert [row.id for row in evaluations.find(run_id="r1")] == [first.id]
    assert evaluations.find(sha256="3" * 64) == []
    assert json.loads(json.dumps(second.to_dict()))["sha256"] == ONE


def test_a_later_clock_wins_over_a_later_entry(evaluations, tmp_path):
    row = evaluate(evaluations, ONE, tmp_path / "a", 0.9)
    early = evaluations.record(replace(row, time=row.time.replace(year=2001)))
    assert [item.id for item in evaluations.find(sha256=ONE)] == [row.id, early.id]


def test_the_predictions_are_read_back_as_they_were(evaluations, tmp_path):
    row = evaluate(evaluations, ONE, tmp_path / "kept", 0.9, seed=4)
    seen, read = record_of(0.9, seed=4), evaluations.load(row)
    assert read.images.names == seen.images.names
    assert np.array_equal(read.predictions.box, seen.predictions.box)
    assert read.facts["model_sha256"] == ONE


def test_what_is_gone_here_is_read_from_mlflow(settings, evaluations, tmp_path):
    row = kept(settings, tmp_path)
    shutil.rmtree(row.folder)
    assert len(evaluations.load(row).images) == 40


def test_what_was_changed_here_is_read_from_mlflow(settings, evaluations, tmp_path, caplog):
    row = kept(settings, tmp_path)
    shutil.rmtree(row.folder)
    record_of(1.0).save(row.folder)  # somebody's wish
    assert len(evaluations.load(row).predictions) == len(record_of(0.9).predictions)
    assert "were changed" in caplog.text


def test_what_lies_beside_the_predictions_does_not_matter(evaluations, tmp_path):
    row = evaluate(evaluations, ONE, tmp_path / "kept", 0.9)
    (row.folder / "curves.json").write_text("{}")
    assert len(evaluations.load(row).images) == 40


def test_what_is_gone_everywhere_is_not_found_and_both_places_are_named(settings, evaluations, tmp_path):
    row = replace(kept(settings, tmp_path), artifact="evaluation/cell 7")
    shutil.rmtree(row.folder)
    with pytest.raises(NotFoundError, match=r"kept is gone, and run .* has no artifact 'evaluation/cell 7'"):
        evaluations.load(row)


def test_what_was_changed_everywhere_proves_nothing(settings, evaluations, tmp_path):
    row = replace(kept(settings, tmp_path), record_sha256="0" * 64)
    with pytest.raises(HashMismatchError, match="changed after they were written, so they prove nothing"):
        evaluations.load(row)


@pytest.mark.parametrize("missing", ["model_sha256", "dataset_fingerprint", "split", "backend", "precision"])
def test_an_evaluation_of_nothing_known_is_refused(tmp_path, missing):
    record = record_of(0.9, **{"model_sha256": ONE, missing: ""})
    folder = record.save(tmp_path / "record")
    with pytest.raises(InputError, match=f"must say its {missing.removeprefix('model_')}"):
        evaluation_row(record, folder, run_id="", metrics={})


def test_two_evaluations_are_of_one_subject_only_where_images_labels_and_protocol_are_the_same(tmp_path):
    def subject(name: str, **options: object) -> tuple[str, ...]:
        record = record_of(0.9, model_sha256=ONE, **options)
        return evaluation_row(record, record.save(tmp_path / name), run_id="", metrics={}).subject

    same = subject("a")
    assert subject("b", seed=9, backend="openvino", precision="int8", imgsz=640) == same
    for number, other in enumerate(
        ({"images": 39}, {"truth_seed": 2}, {"split": "test"}, {"dataset_fingerprint": "e" * 64}, {"max_det": 100})
    ):
        assert subject(f"other {number}", **other) != same, other


def test_runtimes_with_other_words_for_one_processor_were_timed_alike(evaluations, tmp_path):
    row = evaluate(evaluations, "a" * 64, tmp_path / "one", 0.5)
    in_other_words = replace(row, device="AMD EPYC 7763 64-Core Processor (CPU)")
    assert in_other_words.conditions == row.conditions
    assert replace(row, device="NVIDIA H100 (cuda:0)").conditions != row.conditions


def test_the_machine_is_described():
    facts = machine_facts(threads=3)
    assert facts["threads"] == 3
    assert facts["timing"] == "benchmark"
    assert "processors" in facts["cpu"]


def test_versions_from_before_are_served_as_their_files_say(database_url):
    """A database of schema 0001 with versions in it, opened by this code."""
    files = {
        "1": ("weights/best.pt", "torch", "torch"),
        "2": ("model/Best.ONNX", "onnx", "onnxruntime"),
        "3": ("model/best_openvino_model", "openvino", "openvino"),
        "4": ("best.engine", "tensorrt", "tensorrt"),
    }
    engine = sa.create_engine(database_url)  # not our own, which would make it new
    with engine.begin() as connection:
        _migrate_to(connection, "0001")
        for version, (artifact, *_) in files.items():
            connection.execute(sa.text(_OLD_VERSION), {"version": version, "artifact": artifact})
        connection.execute(sa.text(_OLD_STATE))
    engine.dispose()
    opened = Database.open(database_url)
    versions = Ledger(database_url, clock=lambda: None).versions("cam")
    assert {item.version: item.serving for item in versions} == {
        version: Serving(backend=backend, format=kind) for version, (_, kind, backend) in files.items()
    }
    assert [item.aliases for item in versions] == [(), (), (), ("champion",)]
    with opened.write() as connection:  # and back again
        _migrate_to(connection, "0001", down=True)
        columns = {column["name"] for column in sa.inspect(connection).get_columns("gf_model_versions")}
        assert "backend" not in columns
        assert connection.execute(sa.text("SELECT count(*) FROM gf_model_versions")).scalar_one() == 4
    opened.close()


_OLD_VERSION = """INSERT INTO gf_model_versions (name, version, run_id, artifact, sha256, size_bytes, metrics, status,
    created, created_by) VALUES ('cam', :version, 'r', :artifact, 'a', 5, '{}', 'ready', '2026-01-01', 'kim')"""
_OLD_STATE = """INSERT INTO gf_model_states (name, gen, champion, updated) VALUES ('cam', 1, '1', '2026-01-01')"""


def _migrate_to(connection: sa.Connection, revision: str, *, down: bool = False) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    (command.downgrade if down else command.upgrade)(config, revision)
