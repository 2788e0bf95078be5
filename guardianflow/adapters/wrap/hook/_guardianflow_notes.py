"""What is noted: one line a parse, in a file a process.

It runs inside other people's programs, in whatever Python (3.7 and newer) they have. So it imports nothing that isn't
there already, calls no method of an object it doesn't know, prints nothing, raises nothing, and leaves no frame in a
traceback: each parser is tapped at a function of its own that returns right after the values are final.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # typing isn't imported: it costs a script 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FOLDER = "GUARDIANFLOW_NOTES"
_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "LOCAL_RANK")
_MOST_NOTES = 50
_MOST_VALUES = 1000
_LONGEST = 2000
_DEEPEST = 8
_PLAIN_BY_NAME = {"device", "dtype", "date", "datetime", "time", "timedelta", "Decimal", "Fraction", "UUID"}

_state = {"started": time.time(), "notes": 0, "pid": 0}  # type: dict[str, Any]


def attempt(tap: Callable[..., Any], *words: Any) -> None:
    try:
        tap(*words)
    except Exception:  # a note less, and nothing the script would feel
        pass


def write(style: str, values: Any, given: list[str], defaults: list[str], *, rest: Any = (), caller: str = "") -> None:
    pid = os.getpid()
    if _state["pid"] != pid:
        _state["pid"], _state["notes"] = pid, 0
    _state["notes"] += 1
    if _state["notes"] > _MOST_NOTES:
        return
    left = [_MOST_VALUES]
    main = getattr(sys.modules.get("__main__"), "__file__", None) or (sys.argv[0] if sys.argv else "")
    note = {
        "style": style,
        "values": plain({name: one for name, one in dict(values).items() if not callable(one)}, left=left),
        "given": given,
        "defaults": defaults,
        "rest": plain(list(rest)),
        "caller": os.path.abspath(caller) if caller else "",
        "main": os.path.abspath(main) if main else "",
        "argv": plain(list(sys.argv[1:])),
        "rank": next((os.environ[name] for name in _RANKS if os.environ.get(name)), ""),
        "pid": pid,
        "parent": os.getppid(),
        "started": _state["started"],
        "time": time.time(),
        "cut": left[0] <= 0,
    }
    line = ascii(note).encode() + b"\n"
    place = os.path.join(os.environ[_FOLDER], "%d.notes" % pid)
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


def plain(value: Any, depth: int = 0, left: Any = None) -> Any:
    """A value as literals, within caps; of an object that we don't know, only its class."""
    left = [_MOST_VALUES] if left is None else left
    left[0] -= 1
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < 1 << 63 else "a huge number"
    if isinstance(value, float):
        number = float(value)
        return number if number - number == 0 else repr(number)
    if isinstance(value, str):
        return str.__str__(value)[:_LONGEST]
    if depth >= _DEEPEST or left[0] < 0:
        return "…"
    return _plain_object(value, depth + 1, left)


def _plain_object(value: Any, depth: int, left: Any) -> Any:
    kind = type(value)
    if kind.__name__ == "Namespace" or hasattr(kind, "__dataclass_fields__"):
        value = {name: one for name, one in getattr(value, "__dict__", {}).items() if name[:1] != "_"}
    if isinstance(value, dict):
        names = list(value)[: max(left[0], 0)]
        return {
            name if isinstance(name, (str, int)) else str(plain(name)): plain(value[name], depth, left)
            for name in names
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth, left) for item in list(value)[: max(left[0], 0)]]
    if isinstance(value, type) or callable(value):
        return str(getattr(value, "__qualname__", kind.__name__))
    if hasattr(kind, "__members__"):  # an enumeration
        return plain(value._value_, depth, left) if isinstance(value._value_, (str, int, float)) else value._name_
    if hasattr(kind, "__fspath__") or kind.__name__ in _PLAIN_BY_NAME:
        return str(value)[:_LONGEST]
    if kind.__module__ == "_io":
        return str(getattr(value, "name", kind.__name__))
    return "<%s>" % kind.__name__
