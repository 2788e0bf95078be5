"""Which of Ultralytics' training arguments a user may set, and whether the values are of their kind."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from guardianflow.exceptions import InputError
from guardianflow.text.option_values import plain_value
from guardianflow.vision._ultralytics import default_options, import_ultralytics

__all__ = ["TRAINING_OPTIONS", "read_options"]

TRAINING_OPTIONS = frozenset({
    "amp", "bgr", "box", "cache", "close_mosaic", "cls", "cls_pw", "compile", "copy_paste", "cos_lr", "cutmix",
    "degrees", "dfl", "erasing", "fliplr", "flipud", "fraction", "freeze", "hsv_h", "hsv_s", "hsv_v", "iou", "lr0",
    "lrf", "max_det", "mixup", "momentum", "mosaic", "multi_scale", "nbs", "optimizer", "perspective", "plots", "rect",
    "save_period", "scale", "shear", "time", "translate", "warmup_bias_lr", "warmup_epochs", "warmup_momentum",
    "weight_decay",
})  # fmt: skip
"""Ultralytics' training arguments that may be set; the rest would take the run out of our hands."""

_OURS = {
    "val": "every epoch is validated, for the best weights are chosen by it",
    "save": "the weights are what a run is for",
    "exist_ok": "each run has a folder of its own",
    "project": "each run has a folder of its own",
    "name": "each run has a folder of its own",
    "save_dir": "each run has a folder of its own",
    "resume": "use --resume RUN_ID",
    "data": "use --data",
    "model": "use --model",
    "pretrained": "pass the weights with --model",
    **dict.fromkeys(
        ("epochs", "batch", "imgsz", "device", "seed", "workers", "patience"), "it has an option of its own"
    ),
}

_SWITCHES = {
    "amp": ("fp16", "bf16", "fp32"),
    "cache": ("ram", "disk"),
    "compile": ("default", "reduce-overhead", "max-autotune-no-cudagraphs"),
}
"""Switches that take words, too."""

_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as Ultralytics takes them, each of the type that its default has.

    What people write and what can mean one thing only is taken: ``"yes"`` for a switch, ``"0.01"`` for a number,
    ``1.0`` for a whole one.

    Raises:
        InputError: An argument that Ultralytics doesn't know, that is ours to set, or that has another type; it is
            named, and what to do instead.
    """
    for name in options:
        if name in _OURS:
            raise InputError(f"training option {name!r} can't be set: {_OURS[name]}")
        if name not in TRAINING_OPTIONS:
            close = difflib.get_close_matches(name, TRAINING_OPTIONS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(TRAINING_OPTIONS))}"
            raise InputError(f"training option {name!r} can't be set; {hint}")
    found = {name: _typed(name, value) for name, value in options.items()}
    _check_values(found)
    return found


def _typed(name: str, value: Any) -> Any:
    default = default_options()[name]
    if isinstance(value, tuple):
        value = list(value)
    if name == "freeze":
        return _layers(value)
    if name == "optimizer":
        return _optimizer(value)
    if name in _SWITCHES:
        return _switch(name, value, _SWITCHES[name])
    if isinstance(default, bool):
        return _switch(name, value, ())
    if isinstance(default, int | float) or name == "time":
        takes_list = name in {"scale", "fraction"} and isinstance(value, list)
        whole = type(default) is int
        return [_number(name, part) for part in value] if takes_list else _number(name, value, whole)
    return value


def _number(name: str, value: Any, whole: bool = False) -> Any:
    if value is None and name == "time":  # the one number without a default
        return None
    if isinstance(value, str) and not isinstance(plain_value(value), list):
        value = plain_value(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        comma = isinstance(value, list) and len(value) == 2 and all(type(part) is int for part in value)
        hint = f"; a decimal fraction has a point: {value[0]}.{value[1]}" if comma else ""
        raise _refused(name, value, f"it takes {'a whole number' if whole else 'a number'}{hint}")
    if whole and value != int(value):
        raise _refused(name, value, "it takes a whole number")
    return int(value) if whole else value


def _switch(name: str, value: Any, words: Sequence[str]) -> Any:
    said = {True: "1", False: "0"}.get(value, value) if isinstance(value, bool) else value
    text = f"{said:g}" if isinstance(said, float) else str(said).strip().lower()
    if text in words:
        return text
    if text in _YES or text in _NO:
        return text in _YES
    raise _refused(name, value, f"it takes {', '.join(['true', 'false', *words])}")


def _layers(value: Any) -> int | list[int | str] | None:
    """Ultralytics takes anything else for "freeze nothing"."""
    if isinstance(value, str):
        value = plain_value(value.strip())
    if value is None or (type(value) is int and value >= 0):
        return value
    parts = [value] if isinstance(value, str) else value
    if isinstance(parts, list) and all(type(part) in {int, str} and part != "" for part in parts):
        return parts
    raise _refused("freeze", value, "it takes the number of layers, or a list of them such as 0,1,2 or 23.cv2")


def _optimizer(name: Any) -> str:
    # Ultralytics notices an unknown one only after the dataset and the model are loaded.
    known = ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop")
    found = next((item for item in known if str(name).strip().lower() == item.lower()), None)
    if found is None:
        raise _refused("optimizer", name, f"known: {', '.join(known)}")
    return found


def _check_values(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if _is_plain(name, value):
            continue
        import_ultralytics()
        from ultralytics.cfg import get_cfg

        try:
            get_cfg(overrides={name: value})
        except (TypeError, ValueError, SyntaxError, AssertionError) as error:
            raise _refused(name, value, " ".join(str(error).split())[:200]) from error
    if options.get("cache") == "disk":
        msg = "training option cache='disk' would write into the dataset's folder; use cache=ram, or leave it out"
        raise InputError(msg)


def _is_plain(name: str, value: Any) -> bool:
    """Whether Ultralytics, which takes seconds to import, need not be asked: a choice of ours, or within any range."""
    default = default_options()[name]
    if name == "optimizer" or isinstance(default, bool):
        return name == "optimizer" or isinstance(value, bool)
    if isinstance(default, float):
        return type(value) in {int, float} and 0 <= value <= 1 and name != "fraction"  # of which 0 is none
    return type(default) is int and type(value) is int and value >= 1


def _refused(name: str, value: Any, why: str) -> InputError:
    return InputError(f"training option {name}={value!r} can't be used: {why}")
