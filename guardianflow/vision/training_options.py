"""Which of Ultralytics' training arguments a user may set, and whether the values are of their kind."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from guardianflow.exceptions import InputError
from guardianflow.vision._ultralytics import import_ultralytics

__all__ = ["TRAINING_OPTIONS", "check_options"]

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


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse training arguments that Ultralytics doesn't know, that are ours to set, or of the wrong kind.

    Raises:
        InputError: Names the argument and what to do instead.
    """
    for name in options:
        if name in _OURS:
            msg = f"training option {name!r} can't be set: {_OURS[name]}"
            raise InputError(msg)
        if name not in TRAINING_OPTIONS:
            close = difflib.get_close_matches(name, TRAINING_OPTIONS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(TRAINING_OPTIONS))}"
            msg = f"training option {name!r} can't be set; {hint}"
            raise InputError(msg)
    if str(options.get("cache", "")).lower() == "disk":
        msg = "training option cache='disk' would write into the dataset's folder; use cache=ram, or leave it out"
        raise InputError(msg)
    if options:
        _check_values(options)


def _check_values(options: Mapping[str, Any]) -> None:
    import_ultralytics()
    from ultralytics.cfg import get_cfg

    for name, value in options.items():
        try:
            get_cfg(overrides={name: value})
        except (TypeError, ValueError, SyntaxError, AssertionError) as error:
            reason = " ".join(str(error).split())[:200]
            msg = f"training option {name}={value!r} can't be used: {reason}"
            raise InputError(msg) from error
    _check_optimizer(options.get("optimizer", "auto"))


def _check_optimizer(name: object) -> None:
    # Ultralytics notices an unknown one only after the dataset and the model are loaded.
    known = ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop")
    if str(name).lower() not in {item.lower() for item in known}:
        msg = f"training option optimizer={name!r} can't be used; known: {', '.join(known)}"
        raise InputError(msg)
