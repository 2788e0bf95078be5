from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import socket
import subprocess
import sys
import threading
import unicodedata
from datetime import datetime, timedelta
from pathlib import Path

import mlflow
import pytest

from guardianflow.core.registry import PREFLIGHTS, ModelRegistry
from guardianflow.exceptions import (
    ConflictError,
    HashMismatchError,
    InputError,
    InvalidNameError,
    ModelFileError,
    NotFoundError,
    RefusedError,
    TrackingUnavailableError,
)
from guardianflow.files.content import measure
from guardianflow.registry.mlmodel import MLmodel
from guardianflow.text.names import validate_name
from guardianflow.vision.serving import Serving
from tests.registry.registry_world import World

_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A model of its own for each test: they share one MLflow, whose schema takes seconds to make."""
    return f"지게차 detector {next(_numbers)}"


def weights(version: int, name: str) -> bytes:
    """The content of a version's file."""
    return f"weights {version} of {name}".encode()


@pytest.fixture
def registry(world: World) -> ModelRegistry:
    return world.registry()


@pytest.fixture
def promoted(world: World, registry: ModelRegistry, name) -> ModelRegistry:
    """Versions 1 and 2 were promoted, 3 is the candidate."""
    for number in (1, 2, 3):
        registry.register(name, world.run(weights(number, name)))
        if registry.get(name, "candidate").version != "3":
            registry.promote(name)
    return registry


def holders(registry: ModelRegistry, name: str) -> tuple[str | None, str | None, str | None]:
    """Champion, candidate, rollback."""
    state = next(state for state in registry.list_models() if state.name == name)
    return state.champion, state.candidate, state.rollback


def assert_mlflow_agrees(world: World, registry: ModelRegistry, name: str) -> None:
    state = next(state for state in registry.list_models() if state.name == name)
    assert world.mlflow_aliases(name) == state.aliases


# --- register -------------------------------------------------------------------------------------


def test_register_enters_the_file_of_a_run_and_makes_it_the_candidate(world, registry, name):
    run_id = world.run(b"weights of mine", dataset_fingerprint="f" * 64)
    world.client.log_metric(run_id, "map50", 0.75)
    version = registry.register(name, run_id)
    assert (version.name, version.version, version.run_id, version.artifact) == (name, "1", run_id, "weights/best.pt")
    assert version.sha256 == hashlib.sha256(b"weights of mine").hexdigest()
    assert version.size_bytes == 15
    assert version.dataset_fingerprint == "f" * 64
    assert dict(version.metrics) == {"map50": 0.75}
    assert (version.status, version.aliases, version.created_by) == ("ready", ("candidate",), "kim")
    assert version.uri == f"models:/{name}/1"
    in_mlflow = world.client.get_model_version(name, "1")
    assert in_mlflow.run_id == run_id
    assert in_mlflow.tags["guardianflow.sha256"] == version.sha256
    assert_mlflow_agrees(world, registry, name)


def test_register_again_returns_the_same_version(world, registry, name):
    run_id = world.run()
    first = registry.register(name, run_id)
    registry.register(name, world.run())
    assert registry.register(name, run_id).version == first.version
    assert holders(registry, name) == (None, "2", None)
    assert len(registry.history(name)) == 2


def test_the_same_run_registers_another_file_as_another_version(world, registry, name):
    run_id = world.run(b"weights a")
    assert registry.register(name, run_id).version == "1"
    world.artifact_path(run_id).write_bytes(b"weights b")
    assert registry.register(name, run_id).version == "2"


def test_metrics_and_fingerprint_given_win_over_the_runs(world, registry, caplog, name):
    run_id = world.run(dataset_fingerprint="of the run")
    version = registry.register(
        name, run_id, metrics={"map50": 0.5, "loss": math.nan, "x": math.inf}, dataset_fingerprint="given"
    )
    assert dict(version.metrics) == {"map50": 0.5}
    assert version.dataset_fingerprint == "given"
    assert "no numbers: loss, x" in caplog.text


def test_a_model_folder_is_registered_by_the_hash_of_all_its_files(world, registry, name):
    run_id = world.run(b"weights xml", artifact="openvino/model.xml")
    version = registry.register(name, run_id, artifact="openvino")
    copy = registry.download(name, version.version)
    assert (copy / "model.xml").read_bytes() == b"weights xml"
    world.artifact_path(run_id, "openvino/model.xml").write_bytes(b"weights XML")
    assert registry.register(name, run_id, artifact="openvino").version == "2"


