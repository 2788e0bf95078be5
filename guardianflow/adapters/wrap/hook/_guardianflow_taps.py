"""The argument parsers whose results are noted, and what is noted: one line a parse, in a file a process.

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


def _noting(original: Any, note: Callable[..., None]) -> Any:
    """The function; each time it has returned, ``note(result, *arguments)`` is called."""

    def called(*words: Any, **named: Any) -> Any:
        result = original(*words, **named)
        attempt(lambda: note(result, *words, **named))
        return result

    for kept in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(called, kept, getattr(original, kept, ""))
    called.__wrapped__ = original  # type: ignore[attr-defined]
    return called


def _after(owner: str, name: str, note: Callable[..., None]) -> Callable[[Any], None]:
    """A tap of a module's function, or of a method of a class in it."""

    def tap(module: Any) -> None:
        place = getattr(module, owner) if owner else module
        setattr(place, name, _noting(getattr(place, name), note))

    return tap


def _note(style: str, values: Any, defaults: Any, flags: Any = None, placed: Any = (), **more: Any) -> None:
    """Note values; ``flags`` says how each name is written, ``placed`` which ones may be given by their place."""
    if flags is None:
        flags = {name: ("--" + name, "--" + name.replace("_", "-")) for name in values}
    same = [name for name in defaults if name in values and not _differ(values[name], defaults[name])]
    spelled = [name for name in flags if any(_is(word, flag) for flag in flags[name] for word in sys.argv[1:])]
    given = [name for name in values if name in spelled or (name in placed and name not in same)]
    write(style, values, given, same, **more)


def _is(word: str, flag: str) -> bool:
    """Whether a word of the command line is that option, in full, shortened or with its value."""
    name = word.partition("=")[0]
    if flag.startswith("--"):
        return name == flag or (len(name) > 3 and name.startswith("--") and flag.startswith(name))
    return word.startswith(flag) and not word.startswith("--")


def _differ(value: Any, default: Any) -> bool:
    return value is not default and str(plain(value)) != str(plain(default))


def _tap_argparse(module: Any) -> None:
    """A parse of argparse ends with the question whether words were left over."""
    if os.path.dirname(module.__file__ or "") != os.path.dirname(os.__file__):
        return  # the script's own, of the same name

    def has(thing: Any, name: str) -> bool:
        there = hasattr(thing, name)
        if name == "_unrecognized_args":
            attempt(_note_argparse, thing, sys._getframe(1))
        return there

    module.hasattr = has


def _note_argparse(namespace: Any, frame: Any) -> None:
    parser = frame.f_locals["self"]
    values = {name: value for name, value in vars(namespace).items() if name != "_unrecognized_args"}
    flags: dict[str, list[str]] = {}
    for action in parser._actions:
        flags.setdefault(action.dest, []).extend(action.option_strings)
    defaults = {action.dest: action.default for action in reversed(parser._actions)}
    placed = [name for name in flags if not flags[name]]
    rest = frame.f_locals.get("args") or frame.f_locals.get("arg_strings") or ()
    _note("argparse", values, defaults, flags, placed, rest=rest, caller=_caller(frame, parser))


def _caller(frame: Any, parser: Any) -> str:
    """The file that asked for the parse: the first outside of Python's own and of the parser's packages."""
    inside = {one.__module__.partition(".")[0] for one in type(parser).__mro__} - {"__main__"}
    python = os.path.dirname(os.__file__) + os.sep
    while frame is not None:
        file, package = frame.f_code.co_filename, str(frame.f_globals.get("__name__")).partition(".")[0]
        ours = package.startswith("_guardianflow")
        if not ours and package not in inside and not (file.startswith(python) and "-packages" not in file):
            return str(file)
        frame = frame.f_back
    return ""


def _file_of(function: Any) -> str:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return getattr(getattr(function, "__code__", None), "co_filename", "")


def _note_click(_result: Any, command: Any, context: Any, *_: Any, **__: Any) -> None:
    hidden = {one.name for one in command.params if getattr(one, "hide_input", False)}
    values = {name: "***" if name in hidden else value for name, value in context.params.items()}
    if context.parent is not None:
        values["command"] = context.info_name
    source = getattr(context, "get_parameter_source", None)
    come = {name: getattr(source(name), "name", "") for name in context.params} if source else {}
    given = [name for name, one in come.items() if one in ("COMMANDLINE", "PROMPT")]
    defaults = [name for name, one in come.items() if one in ("DEFAULT", "DEFAULT_MAP")]
    write("click", values, given, defaults, caller=_file_of(command.callback))


def _note_optparse(_result: Any, parser: Any, values: Any, rest: Any, **__: Any) -> None:
    flags = {one.dest: one._short_opts + one._long_opts for one in parser._get_all_options() if one.dest}
    _note("optparse", vars(values), parser.defaults, flags, rest=rest, caller=_caller(sys._getframe(), parser))


