"""How the hook gets into each Python of a script's tree, taps parsers as they are imported, and stays out of sight."""

from __future__ import annotations

import os
import sys

from _guardianflow_taps import TAPS, attempt

TYPE_CHECKING = False  # typing isn't imported: it costs a script 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FOLDER = "GUARDIANFLOW_NOTES"
_PATH = "PYTHONPATH"

_state = {"here": "", "left": None}  # type: dict[str, Any]


def hide(here: str) -> None:
    """Take our folder out of the PYTHONPATH that the script reads; the process's own keeps it for its children."""
    _state["here"] = here
    mine = os.environ.get(_PATH, "").split(os.pathsep)
    if here not in mine:
        return
    mine.remove(here)
    left = os.pathsep.join(mine)
    table, key = os.environ._data, os.environ.encodekey(_PATH)  # type: ignore[attr-defined]
    if left:
        table[key] = os.environ.encodevalue(left)
    else:
        table.pop(key, None)
    _state["left"] = os.environb.get(_PATH.encode())


def _tap_subprocess(module: Any) -> None:
    """Children that get an environment of their own, made of this one, get what was hidden from it."""
    module._USE_POSIX_SPAWN = False  # as documented; it reads os.environ, where our folder is hidden
    owner, name = (module, "_fork_exec") if hasattr(module, "_fork_exec") else (module._posixsubprocess, "fork_exec")
    fork_exec = getattr(owner, name)

    def spawn(*words: Any) -> Any:
        try:
            words = (*words[:5], _handed_on(words[5]), *words[6:])
        except Exception:
            pass
        return fork_exec(*words)

    setattr(owner, name, spawn)


def _handed_on(environment: Any) -> Any:
    head = _PATH.encode() + b"="
    if environment is None:
        if os.environb.get(_PATH.encode()) == _state["left"]:
            return None  # the process's own, which has it still
        environment = [name + b"=" + value for name, value in os.environb.items()]
    entries = list(environment)
    if not any(entry.startswith(_FOLDER.encode() + b"=") for entry in entries):
        return environment  # an environment that owes nothing to this one
    paths = [entry[len(head) :] for entry in entries if entry.startswith(head)]
    ours = os.fsencode(_state["here"])
    if any(ours in path.split(b":") for path in paths):
        return environment
    rest = [entry for entry in entries if not entry.startswith(head)]
    return [*rest, head + b":".join([ours, *[path for path in paths if path]])]


def install() -> None:
    """Tap each parser when it is imported, or now where it has been."""
    if not os.environ.get(_FOLDER):
        return
    taps = dict(TAPS, subprocess=_tap_subprocess)
    finder: Any = next((one for one in sys.meta_path if getattr(one, "__name__", "") == "PathFinder"), None)
    if finder is None:
        return
    find = finder.find_spec

    def find_spec(cls: Any, fullname: str, path: Any = None, target: Any = None) -> Any:
        spec = find(fullname, path, target)
        if fullname in taps and spec is not None:
            _await(spec, taps[fullname])
        return spec

    finder.find_spec = classmethod(find_spec)
    for name, tap in taps.items():
        if name in sys.modules:
            attempt(tap, sys.modules[name])


def _await(spec: Any, tap: Callable[[Any], None]) -> None:
    loader = spec.loader
    if isinstance(loader, type) or not hasattr(loader, "__dict__"):
        return
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        if module.__name__ == spec.name:
            vars(loader).pop("exec_module", None)
        execute(module)
        if module.__name__ == spec.name:
            attempt(tap, module)

    # Python leaves the frames of its own import machinery out of tracebacks.
    code = exec_module.__code__
    if hasattr(code, "replace"):
        exec_module.__code__ = code.replace(
            co_filename="<frozen importlib._bootstrap_external>", co_name="_call_with_frames_removed"
        )
    loader.exec_module = exec_module
