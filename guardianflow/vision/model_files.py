"""What a model argument stands for, checked before any run exists.

A model is a weights file (``.pt``), a model YAML of the user's or of Ultralytics, or the name of
pretrained weights that Ultralytics fetches. Weights are read by a loader that rebuilds known
classes only; a pickle that wants to call something else is refused before it is run.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.exceptions import DatasetError, GuardianFlowError, ModelFileError
from guardianflow.files.yaml_safety import load_yaml_mapping
from guardianflow.vision._ultralytics import import_ultralytics, model_yaml_names
from guardianflow.vision.model_parts import require_whole
from guardianflow.vision.output_layouts import some_names

if TYPE_CHECKING:
    import torch

__all__ = ["ModelSource", "find_model", "load_checkpoint", "load_weights"]

_OTHER_TASKS = re.compile(r"-(cls|obb|pose|seg|depth|sem)\b|^yoloe|world")
_PRETRAINED = re.compile(r"^(yolo(v?\d+)[a-z]*(-[a-z0-9]+)?|rtdetr-[lx])(\.pt)?$")


@dataclass(frozen=True)
class ModelSource:
    """Where a training starts from.

    Attributes:
        spec: What Ultralytics is given: a path, or a name that it knows.
        kind: ``"architecture"`` (random weights), ``"weights"`` (a file) or ``"pretrained"``.
        classes: Class names of the weights; empty for an architecture.
    """

    spec: str
    kind: str
    classes: tuple[str, ...] = ()


def find_model(spec: str, *, classes: Sequence[str], new_head: bool = False) -> ModelSource:
    """Find and check what a training is to start from.

    Args:
        spec: Weights file, model YAML, or a name that Ultralytics knows.
        classes: The dataset's class names.
        new_head: Weights of other classes are welcome; their last layers are trained anew.

    Raises:
        ModelFileError: Unknown, unreadable, unsafe, of another task, or of other classes.
    """
    path = Path(spec).expanduser()
    suffix = path.suffix.lower()
    if suffix in {".yaml", ".yml"}:
        return _architecture(spec, path, classes)
    if path.is_file() and suffix == ".pt":
        return _weights(path, classes, new_head=new_head)
    if path.exists():
        msg = f"model {spec} is no .pt weights file and no model YAML; training starts from one of these"
        raise ModelFileError(msg)
    if len(path.parts) == 1 and _PRETRAINED.match(spec):
        return _pretrained(spec)
    if suffix == ".pt":
        msg = f"there is no weights file {path}; check the path, or train from scratch with yolo11n.yaml"
        raise ModelFileError(msg)
    raise ModelFileError(_unknown(spec))


def load_checkpoint(path: Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Load a ``.pt`` file without running the pickles inside it: the model, and what was kept beside it.

    Raises:
        ModelFileError: It is damaged, or wants to run code.
    """
    import_ultralytics()
    if not path.is_file():
        raise ModelFileError(f"there is no weights file {path}")
    require_whole(path, "torch")
    if "'" in str(path):
        msg = f"the path {path} holds an apostrophe, which Ultralytics drops from paths; rename the folder or file"
        raise ModelFileError(msg)
    from ultralytics.nn import tasks

    try:
        model, checkpoint = tasks.load_checkpoint(str(path))
    except Exception as error:
        raise ModelFileError(_why_not_loaded(path, error)) from error
    return model, checkpoint


def load_weights(path: Path) -> torch.nn.Module:
    """Load the detection model of a ``.pt`` file without running the pickles inside it.

    Raises:
        ModelFileError: It is damaged, wants to run code, or holds no detection model.
    """
    model, _ = load_checkpoint(path)
    if getattr(model, "task", "detect") != "detect":
        raise ModelFileError(f"weights {path} are for the task {model.task!r}; detection weights are needed")
    return model


def class_names(model: torch.nn.Module) -> tuple[str, ...]:
    """The class names inside loaded weights, by class id."""
    names: Any = getattr(model, "names", None) or {}
    return tuple(str(name) for name in (names.values() if isinstance(names, dict) else names))


