"""Notes what argument parsers handed back: one line a parse, in a file a process.

It runs inside other people's programs, in whatever Python (3.7 and newer) they have. So it imports nothing that isn't
there already, calls no method of an object it doesn't know, prints nothing, raises nothing, and leaves no frame in a
traceback: each parser is tapped at a function of its own that returns right after the values are final.
"""

from __future__ import annotations

import os
import sys
import time

if False:  # typing isn't imported: it costs a script 5 ms
    from collections.abc import Callable
    from typing import Any

_FOLDER = "GUARDIANFLOW_NOTES"
_PATH = "PYTHONPATH"
_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "LOCAL_RANK")
_MOST_NOTES = 50
_MOST_VALUES = 1000
_LONGEST = 2000
_DEEPEST = 8
_PLAIN_BY_NAME = {"device", "dtype", "date", "datetime", "time", "timedelta", "Decimal", "Fraction", "UUID"}

_state = {"started": time.time(), "notes": 0, "here": "", "left": None, "pid": 0}  # type: dict[str, Any]


# -- what the script sees of us: nothing ---------------------------------------------------------


def hide(here: str) -> None:
    """Take our folder out of the PYTHONPATH that the script reads; the process's own keeps it for its children."""
    _state["here"] = here
    if os.name != "posix":
        return
    mine = os.environ.get(_PATH, "").split(os.pathsep)
    if here not in mine:
        return
    mine.remove(here)
    left = os.pathsep.join(mine)
    table, key = os.environ._data, os.environ.encodekey(_PATH)  # type: ignore[attr-defined]  # noqa: SLF001
    if left:
        table[key] = os.environ.encodevalue(left)  # type: ignore[attr-defined]
    else:
        table.pop(key, None)
    _state["left"] = os.environb.get(_PATH.encode())


def _tap_subprocess(module: Any) -> None:
    """Children that get an environment of their own, made of this one, get what was hidden from it."""
    if os.name != "posix":
        return
    module._USE_POSIX_SPAWN = False  # noqa: SLF001 - as documented; it reads os.environ, where our folder is hidden
    owner, name = (module, "_fork_exec") if hasattr(module, "_fork_exec") else (module._posixsubprocess, "fork_exec")  # noqa: SLF001
    fork_exec = getattr(owner, name)

    def spawn(*words: Any) -> Any:
        try:
            words = (*words[:5], _handed_on(words[5]), *words[6:])
        except Exception:  # noqa: BLE001, S110
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
    finder = next((one for one in sys.meta_path if getattr(one, "__name__", "") == "PathFinder"), None)
    if finder is None:
        return
    find = finder.find_spec  # type: ignore[union-attr]

    def find_spec(cls: Any, fullname: str, path: Any = None, target: Any = None) -> Any:
        spec = find(fullname, path, target)
        if fullname in _TAPS and spec is not None:
            _await(spec)
        return spec

    finder.find_spec = classmethod(find_spec)  # type: ignore[union-attr]
    for name, tap in _TAPS.items():
        if name in sys.modules:
            _try(tap, sys.modules[name])


def _await(spec: Any) -> None:
    loader = spec.loader
    if isinstance(loader, type) or not hasattr(loader, "__dict__"):
        return
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        if module.__name__ == spec.name:
            vars(loader).pop("exec_module", None)
        execute(module)
        if module.__name__ == spec.name:
            _try(_TAPS[spec.name], module)

    # Python leaves the frames of its own import machinery out of tracebacks.
    code = exec_module.__code__
    if hasattr(code, "replace"):
        exec_module.__code__ = code.replace(
            co_filename="<frozen importlib._bootstrap_external>", co_name="_call_with_frames_removed"
        )
    loader.exec_module = exec_module


def _try(tap: Callable[..., Any], *words: Any) -> None:
    try:
        tap(*words)
    except Exception:  # noqa: BLE001, S110 - a note less, and nothing the script would feel
        pass


