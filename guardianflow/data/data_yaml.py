"""The data.yaml of Ultralytics: read without surprises, and written so that there are none.

Differences from Ultralytics, each on purpose:

- Relative entries start from the data.yaml's own folder (and its ``path:``), never from the current
  folder or from a datasets folder in somebody's settings.
- ``download:`` is refused, for it runs code or fetches files.
- A relative entry must not climb out of the dataset's root with ``..``. An absolute path is taken as it stands:
  whoever wrote it meant it. ``path:`` itself may lead anywhere.
- Links are followed, and the path keeps them: the labels of a folder that is a link lie beside the link. Ultralytics
  looks for them where the link leads.
- ``train: ../train/images`` where ``train/images`` lies beside the data.yaml (the form that Roboflow
  exports) is read as ``train/images``, as Ultralytics does.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from guardianflow.data.class_names import read_class_names
from guardianflow.data.image_listing import list_file
from guardianflow.data.layout import SPLITS, Dataset
from guardianflow.data.paths import as_written, exists, is_below
from guardianflow.exceptions import DatasetError
from guardianflow.files.yaml_safety import load_yaml_mapping
from guardianflow.text.printable import has_unprintable, printable

__all__ = ["read_dataset", "write_resolved_yaml"]

_MAX_CHANNELS = 64


def read_dataset(path: str | Path) -> Dataset:
    """Read a data.yaml and find the folders and lists that it names; no image is opened.

    Args:
        path: The data.yaml. Its ``path`` and its ``train``, ``val`` and ``test`` entries (folders, .txt
            lists, or lists of both) start from the folder it lies in.

    Returns:
        The dataset, with absolute paths. A ``test`` folder that doesn't exist is left out and noted, since
        many exports name one that they don't ship.

    Raises:
        DatasetError: The file is missing, unsafe or inconsistent, or names folders that aren't there.
    """
    yaml_path = Path(path).expanduser().absolute()
    _require_file(yaml_path)
    data = load_yaml_mapping(yaml_path)
    if data.get("download"):
        raise DatasetError(
            f"data.yaml {printable(yaml_path)} has a `download:` entry, which would run code or fetch files; "
            f"get the images yourself, then remove that line"
        )
    root = _find_root(data.get("path"), yaml_path)
    notes: list[str] = []
    splits = {}
    for split, value in _split_entries(data, yaml_path).items():
        sources, missing = _find_sources(split, value, root=root, yaml_path=yaml_path)
        if missing and split == "test":
            notes.append(f"`test: {printable(value)}` is left out, for there is no {printable(missing)}")
        elif missing:
            raise DatasetError(_missing_message(split, missing, root, yaml_path))
        else:
            splits[split] = sources
    if not splits:
        raise DatasetError(
            f"data.yaml {printable(yaml_path)} names no images; add lines such as `train: images/train` "
            f"and `val: images/val`"
        )
    dataset = Dataset(
        yaml_path=yaml_path,
        root=root,
        names=read_class_names(data, yaml_path),
        splits=splits,
        channels=_read_channels(data.get("channels"), yaml_path),
        keypoints=_read_keypoints(data.get("kpt_shape"), yaml_path),
        notes=tuple(notes),
    )
    _check_lists(dataset)
    return dataset


def write_resolved_yaml(dataset: Dataset, target: Path, *, exclude: Collection[Path] = ()) -> Path:
    """Write a data.yaml with absolute paths, which Ultralytics reads alike from any current folder.

    The images of a split are written, one absolute path a line, to ``<target's stem>-<split>.txt`` beside the target.
    So a training sees the images that were checked, along the same links and with the same labels.

    Args:
        dataset: The dataset.
        target: File to write; its folder is made where needed. Written to the side, then renamed.
        exclude: Images to leave out, as ``DatasetReport.bad_images`` gives them.

    Returns:
        The absolute path of the file.

    Raises:
        DatasetError: Nothing would be left of a split, or a path can't be written as a line of text.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    left_out = {os.fspath(image) for image in exclude}
    content: dict[str, Any] = {"path": str(dataset.root)}
    for split in dataset.splits:
        images = [str(image) for image in dataset.images(split)]
        if images or split != "test":
            content[split] = _write_split(dataset, split, images, target=target, left_out=left_out)
    content["names"] = dict(enumerate(dataset.names))
    if dataset.channels != 3:
        content["channels"] = dataset.channels
    if dataset.keypoints:
        content["kpt_shape"] = list(dataset.keypoints)
    _require_one_line(content["path"])
    _write_text(target, yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=10_000))
    return target


def _write_split(dataset: Dataset, split: str, images: Sequence[str], *, target: Path, left_out: set[str]) -> str:
    kept = [image for image in images if image not in left_out]
    if not kept:
        raise DatasetError(
            f"no image of the split {split!r} of {printable(dataset.yaml_path)} is left after leaving out "
            f"{len(images)}; repair them, or name other images under `{split}:`"
        )
    for image in kept:
        _require_one_line(image)
    listing = target.with_name(f"{target.stem}-{split}.txt")
    _write_text(listing, "".join(f"{image}\n" for image in kept))
    return str(listing)


def _require_one_line(value: str) -> None:
    if has_unprintable(value) or value != value.strip():
        raise DatasetError(
            f"the path '{printable(value)}' holds control characters, undecodable bytes or blanks at its ends, "
            f"which a list of images can't; rename it"
        )


