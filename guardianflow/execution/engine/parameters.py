"""Parameters of a notebook: which ones it declares, and whether given values fit.

papermill writes parameter names into code as they come and turns what it doesn't know into text.
Here a name must be declared in the notebook and a value must be what JSON can hold, so that the
same parameters can be recorded and the notebook run again from them.
"""

from __future__ import annotations

import ast
import difflib
import json
import keyword
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from guardianflow.adapters.wrap.parameters.script_text import CodeCell, code_cells
from guardianflow.exceptions import InputError, NotFoundError, ParameterError

__all__ = ["PARAMETERS_TAG", "Expression", "assigned_values", "check_parameters", "declared_parameters"]

PARAMETERS_TAG = "parameters"
_MAGIC = re.compile(r"^(\s*)[%!?].*$")
_MAX_DEPTH = 50


@dataclass(frozen=True)
class Expression:
    """A default that is no literal, kept as its source; empty for ``x: int`` without a value."""

    source: str

    @property
    def is_required(self) -> bool:
        """Whether the notebook gives no default at all, so that a value must be passed."""
        return not self.source


def declared_parameters(path: str | Path) -> dict[str, Any]:
    """Names and defaults in the cell tagged ``parameters``, read from its syntax tree.

    Nothing is executed. Understood are ``x = 1``, ``x: Optional[int] = None``, ``x: int | None``,
    ``a = b = 2`` and ``a, b = 1, 2``; imports and other statements are passed over.

    Args:
        path: A notebook file.

    Returns:
        Name → default, in the order of the cell. A default that is no literal comes as
        :class:`Expression`. Empty for a notebook without a parameters cell.

    Raises:
        NotFoundError: There is no such file.
        InputError: The file is no notebook.
        ParameterError: More than one parameters cell, or one that is not valid Python.
    """
    source = Path(path)
    cells = [cell for cell in _code_cells(source) if PARAMETERS_TAG in cell.tags]
    if len(cells) > 1:
        raise ParameterError(
            f"{source.name} has {len(cells)} cells tagged {PARAMETERS_TAG!r}; there may be one. "
            "Join them into one cell, or take the tag from the others."
        )
    if not cells:
        return {}
    try:
        return assigned_values(cells[0].text)
    except (SyntaxError, ValueError, RecursionError) as error:
        where = f" (line {error.lineno}: {error.msg})" if isinstance(error, SyntaxError) else ""
        raise ParameterError(
            f"the parameters cell of {source.name} is not valid Python{where}. Correct it in the notebook."
        ) from error


def assigned_values(code: str) -> dict[str, Any]:
    """Names and values that a cell's code assigns, read from its syntax tree; nothing is executed.

    Raises:
        SyntaxError, ValueError, RecursionError: It is no Python that can be read.
    """
    tree = ast.parse("\n".join(_MAGIC.sub(r"\1pass", line) for line in code.splitlines()))
    found: dict[str, Any] = {}
    for statement in tree.body:
        found.update(_assigned(statement))
    return found


def check_parameters(path: str | Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Check parameters against a notebook; whether a value fits is its scenario's to say.

    Values come back JSON-plain: ``Path`` as text, tuples as lists, subclasses of ``str``, ``int`` and
    ``float`` (enumerations, ``numpy.float64``) as the plain type. What JSON can't hold is refused:
    sets, NaN and infinity, other objects, and dictionaries whose keys are no text.

    Args:
        path: The notebook that declares them.
        parameters: What was given.

    Returns:
        The given parameters, and only those, in the form the notebook gets.

    Raises:
        ParameterError: One sentence per fault: the parameter, its value, the rule, the nearest name.
        NotFoundError, InputError: As :func:`declared_parameters`.
    """
    declared = declared_parameters(path)
    name = Path(path).name
    for given in parameters:
        _check_name(given, declared, name)
    plain = {key: _plain(key, value) for key, value in parameters.items()}
    missing = [
        key
        for key, default in declared.items()
        if isinstance(default, Expression) and default.is_required and key not in plain
    ]
    if missing:
        raise ParameterError(f"{name} gives no default for {', '.join(map(repr, missing))}. Pass a value.")
    return plain


def _check_name(given: object, declared: Mapping[str, Any], notebook: str) -> None:
    if not isinstance(given, str) or not given.isidentifier() or keyword.iskeyword(given):
        raise ParameterError(
            f"parameter name {given!r} is not allowed: a name is letters, digits and underscores, "
            f"doesn't begin with a digit and is no Python keyword. {_known(declared)}"
        )
    if given not in declared:
        raise ParameterError(f"{notebook} has no parameter {given!r}.{_nearest(given, declared)} {_known(declared)}")


def _known(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"Known: {listed}." if listed else "The notebook declares none."


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _plain(name: str, value: Any, depth: int = 0) -> Any:
    """The value as JSON holds it; refused where that would change its meaning."""
    if depth > _MAX_DEPTH:
        raise ParameterError(f"parameter {name!r} is nested deeper than {_MAX_DEPTH} levels. Make it flatter.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(name, value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ParameterError(f"parameter {name!r} = {value!r} is no finite number. Pass None to leave it out.")
        return float(value)
    if isinstance(value, PurePath):
        return _plain_text(name, str(value))
    if isinstance(value, list | tuple):
        return [_plain(name, item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {_key(name, key): _plain(name, item, depth + 1) for key, item in value.items()}
    raise ParameterError(
        f"parameter {name!r} holds a {type(value).__name__} ({_shorten(value)}); a notebook takes text, whole and "
        "decimal numbers, true/false, None, lists and dictionaries. Convert it first, for example with list() or str()."
    )


def _plain_text(name: str, value: str) -> str:
    text = str.__str__(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ParameterError(
            f"parameter {name!r} = {text!r} holds characters that UTF-8 can't write. "
            "Correct the text, or rename the file."
        ) from error
    return text


def _key(name: str, key: object) -> str:
    if not isinstance(key, str):
        raise ParameterError(
            f"parameter {name!r} has the dictionary key {key!r} ({type(key).__name__}); keys must be text. "
            f"Use {str(key)!r}."
        )
    return _plain_text(name, key)


def _shorten(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _code_cells(path: Path) -> Iterator[CodeCell]:
    """The code cells of a notebook file; plain JSON is enough, and nbformat costs half a second."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no notebook at {path}. Check the path.") from error
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}). Check the path and its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no notebook: it is not valid JSON ({error}). Pass an .ipynb file.") from error
    cells = document.get("cells") if isinstance(document, dict) else None
    if not isinstance(cells, list):
        raise InputError(f"{path} is no notebook of format 4 (it has no 'cells'). Open and save it in JupyterLab.")
    return code_cells(cells)


def _assigned(statement: ast.stmt) -> dict[str, Any]:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id: Expression("") if statement.value is None else _value(statement.value)}
    if not isinstance(statement, ast.Assign):
        return {}
    found: dict[str, Any] = {}
    for target in statement.targets:
        if isinstance(target, ast.Name):
            found[target.id] = _value(statement.value)
        elif isinstance(target, ast.Tuple | ast.List):
            found.update(_unpacked(target, statement.value))
    return found


def _unpacked(target: ast.Tuple | ast.List, value: ast.expr) -> dict[str, Any]:
    names = [item.id for item in target.elts if isinstance(item, ast.Name)]
    if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(names) == len(target.elts):
        return {name: _value(item) for name, item in zip(names, value.elts, strict=True)}
    return {name: Expression(ast.unparse(value)) for name in names}


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return Expression(ast.unparse(node))
