"""The class names of a data.yaml: ``names`` as a list or by id, and ``nc``."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardianflow.exceptions import DatasetError
from guardianflow.text.printable import has_unprintable, printable

__all__ = ["read_class_names"]

_MAX_CLASSES = 100_000
_MAX_NAME = 200


def read_class_names(data: Mapping[Any, Any], yaml_path: Path) -> tuple[str, ...]:
    """The names in the order of the class ids; ``class_0`` and so on where only ``nc`` is given.

    Args:
        data: The mapping in the data.yaml.
        yaml_path: Where it lies, for messages.

    Raises:
        DatasetError: A name is missing, no text, not visible or given twice, or ``nc`` disagrees.
    """
    where = f"data.yaml {printable(yaml_path)}"
    count = _read_count(data["nc"], where) if data.get("nc") is not None else None
    names = data.get("names")
    if names is None:
        if count is None:
            raise DatasetError(f"{where} has no `names:`; add the class names, for example `names: [person, car]`")
        return tuple(f"class_{index}" for index in range(count))
    if isinstance(names, dict):
        ordered = _names_by_id(names, where)
    elif isinstance(names, list):
        ordered = names
    else:
        raise DatasetError(
            f"`names:` of {where} must be a list or an {{id: name}} mapping, it is {printable(repr(names))}; "
            f"write for example `names: [person, car]`"
        )
    checked = tuple(_read_name(index, name, where) for index, name in enumerate(ordered))
    if not checked:
        raise DatasetError(f"`names:` of {where} is empty; add the class names, for example `names: [person, car]`")
    _require_unique(checked, where)
    if count is not None and count != len(checked):
        raise DatasetError(
            f"`nc: {count}` of {where} disagrees with its {len(checked)} `names:`; remove the `nc:` line"
        )
    return checked


def _names_by_id(names: Mapping[Any, Any], where: str) -> list[Any]:
    by_id: dict[int, Any] = {}
    for key, name in names.items():
        number = int(key) if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 9 else key
        if not isinstance(number, int) or isinstance(number, bool) or number in by_id:
            raise DatasetError(
                f"`names:` of {where} must map each class id once, 0, 1, 2 …, it has the id {printable(repr(key))}; "
                f"write for example `names: {{0: person, 1: car}}`"
            )
        by_id[number] = name
    missing = next((index for index in range(len(by_id)) if index not in by_id), None)
    if missing is not None:
        raise DatasetError(
            f"`names:` of {where} has {len(by_id)} names and no id {missing} (ids: "
            f"{printable(', '.join(map(str, sorted(by_id))))}); number the classes 0 to {len(by_id) - 1}"
        )
    return [by_id[index] for index in range(len(by_id))]


def _read_name(index: int, name: object, where: str) -> str:
    if not isinstance(name, str):
        raise DatasetError(
            f"class name {index} of {where} is {printable(repr(name))} ({type(name).__name__}), not text; "
            f"put it in quotes"
        )
    if not name.strip() or len(name) > _MAX_NAME or has_unprintable(name):
        raise DatasetError(
            f"class name {index} of {where} must have 1 to {_MAX_NAME} visible characters, "
            f"it is {printable(repr(name))}; rename the class"
        )
    return name


def _require_unique(names: tuple[str, ...], where: str) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        earlier = first.setdefault(unicodedata.normalize("NFC", name), index)
        if earlier != index:
            raise DatasetError(
                f"`names:` of {where} gives {printable(name)!r} to the ids {earlier} and {index}; rename one of them"
            )


def _read_count(value: object, where: str) -> int:
    count = float("nan")
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            count = float(value)  # '10' and 10.0 are in use, and Ultralytics takes them
        except (ValueError, OverflowError):
            pass
    if not 1 <= count <= _MAX_CLASSES or count != int(count):
        raise DatasetError(
            f"`nc:` of {where} must be a whole number from 1 to {_MAX_CLASSES}, it is {printable(repr(value))}; "
            f"remove the line, `names:` is enough"
        )
    return int(count)