def _write_text(target: Path, text: str) -> None:
    aside = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        with aside.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _require_file(yaml_path: Path) -> None:
    if not exists(yaml_path):
        raise DatasetError(f"there is no data.yaml at {printable(yaml_path)}; {_nearest_hint(yaml_path)}")
    if yaml_path.is_dir():
        found = sorted(item.name for item in yaml_path.iterdir() if item.suffix in {".yaml", ".yml"})
        hint = f"pass {printable(yaml_path / found[0])}" if found else "pass the path of the data.yaml itself"
        raise DatasetError(f"{printable(yaml_path)} is a folder, not a data.yaml; {hint}")


def _nearest_hint(missing: Path) -> str:
    """What the user may have meant: the nearest name in the deepest folder that exists."""
    for folder, part in zip(missing.parents, reversed(missing.parts), strict=False):
        if exists(folder) and folder.is_dir():
            try:
                siblings = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
            except OSError:
                break
            close = difflib.get_close_matches(part, siblings, n=1, cutoff=0.6)
            if close:
                return f"did you mean {printable(folder / close[0])}?"
            listing = ", ".join(printable(name, longest=60) for name in siblings[:5]) or "nothing"
            return f"check the path ({printable(folder)} holds {listing}{', …' if len(siblings) > 5 else ''})"
    return "check the path"


def _find_root(value: object, yaml_path: Path) -> Path:
    if value is None or value == "":
        return Path(as_written(yaml_path.parent))
    if not isinstance(value, str) or has_unprintable(value):
        raise DatasetError(
            f"`path:` of {printable(yaml_path)} must be the folder that the entries start from, "
            f"it is {printable(repr(value))}; write `path: .` for the data.yaml's own folder"
        )
    root = Path(as_written(yaml_path.parent / value))
    if not root.is_dir():
        raise DatasetError(
            f"`path: {printable(value)}` of {printable(yaml_path)} leads to {printable(root)}, which is no folder; "
            f"write `path: .` if the images lie beside the data.yaml, or the folder's absolute path"
        )
    return root


def _split_entries(data: Mapping[Any, Any], yaml_path: Path) -> dict[str, list[str] | str]:
    if "val" not in data and "validation" in data:  # Ultralytics takes this name too
        data = {**data, "val": data["validation"]}
    entries: dict[str, list[str] | str] = {}
    for split in SPLITS:
        value = data.get(split)
        if not value:
            continue
        items = value if isinstance(value, list) else [value]
        for item in items:
            if not isinstance(item, str) or not item.strip() or has_unprintable(item):
                raise DatasetError(
                    f"`{split}:` of {printable(yaml_path)} must be a folder, a .txt list or a list of these, "
                    f"it holds {printable(repr(item))}; write for example `{split}: images/{split}`"
                )
        entries[split] = value
    return entries


def _find_sources(
    split: str, value: list[str] | str, *, root: Path, yaml_path: Path
) -> tuple[tuple[Path, ...], Path | None]:
    """The folders and lists of one split, and the first that isn't there."""
    sources: list[Path] = []
    for entry in value if isinstance(value, list) else [value]:
        source = _resolve_entry(split, entry, root=root, yaml_path=yaml_path)
        if not exists(source):
            return (), source
        if not source.is_dir() and source.suffix.lower() != ".txt":
            raise DatasetError(
                f"`{split}: {printable(entry)}` of {printable(yaml_path)} is neither a folder nor a .txt list; "
                f"name the folder that the images lie in"
            )
        if source not in sources:
            sources.append(source)
    return tuple(sources), None


def _resolve_entry(split: str, entry: str, *, root: Path, yaml_path: Path) -> Path:
    if Path(entry).is_absolute():
        return Path(as_written(entry))
    place = as_written(root / entry)
    if not is_below(place, root):
        inside = as_written(root / entry.removeprefix("../"))
        not_shipped = split == "test" and not exists(inside)  # an export may name a test folder it doesn't have
        if exists(place) or not is_below(inside, root) or not (exists(inside) or not_shipped):
            raise DatasetError(
                f"`{split}: {printable(entry)}` of {printable(yaml_path)} leads out of the dataset's root "
                f"{printable(root)}; set `path:` to a folder above the images, or write their absolute path"
            )
        place = inside
    return Path(place)


def _missing_message(split: str, missing: Path, root: Path, yaml_path: Path) -> str:
    beside = yaml_path.parent / os.path.relpath(missing, root)
    if root != Path(as_written(yaml_path.parent)) and beside.exists():
        hint = "it lies beside the data.yaml, so write `path: .`"
    else:
        hint = _nearest_hint(missing)
    return f"`{split}:` of {printable(yaml_path)} names {printable(missing)}, which doesn't exist; {hint}"


def _check_lists(dataset: Dataset) -> None:
    """Read every .txt list once, so that a line that leads out is refused before anything starts."""
    for sources in dataset.splits.values():
        for source in sources:
            if not source.is_dir():
                list_file(source, root=dataset.root)


def _read_keypoints(value: object, yaml_path: Path) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2 and all(type(item) is int for item in value):
        count, dimensions = value
        if count > 0 and dimensions in {2, 3}:
            return count, dimensions
    raise DatasetError(
        f"`kpt_shape:` of {printable(yaml_path)} must be how many keypoints a row has and of how many numbers each, "
        f"2 (x, y) or 3 (x, y, visible), it is {printable(repr(value))}; write for example `kpt_shape: [17, 3]`, or "
        f"remove the line if the rows have no keypoints"
    )


def _read_channels(value: object, yaml_path: Path) -> int:
    if value is None:
        return 3
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_CHANNELS:
        raise DatasetError(
            f"`channels:` of {printable(yaml_path)} must be a whole number from 1 to {_MAX_CHANNELS}, "
            f"it is {printable(repr(value))}; remove the line for colour images"
        )
    return value
