"""What is known of a model file on labelled images: an index of evaluations whose predictions were kept.

A gate that compares two versions needs both on the same images. Each evaluation is a row here (which
file, which data, under what conditions, with which figures) and a folder of predictions, as a run
wrote it and MLflow keeps it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import sqlalchemy as sa

from guardianflow.core.config import Settings
from guardianflow.exceptions import HashMismatchError, InputError, NotFoundError
from guardianflow.registry.evidence import finite_metrics, plain_json
from guardianflow.registry.mlflow_registry import MlflowRegistry
from guardianflow.registry.model_cache import legal_artifact
from guardianflow.state.database import Database
from guardianflow.state.tables import model_evaluations
from guardianflow.text.plain import Row

if TYPE_CHECKING:
    from guardianflow.evaluation.detection.records import DetectionRecord

__all__ = ["EVALUATION_FOLDER", "ClassAp", "EvaluationRow", "Evaluations", "evaluation_row", "machine_facts"]

log = logging.getLogger(__name__)

EVALUATION_FOLDER = "evaluation"
"""Where a run keeps its predictions: in its own folder, and among its artifacts in MLflow."""

_PROTOCOL = ("confidence_floor", "iou", "max_det")
_NEVER = datetime.min.replace(tzinfo=UTC)
_CHUNK = 1 << 20


class MachineFacts(TypedDict, total=False):
    """The machine as far as latencies depend on it: names, threads of the runtime, and how was measured."""

    host: str
    cpu: str
    gpu: str
    threads: int
    timing: str


class EvaluationProtocol(TypedDict, total=False):
    """Which predictions there are: confidence floor, NMS overlap, and boxes an image at most."""

    confidence_floor: float
    iou: float
    max_det: int


class ClassAp(TypedDict):
    """Average precision of a class over IoU 0.50–0.95; ``None`` without labels."""

    name: str
    ap50_95: float | None


@dataclass(frozen=True)
class EvaluationRow(Row):
    """One evaluation of a model file.

    Attributes:
        sha256: Of the registered model file, not of what a backend made of it.
        dataset_fingerprint: Of the data.
        split: Which split.
        images: How many images.
        images_sha256: Of the images and their labels: two evaluations are about the same images where
            this is equal.
        backend: Which backend computed it.
        precision: What that backend was asked for, as a version's ``precision``.
        imgsz: Side of the square input in pixels.
        device: Where it computed, as a person reads it.
        machine: Host, CPU, GPU, threads, and ``timing``: how latencies were measured. They are compared
            where all of it is equal.
        protocol: Confidence floor, NMS overlap and boxes an image at most.
        run_id: The run that made it.
        folder: Where the predictions were written on that machine.
        artifact: Where they lie within the run's artifacts.
        record_sha256: Of the files of the predictions.
        metrics: Catalogue names: ``map50``, ``map50_95``, ``latency_ms_p50`` (single images), …; and
            ``latency_noise``, by what share of the median the repetitions of that timing differ.
        per_class: A row a class.
        time: When.
        id: Number in the index; 0 before it was recorded.
    """

    sha256: str
    dataset_fingerprint: str
    split: str
    images: int
    images_sha256: str
    backend: str
    precision: str
    imgsz: int
    device: str
    machine: MachineFacts
    protocol: EvaluationProtocol
    run_id: str
    folder: Path
    artifact: str
    record_sha256: str
    metrics: Mapping[str, float]
    per_class: Sequence[ClassAp] = ()
    time: datetime = _NEVER
    id: int = 0

    @property
    def subject(self) -> tuple[str, ...]:
        """What was looked at, and how: two evaluations can be compared where this is equal."""
        protocol = (f"{key}={value}" for key, value in sorted(self.protocol.items()))
        return (self.dataset_fingerprint, self.split, self.images_sha256, *protocol)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Where and how latencies were measured: two can be compared where this is equal."""
        machine = (f"{key}={value}" for key, value in sorted(self.machine.items()))
        # Each runtime has its own words for the same processor; the machine's facts name it.
        kind = "CPU" if "cpu" in self.device.lower() else self.device and "GPU"
        return (f"device={kind}", f"imgsz={self.imgsz}", *machine)


def evaluation_row(
    record: DetectionRecord,
    folder: Path,
    *,
    run_id: str,
    metrics: Mapping[str, float],
    per_class: Sequence[ClassAp] = (),
    artifact: str = EVALUATION_FOLDER,
    device: str = "",
    machine: MachineFacts | None = None,
    **facts: object,
) -> EvaluationRow:
    """The row of a record that was saved.

    Args:
        record: What was seen; its facts name model, data and conditions.
        folder: Where it was saved.
        run_id: The run that it belongs to.
        metrics: Figures by catalogue name; latencies are those of single images.
        per_class: A row a class.
        artifact: The folder within the run's artifacts, if the run keeps it.
        device: Where it computed.
        machine: See :func:`machine_facts`, which is the default.
        facts: Instead of the record's: ``sha256``, ``dataset_fingerprint``, ``split``, ``backend``,
            ``precision``, ``imgsz``.

    Raises:
        InputError: Neither the record nor the caller says what was evaluated.
    """
    said = record.facts
    asked = {"sha256": said.get("model_sha256"), "precision": said.get("precision_asked") or said.get("precision")}
    known: dict[str, Any] = {**said, **asked, **facts}
    needed = ("sha256", "dataset_fingerprint", "split", "backend", "precision")
    missing = [name for name in needed if not known.get(name)]
    if missing:
        raise InputError(
            f"an evaluation must say its {' and '.join(missing)}, so that it can be found again; "
            "put it into the record's facts"
        )
    named: dict[str, Any] = {name: str(known[name]) for name in needed}
    return EvaluationRow(
        **named,
        imgsz=int(known.get("imgsz") or 0),
        images=len(record.images),
        images_sha256=_subject_sha256(record),
        device=device or str(known.get("device") or ""),
        machine=machine_facts() if machine is None else machine,
        protocol=cast("EvaluationProtocol", {name: known[name] for name in _PROTOCOL if name in known}),
        run_id=run_id,
        folder=folder.absolute(),
        artifact=legal_artifact(artifact),
        record_sha256=_files_sha256(folder),
        metrics=finite_metrics(metrics),
        per_class=per_class,
        time=datetime.now(UTC),
    )