def test_a_version_knows_how_it_is_served_and_what_it_was_made_from(world, registry, name):
    source = world.run()
    registry.register(name, source)
    run_id = world.run(b"weights int8", artifact="model/best_openvino_model/model.xml")
    how = Serving("openvino", "int8", 320, "openvino", parent_version="1", parent_run=source)
    version = registry.register(name, run_id, artifact="model/best_openvino_model", serving=how)
    assert registry.get(name, version.version).serving == how
    assert version.to_dict()["backend"] == "openvino"
    tags = world.client.get_model_version(name, version.version).tags
    assert (tags["guardianflow.backend"], tags["guardianflow.precision"], tags["guardianflow.imgsz"]) == (
        "openvino", "int8", "320",
    )  # fmt: skip
    assert (tags["guardianflow.parent_version"], tags["guardianflow.parent_run"]) == ("1", source)
    page = version._repr_html_()
    assert "openvino int8 at 320 px" in page
    assert "version 1, run" in page


def test_the_champion_leads_to_its_file_and_the_backend_that_serves_it(world, registry, name):
    run_id = world.run(b"weights onnx", artifact="model/best.onnx")
    registry.register(name, run_id, artifact="model/best.onnx")
    with pytest.raises(NotFoundError, match="no @champion"):
        registry.serving(name)
    registry.promote(name)
    served = registry.serving(name)
    assert (served.uri, served.backend, served.precision, served.format) == (
        f"models:/{name}/1", "onnxruntime", "fp32", "onnx",
    )  # fmt: skip
    assert served.path.read_bytes() == b"weights onnx"
    assert served.sha256 == measure(served.path).sha256
    assert json.loads(json.dumps(served.to_dict()))["path"] == str(served.path)


def test_a_training_is_served_at_the_size_it_was_trained_at(world, registry, name):
    run_id = world.run()
    world.client.log_param(run_id, "imgsz", 320)
    assert registry.register(name, run_id).serving == Serving(imgsz=320)


def test_the_same_file_served_another_way_is_another_version(world, registry, name):
    run_id = world.run()
    assert registry.register(name, run_id).version == "1"
    half = Serving(precision="fp16", parent_version="1")
    assert registry.register(name, run_id, serving=half).version == "2"
    assert registry.register(name, run_id, serving=half).version == "2"
    assert registry.register(name, run_id, serving=Serving()).version == "1"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"backend": "Open VINO"}, "backend 'Open VINO' must be a short word"),
        ({"precision": ""}, "precision '' must be"),
        ({"format": "a" * 41}, "format 'aaaa"),
        ({"imgsz": -1}, "imgsz -1 must be between 0"),
        ({"parent_version": ""}, "parent_version '' must be an id"),
        ({"parent_run": "a\nb"}, "parent_run"),
    ],
)
def test_what_no_server_could_be_told_is_refused(values, says):
    with pytest.raises(InputError, match=says):
        Serving(**values)


def test_threads_that_register_one_run_at_once_get_one_version(world, registry, name):
    run_id = world.run()
    found, errors = [], []

    def register() -> None:
        try:
            found.append(registry.register(name, run_id).version)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, errors) == (["1"] * 4, [])
    assert len(world.client.search_model_versions(f"run_id = '{run_id}'")) == 1


def test_a_registration_killed_between_mlflow_and_the_ledger_is_taken_up_again(world, registry, name):
    run_id = world.run()
    first = registry.register(name, world.run())
    content = measure(world.artifact_path(run_id))
    tags = {"guardianflow.sha256": content.sha256, "guardianflow.artifact": "weights/best.pt"}
    other_way = {"guardianflow.backend": "torch", "guardianflow.precision": "fp16", "guardianflow.format": "torch"}
    this_way = {**other_way, "guardianflow.precision": "fp32"}
    mlmodel = MLmodel("served/0", "{}")
    registry._mlflow.create_version(name, run_id, mlmodel, tags=tags | other_way)
    left_behind = registry._mlflow.create_version(name, run_id, mlmodel, tags=tags | this_way)
    assert registry.register(name, run_id).version == left_behind
    assert len(world.client.search_model_versions(f"run_id = '{run_id}'")) == 2
    assert first.version != left_behind


