"""The check of a dataset before any run exists: every image decoded, every label row read.

Ultralytics trains in silence on whatever part of a dataset it can read. Here the unreadable part
is counted and named first.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from guardianflow.data.image_listing import ImageListing
from guardianflow.data.images import probe_image
from guardianflow.data.labels import ParsedLabels
from guardianflow.data.layout import Dataset, label_path
from guardianflow.data.paths import is_below
from guardianflow.data.report import KINDS, DatasetReport, Problem, SplitCounts, check_allow_bad, in_order
from guardianflow.text.printable import has_unprintable, printable

__all__ = ["check_dataset", "in_threads"]

_MAX_WORKERS = 8
_BATCH = 2048
_FILLED = 0.4  # of the box, by points behind it, where all rows of a dataset look like a box with points
_NO_IMAGE_FILES = frozenset({"classes.txt", "obj.names", "readme.txt"})

Progress = Callable[[int, int], None]
T = TypeVar("T")
R = TypeVar("R")


def check_dataset(
    dataset: Dataset,
    *,
    allow_bad: float = 0.0,
    splits: Sequence[str] = ("train", "val"),
    workers: int | None = None,
    progress: Progress | None = None,
) -> DatasetReport:
    """Decode every image and read every label row of a dataset.

    Args:
        dataset: From :func:`guardianflow.data.dataset.read_dataset`.
        allow_bad: Percent of bad images (0 to 100) that the report's ``ok()`` accepts.
        splits: The splits a run will use. One that the data.yaml doesn't have is an error in the report.
        workers: Threads; default: one a core, at most 8.
        progress: Called with the images done and the images in all, now and then and at the end.

    Returns:
        Counts, problems and bad images. What is wrong with the data is in the report, not raised.

    Raises:
        DatasetError: A .txt list or a folder can't be read.
        ParameterError: ``allow_bad`` is no percentage.
    """
    check_allow_bad(allow_bad)
    started = time.perf_counter()
    listings = {split: dataset.listing(split) if split in dataset.splits else ImageListing() for split in splits}
    images = {split: [Path(image) for image in listing.images] for split, listing in listings.items()}
    findings = _inspect_all(dataset, images, workers=workers, progress=progress)
    problems = [Problem("passed-over", "", "", note) for note in dataset.notes]
    for split, found in findings.items():
        problems += _split_problems(dataset, split, found)
        problems += _listing_problems(dataset, split, listings[split])
        problems += _linked_folders(dataset, split)
        problems += [problem for finding in found for problem in finding.problems(dataset, split)]
        problems += _shared_labels(dataset, split, images[split])
    problems += _box_or_polygon([finding for found in findings.values() for finding in found])
    problems += _duplicates(dataset, findings)
    problems += _orphan_labels(dataset, images)
    return DatasetReport(
        yaml_path=dataset.yaml_path,
        splits={split: _count(dataset, found) for split, found in findings.items()},
        problems=in_order(problems),
        bad_images=tuple(sorted({finding.image for found in findings.values() for finding in found if finding.bad})),
        allow_bad=allow_bad,
        seconds=time.perf_counter() - started,
    )


def _inspect_all(
    dataset: Dataset, images: Mapping[str, Sequence[Path]], *, workers: int | None, progress: Progress | None
) -> dict[str, list[_Finding]]:
    guard = _RootGuard(dataset)
    findings: dict[str, list[_Finding]] = {split: [] for split in images}
    done, total = 0, sum(map(len, images.values()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # what Pillow mutters about a file, the report says
        for split, files in images.items():
            for finding in in_threads(lambda image: _inspect(image, dataset, guard), files, workers=workers):
                findings[split].append(finding)
                done += 1
                if progress is not None and (done % 64 == 0 or done == total):
                    progress(done, total)
    return findings


def in_threads(work: Callable[[T], R], items: Iterable[T], *, workers: int | None = None) -> Iterator[R]:
    """Results in the order of the items, from threads; hashing and decoding let go of the GIL.

    In batches, so that a million images don't become a million waiting jobs and Ctrl-C is prompt.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    source = iter(items)
    with ThreadPoolExecutor(max_workers=workers or min(cores, _MAX_WORKERS)) as pool:
        while batch := list(islice(source, _BATCH)):
            yield from pool.map(work, batch)


