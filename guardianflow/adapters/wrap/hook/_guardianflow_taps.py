"""The argument parsers whose results are noted, each tapped at a function of its own that ends its parse.

See ``_guardianflow_notes``: the same rules hold here.
"""

from __future__ import annotations

import os
import sys

from _guardianflow_notes import attempt, plain, write

TYPE_CHECKING = False  # typing isn't imported: it costs a script 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any
_INIT = "__init__"


def _after(owner: Any, name: str, note: Callable[..., None]) -> None:
    """Call ``note(result, *arguments)`` each time a function has returned."""
    original = getattr(owner, name)

    def called(*words: Any, **named: Any) -> Any:
        result = original(*words, **named)
        attempt(lambda: note(result, *words, **named))
        return result

    for kept in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(called, kept, getattr(original, kept, ""))
    called.__wrapped__ = original  # type: ignore[attr-defined]
    setattr(owner, name, called)


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
    words = sys.argv[1:]
    given, defaults = [], []
    for action in parser._actions:
        if action.dest not in values:
            continue
        if any(_names(word, flag) for flag in action.option_strings for word in words):
            given.append(action.dest)
        if not _differ(values[action.dest], action.default):
            defaults.append(action.dest)
        elif not action.option_strings:
            given.append(action.dest)
    rest = frame.f_locals.get("args") or frame.f_locals.get("arg_strings") or ()
    write("argparse", values, given, defaults, rest=rest, caller=_caller(frame, parser))


def _names(word: str, flag: str) -> bool:
    """Whether a word of the command line is that option, in full, shortened or with its value."""
    name = word.partition("=")[0]
    if flag.startswith("--"):
        return name == flag or (len(name) > 3 and name.startswith("--") and flag.startswith(name))
    return word.startswith(flag) and not word.startswith("--")


def _differ(value: Any, default: Any) -> bool:
    simple = (str, int, float, bool, type(None))
    if type(value) in simple and type(default) in simple:
        return bool(value != default and str(value) != str(default))
    return value is not default and bool(plain(value) != plain(default))


def _given(values: Any) -> list[str]:
    """Names whose option is among the words of the command line."""
    flags = {name: ("--" + name, "--" + name.replace("_", "-")) for name in values}
    return [name for name, own in flags.items() if any(_names(word, flag) for flag in own for word in sys.argv[1:])]


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


def _tap_click(module: Any) -> None:
    def note(_result: Any, command: Any, context: Any, *_: Any, **__: Any) -> None:
        hidden = {one.name for one in command.params if getattr(one, "hide_input", False)}
        values = {name: "***" if name in hidden else value for name, value in context.params.items()}
        if context.parent is not None:
            values["command"] = context.info_name
        source = getattr(context, "get_parameter_source", None)
        come = {name: getattr(source(name), "name", "") for name in context.params} if source else {}
        given = [name for name, one in come.items() if one in ("COMMANDLINE", "PROMPT")]
        defaults = [name for name, one in come.items() if one in ("DEFAULT", "DEFAULT_MAP")]
        write("click", values, given, defaults, caller=_file_of(command.callback))

    _after(module.Command, "parse_args", note)


def _file_of(function: Any) -> str:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return getattr(getattr(function, "__code__", None), "co_filename", "")


def _tap_absl(module: Any) -> None:
    def note(_result: Any, flags: Any, **__: Any) -> None:
        own = flags.flags_by_module_dict().items()
        found = [flag for owner, some in own if owner.partition(".")[0] != "absl" for flag in some]
        given = [flag.name for flag in found if flag.present]
        defaults = [flag.name for flag in found if not flag.present]
        write("absl", {flag.name: flag.value for flag in found}, given, defaults)

    _after(module.FlagValues, "mark_as_parsed", note)


def _tap_fire(module: Any) -> None:
    """Fire makes a parser for each thing that it calls; what that one returns is what the thing is called with."""
    make = module._MakeParseFn

    def made(function: Any, *words: Any, **named: Any) -> Any:
        holder: Any = type("holder", (), {"parse": staticmethod(make(function, *words, **named))})
        _after(holder, "parse", lambda result, *_, **__: _note_call("fire", function, *result[0]))
        return holder.parse

    module._MakeParseFn = made


