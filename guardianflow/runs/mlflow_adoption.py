"""Runs that a wrapped script logs to MLflow itself: they become children of ours, instead of being doubled.

The script's environment names our MLflow, and tags for whatever it starts there with MLflow's fluent API (also
through autologging or Lightning's logger): so its runs are known for certain. What it makes with a bare
``MlflowClient`` carries no mark; such a run is adopted only where an adopted run is its parent. A script that sets
a store of its own keeps it; the runs that it made there are copied.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from guardianflow.core.config import Settings, sqlite_path
from guardianflow.exceptions import GuardianFlowError
from guardianflow.runs.mlflow_runs import REASON_TAG, TAG, MlflowRuns
from guardianflow.runs.mlflow_writing import StoreRun, write_finished_run
from guardianflow.runs.run_records import RunStatus
from guardianflow.text.plain import Row
from guardianflow.text.redaction import redact

__all__ = [
    "ADOPTED_TAG", "COPIED_TAG", "AdoptedRun", "StoreRun", "adopt_runs", "adoption_environment", "without_foreign_runs",
]  # fmt: skip

log = logging.getLogger(__name__)

ADOPTED_TAG = TAG + "adopted_by"
COPIED_TAG = TAG + "copied_from"
PARENT_TAG = "mlflow.parentRunId"

_CONTEXT, _EXPERIMENT_ID = "MLFLOW_RUN_CONTEXT", "MLFLOW_EXPERIMENT_ID"
_FOREIGN = {
    "MLFLOW_RUN_ID": "its run would go on in that one, which is another's",
    "MLFLOW_PARENT_RUN_ID": "its runs are children of this one",
    "MLFLOW_ACTIVE_MODEL_ID": "its figures would be written to that model, which another run made",
    "_MLFLOW_ACTIVE_MODEL_ID": "its figures would be written to that model, which another run made",
}
"""Variables that lead into another run → what they would do."""

_ENDED = (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED)
_SLACK_S = 2.0  # between our clock and the file system's
_MAX_ENTRIES = 200_000
_MAX_DEPTH = 8
_MAX_ARTIFACTS = 1_000
_SQLITE = b"SQLite format 3\0"
_SQLITE_NAMES = (".db", ".sqlite", ".sqlite3")
_SKIPPED = frozenset({".git", ".venv", "venv", "node_modules", "__pycache__", "site-packages", "wandb"})


ReadStore = Callable[[Path, Path], Iterable[Any]]
"""Path of a store, folder that its artifacts must lie in → :class:`StoreRun`, parents first; others are passed over."""


@dataclass(frozen=True)
class AdoptedRun(Row):
    """A run of the script's own, now a child of ours.

    Attributes:
        run_id: Its id in our MLflow.
        name: Its name.
        status: How it ended.
        metrics: The last value of each.
        params: Secrets masked.
        artifacts: How many files it has, up to 1000.
        copied_from: Store and id that it was copied from; empty where the script logged to our MLflow.
    """

    run_id: str
    name: str
    status: str
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    artifacts: int = 0
    copied_from: str = ""


def adoption_environment(
    settings: Settings, *, run_id: str, experiment: str, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables with which a script's own MLflow runs become children of ours.

    An experiment that the user's environment names stays. ``MLFLOW_RUN_ID`` is never among them: the script would
    write into our run.

    Args:
        settings: Which MLflow.
        run_id: Our run.
        experiment: Its experiment.
        environment: The user's; default ``os.environ``.
    """
    given = os.environ if environment is None else environment
    tags = {**_context(given.get(_CONTEXT, "")), PARENT_TAG: run_id, ADOPTED_TAG: run_id}
    found = {"MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri, _CONTEXT: json.dumps(tags)}
    if not given.get("MLFLOW_EXPERIMENT_NAME") and not given.get(_EXPERIMENT_ID):
        found["MLFLOW_EXPERIMENT_NAME"] = experiment
    # Artifacts go to the same S3 as ours; these may stand in a file that the script doesn't read.
    settings.export(storage := {name: value for name, value in given.items() if name.startswith(("AWS_", "MLFLOW_S3"))})
    return {**found, **{name: value for name, value in storage.items() if given.get(name) != value}}


def without_foreign_runs(settings: Settings, environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The user's environment without what would make a script's runs go on in somebody else's, and remarks.

    Args:
        settings: Which MLflow is ours.
        environment: The user's own, before anything of ours is put in.
    """
    kept, remarks = dict(environment), []
    for name, why in _FOREIGN.items():
        if kept.get(name):
            remarks.append(f"{name}={kept[name][:80]!r} was set aside for the script: {why}")
        kept.pop(name, None)
    if kept.get(_EXPERIMENT_ID) and kept.get("MLFLOW_TRACKING_URI") != settings.mlflow_tracking_uri:
        said = kept.pop(_EXPERIMENT_ID)[:80]
        remarks.append(
            f"{_EXPERIMENT_ID}={said!r} was set aside for the script: the number is of another MLflow than the one "
            "that its runs go to; name the experiment with MLFLOW_EXPERIMENT_NAME"
        )
    context = _context(kept.get(_CONTEXT, ""))
    named = {key: context.pop(key) for key in ("mlflow.runName", PARENT_TAG) if key in context}
    if named:
        kept[_CONTEXT] = json.dumps(context)
        remarks.append(f"{', '.join(named)} in {_CONTEXT} was set aside for the script: it belongs to another run")
    return kept, remarks


def _context(text: str) -> dict[str, str]:
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def adopt_runs(
    settings: Settings,
    *,
    run_id: str,
    working_dir: Path,
    since: float,
    read_store: ReadStore | None = None,
    tracking_uris: Sequence[str] = (),
) -> list[AdoptedRun]:
    """Find what a script logged to MLflow, and make it children of our run; again has no further effect.

    A run that it left RUNNING is KILLED: whoever made it has ended.

    Args:
        settings: Which MLflow is ours.
        run_id: Our run; the script has ended.
        working_dir: Stores below it that were written to are looked into.
        since: When the script began, in seconds since 1970.
        read_store: Reads a store; ``None``: stores of the script's own are left alone.
        tracking_uris: Further stores: SQLite files and folders.

    Raises:
        TrackingUnavailableError: Our MLflow doesn't answer.
    """
    runs = _Adoption(settings, run_id, since)
    adopted = {row.run_id: row for row in runs.adopt_marked()}
    if read_store is not None:
        for store in dict.fromkeys([*_stores_below(settings, working_dir, since), *_named(tracking_uris)]):
            adopted.update((row.run_id, row) for row in runs.copy_from(store, working_dir, read_store))
    return list(adopted.values())


class _Adoption(MlflowRuns):
    def __init__(self, settings: Settings, run_id: str, since: float) -> None:
        super().__init__(settings)
        self._run_id = run_id
        self._since = since

    def adopt_marked(self) -> list[AdoptedRun]:
        """The runs that the script's environment marked, and what they are the parents of."""
        with self._explained():
            experiments = list(self._experiments())
            found = {run.info.run_id: run for run in self._search(_with(ADOPTED_TAG, self._run_id), experiments)}
            waiting = list(found)
            while waiting:
                for run in self._search(_with(PARENT_TAG, waiting.pop()), experiments):
                    if run.info.run_id not in found and run.info.run_id != self._run_id:
                        found[run.info.run_id] = run
                        waiting.append(run.info.run_id)
            ordered = sorted(found.values(), key=lambda run: (run.info.start_time or 0, run.info.run_id))
            return [self._adopt(run) for run in ordered]

    def copy_from(self, store: Path, root: Path, read_store: ReadStore) -> list[AdoptedRun]:
        """Copy the runs that a store got since the script began."""
        copied: list[AdoptedRun] = []
        ids: dict[str, str] = {}
        try:
            for found in read_store(store, root):
                if getattr(found, "source_id", "") and self._is_of_now(found):
                    row = self._copy(found, store, ids)
                    ids[found.source_id] = row.run_id
                    copied.append(row)
        except (GuardianFlowError, OSError, ValueError) as error:
            # Any database may lie there; what is written to ours is said by the calls themselves.
            log.debug("%s was not adopted: %s", store, error)
            if isinstance(error, ConnectionError):
                raise
        return copied

    def _adopt(self, run: Any) -> AdoptedRun:
        status, tags = str(run.info.status), run.data.tags
        if status not in _ENDED:
            status = RunStatus.KILLED
            self._client.set_terminated(run.info.run_id, status=status)
            self._client.set_tag(run.info.run_id, REASON_TAG, "the script ended without ending this run")
        for tag, value in ((PARENT_TAG, self._run_id), (ADOPTED_TAG, self._run_id)):
            if tag not in tags:
                self._client.set_tag(run.info.run_id, tag, value)
        return self._row(run, status, tags.get(COPIED_TAG, ""))

    def _row(self, run: Any, status: str, copied_from: str) -> AdoptedRun:
        return AdoptedRun(
            run_id=str(run.info.run_id),
            name=str(run.info.run_name or ""),
            status=status,
            metrics=dict(run.data.metrics),
            params={name: str(value) for name, value in redact(run.data.params).items()},
            artifacts=self._count_artifacts(str(run.info.run_id)),
            copied_from=copied_from,
        )

    def _count_artifacts(self, run_id: str) -> int:
        count, folders = 0, [""]
        try:
            while folders and count < _MAX_ARTIFACTS:
                for entry in self._client.list_artifacts(run_id, folders.pop() or None):
                    if entry.is_dir:
                        folders.append(entry.path)
                    else:
                        count += 1
        except Exception as error:  # noqa: BLE001 - a count is no reason to lose a run
            log.debug("the artifacts of run %s could not be counted: %s", run_id, error)
        return min(count, _MAX_ARTIFACTS)

    def _is_of_now(self, found: StoreRun) -> bool:
        moments = [moment.timestamp() for moment in (found.started, found.ended) if moment is not None]
        return bool(moments) and max(moments) >= self._since - _SLACK_S

    def _copy(self, found: StoreRun, store: Path, ids: Mapping[str, str]) -> AdoptedRun:
        source = f"{store}#{found.source_id}"
        with self._explained():
            experiment = self._client.get_run(self._run_id).info.experiment_id
            wanted = _with(COPIED_TAG, source.replace("'", ""))
            known = [run for run in self._search(wanted, [experiment]) if run.info.status in _ENDED]
        if known:
            return self._row(known[0], str(known[0].info.status), source)
        tags = {
            "mlflow.user": self._settings.actor,
            PARENT_TAG: ids.get(found.parent_id, self._run_id),
            # Without quotes: MLflow's search knows no way to write them.
            COPIED_TAG: source.replace("'", ""),
        }
        run_id = write_finished_run(self._client, found, experiment_id=experiment, tags=tags)
        with self._explained():
            for path in found.artifacts:
                self._client.log_artifact(run_id, str(path), found.artifact_name(path).rpartition("/")[0] or None)
            # Last: what adopt_marked finds is whole.
            self._client.set_tag(run_id, ADOPTED_TAG, self._run_id)
            return self._row(self._client.get_run(run_id), found.status, source)


def _with(tag: str, value: str) -> str:
    """MLflow's filter for a tag."""
    return f"tags.`{tag}` = '{value}'"


def _named(uris: Sequence[str]) -> Iterator[Path]:
    for uri in uris:
        path = sqlite_path(uri)
        if path is None and urlsplit(uri).scheme in ("", "file"):
            path = Path(unquote(urlsplit(uri).path))
        if path is not None and path.exists():
            yield path


def _stores_below(settings: Settings, root: Path, since: float) -> Iterator[Path]:
    """SQLite files and experiments of file stores that were written to since then; never our own."""
    own = sqlite_path(settings.mlflow_tracking_uri)
    left_alone = {_resolved(path) for path in (own, settings.work_dir) if path is not None}
    folders = [(Path(_resolved(root)), 0)]
    seen = 0
    while folders:
        folder, depth = folders.pop()
        for entry in _entries(folder):
            seen += 1
            if seen > _MAX_ENTRIES:
                log.debug("%s has too many files; stores of MLflow may have been missed", root)
                return
            if entry.path in left_alone or entry.is_symlink():
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if b"experiment_id:" in _beginning(path / "meta.yaml", 4_000):  # of a file store
                    if _written(path, since):
                        yield path
                elif depth < _MAX_DEPTH and entry.name not in _SKIPPED:
                    folders.append((path, depth + 1))
            elif entry.name.endswith(_SQLITE_NAMES) and _beginning(path, 16) == _SQLITE and _written(path, since):
                yield path


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def _beginning(path: Path, size: int) -> bytes:
    """The first bytes of a file; none where it can't be read."""
    try:
        if not path.is_file():  # a FIFO would never open
            return b""
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def _written(path: Path, since: float) -> bool:
    """Whether it, the journal beside it, or what is right in it, was changed since then."""
    beside = path.with_name(path.name + "-wal")
    below = [Path(entry.path) for entry in _entries(path)] if path.is_dir() else []
    return any(_time_of(place) >= since - _SLACK_S for place in (path, beside, *below))


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _resolved(path: Path) -> str:
    return os.path.realpath(path)