@dataclass(frozen=True)
class _Finding:
    """What the check saw of one image and its labels."""

    image: Path
    sha256: str
    labels: ParsedLabels | None
    image_defects: Mapping[str, str] = field(default_factory=dict)

    @property
    def label_defects(self) -> dict[str, str]:
        return {defect.kind: defect.detail for defect in self.labels.defects} if self.labels else {}

    @property
    def bad(self) -> bool:
        return any(KINDS[kind][0] == "error" for kind in (*self.image_defects, *self.label_defects))

    def problems(self, dataset: Dataset, split: str) -> Iterator[Problem]:
        """Its defects, and what is worth a note."""
        name = dataset.relative_name(self.image)
        for kind, detail in self.image_defects.items():
            yield Problem(kind, split, name, detail)
        label_name = dataset.relative_name(label_path(self.image))
        for kind, detail in self.label_defects.items():
            yield Problem(kind, split, label_name, detail)
        if self.labels is None:
            yield Problem("background", split, name, "it has no label file and counts as background")
        elif self.labels.polygons:
            yield Problem("polygons", split, label_name, f"{self.labels.polygons} polygons become boxes")
        elif self.labels.keypoints:
            yield Problem("keypoints", split, label_name, f"of {self.labels.keypoints} rows the box alone is taken")


def _inspect(image: Path, dataset: Dataset, guard: _RootGuard) -> _Finding:
    probed = probe_image(image)
    defects = {probed.kind: probed.detail} if probed.kind else {}
    if has_unprintable(image.name):
        defects["file-name"] = "the name holds control characters or undecodable bytes; rename the file"
    elsewhere = guard.leads_to(image)
    if elsewhere:
        defects["outside-root"] = f"it is a link to {printable(elsewhere)}"
    labels = dataset.read_labels(image)
    if labels is not None:
        labels = replace(labels, rows=())  # the counts are enough, and a dataset has millions of rows
    return _Finding(image=image, sha256=probed.sha256, labels=labels, image_defects=defects)


class _RootGuard:
    """Tells which images below the dataset's folders are in truth links to somewhere else."""

    def __init__(self, dataset: Dataset) -> None:
        folders = {str(dataset.root)}
        for sources in dataset.splits.values():
            folders.update(str(source) for source in sources if source.is_dir())
        self._folders = tuple(folders | {os.path.realpath(folder) for folder in folders})

    def leads_to(self, image: Path) -> str:
        real = os.path.realpath(image)
        if real == str(image) or any(is_below(real, folder) for folder in self._folders):
            return ""
        return real if any(is_below(image, folder) for folder in self._folders) else ""


def _count(dataset: Dataset, found: Sequence[_Finding]) -> SplitCounts:
    usable = [finding for finding in found if not finding.bad]
    boxes: Counter[int] = Counter()
    labelled = 0
    for finding in usable:
        if finding.labels and finding.labels.boxes:
            labelled += 1
            boxes.update(finding.labels.boxes)
    return SplitCounts(
        images=len(found),
        labelled=labelled,
        background=len(usable) - labelled,
        bad=len(found) - len(usable),
        boxes=boxes.total(),
        boxes_per_class={name: boxes[index] for index, name in enumerate(dataset.names)},
    )


def _split_problems(dataset: Dataset, split: str, found: Sequence[_Finding]) -> Iterator[Problem]:
    """What makes a whole split unusable."""
    if split not in dataset.splits:
        advice = f"add a line such as `{split}: images/{split}` to the data.yaml"
        yield Problem("empty-split", split, "", f"the split {split!r} is not named; {advice}")
        return
    source = printable(dataset.relative_name(dataset.splits[split][0])) or "the dataset's folder"
    usable = [finding for finding in found if not finding.bad]
    if not found:
        yield Problem(
            "empty-split", split, "",
            f"the split {split!r} has no images in {source}; put images there, or name another folder",
        )  # fmt: skip
    elif not usable:
        first = next(iter(found[0].problems(dataset, split)))
        yield Problem(
            "no-usable-image", split, "",
            f"none of the {len(found)} images of the split {split!r} can be used, the first is {first}; repair them",
        )  # fmt: skip
    elif not any(finding.labels and finding.labels.boxes for finding in usable):
        looked = printable(dataset.relative_name(label_path(usable[0].image)))
        without = sum(finding.labels is None for finding in usable)
        yield Problem(
            "no-labels", split, "",
            f"the split {split!r} has no box on its {len(usable)} usable images ({without} lack a label file); "
            f"put the labels where they are looked for, the first at {looked}",
        )  # fmt: skip


def _listing_problems(dataset: Dataset, split: str, listing: ImageListing) -> Iterator[Problem]:
    """Files and lines that were passed over or read otherwise than they stand."""
    for remark in listing.remarks:
        place = dataset.relative_name(remark.file) + (f":{remark.line}" if remark.line else "")
        yield Problem(remark.kind, split, place, remark.detail)
    if listing.repeated:
        total = len(listing.images) + listing.repeated
        detail = f"{listing.repeated:,} of the {total:,} names in the split {split!r} repeat an image; each counts once"
        yield Problem("named-again", split, "", detail)


