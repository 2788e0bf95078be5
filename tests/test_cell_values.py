"""What a cell shows, and what completion offers: facts and public names, never an address or a proxy."""

from __future__ import annotations

import re
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import guardianflow as gf
from guardianflow.dashboard.automation import AutoOptimizer
from guardianflow.runs.run_records import RunRecords
from guardianflow.state.database import Database
from tests.trainings import Trained

HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def things(trained: Trained) -> dict[str, Any]:
    """What people get into their hands, by name."""
    settings = trained.settings
    run = gf.open_run(trained.result.run_id[:8], settings=settings)
    return {
        "settings": settings,
        "run": run,
        "parameters": run.parameters,
        "figures": run.metrics,
        "result": run.result,
        "runs": RunRecords(Database.open(settings.database_url)).list(),
        "registry": gf.ModelRegistry(settings),
        "store": gf.MetricsStore(settings.database_url),
        "optimizer": AutoOptimizer(settings=settings),
        "advice": AutoOptimizer(settings=settings).list(),
        "dataset": gf.read_dataset(trained.data_yaml),
        "runner": gf.TrainingRunner(HOSTILE, "yolo11n.yaml", trained.data_yaml, settings=settings),
        "scenario": gf.TrainingRunner("x", "yolo11n.yaml", trained.data_yaml, settings=settings).scenario,
        "experiments": gf.ExperimentRegistry(trained.settings.work_dir / "experiments.yaml"),
    }


def test_a_cell_shows_facts_and_no_address(things: dict[str, Any]) -> None:
    formatter = InteractiveShell.instance().display_formatter
    for name, thing in things.items():
        shown, _ = formatter.format(thing)
        for text in shown.values():
            assert not re.search(r"mappingproxy|object at 0x", str(text)), name
        assert len(shown["text/plain"]) < 2000, name
    for name in things.keys() - {"store"}:
        assert "text/html" in formatter.format(things[name])[0], name
    page = things["runner"]._repr_html_()
    assert "&lt;img src=x" in page
    assert "<img" not in page


def test_a_run_is_opened_by_the_beginning_of_its_id(trained: Trained) -> None:
    run = gf.open_run(trained.result.run_id[:8], settings=trained.settings)
    assert (run.run_id, run.kind, run.status) == (trained.result.run_id, "train", "FINISHED")
    assert isinstance(run.result, gf.TrainingResult)
    assert run.metrics["map50"] == trained.result.metrics["map50"]
    assert run.parameters["model_arch"] == "yolo11n.yaml"
    assert {"result.json", "scenario.yaml", "training/weights/best.pt"} <= {*run.artifacts}
    assert trained.result.verdict in repr(run)
    assert trained.result.run_id in run._repr_html_()
    with pytest.raises(gf.GuardianFlowError, match="there is no run 'feedbeef'"):
        gf.open_run("feedbeef", settings=trained.settings)


def test_two_are_compared_in_one_call(trained: Trained) -> None:
    run_id = trained.result.run_id
    with pytest.raises(gf.GuardianFlowError, match="each once"):
        gf.compare(run_id, run_id, settings=trained.settings)


def test_completion_offers_public_names_alone(things: dict[str, Any]) -> None:
    shell = InteractiveShell.instance()
    shell.user_ns.update(things, guardianflow=gf)
    for name in ("guardianflow", "settings", "scenario", "run", "registry", "result", "runner", "store"):
        with provisionalcompleter():
            offered = {found.text.lstrip(".") for found in shell.Completer.completions(f"{name}.", len(name) + 1)}
        assert offered, name
        assert not {
            text for text in offered if text.startswith(("_", "model_dump", "model_fields", "import_module"))
        }, name
        assert not offered & {"construct", "parse_raw", "settings_cached", "update_forward_refs"}, name
    assert {"work_dir", "describe"} <= {*dir(things["settings"])}


def test_a_password_stays_out_of_what_a_notebook_keeps() -> None:
    settings = gf.Settings(
        database_url="postgresql+psycopg://me:s3cret@db/gf", mlflow_tracking_uri="http://me:s3cret@ml"
    )
    for text in (repr(settings), str(settings), settings._repr_html_()):
        assert "s3cret" not in text
        assert "db/gf" in text
