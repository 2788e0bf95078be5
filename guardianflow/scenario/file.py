"""Scenarios in YAML files: read with the line of each fault, made new with a sentence for each field, written back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from guardianflow.exceptions import InputError
from guardianflow.files.yaml_safety import load_yaml_mapping
from guardianflow.scenario.blocks import BaseScenario
from guardianflow.scenario.factory import KINDS
from guardianflow.scenario.fields import FlatField, explain, first_fault, leaf_fields
from guardianflow.text.option_values import absolute_if_file, plain_value
from guardianflow.text.printable import printable

__all__ = ["json_schema", "load_scenario", "new_scenario"]

_FILE_KINDS = ("train", "infer", "quantize", "wrap", "registry", "optimize", "sweep", "compare")


def load_scenario(path: str | Path, overrides: Sequence[str] = ()) -> BaseScenario:
    """Read a scenario.

    A relative path in it starts from the file's own folder.

    Args:
        path: A YAML file.
        overrides: Changes such as ``"model.imgsz=320"``, applied in order.

    Returns:
        The scenario of the file's ``kind``, every value checked.

    Raises:
        InputError: One sentence with the file, the line, the field, the value, the rule and, for an unknown name, the
            nearest known one.
    """
    file = Path(path).expanduser()
    lines: dict[tuple[str, ...], int] = {}
    values = load_yaml_mapping(file, what="scenario", lines=lines)
    for override in overrides:
        _override(values, override, lines)
    kind = values.get("kind")
    if kind not in _FILE_KINDS:
        where = _where(file, lines.get(("kind",), 1))
        raise InputError(f"{where}: kind must be one of {', '.join(_FILE_KINDS)}, it is {printable(repr(kind))}")
    scenario = KINDS.get(str(kind)).scenario
    for field in leaf_fields(scenario):
        _make_absolute(values, field, file.absolute().parent)
        _make_space_absolute(values, field, file.absolute().parent)
    try:
        return scenario.model_validate(values)
    except ValidationError as error:
        raise InputError(_located(file, scenario, error, lines)) from error


def _override(values: dict[Any, Any], text: str, lines: dict[tuple[str, ...], int]) -> None:
    place, separator, value = text.partition("=")
    names = tuple(place.strip().split("."))
    if not separator or not all(names):
        raise InputError(f"--set takes FIELD=VALUE, such as model.imgsz=320, not {printable(text)!r}")
    block: Any = values
    for name in names[:-1]:
        block = block.setdefault(name, {})
        if not isinstance(block, dict):
            raise InputError(f"--set {place}: {name} is no block of fields")
    block[names[-1]] = plain_value(value.strip())
    lines[names] = 0


def _make_absolute(values: dict[Any, Any], field: FlatField, folder: Path) -> None:
    if field.asked.read not in {"file", "model"}:
        return
    block: Any = values
    for name in field.path[:-1]:
        block = block.get(name) if isinstance(block, dict) else None
    given = block.get(field.path[-1]) if isinstance(block, dict) else None
    if isinstance(given, str) and given:
        block[field.path[-1]] = _absolute(given, field, folder)


def _make_space_absolute(values: dict[Any, Any], field: FlatField, folder: Path) -> None:
    """The same for the values of a field that a sweep tries."""
    sweep = values.get("sweep")
    space = sweep.get("space") if isinstance(sweep, dict) else None
    tried = space.get(".".join(field.path)) if isinstance(space, dict) else None
    if field.asked.read in {"file", "model"} and isinstance(space, dict) and isinstance(tried, list):
        space[".".join(field.path)] = [
            _absolute(each, field, folder) if isinstance(each, str) and each else each for each in tried
        ]


def _absolute(given: str, field: FlatField, folder: Path) -> str:
    beside = folder / Path(given).expanduser()
    return str(beside) if field.asked.read == "file" or beside.exists() else absolute_if_file(given)


def _located(
    file: Path, scenario: type[BaseScenario], error: ValidationError, lines: Mapping[tuple[str, ...], int]
) -> str:
    place = tuple(str(part) for part in first_fault(error)["loc"])
    known = next((place[:count] for count in range(len(place), 0, -1) if place[:count] in lines), None)
    where = _where(file, lines[known] if known else 1)
    return f"{where}: {explain(scenario, error, lambda field: '.'.join(field.path))}"


def _where(file: Path, line: int) -> str:
    return f"{printable(file)}:{line}" if line else "--set"


def new_scenario(kind: str, *, experiment: str = "my-site") -> str:
    """A scenario file to begin with: every field with its default and a sentence.

    Raises:
        NotFoundError: No such kind.
    """
    found = KINDS.get(kind)
    head = f"# {(found.scenario.__doc__ or '').splitlines()[0]} Run it: guardianflow run FILE"
    fields = _lines(found.scenario, experiment, 0)
    return "\n".join([head, "schema_version: 1", f"kind: {found.name}", *fields]) + "\n"


def _lines(block: type[BaseModel], experiment: str, depth: int) -> Iterator[str]:
    margin = "  " * depth
    for name, info in block.model_fields.items():
        if depth == 0 and name in {"schema_version", "kind"}:
            continue
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield f"{margin}{name}:  # {(inner.__doc__ or '').splitlines()[0]}"
            yield from _lines(inner, experiment, depth + 1)
            continue
        default = experiment if name == "experiment" else "CHANGE-ME" if info.is_required() else info.get_default()
        yield f"{margin}{name}: {json.dumps(default, ensure_ascii=False)}  # {info.description}"


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file of any kind, for editors."""
    kinds: Any = reduce(or_, [KINDS.get(kind).scenario for kind in _FILE_KINDS])
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[kinds, Field(discriminator="kind")])
    return {"title": "GuardianFlow scenario", **adapter.json_schema()}
