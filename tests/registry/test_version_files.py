"""What is put in charge, served and downloaded is the file that was registered; what users have stays theirs."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest

from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import (
    GuardianFlowError,
    HashMismatchError,
    InputError,
    NotFoundError,
    RefusedError,
    TrackingUnavailableError,
)
from guardianflow.files.content import measure
from guardianflow.runners.model_source import find_model_source
from tests.registry.registry_world import World, loads

_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    return f"kept {next(_numbers)}"


@pytest.fixture
def registry(sqlite_world: World, name: str) -> ModelRegistry:
    """Version 1 is champion, 2 is the candidate."""
    found = sqlite_world.registry()
    found.register(name, sqlite_world.run())
    found.promote(name)
    found.register(name, sqlite_world.run())
    return found


def stored(world: World, registry: ModelRegistry, name: str, version: str = "candidate") -> Path:
    found = registry.get(name, version)
    return world.artifact_path(found.run_id, found.artifact)


def delete(path: Path) -> None:
    path.unlink()


def swap(path: Path) -> None:
    path.write_bytes(b"weights of somebody else")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lead_out(path: Path) -> None:
    aside = path.parents[3] / f"aside {path.parents[2].name}.pt"  # outside of the run's artifacts
    path.rename(aside)
    path.symlink_to(aside)


def link_to_another(path: Path) -> None:
    other = path.with_name("other.pt")
    other.write_bytes(b"weights of another")
    path.unlink()
    path.symlink_to(other)


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


# --- promotion ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (delete, NotFoundError, r"no artifact 'weights/best\.pt'"),
        (swap, HashMismatchError, "changed after it was registered"),
        (cut_off, HashMismatchError, "changed after it was registered"),
        (empty, HashMismatchError, r"\(0 bytes\), registered was"),
        (lead_out, NotFoundError, "a link that leads out of the run's artifacts"),
        (link_to_another, HashMismatchError, "changed after it was registered"),
        (make_a_folder, HashMismatchError, "changed after it was registered"),
        (make_a_pipe, HashMismatchError, "changed after it was registered"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_what_is_gone_or_another_never_becomes_champion(sqlite_world, registry, name, damage, error, says, force):
    damage(stored(sqlite_world, registry, name))
    moves = registry.history(name)
    with pytest.raises(error, match=rf"version 2 can't be promoted; champion stays 1: .*{says}") as caught:
        registry.promote(name, force=force, reason="I must")
    assert type(caught.value) is error
    assert registry.history(name) == moves
    assert sqlite_world.mlflow_aliases(name) == {"champion": "1", "candidate": "2"}
    with pytest.raises(error, match="champion stays 1"):  # a dry run says the same
        registry.judge(name)


def test_a_copy_in_the_cache_does_not_hide_that_the_store_lost_the_file(sqlite_world, registry, name):
    assert registry.download(name, "candidate").exists()
    stored(sqlite_world, registry, name).unlink()
    with pytest.raises(NotFoundError, match="champion stays 1"):
        registry.promote(name)


def test_promoting_a_champion_whose_file_is_gone_says_so(sqlite_world, registry, name):
    stored(sqlite_world, registry, name, "champion").unlink()
    with pytest.raises(NotFoundError, match="version 1 can't be promoted"):
        registry.promote(name, 1)


def test_a_swap_right_after_the_promotion_changes_nothing_of_what_is_served(sqlite_world, registry, name):
    wanted = stored(sqlite_world, registry, name).read_bytes()
    registry.promote(name)
    swap(stored(sqlite_world, registry, name, "champion"))
    assert registry.resolve(f"models:/{name}@champion").read_bytes() == wanted
    assert registry.serving(name).path.read_bytes() == wanted
    shutil.rmtree(sqlite_world.settings.work_dir / "models")  # on another machine there is no such copy
    with pytest.raises(HashMismatchError, match="changed after it was registered"):
        registry.resolve(f"models:/{name}@champion")


def test_the_trial_of_a_rollback_gets_the_copy_that_was_hashed(sqlite_world, registry, name):
    registry.promote(name)
    tried = []

    def swaps_and_loads(path: Path) -> None:
        swap(stored(sqlite_world, registry, name, "rollback"))
        loads(path)
        tried.append((path, measure(path).sha256))

    sqlite_world.registry(preflight=swaps_and_loads).rollback(name)
    assert tried == [(registry.download(name), registry.get(name).sha256)]


def test_the_ledger_keeps_the_hash_of_what_was_promoted(registry, name):
    registry.promote(name)
    assert registry.history(name)[0].evidence["sha256"] == registry.get(name).sha256


@pytest.fixture
def folder_model(sqlite_world, name) -> tuple[ModelRegistry, Path]:
    """A candidate of two files, and where it lies in the store."""
    run_id = sqlite_world.run()
    made = sqlite_world.folder / f"made {name}" / "best_openvino_model"
    made.mkdir(parents=True)
    (made / "best.xml").write_text("<net/>")
    (made / "best.bin").write_bytes(b"weights")
    sqlite_world.client.log_artifacts(run_id, str(made), "best_openvino_model")
    registry = sqlite_world.registry()
    registry.register(name, run_id, artifact="best_openvino_model")
    return registry, sqlite_world.artifact_path(run_id, "best_openvino_model")


def drop_the_weights(folder: Path) -> None:
    (folder / "best.bin").unlink()


def swap_the_weights(folder: Path) -> None:
    (folder / "best.bin").write_bytes(b"Weights")


def add_a_file(folder: Path) -> None:
    (folder / "more.bin").write_bytes(b"x")


@pytest.mark.parametrize("damage", [drop_the_weights, swap_the_weights, add_a_file])
def test_a_model_of_several_files_counts_whole(folder_model, name, damage):
    registry, folder = folder_model
    damage(folder)
    with pytest.raises(HashMismatchError, match="can't be promoted; champion stays none"):
        registry.promote(name)


def test_a_model_of_several_files_is_promoted_and_handed_out_whole(folder_model, name, tmp_path):
    registry, folder = folder_model
    (folder / "loop").symlink_to(folder.parent)  # is none of it, and isn't walked into
    registry.promote(name)
    assert sorted(path.name for path in registry.download(name, target=tmp_path).iterdir()) == ["best.bin", "best.xml"]


# --- a store that can't be reached is not a file that is gone -------------------------------------


@pytest.fixture
def alone(tmp_path, mlflow_sqlite_template) -> World:
    """A world of its own, whose store may be taken away."""
    shutil.copy(mlflow_sqlite_template, tmp_path / "mlflow.db")
    return World(tmp_path, mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db", database_url=f"sqlite:///{tmp_path}/state.db")


@pytest.mark.parametrize("leaves", ["nothing", "an empty mount point"])
def test_a_store_that_is_not_mounted_is_not_taken_for_a_lost_file(alone, leaves):
    registry = alone.registry()
    registry.register("gate", alone.run())
    store = alone.folder / "artifacts"
    store.rename(alone.folder / "elsewhere")
    if leaves != "nothing":
        store.mkdir()
    for act in (registry.promote, lambda name: registry.promote(name, force=True, reason="now"), registry.judge):
        with pytest.raises(TrackingUnavailableError, match=r"store can't be reached: .*artifacts .*Mount its disk"):
            act("gate")
    if leaves != "nothing":
        store.rmdir()
    (alone.folder / "elsewhere").rename(store)
    assert registry.promote("gate").aliases == ("champion",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read_it_is_not_taken_for_a_lost_one(sqlite_world, registry, name):
    path = stored(sqlite_world, registry, name)
    path.chmod(0)
    try:
        with pytest.raises(TrackingUnavailableError, match=r"Permission denied.*Nothing says that it is gone"):
            registry.promote(name)
    finally:
        path.chmod(0o600)


def test_links_in_a_circle_are_named(sqlite_world, registry, name):
    path = stored(sqlite_world, registry, name)
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(GuardianFlowError, match=r"champion stays 1: .*best\.pt"):
        registry.promote(name)


# --- versions that were not registered by us --------------------------------------------------------


def test_a_version_that_another_program_entered_in_mlflow_says_what_can_not_be_checked(sqlite_world, registry, name):
    run_id = sqlite_world.run()
    sqlite_world.client.create_model_version(name, f"runs:/{run_id}/weights/best.pt", run_id=run_id)
    with pytest.raises(
        RefusedError, match=rf"version 3 of '{name}' was entered .* no hash .*guardianflow register .*--run {run_id}"
    ):
        registry.promote(name, 3, force=True, reason="x")
    with pytest.raises(NotFoundError, match="no version '9'; known: 1, 2"):
        registry.promote(name, 9)


# --- a run that was registered, and whose file was changed since ------------------------------------


def test_a_runs_file_is_called_by_its_version_only_while_it_is_that_file(alone):
    from guardianflow.runs.run_records import RunRecords
    from guardianflow.runs.tracking import TrackedRun
    from guardianflow.state.database import Database

    run = TrackedRun.start(alone.settings, experiment="gate", kind="train", parameters={})
    weights = run.folder / "training" / "weights" / "best.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights 1")
    run.log_artifact(weights, "weights")
    run.finish("FINISHED")
    alone.registry().register("gate", run.run_id)
    assert RunRecords(Database.open(alone.settings.database_url)).get(run.run_id)
    assert find_model_source(run.run_id, alone.settings).version == "1"
    weights.write_bytes(b"weights 2")
    found = find_model_source(run.run_id, alone.settings)
    assert (found.path, found.model_name, found.version) == (weights, "", "")


# --- what stands where a download would go ----------------------------------------------------------


def folder_with_notes(place: Path) -> None:
    place.mkdir()
    (place / "notes.txt").write_text("mine")


def a_file(place: Path) -> None:
    place.write_bytes(b"my own weights")


def a_link(place: Path) -> None:
    (place.parent / "target").write_text("mine")
    place.symlink_to("target")


def a_dead_link(place: Path) -> None:
    place.symlink_to("nowhere")


def seen(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): path.readlink() if path.is_symlink() else path.is_dir() or path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize(
    ("stands", "called"),
    [(folder_with_notes, "a folder"), (a_file, "another file"), (a_link, "a link"), (a_dead_link, "a link")],
)
@pytest.mark.parametrize("named", ["folder", "file"])
def test_a_download_replaces_nothing_of_the_users(registry, name, tmp_path, stands, called, named):
    place = tmp_path / "best.pt"
    stands(place)
    before = seen(tmp_path)
    if named == "file" and place.is_dir():
        place = place / "notes.txt"  # the folder itself would be a folder to write into
        called = "another file"
    with pytest.raises(InputError, match=rf"is not written to .*{called}.* not replaced.*Name another place"):
        registry.download(name, target=tmp_path if named == "folder" else place)
    assert seen(tmp_path) == before


def test_a_model_folder_is_not_written_over_one_that_holds_more(folder_model, name, tmp_path):
    registry, _ = folder_model
    registry.promote(name)
    placed = registry.download(name, target=tmp_path)
    assert registry.download(name, target=tmp_path) == placed  # again: it is there already
    (placed / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="another folder"):
        registry.download(name, target=tmp_path)
    assert (placed / "notes.txt").read_text() == "mine"


def test_a_download_replaces_the_version_that_an_earlier_one_put_there(registry, name, tmp_path):
    place = registry.download(name, target=tmp_path)
    registry.promote(name)
    assert registry.download(name, target=tmp_path) == place
    assert measure(place).sha256 == registry.get(name).sha256
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_a_place_that_can_not_be_written_is_bad_input(registry, name, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="can't be written"):
        registry.download(name, target=tmp_path / "file" / "best.pt")


def test_a_link_in_the_cache_is_neither_served_nor_replaced(registry, name, tmp_path):
    copy = registry.download(name)
    content = copy.read_bytes()
    (tmp_path / "mine.pt").write_bytes(content)
    copy.unlink()
    copy.symlink_to(tmp_path / "mine.pt")
    with pytest.raises(InputError, match=r"is a link.*Move the link away"):
        registry.download(name)
    assert copy.is_symlink()
    assert (tmp_path / "mine.pt").read_bytes() == content
