"""Ultralytics' detection trainer with its label cache beside our data.yaml.

Ultralytics writes ``labels.cache`` into the user's data folder and trusts it by file sizes. Ours
lies in the work folder, under the fingerprint of the content, and two trainings may share it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ultralytics.data.build as build_module
from ultralytics.data.dataset import DATASET_CACHE_VERSION, YOLODataset, load_dataset_cache_file
from ultralytics.models.yolo.detect import DetectionTrainer

__all__ = ["CachedLabelsTrainer"]


class CachedLabelsDataset(YOLODataset):  # type: ignore[misc]
    """Reads and writes its label cache beside the data.yaml, whole or not at all."""

    def _load_or_scan_cache(self, cache_path: Path, cache_hash: str) -> tuple[dict[str, Any], bool]:
        digest = hashlib.sha256(str(cache_path).encode()).hexdigest()[:12]
        shared = Path(self.data["yaml_file"]).parent / f"labels-{digest}.cache"
        try:
            cache = load_dataset_cache_file(shared)
        except (OSError, ValueError, EOFError, KeyError, ImportError):
            cache = {}
        if cache.get("version") == DATASET_CACHE_VERSION and cache.get("hash") == cache_hash:
            return cache, True
        draft = shared.with_name(f".{shared.name}.{os.getpid()}")
        cache = self.cache_labels(draft)
        with contextlib.suppress(FileNotFoundError):
            draft.replace(shared)
        return cache, False


class CachedLabelsTrainer(DetectionTrainer):  # type: ignore[misc]
    """A DetectionTrainer whose datasets cache their labels outside the user's folders."""

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> YOLODataset:
        """Build the dataset of one split (see Ultralytics)."""
        with _dataset_class(CachedLabelsDataset):
            return super().build_dataset(img_path, mode, batch)


@contextlib.contextmanager
def _dataset_class(replacement: type[YOLODataset]) -> Iterator[None]:
    before = build_module.YOLODataset
    build_module.YOLODataset = replacement
    try:
        yield
    finally:
        build_module.YOLODataset = before