@pytest.mark.parametrize(
    ("run", "artifact", "error", "message"),
    [
        ("0" * 32, "weights/best.pt", NotFoundError, "no run '0000"),
        (None, "weights/none.pt", NotFoundError, r"no artifact 'weights/none\.pt'"),
        (None, "../../outside.pt", InputError, "relative path within the run's artifacts"),
        (None, "/etc/passwd", InputError, "relative path within the run's artifacts"),
        (None, ".", InputError, "names no file"),
    ],
)
def test_what_can_not_be_registered_leaves_no_model_behind(world, registry, run, artifact, error, message, name):
    with pytest.raises(error, match=message):
        registry.register(name, run or world.run(), artifact=artifact)
    assert name not in [state.name for state in registry.list_models()]
    assert name not in [model.name for model in world.client.search_registered_models()]


def test_a_deleted_run_is_not_registered(world, registry, name):
    run_id = world.run()
    world.client.delete_run(run_id)
    with pytest.raises(NotFoundError, match="was deleted in MLflow"):
        registry.register(name, run_id)


# --- promote --------------------------------------------------------------------------------------


def test_promote_moves_old_champion_to_rollback(world, registry, name):
    registry.register(name, world.run())
    assert registry.promote(name).aliases == ("champion",)
    assert holders(registry, name) == ("1", None, None)
    registry.register(name, world.run())
    assert registry.promote(name, reason="better at night", evidence={"map50": [0.7, 0.8]}).version == "2"
    assert holders(registry, name) == ("2", None, "1")
    assert_mlflow_agrees(world, registry, name)
    event = registry.history(name)[0]
    assert (event.action, event.version, event.actor, event.reason) == ("promote", "2", "kim", "better at night")
    assert dict(event.evidence) == {"map50": [0.7, 0.8], "gate": "off", "sha256": registry.get(name).sha256}


@pytest.mark.parametrize("version", ["2", 2, "champion", "@champion"])
def test_promoting_the_champion_again_changes_nothing(promoted, version, name):
    before = promoted.history(name)
    assert promoted.promote(name, version).version == "2"
    assert promoted.history(name) == before


def test_promoting_the_candidate_may_be_repeated(promoted, name):
    assert promoted.promote(name).version == "3"
    moves = len(promoted.history(name))
    assert promoted.promote(name).version == "3"
    assert len(promoted.history(name)) == moves
    assert holders(promoted, name) == ("3", None, "2")


def test_promote_without_a_candidate_says_what_to_do(promoted, name):
    promoted.promote(name)
    promoted.promote(name, 1)
    with pytest.raises(NotFoundError, match=r"no candidate to promote.*champion is 1"):
        promoted.promote(name)


def test_promoting_the_rollback_version_swaps_both(world, promoted, name):
    promoted.promote(name, "rollback")
    assert holders(promoted, name) == ("1", "3", "2")
    assert_mlflow_agrees(world, promoted, name)


def test_mlflow_never_shows_one_version_as_champion_and_rollback(world, promoted, monkeypatch, name):
    shown = []
    mlflow = promoted._mlflow
    for call in ("set_alias", "delete_alias"):
        original = getattr(mlflow, call)

        def watched(*args, original=original):
            original(*args)
            shown.append(world.mlflow_aliases(name))

        monkeypatch.setattr(mlflow, call, watched)
    for version in (1, 2, 3, 1):
        promoted.promote(name, version)
    promoted.rollback(name)
    assert len(shown) >= 10
    assert all(aliases["champion"] != aliases.get("rollback") for aliases in shown)


def test_a_version_that_is_not_there_lists_those_that_are(promoted, name):
    with pytest.raises(NotFoundError, match=r"deleted in MLflow|no version '9'; known: 1, 2, 3"):
        promoted.promote(name, 9)
    with pytest.raises(NotFoundError, match="'best' is no version"):
        promoted.promote(name, "best")
    with pytest.raises(NotFoundError, match=r"no model named '지게차 detectr.*'\. Did you mean '지게차 detector"):
        promoted.promote(name.replace("tor", "tr"))