# -- the parsers, each by the function that ends its parse ----------------------------------------


def _after(owner: Any, name: str, note: Callable[..., None]) -> None:
    """Call ``note(result, *arguments)`` each time a function has returned."""
    original = getattr(owner, name)

    def called(*words: Any, **named: Any) -> Any:
        result = original(*words, **named)
        _try(note, result, *words)
        return result

    for kept in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(called, kept, getattr(original, kept, ""))
    called.__wrapped__ = original  # type: ignore[attr-defined]
    setattr(owner, name, called)


def _tap_argparse(module: Any) -> None:
    """A parse of argparse, or of a copy of it, ends with the question whether words were left over."""
    if os.path.basename(os.path.dirname(module.__file__ or "")) not in (
        os.path.basename(os.path.dirname(os.__file__)),
        "_backends",
    ):
        return  # the script's own, of the same name

    def has(thing: Any, name: str) -> bool:
        there = hasattr(thing, name)
        if name == "_unrecognized_args":
            _try(_note_argparse, thing, sys._getframe(1))  # noqa: SLF001
        return there

    module.hasattr = has


def _note_argparse(namespace: Any, frame: Any) -> None:
    parser = frame.f_locals["self"]
    values = {name: value for name, value in vars(namespace).items() if not name.startswith("_unrecognized")}
    words = sys.argv[1:]
    given, defaults = [], []
    for action in parser._actions:  # noqa: SLF001
        if action.dest not in values:
            continue
        if any(_names(word, flag) for flag in action.option_strings for word in words):
            given.append(action.dest)
        elif not _differ(values[action.dest], action.default):
            defaults.append(action.dest)
        elif not action.option_strings:
            given.append(action.dest)
    rest = list(frame.f_locals.get("args") or frame.f_locals.get("arg_strings") or ())
    _write("argparse", type(parser).__module__, values, given, defaults, rest, prog=parser.prog, caller=_caller(frame))


def _names(word: str, flag: str) -> bool:
    """Whether a word of the command line is that option, in full, shortened or with its value."""
    name = word.partition("=")[0]
    if flag.startswith("--"):
        return name == flag or (len(name) > 3 and name.startswith("--") and flag.startswith(name))
    return word.startswith(flag) and not word.startswith("--")


def _differ(value: Any, default: Any) -> bool:
    plain = (str, int, float, bool, type(None))
    if type(value) in plain and type(default) in plain:
        return value != default and str(value) != str(default)
    return value is not default and _plain(value) != _plain(default)


def _caller(frame: Any) -> str:
    """The file that asked for the parse: the first that isn't argparse itself."""
    inside = frame.f_code.co_filename
    while frame is not None and frame.f_code.co_filename == inside:
        frame = frame.f_back
    return frame.f_code.co_filename if frame is not None else ""


def _tap_click(module: Any) -> None:
    def note(_result: Any, command: Any, context: Any, *_: Any) -> None:
        hidden = {one.name for one in command.params if getattr(one, "hide_input", False)}
        values = {name: "***" if name in hidden else value for name, value in context.params.items()}
        if context.parent is not None:
            values["command"] = context.info_name
        source = getattr(context, "get_parameter_source", None)
        come = {name: getattr(source(name), "name", "") for name in context.params} if source else {}
        given = [name for name, one in come.items() if one in ("COMMANDLINE", "PROMPT")]
        defaults = [name for name, one in come.items() if one in ("DEFAULT", "DEFAULT_MAP")]
        _write("click", type(command).__module__, values, given, defaults, caller=_code_of(command.callback))

    _after(module.Command, "parse_args", note)


def _code_of(function: Any) -> str:
    function = getattr(function, "__wrapped__", function)
    return getattr(getattr(function, "__code__", None), "co_filename", "")