@cache
def machine_facts(*, threads: int = 0, timing: str = "benchmark") -> MachineFacts:
    """The machine as far as latencies depend on it.

    Args:
        threads: Of the runtime; 0: its own choice.
        timing: How latencies were measured, in a word or two.
    """
    from guardianflow.machine.system import get_gpu_metrics

    gpus = sorted({gpu.name or "GPU" for gpu in get_gpu_metrics()})
    processors = f"{_processor()}, {os.cpu_count() or 1} processors"
    return {"host": platform.node(), "cpu": processors, "gpu": ", ".join(gpus), "threads": threads, "timing": timing}


class Evaluations:
    """The index of evaluations in the state database.

    Args:
        settings: Where the state database and MLflow are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def record(self, row: EvaluationRow) -> EvaluationRow:
        """Enter an evaluation; it gets its number.

        Raises:
            InputError: It holds what JSON has no form for.
        """
        values = {**plain_json(row.to_dict()), "time": row.time}
        del values["id"]
        with Database.open(self._settings.database_url).write() as connection:
            done = connection.execute(model_evaluations.insert().values(values))
        key = done.inserted_primary_key
        return replace(row, id=int(key[0]) if key else 0)

    def find(
        self, *, sha256: str | None = None, fingerprint: str | None = None, run_id: str | None = None
    ) -> list[EvaluationRow]:
        """Evaluations, newest first.

        Args:
            sha256: Of this model file only.
            fingerprint: On this dataset only.
            run_id: Of this run only.
        """
        table = model_evaluations.c
        wanted = ((table.sha256, sha256), (table.dataset_fingerprint, fingerprint), (table.run_id, run_id))
        query = sa.select(model_evaluations).order_by(table.time.desc(), table.id.desc())
        query = query.where(*(column == value for column, value in wanted if value is not None))
        with Database.open(self._settings.database_url).read() as connection:
            rows = connection.execute(query).mappings().all()
        typed = ({**row, "folder": Path(row["folder"]), "per_class": tuple(row["per_class"])} for row in rows)
        return [EvaluationRow(**row) for row in typed]

    def forget(self, run_id: str, folder: Path) -> None:
        """Take the evaluations out of the index whose predictions go: those of a run, and those in its folder."""
        table = model_evaluations.c
        inside = table.folder.startswith(f"{folder}{os.sep}", autoescape=True)
        with Database.open(self._settings.database_url).write() as connection:
            connection.execute(model_evaluations.delete().where((table.run_id == run_id) | inside))

    def load(self, row: EvaluationRow) -> DetectionRecord:
        """The predictions of an evaluation: from its folder, or where that is gone or changed, from MLflow.

        Raises:
            NotFoundError: They lie in neither place.
            HashMismatchError: They were changed.
            InputError: They can't be read.
            TrackingUnavailableError: MLflow doesn't answer, and they don't lie here.
        """
        from guardianflow.evaluation.detection.records import DetectionRecord

        with self._folder(row) as folder:
            return DetectionRecord.load(folder)

    @contextlib.contextmanager
    def _folder(self, row: EvaluationRow) -> Iterator[Path]:
        if row.folder.is_dir():
            if _files_sha256(row.folder) == row.record_sha256:
                yield row.folder
                return
            log.warning("the predictions in %s were changed; those in MLflow are taken instead", row.folder)
        try:
            place = contextlib.ExitStack()
            found = place.enter_context(MlflowRegistry(self._settings).artifact(row.run_id, row.artifact))
        except NotFoundError as error:
            changed = "was changed" if row.folder.is_dir() else "is gone"
            raise NotFoundError(
                f"the predictions of evaluation {row.id} can't be read: its folder {row.folder} {changed}, and {error}"
            ) from error
        with place:
            if _files_sha256(found) != row.record_sha256:
                raise HashMismatchError(
                    f"the predictions of evaluation {row.id} (run {row.run_id}, artifact {row.artifact!r}) were "
                    "changed after they were written, so they prove nothing. Evaluate the model again."
                )
            yield found


def _subject_sha256(record: DetectionRecord) -> str:
    digest = hashlib.sha256("\0".join((*record.classes, "", *record.images.names)).encode())
    truth = record.truth
    for column in (record.images.width, record.images.height, truth.image, truth.label, truth.crowd):
        digest.update(column.tobytes())
    # In hundredths of a pixel, without the rounding of another machine and without a negative zero.
    digest.update((truth.box.round(2) + 0.0).tobytes())
    return digest.hexdigest()


def _files_sha256(folder: Path) -> str:
    """Of the record's own files; what else a run puts beside them doesn't matter."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and (path.suffix == ".parquet" or path.name == "facts.json"):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
    return digest.hexdigest()


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
