"""Dataset YAMLs: where the images lie (``train``, ``val``) and what the classes are called (``names``)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from guardianflow.adapters.scan.findings import FoundDataset
from guardianflow.adapters.scan.walk import SeenFolder, Skipped, read_start
from guardianflow.exceptions import DatasetError
from guardianflow.files.yaml_safety import MAX_BYTES, load_yaml_mapping

__all__ = ["find_dataset"]

_SPLIT_KEY = re.compile(rb"""^["']?(?:train|val)["']?[ \t]*:""", re.MULTILINE)
_CLASS_KEY = re.compile(rb"""^["']?(?:names|nc|path)["']?[ \t]*:""", re.MULTILINE)


def find_dataset(folder: SeenFolder, name: str, skipped: Skipped) -> FoundDataset | None:
    """The dataset that a YAML describes, by two of three: ``train``, ``val``, classes; None where it describes none."""
    content = read_start(folder.at(name), MAX_BYTES)
    if not (_SPLIT_KEY.search(content) and _CLASS_KEY.search(content)):
        return None
    try:
        keys = load_yaml_mapping(Path(folder.at(name)))
    except DatasetError:
        skipped.add(folder.below(name), "looks like a dataset YAML, but can't be read safely")
        return None
    names, stated = keys.get("names"), keys.get("nc")
    classes = len(names) if isinstance(names, (dict, list)) else stated if isinstance(stated, int) else 0
    signs = [_is_place(keys.get("train")), _is_place(keys.get("val")), classes > 0]
    if sum(signs) < 2 or ("train" in keys and not signs[0]):
        return None
    return FoundDataset(Path(folder.below(name)), max(0, classes))


def _is_place(value: Any) -> bool:
    """Whether a value is a path, or some."""
    texts = value if isinstance(value, list) else [value]
    return bool(texts) and all(isinstance(text, str) and text.strip() for text in texts)
