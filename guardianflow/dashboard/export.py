"""Measurements as a Parquet file, written in pieces and there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from guardianflow.exceptions import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["write_parquet"]


def write_parquet(target: Path, parts: Iterable[pd.DataFrame]) -> int:
    """Write frames with the columns of a measurement, one after the other; how many rows there were.

    Raises:
        InputError: The file can't be written there; what was there stays.
    """
    import pyarrow as pa
    from pyarrow import parquet

    texts = ("model", "version", "site", "camera", "task", "experiment", "run_id", "device", "source")
    schema = pa.schema(
        [
            ("time", pa.timestamp("us", tz="UTC")),
            ("metric", pa.string()),
            ("value", pa.float64()),
            *((name, pa.string()) for name in texts),
            ("tags", pa.map_(pa.string(), pa.string())),
            ("event_id", pa.string()),
            ("invalid", pa.string()),
        ]
    )
    draft = target.with_name(f".{uuid.uuid4().hex[:16]}.part")
    rows = 0
    try:
        if target.is_dir():
            raise InputError(f"{target} is a folder; name a file, such as {target / 'metrics.parquet'}")
        with parquet.ParquetWriter(draft, schema, compression="zstd") as writer:
            for part in parts:
                columns = {name: part[name].tolist() for name in schema.names}
                columns["time"] = part["time"]
                columns["value"] = [None if value != value else value for value in columns["value"]]  # noqa: PLR0124 - NaN
                columns["tags"] = [list(tags.items()) for tags in columns["tags"]]
                writer.write_table(pa.table(columns, schema=schema))
                rows += len(part)
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        raise InputError(
            f"{target} can't be written: {error.strerror or error}. Name a file in a folder of yours."
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return rows
