"""The files of a detection record: Parquet tables and the facts, written whole or not at all.

    images.parquet        name, width, height
    truth.parquet         image, label, x1 y1 x2 y2, crowd, area
    predictions.parquet   image, label, score, x1 y1 x2 y2, outcome, truth, truth_iou
    facts.json            version, classes, facts

The last three columns of the predictions say what each met at IoU 0.5 within its class; they are for people
and other programs, and are worked out anew where we need them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.detection.matching import OUTCOMES, match_at
from guardianflow.exceptions import InputError, NotFoundError

if TYPE_CHECKING:
    from guardianflow.evaluation.detection.records import DetectionRecord

__all__ = ["SCHEMA", "StoredRecord", "read_record", "write_record"]

SCHEMA = 1
_CORNERS = ("x1", "y1", "x2", "y2")
_COLUMNS = {
    "images": ("name", "width", "height"),
    "truth": ("image", "label", *_CORNERS, "crowd", "area"),
    "predictions": ("image", "label", "score", *_CORNERS),
}


_Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class StoredRecord:
    """What the files hold, by the fields of the record's tables."""

    images: Mapping[str, Any]
    classes: tuple[str, ...]
    truth: _Columns
    predictions: _Columns
    facts: Mapping[str, Any]


def write_record(record: DetectionRecord, folder: Path) -> Path:
    """Write a record to a new folder: beside it first, then renamed.

    Raises:
        InputError: The folder holds something already, or the facts are no plain JSON.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise InputError(f"a record is written to a new folder; {folder} exists and is not empty. Choose another one.")
    text = _facts_text(record)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{uuid.uuid4().hex[:16]}.part")
    try:
        draft.mkdir()
        for name, columns in _tables(record).items():
            _write_table(draft / f"{name}.parquet", columns)
        with (draft / "facts.json").open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if folder.exists():
            folder.rmdir()  # empty, as seen above; Windows renames onto no folder
        draft.rename(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(draft)
        if isinstance(error, UnicodeEncodeError):  # a file name that is no text on this system
            raise InputError(f"names in a record must be text; {error.object!r:.120} is not. Rename it.") from error
        raise
    return folder


def read_record(folder: Path) -> StoredRecord:
    """Read what :func:`write_record` wrote; the values themselves are checked by the record's own types.

    Raises:
        NotFoundError: There is no such folder.
        InputError: A file is missing, damaged, or of another version.
    """
    if not folder.is_dir():
        raise NotFoundError(f"no record of detections at {folder}; it is a folder that an evaluation wrote")
    facts = _read_facts(folder / "facts.json")
    tables = {name: _read_table(folder / f"{name}.parquet", columns) for name, columns in _COLUMNS.items()}
    images = tables["images"]
    return StoredRecord(
        images={"names": tuple(images["name"]), "width": images["width"], "height": images["height"]},
        classes=tuple(facts["classes"]),
        truth=_with_box(tables["truth"]),
        predictions=_with_box(tables["predictions"]),
        facts=facts["facts"],
    )


def _facts_text(record: DetectionRecord) -> str:
    content = {"version": SCHEMA, "classes": list(record.classes), "facts": dict(record.facts)}
    try:
        return json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the facts of a record must be plain JSON: {error}. Turn them into text or numbers."
        ) from error


def _tables(record: DetectionRecord) -> dict[str, dict[str, Any]]:
    images, truth, found = record.images, record.truth, record.predictions
    met = match_at(record, iou=0.5)
    return {
        "images": {"name": list(images.names), "width": images.width, "height": images.height},
        "truth": {
            "image": truth.image, "label": truth.label, **_corners(truth.box),
            "crowd": truth.crowd, "area": truth.area,
        },
        "predictions": {
            "image": found.image, "label": found.label, "score": found.score, **_corners(found.box),
            "outcome": np.array(OUTCOMES)[met.outcome], "truth": met.truth, "truth_iou": met.iou,
        },
    }  # fmt: skip


def _corners(box: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    return {name: box[:, place] for place, name in enumerate(_CORNERS)}


def _with_box(columns: _Columns) -> _Columns:
    box = np.stack([columns.pop(name) for name in _CORNERS], axis=1)
    return {**columns, "box": box}


def _write_table(path: Path, columns: Mapping[str, Any]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {
            name: pa.array(values, pa.string()) if name == "name" else pa.array(np.ascontiguousarray(values))
            for name, values in columns.items()
        }
    )
    with path.open("xb") as file:
        parquet.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def _read_table(path: Path, columns: tuple[str, ...]) -> _Columns:
    import pyarrow as pa
    from pyarrow import parquet

    if not path.is_file():
        raise InputError(f"the record lacks {path.name} ({path}). Write it again with save().")
    try:
        table = parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is no sound Parquet file: {reason}. Write the record again.") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise InputError(f"{path} lacks the column(s) {', '.join(missing)}. Write the record again with save().")
    empty = [name for name in columns if table.column(name).null_count]
    if empty:
        raise InputError(f"{path} has rows without a value in {', '.join(empty)}. Write the record again with save().")
    return {name: table.column(name).to_numpy() for name in columns}


def _read_facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"the record lacks {path.name} ({path}). Write it again with save().")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} is no sound JSON file: {error}. Write the record again.") from error
    if not isinstance(content, dict) or content.get("version") != SCHEMA:
        seen = content.get("version") if isinstance(content, dict) else None
        raise InputError(f"{path} is of version {seen!r}; this GuardianFlow reads {SCHEMA}. Evaluate the model again.")
    classes, facts = content.get("classes"), content.get("facts")
    if not isinstance(facts, dict) or not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        raise InputError(f"{path} lacks the classes or the facts. Write the record again with save().")
    return content