def _linked_folders(dataset: Dataset, split: str) -> Iterator[Problem]:
    """Folders and lists that are links, where that matters for what belongs to them or leads out of the dataset."""
    real_root = os.path.realpath(dataset.root)
    for source in dataset.splits.get(split, ()):
        real = Path(os.path.realpath(source))
        if source.is_dir():
            what, beside, other = "labels", *(label_path(place / "image.jpg").parent for place in (source, real))
        else:
            what, beside, other = "lines", source.parent, real.parent
        leads_out = is_below(source, dataset.root) and not is_below(real, real_root)
        if leads_out or os.path.realpath(beside) != os.path.realpath(other):
            where = printable(dataset.relative_name(beside))
            detail = f"it leads to {printable(real)}; its {what} are looked for along the path as written, in {where}"
            yield Problem("linked-folder", split, dataset.relative_name(source), detail)


def _box_or_polygon(found: Sequence[_Finding]) -> Iterator[Problem]:
    """Polygons of one number of columns that would all begin with a box: may be boxes with more behind them."""
    labels = [finding.labels for finding in found if finding.labels]
    polygons = [each for each in labels if each.polygons]
    columns = frozenset[int]().union(*(each.polygon_columns for each in polygons))
    if len(columns) != 1 or any(each.box_like < each.polygons for each in polygons):
        return
    (count,) = columns
    rows = sum(each.polygons for each in polygons)
    told = any(defect.kind == "no-polygon" for each in labels for defect in each.defects)
    if told or max(each.filled for each in polygons) >= _FILLED:
        yield Problem(
            "no-polygons", "", "",
            f"each of the {rows:,} rows of more than 5 columns has {count} and begins with centre and size of a box, "
            f"with points inside it; name the keypoints in the data.yaml (`kpt_shape: [{(count - 5) // 2}, 2]`, or 3 "
            "where each has a visibility), or keep the first 5 columns",
        )  # fmt: skip
    else:
        yield Problem(
            "box-or-polygon", "", "",
            f"each of the {rows:,} rows of more than 5 columns has {count} and is read as a polygon, but its first "
            "four numbers would be a box inside the image; if they are (confidence, id or points behind it), keep the "
            "first 5 columns, for the training sees another box",
        )  # fmt: skip


def _shared_labels(dataset: Dataset, split: str, images: Sequence[Path]) -> Iterator[Problem]:
    owners: dict[Path, Path] = {}
    for image in images:
        first = owners.setdefault(label_path(image), image)
        if first != image:
            other = printable(dataset.relative_name(first))
            yield Problem("shared-label", split, dataset.relative_name(image), f"it has the label file of {other}")


def _duplicates(dataset: Dataset, findings: Mapping[str, Sequence[_Finding]]) -> Iterator[Problem]:
    """Images with the same bytes: a leak across splits, a note within one."""
    first_seen: dict[str, tuple[str, Path]] = {}
    for split, found in findings.items():
        for finding in found:
            if not finding.sha256:
                continue
            first_split, first = first_seen.setdefault(finding.sha256, (split, finding.image))
            if first_split == split and first == finding.image:
                continue
            kind = "duplicate-image" if first_split == split else "leak"
            detail = f"the same image as {printable(dataset.relative_name(first))} of {first_split!r}"
            yield Problem(kind, split, dataset.relative_name(finding.image), detail)


def _orphan_labels(dataset: Dataset, checked: Mapping[str, Sequence[Path]]) -> Iterator[Problem]:
    """Label files beside those in use that belong to no image of any split."""
    images = {split: checked[split] if split in checked else dataset.images(split) for split in dataset.splits}
    used: dict[Path, set[str]] = defaultdict(set)
    split_of: dict[Path, str] = {}
    for split, files in images.items():
        for image in files:
            label = label_path(image)
            used[label.parent].add(label.name)
            if split in checked and all(source.is_dir() for source in dataset.splits[split]):
                split_of.setdefault(label.parent, split)  # a list may leave images out on purpose
    for folder, split in sorted(split_of.items()):
        if not folder.is_dir():
            continue
        for name in sorted(item.name for item in folder.iterdir()):
            is_label = name.endswith(".txt") and not name.startswith(".") and name.lower() not in _NO_IMAGE_FILES
            if is_label and name not in used[folder]:
                yield Problem("orphan-label", split, dataset.relative_name(folder / name), "no image belongs to it")
