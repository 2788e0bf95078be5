"""Lines that are a record: JSON, or a Python dict as ``print`` writes it. Nothing is evaluated."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from guardianflow.adapters.wrap.metrics.line_names import is_step_word, metric_word

__all__ = ["ToldFigures", "read_record"]

_DEEPEST = 6
_MOST_FIGURES = 500
_STEPS = ("global_step", "step", "_step", "iteration", "iter")
_COCO = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "AR100s", "AR100m", "AR100l")
_FIGURE = re.compile(r"[-+]?(?:0|[1-9]\d*)?(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)")
_TOKEN = re.compile(
    r"(?P<open>\{)|(?P<close>\})|(?P<list>\[)|(?P<unlist>\])"
    r"|(?:'(?P<one>(?:[^'\\]|\\.){0,200})'|\"(?P<two>(?:[^\"\\]|\\.){0,200})\")(?P<key>\s*:)?"
    r"|(?P<number>[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf|NaN|Infinity)(?![\w.]))"
    r"|(?P<word>\w+\.?)"
)


class ToldFigures(NamedTuple):
    """What a line tells, by name: its figures, and the text of its epoch and its step, empty where it names none."""

    figures: list[tuple[str, float]]
    epoch: str = ""
    step: str = ""


def read_record(line: str) -> ToldFigures | None:
    """The record on a line that begins with ``{`` and ends with ``}``; ``None`` where it is none."""
    try:
        content = json.loads(line if '"' in line else line.replace("'", '"'))
    except RecursionError:
        return ToldFigures([])
    except ValueError:
        leaves = list(_scanned(line))
        if not leaves:
            return None
    else:
        if not isinstance(content, dict):
            return None
        leaves = list(_leaves(content, "", 0))
    found = dict(leaves[:_MOST_FIGURES])
    lower = {name.lower(): number for name, number in reversed(found.items())}
    step = next((lower[name] for name in _STEPS if name in lower), None)
    figures = [(name, value) for name, value in found.items() if _is_metric(name)]
    return ToldFigures(figures, _count(lower.get("epoch")), _count(step))


def _is_metric(name: str) -> bool:
    return metric_word(name.rsplit(".", 1)[-1]) and not is_step_word(name) and len(name) <= 200


def _count(number: float | None) -> str:
    if number is None or not math.isfinite(number):
        return ""
    return repr(number)  # with its point: a later epoch of the same name may be a fraction


def _leaves(content: dict[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, float]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            if depth < _DEEPEST:
                yield from _leaves(value, f"{name}.", depth + 1)
        elif isinstance(value, list) and len(value) == len(_COCO) and "coco_eval" in name:  # as DETR logs them
            said = dict(zip(_COCO, value, strict=True))
            yield from ((f"{name}/{part}", float(x)) for part, x in said.items() if isinstance(x, float) and x != -1.0)
        elif (figure := _figure(value)) is not None:
            yield name, figure


def _figure(value: Any) -> float | None:
    """A number, also one in quotes as fairseq has it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (not value or not _FIGURE.fullmatch(value)):
        return None
    try:
        return float(value)
    except (OverflowError, ValueError):
        return None  # an integer of hundreds of digits, or a lone sign, is no figure


def _scanned(line: str) -> Iterator[tuple[str, float]]:
    """The figures of a dict's text, read token by token: works on a cut line as well."""
    path: list[str] = []
    key = ""
    lists = 0
    for token in _TOKEN.finditer(line):
        kind = token.lastgroup
        if kind == "open":
            path.append(key)
            key = ""
        elif kind == "close":
            path = path[:-1]
            key = ""
        elif kind in {"list", "unlist"}:
            lists = max(0, lists + (1 if kind == "list" else -1))
        elif kind == "key":
            key = (token["one"] if token["one"] is not None else token["two"]) if not lists else ""
        elif kind == "number" and key and not lists and len(path) <= _DEEPEST:
            yield ".".join([*filter(None, path), key]), float(token["number"])
            key = ""  # one figure a key: `(1, 2)` and `tensor(0.3, device='cuda:0')`
        elif kind in {"one", "two"}:
            key = ""