def _architecture(spec: str, path: Path, classes: Sequence[str]) -> ModelSource:
    if path.is_file():
        _check_model_yaml(path, classes)
        return ModelSource(str(path.resolve()), "architecture")
    if len(path.parts) == 1 and spec in model_yaml_names():
        if _OTHER_TASKS.search(spec):
            raise ModelFileError(f"model {spec} is not for detection; use for example yolo11n.yaml")
        return ModelSource(spec, "architecture")
    raise ModelFileError(_unknown(spec))


def _check_model_yaml(path: Path, classes: Sequence[str]) -> None:
    try:
        content = load_yaml_mapping(path, what="model YAML")
    except DatasetError as error:
        raise ModelFileError(str(error)) from error
    missing = [key for key in ("backbone", "head") if key not in content]
    if missing:
        raise ModelFileError(
            f"model YAML {path} lacks {' and '.join(missing)}; is it a data.yaml? yolo11.yaml of Ultralytics shows how"
        )
    import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    try:
        DetectionModel(str(path), nc=len(classes), verbose=False)  # an activation is looked up, not evaluated
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelFileError(f"model YAML {path} can't be built ({reason}); correct it") from error


def _weights(path: Path, classes: Sequence[str], *, new_head: bool) -> ModelSource:
    found = class_names(load_weights(path))
    if len(found) != len(classes) and not new_head:
        raise ModelFileError(
            f"weights {path} know {len(found)} classes ({some_names(found)}), the data has {len(classes)} "
            f"({some_names(classes)}); pass --new-head to keep the backbone and train the last layers anew"
        )
    return ModelSource(str(path.resolve()), "weights", found)


def _pretrained(name: str) -> ModelSource:
    import_ultralytics()
    from ultralytics.utils import ONLINE, SETTINGS
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    file = name if name.endswith(".pt") else f"{name}.pt"
    if file not in GITHUB_ASSETS_NAMES:
        raise ModelFileError(_unknown(name))
    if _OTHER_TASKS.search(file):
        raise ModelFileError(f"pretrained weights {file} are not for detection; use for example yolo11n.pt")
    cached = Path(SETTINGS["weights_dir"]) / file
    if not cached.is_file():
        advice = f"pass a weights file (--model /path/{file}) or train from scratch (--model {file[:-3]}.yaml)"
        if not ONLINE:
            raise ModelFileError(f"pretrained weights {file} must be downloaded and this machine is offline; {advice}")
        _download(file, cached, advice)
    return ModelSource(str(cached), "pretrained", class_names(load_weights(cached)))


def _download(file: str, target: Path, advice: str) -> None:
    from ultralytics.utils.downloads import attempt_download_asset

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        found = Path(attempt_download_asset(str(target)))
    except Exception as error:
        msg = f"pretrained weights {file} could not be downloaded ({' '.join(str(error).split())[:200]}); {advice}"
        raise ModelFileError(msg) from error
    if not found.is_file():
        raise ModelFileError(f"pretrained weights {file} could not be downloaded; {advice}")


def _why_not_loaded(path: Path, error: Exception) -> str:
    if isinstance(error, GuardianFlowError):
        return str(error)
    text = " ".join(str(error).split())
    if "references types outside" in text or "Unsupported global" in text or "unsafe" in text.lower():
        return (
            f"weights {path} hold objects other than an Ultralytics model, and were refused before anything in them "
            "ran; use weights from a source you trust, or export your own again"
        )
    return f"weights {path} can't be read ({text[:200]}); the file may be cut off: copy or train it again"


def _unknown(spec: str) -> str:
    known = sorted(name for name in model_yaml_names() if not _OTHER_TASKS.search(name))
    wanted = Path(spec).name
    close = difflib.get_close_matches(wanted, known, n=3) or [
        name for name in ("yolo11n.yaml", "yolo26n.yaml", "yolov8n.yaml") if name in known
    ]
    return f"there is no model {spec!r}; pass a weights file, a model YAML or a known name such as {', '.join(close)}"