def test_a_rejected_version_is_refused_unless_forced_with_a_reason(world, promoted, name):
    promoted.reject(name, 3, reason="blind in fog")
    with pytest.raises(RefusedError, match=r"version 3 .* was rejected \(blind in fog\)"):
        promoted.promote(name, 3)
    with pytest.raises(InputError, match="must say why"):
        promoted.promote(name, 3, force=True)
    assert promoted.promote(name, 3, force=True, reason="no fog here").status == "ready"
    assert promoted.history(name)[0].evidence["forced"] is True


@pytest.mark.parametrize("evidence", [{"x": math.nan}, {"x": {1, 2}}, {"x": Path("a")}])
def test_evidence_that_json_can_not_hold_is_refused(promoted, evidence, name):
    with pytest.raises(InputError, match="plain JSON"):
        promoted.promote(name, evidence=evidence)


@pytest.mark.parametrize("reason", ["x" * 2001, "a\0b", "\udc80"])
def test_a_reason_that_a_database_can_not_keep_is_refused(promoted, reason, name):
    with pytest.raises(InputError, match="reason"):
        promoted.promote(name, reason=reason)


# --- rollback -------------------------------------------------------------------------------------


def test_rollback_brings_the_champion_before_back(world, promoted, name):
    version = promoted.rollback(name, reason="misses forklifts")
    assert (version.version, version.aliases) == ("1", ("champion",))
    assert holders(promoted, name) == ("1", "3", None)
    assert_mlflow_agrees(world, promoted, name)
    event = promoted.history(name)[0]
    assert (event.action, event.reason, event.evidence["displaced"]) == ("rollback", "misses forklifts", "2")


def test_a_second_rollback_is_refused_and_says_that_the_first_was_done(promoted, name):
    promoted.rollback(name)
    with pytest.raises(RefusedError, match=r"nothing to roll back to: it was rolled back to version 1 at .* by kim"):
        promoted.rollback(name)
    assert holders(promoted, name)[0] == "1"


def test_the_displaced_champion_can_be_promoted_again(world, promoted, name):
    promoted.rollback(name)
    promoted.promote(name, 2)
    assert holders(promoted, name) == ("2", "3", "1")
    assert_mlflow_agrees(world, promoted, name)


def test_rollback_of_a_first_champion_is_refused(world, registry, name):
    registry.register(name, world.run())
    with pytest.raises(RefusedError, match="its champion is none"):
        registry.rollback(name)
    registry.promote(name)
    with pytest.raises(RefusedError, match="its champion is 1, with no champion before it"):
        registry.rollback(name)


def test_rollback_is_refused_when_the_file_is_gone(world, promoted, name):
    world.artifact_path(promoted.get(name, "rollback").run_id).unlink()
    with pytest.raises(NotFoundError, match=r"champion stays 2: .*no artifact 'weights/best\.pt'"):
        promoted.rollback(name)
    assert holders(promoted, name) == ("2", "3", "1")


def test_rollback_is_refused_when_the_file_was_changed(world, promoted, name):
    world.artifact_path(promoted.get(name, "rollback").run_id).write_bytes(b"weights, tampered")
    with pytest.raises(HashMismatchError, match=r"champion stays 2: .*changed after it was registered"):
        promoted.rollback(name)
    assert holders(promoted, name) == ("2", "3", "1")


def test_rollback_is_refused_when_the_trial_fails(world, promoted, name):
    def fails(path: Path) -> None:
        raise ZeroDivisionError("in layer 3")

    with pytest.raises(RefusedError, match=r"trial failed.*in layer 3"):
        world.registry(preflight=fails).rollback(name)

    def unloadable(path: Path) -> None:
        raise ModelFileError("a pickle that calls os.system")

    with pytest.raises(ModelFileError, match="champion stays 2: a pickle"):
        world.registry(preflight=unloadable).rollback(name)
    assert holders(promoted, name) == ("2", "3", "1")


def test_rollback_is_refused_when_the_champion_moved_during_the_check(world, promoted, name):
    def slow(path: Path) -> None:
        promoted.promote(name, 3)

    with pytest.raises(ConflictError, match="the champion was 2 and is 3 now, and nothing was rolled back"):
        world.registry(preflight=slow).rollback(name)
    assert holders(promoted, name) == ("3", None, "2")


def test_the_default_preflight_is_found_by_its_name():
    assert callable(PREFLIGHTS.get("inference"))


# --- reject and delete ----------------------------------------------------------------------------


