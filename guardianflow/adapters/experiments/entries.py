"""What an experiments.yaml says about one script, as values; and the way from the file's words to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from guardianflow.adapters.experiments.fields import FieldReader
from guardianflow.adapters.experiments.yaml_text import Node, Pair
from guardianflow.text.names import validate_name
from guardianflow.text.printable import escape, plain_values, printable

__all__ = [
    "ArgumentSpec",
    "ExperimentEntry",
    "ExperimentTable",
    "LastRun",
    "entry_values",
    "fits",
    "read_entry",
]

_ARGUMENT_KEYS = ("type", "default", "required", "help")
_ENTRY_KEYS = (
    "script",
    "working_dir",
    "framework",
    "module",
    "arguments",
    "args",
    "data",
    "outputs",
    "tags",
)
_TYPES: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,)}
_KIND_OF = {bool: "bool", int: "int", float: "float", str: "str"}


@dataclass(frozen=True)
class ArgumentSpec:
    """One argument that a script takes: its type, and what it is where nobody says otherwise."""

    type: str = "str"
    default: Any = None
    required: bool = False
    help: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form, without what says nothing."""
        said = {**asdict(self), "required": self.required or None, "help": self.help or None}
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True)
class LastRun:
    """The run of an entry that ended last."""

    run_id: str
    status: str
    ended: str


@dataclass(frozen=True)
class ExperimentEntry:
    """One script of an experiments.yaml and how it is run.

    Attributes:
        name: How people call it; ``guardianflow wrap --experiment NAME`` runs it.
        script: Path of the script from the folder of the experiments.yaml, with ``/``; a dotted module
            name with ``module``; a bare word is a command on PATH.
        working_dir: Where it runs, from the folder of the experiments.yaml.
        framework: ``ultralytics``, ``torch``, …; empty where unknown.
        module: ``python -m SCRIPT``.
        arguments: What the script takes.
        args: Words handed over on each run.
        data: Data files it reads, as the script names them.
        outputs: Patterns of the files it makes, as the script names them.
        tags: Words to find it by.
        last_run: The run that ended last.
        missing: The script is not there.
        role: ``training``, ``inference``, ``evaluation`` or ``export``, as the last scan had it; else empty.
        score: How sure the scan was, 0 to 1; None where none saw it.
        reasons: What the scan saw.
        content: sha256 of the script as the scan read it.
        line: Where the entry begins in the file, from 1; 0 for one that is in no file.
    """

    name: str
    script: str
    working_dir: str = "."
    framework: str = ""
    module: bool = False
    arguments: Mapping[str, ArgumentSpec] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    last_run: LastRun | None = None
    missing: bool = False
    role: str = ""
    score: float | None = None
    reasons: tuple[str, ...] = ()
    content: str = ""
    line: int = field(default=0, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form."""
        said: dict[str, Any] = plain_values(asdict(self))
        said["arguments"] = {name: spec.to_dict() for name, spec in self.arguments.items()}
        return {name: value for name, value in said.items() if name not in {"content", "line"}}

    def _repr_html_(self) -> str:
        return ExperimentTable([self])._repr_html_()


class ExperimentTable(list[ExperimentEntry]):
    """Entries as a list; a table where a notebook shows it."""

    def to_dict(self) -> list[dict[str, Any]]:
        """A JSON-able form."""
        return [entry.to_dict() for entry in self]

    def _repr_html_(self) -> str:
        if not self:
            return "<p>No experiments.</p>"
        head = "".join(f"<th>{name}</th>" for name in ("name", "script", "framework", "tags", "last run", "score"))
        return f"<table><tr>{head}</tr>{''.join(_html_row(entry) for entry in self)}</table>"


def _html_row(entry: ExperimentEntry) -> str:
    script = printable(entry.script) + (" (missing)" if entry.missing else "")
    last = f"{entry.last_run.status} {entry.last_run.ended}" if entry.last_run else ""
    score = "" if entry.score is None else f"{entry.score:.2f}"
    why = escape("; ".join(entry.reasons), quote=True)
    cells = [printable(entry.name), script, entry.framework, ", ".join(entry.tags), last]
    return (
        "<tr>"
        + "".join(f"<td>{escape(printable(cell))}</td>" for cell in cells)
        + f'<td title="{why}">{score}</td></tr>'
    )


def read_entry(pair: Pair, reader: FieldReader) -> ExperimentEntry:
    """One entry of ``experiments:``.

    Raises:
        InputError: A value of a wrong kind, no script, or a name that can't be one.
    """
    name = reader.checked(pair.key, lambda: validate_name(pair.key.text, "experiment name"))
    place = f"experiments.{name}"
    fields = reader.mapping(pair.value, place, known=_ENTRY_KEYS)
    script = reader.text(fields.get("script"), f"{place}.script", default=None, owner=pair.value)
    return ExperimentEntry(
        name=name,
        script=script,
        working_dir=reader.text(fields.get("working_dir"), f"{place}.working_dir", default=".") or ".",
        framework=reader.text(fields.get("framework"), f"{place}.framework"),
        module=reader.flag(fields.get("module"), f"{place}.module"),
        arguments=_read_arguments(fields.get("arguments"), f"{place}.arguments", reader),
        args=reader.words(fields.get("args"), f"{place}.args"),
        data=reader.words(fields.get("data"), f"{place}.data"),
        outputs=reader.words(fields.get("outputs"), f"{place}.outputs"),
        tags=reader.words(fields.get("tags"), f"{place}.tags"),
        line=pair.key.line,
    )


def _read_arguments(node: Node | None, place: str, reader: FieldReader) -> dict[str, ArgumentSpec]:
    arguments = {}
    for name, value in reader.mapping(node, place, known=None).items():
        here = f"{place}.{name}"
        if value.kind != "mapping":  # `epochs: 30` is short for a type and a default
            default = reader.plain(value, here)
            arguments[name] = ArgumentSpec(_kind_of(default), default)
            continue
        fields = reader.mapping(value, here, known=_ARGUMENT_KEYS)
        given = fields.get("default")
        default = None if given is None else reader.plain(given, f"{here}.default")
        kind = reader.text(fields.get("type"), f"{here}.type") or _kind_of(default)
        if given is not None and not fits(kind, default):
            reader.fail(given, f"{here}.default", f"a value of the type {kind}")
        arguments[name] = ArgumentSpec(
            kind,
            default,
            required=reader.flag(fields.get("required"), f"{here}.required"),
            help=reader.text(fields.get("help"), f"{here}.help"),
        )
    return arguments


def _kind_of(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else value
    return _KIND_OF.get(type(first), "str")


def fits(kind: str, value: Any) -> bool:
    """Whether a default is of the type that its argument has; lists by their items, unknown types always."""
    if isinstance(value, list):
        return all(fits(kind, item) for item in value)
    if value is None or kind not in _TYPES:
        return True
    return isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))


def entry_values(entry: ExperimentEntry) -> dict[str, Any]:
    """What a new entry says in the file, in the order in which people read it."""
    values: dict[str, Any] = {"script": entry.script, "working_dir": entry.working_dir}
    if entry.framework:
        values["framework"] = entry.framework
    if entry.module:
        values["module"] = True
    if entry.arguments:
        values["arguments"] = {name: spec.to_dict() for name, spec in entry.arguments.items()}
    values["args"] = list(entry.args)
    values.update({key: list(getattr(entry, key)) for key in ("data", "outputs", "tags") if getattr(entry, key)})
    return values