def _note_absl(_result: Any, flags: Any, **__: Any) -> None:
    own = flags.flags_by_module_dict().items()
    found = [flag for owner, some in own if owner.partition(".")[0] != "absl" for flag in some]
    given, defaults = ([flag.name for flag in found if bool(flag.present) is there] for there in (True, False))
    write("absl", {flag.name: flag.value for flag in found}, given, defaults)


def _note_jsonargparse(result: Any, parser: Any, *_: Any, **__: Any) -> None:
    values = dict(_leaves(result.as_dict() if hasattr(result, "as_dict") else vars(result)))
    _note("jsonargparse", values, {}, caller=_caller(sys._getframe(), parser))


def _note_docopt(result: Any, *_: Any, **__: Any) -> None:
    _note("docopt", {str(name).strip("-<>").replace("-", "_"): value for name, value in dict(result).items()}, {})


def _note_hydra(_result: Any, _self: Any, config: Any, **__: Any) -> None:
    values = sys.modules["omegaconf"].OmegaConf.to_container(config, resolve=False)
    overrides = values.pop("hydra", {}).get("overrides", {}).get("task", [])
    write("hydra", values, [str(one).lstrip("+~").partition("=")[0] for one in overrides], [])


def _tap_omegaconf(module: Any) -> None:
    """The command line as a config, and the config that it is merged into."""
    tool = module.OmegaConf
    lines: list[Any] = []

    def note(result: Any, *parts: Any, **__: Any) -> None:
        if not parts or isinstance(parts[0], list):
            lines[:] = [result]
        elif not any(part is line for part in parts for line in lines):
            return
        given = dict(_leaves(tool.to_container(lines[0], resolve=False)))
        write("omegaconf", tool.to_container(result, resolve=False), list(given), [])

    for name in ("from_cli", "merge"):
        setattr(tool, name, staticmethod(_noting(getattr(tool, name), note)))


def _leaves(value: Any, prefix: str = "") -> Any:
    for name, item in value.items():
        if isinstance(item, dict) and item:
            for leaf in _leaves(item, "%s%s." % (prefix, name)):
                yield leaf
        else:
            yield "%s%s" % (prefix, name), item


def _tap_fire(module: Any) -> None:
    """Fire makes a parser for each thing that it calls; what that one returns is what the thing is called with."""
    make = module._MakeParseFn
    module._MakeParseFn = lambda function, *words: _noting(
        make(function, *words), lambda result, *_: _note_call("fire", function, *result[0])
    )


def _note_call(style: str, function: Any, positional: Any, named: Any) -> None:
    """What a function, or a class, is called with, its defaults included."""
    signature = sys.modules["inspect"].signature(function)
    bound = signature.bind_partial(*positional, **named)
    bound.apply_defaults()
    values = dict(bound.arguments)
    for name, one in signature.parameters.items():
        if one.kind == one.VAR_KEYWORD or (one.kind == one.VAR_POSITIONAL and not values[name]):
            values.update(values.pop(name) or {})
    defaults = {name: one.default for name, one in signature.parameters.items() if one.default is not one.empty}
    _note(style, values, defaults, placed=list(values), caller=_file_of(function))


def _note_tyro(result: Any, function: Any, _spec: Any, default: Any, *_: Any, **named: Any) -> None:
    if named.get("field_name_prefix"):
        return  # a part of the whole
    call = result[0]
    if hasattr(call, "keywords"):
        _note_call("tyro", call.func, call.args, call.keywords)
    elif hasattr(default, "__dict__"):
        write("tyro", vars(default), [], list(vars(default)), caller=_file_of(function))


def _note_cyclopts(result: Any, *_: Any, **__: Any) -> None:
    _note_call("cyclopts", result[0], result[1].args, result[1].kwargs)


TAPS = {
    "absl.flags._flagvalues": _after("FlagValues", "mark_as_parsed", _note_absl),
    "argparse": _tap_argparse,
    "click.core": _after("Command", "parse_args", _note_click),
    "cyclopts.core": _after("App", "parse_args", _note_cyclopts),
    "docopt": _after("", "docopt", _note_docopt),
    "fire.core": _tap_fire,
    "hydra.core.hydra_config": _after("HydraConfig", "set_config", _note_hydra),
    "jsonargparse._core": _after("ArgumentParser", "parse_args", _note_jsonargparse),
    "jsonargparse.core": _after("ArgumentParser", "parse_args", _note_jsonargparse),
    "omegaconf": _tap_omegaconf,
    "optparse": _after("OptionParser", "check_values", _note_optparse),
    "typer._click.core": _after("Command", "parse_args", _note_click),
    "tyro._calling": _after("", "callable_with_args", _note_tyro),
}  # type: dict[str, Callable[[Any], None]]
