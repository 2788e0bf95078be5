"""Dataset YAMLs: where the images lie (``train``, ``val``) and what the classes are called (``names``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardianflow.adapters.scan.bytes import file_size, read_start
from guardianflow.adapters.scan.findings import FoundDataset, Reason
from guardianflow.adapters.scan.walk import SeenFolder, Skipped
from guardianflow.exceptions import DatasetError
from guardianflow.files.yaml_safety import MAX_BYTES, load_yaml_mapping

__all__ = ["find_dataset", "is_yaml_name"]

_SPLIT_KEY = re.compile(rb"""^["']?(?:train|val|valid|test)["']?[ \t]*:""", re.MULTILINE)
_CLASS_KEY = re.compile(rb"""^["']?(?:names|nc|path)["']?[ \t]*:""", re.MULTILINE)
_MOST_CLASSES = 100_000


def is_yaml_name(name: str) -> bool:
    """Whether a file of this name is YAML."""
    return name.lower().endswith((".yaml", ".yml"))


def find_dataset(folder: SeenFolder, name: str, skipped: Skipped) -> FoundDataset | None:
    """The dataset that a YAML describes, with a score; None where it describes none."""
    path = folder.at(name)
    if file_size(path) > MAX_BYTES:
        skipped.add(folder.below(name), f"YAML larger than {MAX_BYTES >> 20} MB")
        return None
    content = read_start(path, MAX_BYTES)
    if not (_SPLIT_KEY.search(content) and _CLASS_KEY.search(content)):
        return None
    try:
        keys = load_yaml_mapping(Path(path))
    except DatasetError:
        skipped.add(folder.below(name), "looks like a dataset YAML, but can't be read safely")
        return None
    reasons = tuple(sorted(_signs(keys), key=lambda reason: -reason.weight))
    score = round(min(1.0, max(0.0, sum(reason.weight for reason in reasons))), 2)
    return FoundDataset(Path(folder.below(name)), _class_count(keys), score, reasons)


def _signs(keys: Mapping[Any, Any]) -> list[Reason]:
    found = []
    for split, weight in (("train", 0.35), ("val", 0.25), ("test", 0.1)):
        if _is_place(keys.get(split)):
            found.append(Reason(f"`{split}` says where images lie", weight))
        elif split == "train" and split in keys:
            found.append(Reason("`train` holds no path", -0.4))
    if count := _named(keys.get("names")):
        found.append(Reason(f"`names` names {count:,} {'class' if count == 1 else 'classes'}", 0.35))
    elif _class_count(keys):
        found.append(Reason(f"`nc` says {_class_count(keys):,} classes", 0.2))
    if isinstance(keys.get("path"), str):
        found.append(Reason("`path` names the dataset's folder", 0.05))
    return found


def _is_place(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _named(names: Any) -> int:
    if isinstance(names, Mapping):
        return len(names)
    return len(names) if isinstance(names, list) else 0


def _class_count(keys: Mapping[Any, Any]) -> int:
    stated = keys.get("nc")
    counted = stated if isinstance(stated, int) and 0 < stated <= _MOST_CLASSES else 0
    return _named(keys.get("names")) or counted