def test_reject_takes_the_aliases_away(world, promoted, name):
    assert promoted.reject(name, "candidate", reason="worse").status == "rejected"
    promoted.reject(name, 1, reason="old")
    assert holders(promoted, name) == ("2", None, None)
    assert_mlflow_agrees(world, promoted, name)
    moves = len(promoted.history(name))
    promoted.reject(name, 1, reason="again")
    assert len(promoted.history(name)) == moves


def test_the_champion_can_not_be_rejected(promoted, name):
    with pytest.raises(RefusedError, match="roll back or promote another version first"):
        promoted.reject(name, 2, reason="bad")
    with pytest.raises(InputError, match="must say why"):
        promoted.reject(name, 3, reason="  ")


@pytest.mark.parametrize("version", [1, 2, 3, "candidate"])
def test_a_version_with_an_alias_can_not_be_deleted(world, promoted, version, name):
    with pytest.raises(RefusedError, match="can't be deleted"):
        promoted.delete(name, version)
    assert_mlflow_agrees(world, promoted, name)


def test_delete_removes_a_version_here_and_in_mlflow_and_keeps_its_history(world, promoted, name):
    promoted.reject(name, 3, reason="worse")
    assert promoted.delete(name, 3).status == "deleted"
    assert [item.version for item in promoted.list_versions(name)] == ["2", "1"]
    assert [item.version for item in promoted.list_versions(name, include_deleted=True)] == ["3", "2", "1"]
    assert {str(item.version) for item in world.client.search_model_versions(f"name = '{name}'")} == {"1", "2"}
    assert promoted.history(name)[0].action == "delete"
    promoted.delete(name, 3)
    for call in (lambda: promoted.promote(name, 3), lambda: promoted.download(name, 3)):
        with pytest.raises(NotFoundError, match="deleted"):
            call()


