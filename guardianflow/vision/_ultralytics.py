"""The one way to Ultralytics: imported late, with safe defaults, leaving the user's settings alone."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import yaml

from guardianflow.exceptions import MissingDependencyError

__all__ = ["default_options", "import_ultralytics", "model_yaml_names", "package_folder", "quiet"]

_DEFAULTS = {
    "ULTRALYTICS_SAFE_LOAD": "1",  # weights are read without running the pickles inside them
    "YOLO_AUTOINSTALL": "false",  # a missing package is an error, not an installation
}
_OFF = {"", "0", "false", "no", "off", "n", "f"}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def import_ultralytics() -> ModuleType:
    """Import Ultralytics with weights loaded safely unless ``ULTRALYTICS_SAFE_LOAD=0`` is set.

    Raises:
        MissingDependencyError: The installed versions can't load weights safely.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    # Its first import on a machine tells where its settings lie; stdout belongs to --json.
    with contextlib.redirect_stdout(sys.stderr):
        import ultralytics
        import ultralytics.nn.tasks
        import ultralytics.utils

    if os.environ["ULTRALYTICS_SAFE_LOAD"].strip().lower() in _OFF:
        return cast(ModuleType, ultralytics)
    safe_load = getattr(ultralytics.nn.tasks, "_SafeLoad", None)
    if safe_load is None or not safe_load.SUPPORTED:
        raise MissingDependencyError(
            "these versions of Ultralytics and PyTorch can't load weights without running the pickles inside them; "
            "upgrade both: pip install -U ultralytics torch"
        )
    # Whoever imported Ultralytics before us did so without the default above.
    ultralytics.utils.SAFE_LOAD = True
    ultralytics.nn.tasks.SAFE_LOAD = True
    return cast(ModuleType, ultralytics)


class _PlainFormatter(logging.Formatter):
    """Leaves out the colours of a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return _COLOURS.sub("", super().format(record))


@contextlib.contextmanager
def quiet(log_file: Path) -> Iterator[None]:
    """Send Ultralytics' messages to a file, and keep its batch progress bars off the screen."""
    import ultralytics.utils as module

    logger: logging.Logger = module.LOGGER
    handlers, verbose = list(logger.handlers), module.VERBOSE
    log_file.parent.mkdir(parents=True, exist_ok=True)
    file_handler = logging.FileHandler(log_file, encoding="utf-8")
    file_handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    warnings_too = logging.StreamHandler(sys.stderr)
    warnings_too.setLevel(logging.ERROR)
    logger.handlers = [file_handler, warnings_too]
    module.VERBOSE = False
    try:
        yield
    finally:
        logger.handlers = handlers
        module.VERBOSE = verbose
        file_handler.close()


@lru_cache(maxsize=1)
def package_folder() -> Path:
    """Where Ultralytics is installed, found without importing it."""
    spec = importlib.util.find_spec("ultralytics")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("ultralytics is not installed")
    return Path(spec.origin).parent


@lru_cache(maxsize=1)
def default_options() -> Mapping[str, Any]:
    """Ultralytics' default of each option, read from its file: importing it takes seconds."""
    found = yaml.safe_load((package_folder() / "cfg" / "default.yaml").read_text(encoding="utf-8"))
    return {name: None if value == "None" else value for name, value in found.items()}


@lru_cache(maxsize=1)
def model_yaml_names() -> frozenset[str]:
    """Names of the model YAMLs that come with Ultralytics, with and without the scale letter."""
    names = set()
    for path in (package_folder() / "cfg" / "models").rglob("*.yaml"):
        names.add(path.name)
        match = re.fullmatch(r"(yolo(?:v)?\d+)(.*)\.yaml", path.name)
        if match:
            names.update(f"{match[1]}{scale}{match[2]}.yaml" for scale in "nslmx")
        if path.name.startswith("yolov9") or path.name.startswith("rtdetr"):
            names.add(path.name)
    return frozenset(names)
