"""Measurements as a Parquet file, written in pieces and there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from guardianflow._imports import require
from guardianflow.exceptions import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["s3_client", "upload", "write_parquet"]


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


def upload(file: Path, target: str, environment: Mapping[str, str]) -> None:
    """Put a file into an object store.

    Args:
        file: What to put there.
        target: ``s3://bucket/key``; what has that key is replaced.
        environment: Names the endpoint and the key, as MLflow and boto3 know them.

    Raises:
        InputError: The target is none, or the store doesn't take it.
    """
    parts = urlsplit(target)
    key = parts.path.removeprefix("/")
    if not parts.netloc or not key or key.endswith("/"):
        raise InputError(f"{target} names no object; name one, such as s3://bucket/figures.parquet")
    client = s3_client(environment)
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client.upload_file(str(file), parts.netloc, key)
    except (BotoCoreError, ClientError, S3UploadFailedError, ValueError) as error:
        raise InputError(
            f"{target} can't be written: {' '.join(str(error).split())}. `guardianflow doctor` checks the store"
        ) from error


def s3_client(environment: Mapping[str, str]) -> Any:
    """A client with the endpoint and the key that the environment names; it gives up after seconds, not minutes."""
    boto3 = require("boto3", extra="s3", purpose="the object store")
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=environment.get("MLFLOW_S3_ENDPOINT_URL"),
        aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY"),
        region_name=environment.get("AWS_DEFAULT_REGION") or "us-east-1",
        config=Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 3, "mode": "standard"}),
    )
