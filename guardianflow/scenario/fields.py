"""From a scenario's blocks to the flat form that runners, notebooks and command lines use, and back.

The flat form is a dictionary keyword → value in plain JSON types. It is derived from the schema: nothing here knows a
field by its name.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeGuard, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from guardianflow.exceptions import ParameterError
from guardianflow.text.nearest_names import nearest
from guardianflow.text.printable import printable

if TYPE_CHECKING:
    from guardianflow.scenario.blocks import BaseScenario

__all__ = [
    "Asked", "FlatField", "asked", "describe_arguments", "explain", "first_fault", "flat_fields", "from_flat",
    "leaf_fields", "signature_of", "to_flat", "to_yaml",
]  # fmt: skip

S = TypeVar("S", bound="BaseScenario")


@dataclass(frozen=True)
class Asked:
    """How a field is asked for outside of a file.

    Attributes:
        keyword: Runner keyword; empty: the field's own name.
        option: Option of the command line, such as ``"--artifact -a GLOB"``: with its short form and what ``--help``
            calls its value, where there are any; empty: made of the keyword; ``None``: there is none.
        read: How the text of a command line becomes a value: ``""`` as it is, ``"file"`` and ``"model"`` made
            absolute, ``"percent"``, ``"pairs"`` (``KEY=VALUE``).
        whole: Of a block: runners get it as one dictionary instead of field by field.
    """

    keyword: str = ""
    option: str | None = ""
    read: str = ""
    whole: bool = False


def asked(
    default: Any, sentence: str, option: str | None = "", *, keyword: str = "", read: str = "", **limits: Any
) -> Any:
    """Declare a field that is asked for.

    Args:
        default: Its default; ``...``: a value must be given.
        sentence: What it is.
        option: See :class:`Asked`.
        keyword: See there.
        read: See there.
        limits: Of its value, as pydantic's ``Field`` has them: ``ge``, ``lt``, ``min_length``.
    """
    info = Field(default, description=sentence, **limits)
    info.metadata.append(Asked(keyword, option, read))
    return info


@dataclass(frozen=True, eq=False)
class FlatField:
    """A field of a scenario with its place.

    Attributes:
        path: From the scenario to the field, such as ``("model", "imgsz")``.
        keyword: Its name in the flat form.
        asked: How it is asked for.
        info: pydantic's own description: type, default, sentence.
    """

    path: tuple[str, ...]
    keyword: str
    asked: Asked
    info: FieldInfo

    @property
    def default(self) -> Any:
        """Its default in the flat form; ``inspect.Parameter.empty`` where a value must be given."""
        if self.info.is_required():
            return inspect.Parameter.empty
        return {} if self.asked.whole else self.info.get_default(call_default_factory=True)

    @property
    def option(self) -> str | None:
        """Its option, such as ``--max-det``."""
        if self.asked.option is None:
            return None
        return (self.asked.option or f"--{self.keyword.replace('_', '-')}").split()[0]


@cache
def flat_fields(scenario: type[BaseScenario]) -> Mapping[str, FlatField]:
    """Keyword → field, those that may be given by position first."""
    found = {field.keyword: field for field in _walk(scenario, (), into_whole=False)}
    return {**{name: found[name] for name in scenario.positional}, **found}


@cache
def leaf_fields(scenario: type[BaseScenario]) -> Sequence[FlatField]:
    """All fields that hold a value, those inside of whole blocks too."""
    return tuple(_walk(scenario, (), into_whole=True))


def _walk(model: type[BaseModel], path: tuple[str, ...], *, into_whole: bool) -> Iterator[FlatField]:
    for name, info in model.model_fields.items():
        asked = next((item for item in info.metadata if isinstance(item, Asked)), None)
        if _is_block(info.annotation) and (asked is None or into_whole):
            yield from _walk(info.annotation, (*path, name), into_whole=into_whole)
        elif asked is not None:
            yield FlatField((*path, name), asked.keyword or name, asked, info)


def _is_block(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def from_flat(scenario: type[S], values: Mapping[str, Any]) -> S:
    """A scenario from its flat form.

    Raises:
        ParameterError: One sentence that names the parameter, its value and the rule, and for an unknown name the
            nearest known one.
    """
    fields = flat_fields(scenario)
    nested: dict[str, Any] = {name: {} for name, info in scenario.model_fields.items() if _is_block(info.annotation)}
    for keyword, value in values.items():
        if keyword not in fields:
            raise ParameterError(_unknown(keyword, fields))
        if value is None:  # as if it were not given
            continue
        _put(nested, fields[keyword].path, os.fspath(value) if isinstance(value, os.PathLike) else value)
    try:
        return scenario.model_validate(nested)
    except ValidationError as error:
        raise ParameterError(explain(scenario, error, lambda field: f"parameter {field.keyword}")) from error


def to_flat(scenario: BaseScenario) -> dict[str, Any]:
    """The flat form of a scenario, in plain JSON types; whole blocks that are as usual are left out."""
    dumped = scenario.model_dump(mode="json")
    given = scenario.model_dump(mode="json", exclude_defaults=True)
    fields = flat_fields(type(scenario)).items()
    flat = {keyword: _get(given if field.asked.whole else dumped, field.path, None) for keyword, field in fields}
    return {keyword: value for keyword, value in flat.items() if value is not None}


def to_yaml(scenario: BaseScenario) -> str:
    """The scenario as a YAML file that gives the same scenario again; what is as usual is left out."""
    given = scenario.model_dump(mode="json", exclude_defaults=True)
    content = {"schema_version": scenario.schema_version, "kind": scenario.kind, **given}
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=110)


def _put(nested: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        nested = nested.setdefault(name, {})
    nested[path[-1]] = value


def _get(nested: Mapping[str, Any], path: Sequence[str], otherwise: Any) -> Any:
    value: Any = nested
    for name in path:
        if name not in value:
            return otherwise
        value = value[name]
    return value


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    return f"there is no parameter {name!r}; {nearest(name, known)}"


def first_fault(error: ValidationError) -> ErrorDetails:
    """The fault to speak of: a name that there is not before one that is missing, which it may stand for."""
    return min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")


def explain(scenario: type[BaseScenario], error: ValidationError, name_of: Callable[[FlatField], str]) -> str:
    """The first fault in one sentence: what was given, and the rule that it breaks.

    Args:
        scenario: What was to be made.
        error: pydantic's own report.
        name_of: What the reader calls a field.
    """
    fault = first_fault(error)
    place = tuple(str(part) for part in fault["loc"])
    rule = str(fault["msg"]).removeprefix("Value error, ")
    rule = rule[:1].lower() + rule[1:]
    if fault["type"] == "extra_forbidden":
        return _unknown_name(scenario, place)
    field = next((field for field in leaf_fields(scenario) if place[: len(field.path)] == field.path), None)
    if field is None and fault["type"] == "missing":
        kind = scenario.model_fields["kind"].default
        return f"{'.'.join(place)} is missing; `guardianflow scenario new {kind}` shows what it holds"
    if field is None:
        return rule if not place else f"{'.'.join(place)}: {rule}"
    inside = f" at {'.'.join(place[len(field.path) :])}" if len(place) > len(field.path) else ""
    if fault["type"] == "missing":
        return f"{name_of(field)} is missing; give it a value"
    shown = printable(repr(fault.get("input")), longest=200)
    return f"{name_of(field)} = {shown}{inside} is not allowed: {rule}"


def _unknown_name(scenario: type[BaseModel], place: Sequence[str]) -> str:
    """What to say of a name that a block doesn't have: the nearest one that it has."""
    block: type[BaseModel] = scenario
    for name in place[:-1]:
        inner = block.model_fields[name].annotation if name in block.model_fields else None
        if not _is_block(inner):
            break
        block = inner
    close = difflib.get_close_matches(place[-1], block.model_fields, n=1)
    nearest = ".".join([*place[:-1], *close])
    known = ", ".join(name for name in block.model_fields if name != "schema_version")
    hint = f"did you mean {nearest!r}?" if close else f"known here: {known}"
    return f"there is no {printable('.'.join(place))!r}; {hint}"


def signature_of(scenario: type[BaseScenario], *extra: inspect.Parameter) -> inspect.Signature:
    """How a runner of such a scenario is called."""
    by_position, by_keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(
            keyword,
            by_position if keyword in scenario.positional else by_keyword,
            default=field.default,
            annotation=dict[str, Any] if field.asked.whole else _plain_type(field.info.annotation),
        )
        for keyword, field in flat_fields(scenario).items()
    ]
    return inspect.Signature([*parameters, *extra])


def _plain_type(kind: Any) -> Any:
    """A type as a reader wants it: ``list[int]``, without what is checked besides."""
    if get_origin(kind) is Annotated:
        return _plain_type(get_args(kind)[0])
    return list[_plain_type(get_args(kind)[0])] if get_origin(kind) is list else kind  # type: ignore[misc]


def describe_arguments(scenario: type[BaseScenario]) -> str:
    """The ``Args:`` lines of such a runner."""
    lines = [
        f"    {keyword}: {field.info.description or (field.info.annotation.__doc__ or '').splitlines()[0]}"
        for keyword, field in flat_fields(scenario).items()
    ]
    return "\n".join(["Args:", *lines])
