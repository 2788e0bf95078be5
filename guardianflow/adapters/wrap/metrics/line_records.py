"""Lines that are a record: JSON, or a Python dict as ``print`` writes it. Nothing is evaluated."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from guardianflow.adapters.wrap.metrics.line_names import is_step_word, metric_word
from guardianflow.adapters.wrap.metrics.measurement import ToldFigures, figure_of

__all__ = ["read_record"]

_DEEPEST = 6
_MOST_FIGURES = 500
_STEPS = ("global_step", "step", "_step", "iteration", "iter")
_COCO = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "AR100s", "AR100m", "AR100l")
_OF_ONE = re.compile(r"[\w.]+\(\s*([-+.\w]+)\s*(?:,[^()]*)?\)")  # tensor(0.25, device='cuda:0'), np.float64(0.6)
_WORD = re.compile(r"\b(?:True|False|None|nan|inf)\b")
_WORDS = {"True": "true", "False": "false", "None": "null", "nan": "NaN", "inf": "Infinity"}


def read_record(line: str) -> ToldFigures | None:
    """The record on a line that begins with ``{`` and ends with ``}``; ``None`` where it is none."""
    try:
        content = json.loads(line if '"' in line else _as_json(line))
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    found = dict(list(_leaves(content, "", 0))[:_MOST_FIGURES])
    lower = {name.lower(): number for name, number in reversed(found.items())}
    step = next((lower[name] for name in _STEPS if name in lower), None)
    figures = [(name, value) for name, value in found.items() if _is_metric(name)]
    return ToldFigures(figures, _count(lower.get("epoch")), _count(step))


def _as_json(line: str) -> str:
    """The text of a Python dict as JSON: tuples and calls become lists, a call of one number that number."""
    text = _OF_ONE.sub(r"\1", line).replace("'", '"')
    text = _WORD.sub(lambda word: _WORDS[word[0]], text)
    return re.sub(r"[A-Za-z_.]*\(", "[", text).replace(")", "]")


def _is_metric(name: str) -> bool:
    return metric_word(name.rsplit(".", 1)[-1]) and not is_step_word(name) and len(name) <= 200


def _count(number: float | None) -> str:
    if number is None or not math.isfinite(number):
        return ""
    return repr(number)  # with its point: a later epoch of the same name may be a fraction


def _leaves(content: dict[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, float]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            if depth < _DEEPEST:
                yield from _leaves(value, f"{name}.", depth + 1)
        elif isinstance(value, list) and len(value) == len(_COCO) and "coco_eval" in name:  # as DETR logs them
            said = dict(zip(_COCO, value, strict=True))
            yield from ((f"{name}/{part}", x) for part, x in said.items() if isinstance(x, float) and x != -1.0)
        elif (figure := _figure(value)) is not None:
            yield name, figure


def _figure(value: Any) -> float | None:
    """A number, also one in quotes as fairseq has it."""
    if isinstance(value, str):
        return figure_of(value)
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:  # an integer of hundreds of digits
        return None