def _tap_absl(module: Any) -> None:
    def note(_result: Any, flags: Any, *_: Any) -> None:
        values, given, defaults = {}, [], []
        for owner, own in flags.flags_by_module_dict().items():
            if owner.partition(".")[0] == "absl":
                continue
            for flag in own:
                values[flag.name] = flag.value
                (given if flag.present else defaults).append(flag.name)
        _write("absl", "absl.flags", values, given, defaults)

    _after(module.FlagValues, "mark_as_parsed", note)


def _tap_fire(module: Any) -> None:
    make = module._MakeParseFn  # noqa: SLF001

    def made(function: Any, *words: Any, **named: Any) -> Any:
        parse = make(function, *words, **named)

        def parsed(args: Any) -> Any:
            result = parse(args)
            _try(_note_call, function, args, *result[0])
            return result

        return parsed

    module._MakeParseFn = made  # noqa: SLF001


def _note_call(function: Any, words: Any, positional: Any, named: Any) -> None:
    code = getattr(getattr(function, "__init__", function) if isinstance(function, type) else function, "__code__", None)
    if code is None:
        return
    names = list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    if names[:1] == ["self"]:
        names = names[1:]
    values = dict(zip(names, positional))  # noqa: B905 - Python 3.7 knows no strict
    if len(positional) > len(names):
        values["args"] = list(positional[len(names) :])
    values.update(named)
    for name, value in (getattr(function, "__kwdefaults__", None) or {}).items():
        values.setdefault(name, value)
    given = [name for name in values if any(_names(word, "--" + name.replace("_", "-")) or _names(word, "--" + name)
             for word in words if isinstance(word, str))]  # fmt: skip
    _write("fire", "fire", values, given, [], caller=code.co_filename)


def _tap_hydra(module: Any) -> None:
    def note(_result: Any, _self: Any, config: Any, *_: Any) -> None:
        omegaconf = sys.modules["omegaconf"]
        values = omegaconf.OmegaConf.to_container(config, resolve=False)
        overrides = values.pop("hydra", {}).get("overrides", {}).get("task", [])
        given = [str(one).lstrip("+~").partition("=")[0] for one in overrides]
        _write("hydra", "hydra", values, given, [])

    _after(module.HydraConfig, "set_config", note)


def _tap_from_cli(module: Any) -> None:
    def note(result: Any, *_: Any) -> None:
        values = module.OmegaConf.to_container(result, resolve=False)
        _write("omegaconf", "omegaconf", values, list(values), [])

    original = module.OmegaConf.from_cli
    holder = type("holder", (), {"from_cli": staticmethod(original)})
    _after(holder, "from_cli", note)
    module.OmegaConf.from_cli = staticmethod(holder.from_cli)


def _tap_jsonargparse(module: Any) -> None:
    def note(result: Any, _parser: Any, *_: Any) -> None:
        words = sys.argv[1:]
        values = _flat(result)
        given = [name for name in values if any(_names(word, "--" + name) for word in words)]
        _write("jsonargparse", "jsonargparse", values, given, [], caller=_caller(sys._getframe(2)))  # noqa: SLF001

    _after(module.ArgumentParser, "parse_args", note)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, item in vars(value).items():
        if type(item).__name__ == "Namespace" and vars(item):
            found.update(_flat(item, prefix + name + "."))
        else:
            found[prefix + name] = item
    return found


def _tap_optparse(module: Any) -> None:
    def note(_result: Any, parser: Any, values: Any, rest: Any, *_: Any) -> None:
        known = {option.dest: option for option in parser._get_all_options() if option.dest}  # noqa: SLF001
        words = sys.argv[1:]
        flags = {name: [*one._short_opts, *one._long_opts] for name, one in known.items()}  # noqa: SLF001
        given = [name for name, own in flags.items() if any(_names(word, flag) for flag in own for word in words)]
        defaults = [name for name in known if name not in given]
        _write("optparse", "optparse", vars(values), given, defaults, list(rest))

    _after(module.OptionParser, "check_values", note)


