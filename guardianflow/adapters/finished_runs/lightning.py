"""Runs that Lightning's loggers left: ``hparams.yaml``, ``metrics.csv`` or event files, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guardianflow.adapters.finished_runs.folders import (
    FinishedRun,
    content_digest,
    kept_files,
    moment,
    or_remark,
    plain_file,
)
from guardianflow.adapters.finished_runs.tensorboard import EVENTS, EventRuns, event_files, event_stem, read_events
from guardianflow.adapters.wrap.metrics.csv_files import read_csv_metrics
from guardianflow.exceptions import InputError
from guardianflow.files.yaml_safety import load_yaml_mapping
from guardianflow.runs.run_records import RunStatus
from guardianflow.text.printable import printable

__all__ = ["read_lightning_run"]

_HPARAMS, _METRICS = "hparams.yaml", "metrics.csv"
_ENDS = ("max_epochs", "epochs", "num_epochs")


def read_lightning_run(path: Path, root: Path) -> list[FinishedRun]:
    """The run in a folder that one of Lightning's loggers wrote.

    Raises:
        InputError: It holds no metrics and no hyperparameters that can be read.
    """
    files = {name: path / name for name in (_HPARAMS, _METRICS) if plain_file(path / name, root)}
    events = event_files(path, root)
    if not files and not events:
        raise InputError(f"{printable(path)} holds no hparams.yaml, metrics.csv or event file; it is no Lightning run")
    remarks: list[str] = []
    settings = files.get(_HPARAMS)
    params: dict[Any, Any] = {}
    if settings and settings.stat().st_size > 0 and settings.read_bytes()[:16].strip() != b"{}":
        # One that holds an object of Python's is remarked; it is never built.
        params = or_remark(lambda: load_yaml_mapping(settings, what=_HPARAMS), remarks, {})
    table = or_remark(lambda: read_csv_metrics(files[_METRICS]), remarks, None) if _METRICS in files else None
    remarks.extend(table.remarks if table else ())
    # Without the package `tensorboard` the table still counts.
    logged = or_remark(lambda: read_events(events, path), remarks, EventRuns())
    history = {**logged.history, **(table.metrics if table else {})}
    epochs = _epochs(history)
    status, why = _status({**logged.hparams, **params}, epochs, bool(history))
    kept = kept_files(path, first=(_HPARAMS, _METRICS), also=(EVENTS,))
    written = [file.stat().st_mtime for file in (*files.values(), *events)]
    return [
        FinishedRun(
            path=path,
            kind="lightning",
            name=path.name,
            experiment=path.parent.name,
            parameters={**logged.hparams, **{str(key): value for key, value in params.items()}},
            history=history,
            epochs=epochs,
            status=status,
            started=moment(logged.started if logged.started is not None else min(written)),
            ended=moment(logged.ended if logged.ended is not None else max(written)),
            digest=content_digest("lightning", [*files.values(), *events]),
            stem=content_digest("lightning stem", [settings or b"", event_stem(events)]),
            artifacts=kept.files,
            artifact_root=path,
            weights=_weights(kept.files),
            remarks=(*why, *remarks, *logged.remarks, *kept.remarks),
        )
    ]


def _epochs(history: dict[str, list[tuple[int, float, int | None]]]) -> int:
    """Lightning logs the epoch's number as a metric, from 0."""
    counted = [value for _, value, _ in history.get("epoch", ()) if 0 <= value < 1e9]
    if counted:
        return int(max(counted)) + 1
    return max((len(points) for points in history.values()), default=0)


def _status(params: dict[Any, Any], epochs: int, has_figures: bool) -> tuple[str, list[str]]:
    if not has_figures:
        return RunStatus.FAILED, ["nothing was logged: it ended before its first figure"]
    asked = next((params[name] for name in _ENDS if isinstance(params.get(name), int) and params[name] > 0), 0)
    if asked and epochs < asked:
        return RunStatus.FINISHED, [f"it has {epochs} of {asked} epochs; its files don't say why it ended"]
    return RunStatus.FINISHED, [] if asked else ["its files don't say whether it ended well"]


def _weights(files: tuple[Path, ...]) -> Path | None:
    checkpoints = [path for path in files if path.suffix == ".ckpt"]
    # Without `save_last` there is one: the best. `last.ckpt` lies beside it.
    best = [path for path in checkpoints if path.stem != "last"] or checkpoints
    return max(best, key=lambda path: path.stat().st_mtime, default=None)
