"""The datasets that a script names, and the files that it will probably write."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from guardianflow.adapters.scan.findings import EXPORT, TRAINING
from guardianflow.adapters.wrap.parameters.literal_values import dotted

__all__ = ["named_datasets", "probable_outputs"]

_MOST = 10
_LONGEST = 200
_YAML = re.compile(r"[^\s*?<>|{}]+\.ya?ml", re.IGNORECASE)
_DATA_NAME = re.compile(r"(^|_|-)data(set)?(s|_?yaml|_?file|_?path|_?cfg|_?config)?$", re.IGNORECASE)

# Last name of a call → the place of the argument that says where it writes, and its keyword.
_WRITERS: dict[str, tuple[int, tuple[str, ...]]] = {
    "torch.save": (1, ("f",)),
    "torch.jit.save": (1, ("f",)),
    "torch.onnx.export": (2, ("f",)),
    "joblib.dump": (1, ("filename",)),
    "save_weights": (0, ("filepath",)),
    "save_model": (0, ("fname", "filename")),
    "save_pretrained": (0, ("save_directory",)),
    "ModelCheckpoint": (0, ("filepath", "dirpath")),
    "export_model": (0, ("path",)),
}
_DEFAULTS = {
    ("ultralytics", TRAINING): ("runs/**/weights/*.pt",),
    ("lightning", TRAINING): ("lightning_logs/**/*.ckpt",),
    ("mmdetection", TRAINING): ("work_dirs/**/*.pth",),
    ("detectron2", TRAINING): ("output/**/*.pth",),
}
# Keyword of a call that names a folder → what lies in it, by framework.
_FOLDERS = {
    ("ultralytics", "project"): "**/weights/*.pt",
    ("lightning", "default_root_dir"): "**/*.ckpt",
    ("lightning", "dirpath"): "**/*.ckpt",
    ("transformers", "output_dir"): "**/*.safetensors",
    ("mmdetection", "work_dir"): "**/*.pth",
}
_EXPORTED = {"onnx": "**/*.onnx", "torchscript": "**/*.torchscript", "engine": "**/*.engine", "tflite": "**/*.tflite",
             "openvino": "**/*_openvino_model/*"}  # fmt: skip
_MODEL_ENDINGS = (".pt", ".pth", ".ckpt", ".onnx", ".h5", ".keras", ".json", ".ubj", ".txt", ".bin", ".pkl", ".pickle",
                  ".joblib", ".safetensors", ".tflite", ".cbm", ".model", ".weights")  # fmt: skip


def named_datasets(tree: ast.AST) -> tuple[str, ...]:
    """YAML files that a script names as its data: ``data="coco8.yaml"``, ``--data``'s default, ``DATA_YAML = …``."""
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        for text in _dataset_texts(node):
            if len(text) <= _LONGEST and _YAML.fullmatch(text):
                found.setdefault(text)
        if len(found) >= _MOST:
            break
    return tuple(found)


def _dataset_texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call):
        named = any(isinstance(arg, ast.Constant) and _is_data_name(arg.value) for arg in node.args)
        for keyword in node.keywords:
            if _is_data_name(keyword.arg) or (named and keyword.arg == "default"):
                yield from _texts(keyword.value)
    elif isinstance(node, ast.Assign):
        if any(isinstance(target, ast.Name) and _is_data_name(target.id) for target in node.targets):
            yield from _texts(node.value)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and _is_data_name(key.value):
                yield from _texts(value)


def _is_data_name(name: object) -> bool:
    return isinstance(name, str) and bool(_DATA_NAME.search(name.lstrip("-")))


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):  # ROOT / "data/coco128.yaml"
        node = node.right
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def probable_outputs(tree: ast.AST, framework: str, role: str) -> tuple[str, ...]:
    """Patterns below the working folder that a script's weights will probably match, without promise.

    Args:
        tree: The script's syntax tree.
        framework: As it was judged.
        role: As it was judged.
    """
    found: dict[str, None] = {}
    if role in {TRAINING, EXPORT}:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                for pattern in _written(node, framework, role):
                    if _is_inside(pattern):
                        found.setdefault(pattern)
            if len(found) >= _MOST:
                break
    for pattern in _DEFAULTS.get((framework, role), ()) if not any("**" in known for known in found) else ():
        found.setdefault(pattern)
    return tuple(found)


def _written(node: ast.Call, framework: str, role: str) -> Iterator[str]:
    name = _called(node.func)
    last = name.rpartition(".")[2]
    for keyword in node.keywords:
        inside = _FOLDERS.get((framework, keyword.arg or ""))
        if inside and role == TRAINING and (folder := _as_pattern(keyword.value).rstrip("/")):
            yield f"{folder}/{inside}"
    if last == "export" and role == EXPORT and framework == "ultralytics":
        chosen = next((text for word in node.keywords if word.arg == "format" for text in _texts(word.value)), "")
        yield _EXPORTED.get(chosen, "")
    writer = _WRITERS.get(name) or _WRITERS.get(last)
    if last == "save" and framework in {"keras", "tensorflow"}:
        writer = (0, ("filepath",))
    if name == "pickle.dump" and len(node.args) > 1 and isinstance(node.args[1], ast.Call):
        node, writer = node.args[1], (0, ("file",))
    if writer:
        place, keywords = writer
        values = [*node.args[place : place + 1], *(word.value for word in node.keywords if word.arg in keywords)]
        yield from (text for text in map(_as_pattern, values[:1]) if text.lower().endswith(_MODEL_ENDINGS))


def _as_pattern(node: ast.AST) -> str:
    """A path as a glob pattern: what isn't literal becomes ``*``, a joined folder that isn't known ``**``."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "*" for part in node.values]
        text = "".join(str(part) for part in parts)
        return f"**/{text[2:]}" if text.startswith("*/") else text
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _joined(_as_pattern(node.left), _as_pattern(node.right)) if _is_shallow(node) else ""
    if isinstance(node, ast.Call):
        last = _called(node.func).rpartition(".")[2]
        if last in {"Path", "str"} and node.args:
            return _as_pattern(node.args[0]) if _is_shallow(node) else ""
        if last == "join" and len(node.args) > 1:
            return _joined(_as_pattern(node.args[0]), _as_pattern(node.args[-1])) if _is_shallow(node) else ""
    return ""


def _joined(folder: str, name: str) -> str:
    return f"{folder.rstrip('/') or '**'}/{name}" if name else ""


def _is_shallow(node: ast.AST) -> bool:
    """Whether an expression is small enough to go into."""
    waiting = [(node, 0)]
    for _ in range(100):
        if not waiting:
            return True
        here, depth = waiting.pop()
        if depth > 12:
            return False
        waiting.extend((child, depth + 1) for child in ast.iter_child_nodes(here))
    return False


def _called(node: ast.AST) -> str:
    """``a.b`` of what is called; the last name alone where the rest is no plain name."""
    return dotted(node) or getattr(node, "attr", "")


def _is_inside(pattern: str) -> bool:
    """Whether a pattern stays below the working folder, and is one that a folder can be searched by."""
    if not pattern or len(pattern) > _LONGEST or pattern.startswith(("/", "~", "\\")) or "\0" in pattern:
        return False
    return ".." not in PurePosixPath(pattern).parts and ":" not in pattern[:3]
