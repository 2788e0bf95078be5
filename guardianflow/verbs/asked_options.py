"""Options of a verb, made of its scenario's fields: what is asked stands in scenario/schema.py alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_origin

from pydantic import BeforeValidator
from typer import Option

from guardianflow.scenario.blocks import BaseScenario
from guardianflow.scenario.fields import FlatField, flat_fields, leaf_fields
from guardianflow.text.option_values import absolute_if_file, key_values, percent

__all__ = ["Given", "asks"]

Given = dict[str, Any]
"""What was typed, keyword → value; only what was typed."""

_READERS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "file": lambda text: str(Path(text).expanduser().absolute()) if text else "",
        "model": absolute_if_file,
        "percent": percent,
        "pairs": key_values,
    }
)


def asks(scenario: type[BaseScenario]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb an option for each field of a scenario; what was typed reaches it as ``given``, in the flat form.

    A verb whose scenario has a usual experiment gets that one where none was typed.
    """
    places = {field.path: place for place, field in enumerate(flat_fields(scenario).values())}
    offered = sorted(
        (field for field in leaf_fields(scenario) if field.option is not None),
        key=lambda field: places.get(field.path, len(places)),  # what every run needs first, the site last
    )
    fields = {f"asked_{'_'.join(field.path)}": field for field in offered}

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        def called(*args: Any, **values: Any) -> None:
            typed = {field: values.pop(name, None) for name, field in fields.items()}
            given = _flat(scenario, typed)
            if scenario.usual_experiment:
                given.setdefault("experiment_name", scenario.usual_experiment)
            verb(*args, given=given, **values)

        own = [item for item in inspect.signature(verb, eval_str=True).parameters.values() if item.name != "given"]
        needed = [item for item in own if item.default is inspect.Parameter.empty]
        options = [_parameter(name, field) for name, field in fields.items()]
        shown = [*needed, *options, *(item for item in own if item not in needed)]
        shown = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in shown]
        called.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        called.__annotations__ = {item.name: item.annotation for item in shown}
        called.__name__, called.__doc__, called.__module__ = verb.__name__, verb.__doc__, verb.__module__
        return called

    return decorate


def _parameter(name: str, field: FlatField) -> inspect.Parameter:
    asked, info = field.asked, field.info
    kind = _typed_as(field)
    default = info.get_default(call_default_factory=True)
    option = str(field.option)
    if kind is bool and default:
        option = f"{option}/--no-{option.removeprefix('--')}"
    words = (asked.option or "").split()[1:]
    shown = "" if info.is_required() or default in ("", False, [], {}) else f"  [default: {_as_typed(default)}]"
    declared = Option(
        *[option, *(word for word in words if word.startswith("-"))],
        help=f"{info.description}{shown}",
        metavar=next((word for word in words if not word.startswith("-")), None),
        show_default=False,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, declared]
    )


def _typed_as(field: FlatField) -> Any:
    """How its value is typed: once, as a flag, or an option for each value."""
    kind = field.info.annotation
    if field.asked.read == "percent":
        return str
    if get_origin(kind) is dict:
        return list[str]
    if get_origin(kind) is list:
        return str if any(isinstance(item, BeforeValidator) for item in field.info.metadata) else list[str]
    return kind if kind in {bool, int, float} else str


def _as_typed(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flat(scenario: type[BaseScenario], typed: Mapping[FlatField, Any]) -> dict[str, Any]:
    whole = {field.path[0] for field in flat_fields(scenario).values() if field.asked.whole}
    found: dict[str, Any] = {}
    for field, value in typed.items():
        if value is None or value == []:
            continue
        read = _READERS.get(field.asked.read, lambda text: text)(value)
        if field.path[0] in whole:
            found.setdefault(field.path[0], {})[field.path[-1]] = read
        else:
            found[field.keyword] = read
    return found