def _tap_docopt(module: Any) -> None:
    def note(result: Any, *_: Any) -> None:
        values = {str(name).strip("-<>").replace("-", "_"): value for name, value in dict(result).items()}
        words = sys.argv[1:]
        given = [name for name in values if any(_names(word, "--" + name.replace("_", "-")) for word in words)]
        _write("docopt", "docopt", values, given, [])

    _after(module, "docopt", note)


def _tap_tyro(module: Any) -> None:
    owner = module.TyroBackend

    def note(result: Any, *_: Any) -> None:
        values = {str(name).lstrip("-").replace("-", "_"): value for name, value in result[0].items()}
        words = sys.argv[1:]
        given = [name for name in values if any(_names(word, "--" + name.replace("_", "-")) for word in words)]
        _write("tyro", "tyro", values, given, [])

    _after(owner, "parse_args", note)


_TAPS = {
    "subprocess": _tap_subprocess,
    "argparse": _tap_argparse,
    "tyro._backends._argparse": _tap_argparse,
    "tyro._backends._tyro_backend": _tap_tyro,
    "click.core": _tap_click,
    "typer._click.core": _tap_click,
    "absl.flags._flagvalues": _tap_absl,
    "fire.core": _tap_fire,
    "hydra.core.hydra_config": _tap_hydra,
    "omegaconf": _tap_from_cli,
    "jsonargparse._core": _tap_jsonargparse,
    "jsonargparse.core": _tap_jsonargparse,
    "optparse": _tap_optparse,
    "docopt": _tap_docopt,
}  # type: dict[str, Callable[[Any], None]]


# -- one line a parse ----------------------------------------------------------------------------


def _write(
    style: str,
    owner: str,
    values: Any,
    given: list[str],
    defaults: list[str],
    rest: Any = (),
    prog: str = "",
    caller: str = "",
) -> None:
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
        "owner": owner,
        "values": _plain({name: one for name, one in dict(values).items() if not callable(one)}, left=left),
        "given": given,
        "defaults": defaults,
        "rest": _plain(list(rest)),
        "prog": str(prog),
        "caller": os.path.abspath(caller) if caller else "",
        "main": os.path.abspath(main) if main else "",
        "argv": _plain(list(sys.argv[1:])),
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


def _plain(value: Any, depth: int = 0, left: Any = None) -> Any:
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
    if isinstance(value, bytes):
        return repr(value[:_LONGEST])
    if depth >= _DEEPEST or left[0] < 0:
        return "…"
    return _plain_object(value, depth + 1, left)


def _plain_object(value: Any, depth: int, left: Any) -> Any:
    kind = type(value)
    if isinstance(value, dict):
        return {_key(name): _plain(value[name], depth, left) for name in list(value)[: max(left[0], 0)]}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth, left) for item in list(value)[: max(left[0], 0)]]
    if isinstance(value, type) or callable(value):
        return str(getattr(value, "__qualname__", kind.__name__))
    if hasattr(kind, "__members__"):  # an enumeration
        return _plain(value._value_, depth, left) if isinstance(value._value_, (str, int, float)) else value._name_  # noqa: SLF001
    if hasattr(kind, "__fspath__") or kind.__name__ in _PLAIN_BY_NAME:
        return str(value)[:_LONGEST]
    if kind.__module__ == "numpy" and hasattr(value, "item") and getattr(value, "shape", None) == ():
        return _plain(value.item(), depth, left)
    if kind.__module__ == "_io":
        return str(getattr(value, "name", kind.__name__))
    inside = getattr(value, "__dict__", None)
    if kind.__name__ == "Namespace" or hasattr(kind, "__dataclass_fields__"):
        return _plain({name: one for name, one in (inside or {}).items() if name[:1] != "_"}, depth, left)
    return "<%s>" % kind.__name__


def _key(name: Any) -> Any:
    return name if isinstance(name, (str, int, bool)) else str(_plain(name))