def test_a_deletion_killed_before_mlflow_is_finished_by_the_next_call(world, promoted, monkeypatch, name):
    promoted.reject(name, 3, reason="worse")
    monkeypatch.setattr(promoted._mlflow, "delete_version", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        promoted.delete(name, 3)
    assert promoted.get(name, 3).status == "deleted"
    assert len(world.client.search_model_versions(f"name = '{name}'")) == 3
    world.registry().get_champion_uri(name)
    assert len(world.client.search_model_versions(f"name = '{name}'")) == 2


def test_a_deleted_file_registered_again_is_a_new_version(world, registry, name):
    run_id = world.run()
    registry.register(name, run_id)
    registry.reject(name, 1, reason="worse")
    assert registry.register(name, run_id).status == "rejected"
    registry.delete(name, 1)
    assert registry.register(name, run_id).version == "2"


# --- MLflow behind our back -----------------------------------------------------------------------


def test_aliases_changed_by_hand_are_put_back_with_a_warning(world, promoted, caplog, name):
    world.client.set_registered_model_alias(name, "champion", "3")
    world.client.delete_registered_model_alias(name, "rollback")
    world.client.set_registered_model_alias(name, "of-somebody-else", "3")
    with caplog.at_level(logging.WARNING):
        assert promoted.get_champion_uri(name) == f"models:/{name}@champion"
    assert f"@champion of model {name!r} was 3 in MLflow and is 2 in the ledger: put back" in caplog.text
    assert_mlflow_agrees(world, promoted, name)
    assert world.client.get_registered_model(name).aliases["of-somebody-else"] in ("3", 3)


def test_our_own_moves_warn_of_nothing(world, promoted, caplog, name):
    with caplog.at_level(logging.WARNING, logger="guardianflow"):
        promoted.promote(name)
        promoted.rollback(name)
        promoted.get_champion_uri(name)
    assert caplog.text == ""


def test_a_version_deleted_in_mlflow_is_a_clear_error(world, promoted, name):
    world.client.delete_model_version(name, "3")
    with pytest.raises(NotFoundError, match=r"version 3 of model .* was deleted in MLflow, outside of GuardianFlow"):
        promoted.promote(name)
    world.client.delete_model_version(name, "1")
    with pytest.raises(NotFoundError, match="champion stays 2: version 1"):
        promoted.rollback(name)
    assert promoted.get_champion_uri(name)  # the champion itself is fine
    world.client.delete_model_version(name, "2")
    with pytest.raises(NotFoundError, match=r"version 2 of model .* was deleted in MLflow"):
        promoted.get_champion_uri(name)
    assert promoted.register(name, world.run()).version == "4"
    assert promoted.promote(name).aliases == ("champion",)


def test_a_model_deleted_in_mlflow_can_be_registered_again_under_new_numbers(world, promoted, name):
    world.client.delete_registered_model(name)
    with pytest.raises(NotFoundError, match="was deleted in MLflow"):
        promoted.get_champion_uri(name)
    assert promoted.register(name, world.run()).version == "4"
    promoted.promote(name)
    assert promoted.get_champion_uri(name)
    assert world.mlflow_aliases(name)["champion"] == "4"


def test_a_move_stands_when_mlflow_dies_after_it_and_the_next_call_shows_it(world, promoted, caplog, monkeypatch, name):
    def dead(*_: str) -> None:
        raise TrackingUnavailableError("MLflow is down")

    monkeypatch.setattr(promoted._mlflow, "set_alias", dead)
    assert promoted.promote(name).version == "3"
    assert "does not show the state of model" in caplog.text
    assert world.mlflow_aliases(name)["champion"] == "2"
    world.registry().get_champion_uri(name)
    assert world.mlflow_aliases(name) == {"champion": "3", "rollback": "2"}


def test_a_dead_mlflow_is_an_error_before_a_move_and_no_matter_for_the_ledger(world, promoted, name):
    promoted.download(name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{probe.getsockname()[1]}"
    alone = ModelRegistry(world.settings.model_copy(update={"mlflow_tracking_uri": dead}))
    for call in (alone.promote, alone.get_champion_uri):
        with pytest.raises(TrackingUnavailableError, match=r"127\.0\.0\.1.*guardianflow doctor"):
            call(name)
    assert holders(alone, name) == ("2", "3", "1")
    assert alone.history(name)
    assert alone.list_versions(name)
    assert alone.resolve(f"models:/{name}@champion").read_bytes() == weights(2, name)
    with pytest.raises(TrackingUnavailableError):
        alone.download(name, "candidate")


# --- reads and files ------------------------------------------------------------------------------


def test_history_tells_who_was_champion_when(world, promoted, name):
    promoted.rollback(name)
    events = list(reversed(promoted.history(name)))
    assert [event.gen for event in events] == list(range(1, len(events) + 1))
    for event in events:
        found = promoted.champion_at(name, event.time)
        assert (found.version if found else None) == event.champion
    assert promoted.champion_at(name, events[0].time - timedelta(seconds=1)) is None
    assert promoted.champion_at(name, datetime(2100, 1, 1)).version == "1"  # noqa: DTZ001 - naive is UTC
    assert promoted.champion_at(name, "2100-01-01T00:00").version == "1"
    with pytest.raises(InputError, match="is no time"):
        promoted.champion_at(name, "yesterday")
    assert len(promoted.history(name, limit=2)) == 2


def test_a_clock_that_goes_back_does_not_turn_the_ledger_round(world, promoted, name):
    world.now -= timedelta(days=1)
    promoted.promote(name)
    times = [event.time for event in promoted.history(name)]
    assert times == sorted(times, reverse=True)
    assert promoted.champion_at(name, times[0]).version == "3"


def test_download_checks_the_hash_and_shares_one_copy(world, promoted, tmp_path, name):
    copy = promoted.download(name)
    assert copy.read_bytes() == weights(2, name)
    assert promoted.download(name, 2) == copy
    assert copy.is_relative_to(world.settings.work_dir)
    folder = tmp_path / "받는 곳"
    folder.mkdir()
    assert promoted.download(name, "rollback", folder) == folder / "best.pt"
    assert promoted.download(name, 1, folder / "named.pt").read_bytes() == weights(1, name)
    copy.write_bytes(b"damaged")
    assert promoted.download(name).read_bytes() == weights(2, name)


def test_download_refuses_a_file_that_was_changed_and_leaves_nothing(world, promoted, tmp_path, name):
    world.artifact_path(promoted.get(name, 3).run_id).write_bytes(b"weights, tampered")
    with pytest.raises(HashMismatchError, match="registered was"):
        promoted.download(name, 3, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()
    copies = world.settings.work_dir / "models" / promoted.get(name, 3).sha256
    assert list(copies.iterdir()) == []


def test_resolve_takes_model_uris(promoted, name):
    assert promoted.resolve(f"models:/{name}@champion").read_bytes() == weights(2, name)
    assert promoted.resolve(f"models:/{name}/1").read_bytes() == weights(1, name)
    for uri in ("models:/x", f"models:/{name}/1/2", "runs:/1/x", f"models:/{name}@a@b", "models:/../x/1"):
        with pytest.raises(InputError, match="must read models:/NAME@champion"):
            promoted.resolve(uri)
    with pytest.raises(NotFoundError, match="'shadow' is no version"):
        promoted.resolve(f"models:/{name}@shadow")


def test_mlflow_itself_can_serve_what_the_champion_uri_names(world, promoted, tmp_path, name):
    uri = promoted.get_champion_uri(name)
    name, alias = uri.removeprefix("models:/").split("@")
    version = world.client.get_model_version_by_alias(name, alias)

    def fetched(source: str) -> Path:
        uri = world.settings.mlflow_tracking_uri
        return Path(mlflow.artifacts.download_artifacts(source, dst_path=str(tmp_path / "served"), tracking_uri=uri))

    said = json.loads((fetched(version.source) / "MLmodel").read_text())["flavors"]["python_function"]["config"]
    assert said["sha256"] == version.tags["guardianflow.sha256"]
    assert fetched(f"runs:/{said['run_id']}/{said['artifact']}").read_bytes() == weights(2, name)


def test_models_and_versions_become_json_and_escaped_html(world, registry):
    name = f"<img src=x onerror=alert({next(_numbers)})>"
    version = registry.register(name, world.run())
    assert json.loads(json.dumps(version.to_dict()))["aliases"] == ["candidate"]
    assert json.loads(json.dumps(registry.history(name)[0].to_dict()))["action"] == "register"
    state = next(state for state in registry.list_models() if state.name == name)
    assert state.to_dict()["candidate"] == "1"
    for shown in (version._repr_html_(), registry.history(name)[0]._repr_html_()):
        assert "<img" not in shown
        assert "&lt;img" in shown


def test_the_actor_is_who_the_registry_was_opened_for(world, promoted, name):
    world.registry(actor="  lee  ").promote(name)
    assert [event.actor for event in promoted.history(name)][:2] == ["lee", "kim"]


@pytest.mark.parametrize(
    "name",
    ["", " ", "a/b", "a:b", "a@b", "a?b", "a\nb", "x\u202ey", "\u200b", "a\u2028b", "x" * 201, " a", "..", "\ud800"],
)
def test_names_that_can_not_be_seen_or_would_break_a_uri_are_refused(name):
    with pytest.raises(InvalidNameError, match=r"model name .* Choose another model name"):
        validate_name(name, "model name")


def test_names_are_kept_in_one_normal_form():
    decomposed = "지게차 é"
    assert validate_name(unicodedata.normalize("NFD", decomposed), "model name") == decomposed
    assert validate_name("x" * 200) == "x" * 200
    with pytest.raises(InvalidNameError, match="must be text, not int"):
        validate_name(5)  # type: ignore[arg-type]


def test_reading_the_ledger_does_not_import_mlflow(sqlite_world, name):
    sqlite_world.registry().register(name, sqlite_world.run())
    code = (
        "import sys\n"
        "from guardianflow import ModelRegistry, Settings\n"
        "r = ModelRegistry(Settings(work_dir=sys.argv[1], database_url=sys.argv[2]))\n"
        "print(len(r.list_versions(sys.argv[3])), len(r.history(sys.argv[3])), 'mlflow' in sys.modules)\n"
    )
    settings = sqlite_world.settings
    done = subprocess.run(
        [sys.executable, "-c", code, str(settings.work_dir), settings.database_url, name],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1", "1", "False"]


def test_lists_and_the_registry_itself_are_tables(world, promoted, name):
    promoted.rollback(name, reason="<b>misses trucks</b>")
    ledger, versions = promoted.history(name), promoted.list_versions(name)
    assert isinstance(ledger, list)
    assert "&lt;b&gt;misses trucks" in ledger._repr_html_()
    assert repr(ledger).splitlines()[0].split() == ["when", "what", "version", "champion", "rollback", "who", "why"]
    assert len(repr(ledger).splitlines()) == len(ledger) + 1
    assert "mappingproxy" not in repr(versions)
    assert "@champion" in versions._repr_html_()
    assert name in repr(promoted)
    assert name in promoted._repr_html_()