def _note_call(style: str, function: Any, positional: Any, named: Any) -> None:
    """What a function, or a class, is called with, its defaults included."""
    called: Any = getattr(function, _INIT) if isinstance(function, type) else function
    code = called.__code__
    names = list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    names = names[1:] if isinstance(function, type) or hasattr(called, "__self__") else names
    values = dict(zip(names, positional))  # Python 3.7 knows no strict
    if len(positional) > len(names):
        values["args"] = list(positional[len(names) :])
    values.update(named)
    late = names[: code.co_argcount][-len(called.__defaults__ or ()) :] if called.__defaults__ else []
    defaults = dict(zip(late, called.__defaults__ or ()))
    defaults.update(called.__kwdefaults__ or {})
    for name, value in defaults.items():
        values.setdefault(name, value)
    given = _given(values)
    untouched = [name for name in defaults if name not in given and not _differ(values[name], defaults[name])]
    write(style, values, [name for name in values if name not in untouched], untouched, caller=_file_of(called))


def _tap_hydra(module: Any) -> None:
    def note(_result: Any, _self: Any, config: Any, **__: Any) -> None:
        values = sys.modules["omegaconf"].OmegaConf.to_container(config, resolve=False)
        overrides = values.pop("hydra", {}).get("overrides", {}).get("task", [])
        write("hydra", values, [str(one).lstrip("+~").partition("=")[0] for one in overrides], [])

    _after(module.HydraConfig, "set_config", note)


def _tap_omegaconf(module: Any) -> None:
    """The command line as a config, and the config that it is merged into."""
    tool = module.OmegaConf
    lines: list[Any] = []

    def note(result: Any, *parts: Any, **__: Any) -> None:
        if not parts or isinstance(parts[0], list):
            lines[:] = [result]
        elif not any(part is line for part in parts for line in lines):
            return
        given = list(_leaves(tool.to_container(lines[0], resolve=False)))
        write("omegaconf", tool.to_container(result, resolve=False), given, [])

    for name in ("from_cli", "merge"):
        holder: Any = type("holder", (), {name: staticmethod(getattr(tool, name))})
        _after(holder, name, note)
        setattr(tool, name, staticmethod(getattr(holder, name)))


def _leaves(value: Any, prefix: str = "") -> Any:
    for name, item in value.items():
        if isinstance(item, dict) and item:
            for leaf in _leaves(item, "%s%s." % (prefix, name)):
                yield leaf
        else:
            yield "%s%s" % (prefix, name)


def _tap_jsonargparse(module: Any) -> None:
    def note(result: Any, parser: Any, *_: Any, **__: Any) -> None:
        values = result.as_dict() if hasattr(result, "as_dict") else vars(result)
        given = _given(list(_leaves(values)))
        write("jsonargparse", values, given, [], caller=_caller(sys._getframe(), parser))

    _after(module.ArgumentParser, "parse_args", note)


def _tap_optparse(module: Any) -> None:
    def note(_result: Any, parser: Any, values: Any, rest: Any, **__: Any) -> None:
        given: list[str] = []
        defaults: list[str] = []
        for option in parser._get_all_options():
            flags = [*option._short_opts, *option._long_opts]
            if option.dest:
                named = any(_names(word, flag) for flag in flags for word in sys.argv[1:])
                (given if named else defaults).append(option.dest)
        write("optparse", vars(values), given, defaults, rest=rest, caller=_caller(sys._getframe(), parser))

    _after(module.OptionParser, "check_values", note)


def _tap_docopt(module: Any) -> None:
    def note(result: Any, *_: Any, **__: Any) -> None:
        values = {str(name).strip("-<>").replace("-", "_"): value for name, value in dict(result).items()}
        write("docopt", values, _given(values), [])

    _after(module, "docopt", note)


def _tap_tyro(module: Any) -> None:
    def note(result: Any, function: Any, _spec: Any, default: Any, *_: Any, **named: Any) -> None:
        if named.get("field_name_prefix"):
            return  # a part of the whole
        call = result[0]
        if hasattr(call, "keywords"):
            _note_call("tyro", call.func, call.args, call.keywords)
        elif hasattr(default, "__dict__"):
            write("tyro", vars(default), [], list(vars(default)), caller=_file_of(function))

    _after(module, "callable_with_args", note)


def _tap_cyclopts(module: Any) -> None:
    def note(result: Any, *_: Any, **__: Any) -> None:
        function, bound = result[:2]
        _note_call("cyclopts", function, bound.args, bound.kwargs)

    _after(module.App, "parse_args", note)


TAPS = {
    "cyclopts.core": _tap_cyclopts,
    "argparse": _tap_argparse,
    "tyro._calling": _tap_tyro,
    "click.core": _tap_click,
    "typer._click.core": _tap_click,
    "absl.flags._flagvalues": _tap_absl,
    "fire.core": _tap_fire,
    "hydra.core.hydra_config": _tap_hydra,
    "omegaconf": _tap_omegaconf,
    "jsonargparse._core": _tap_jsonargparse,
    "jsonargparse.core": _tap_jsonargparse,
    "optparse": _tap_optparse,
    "docopt": _tap_docopt,
}  # type: dict[str, Callable[[Any], None]]
