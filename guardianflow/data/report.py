"""What the check of a dataset found, for code, for notebooks and for one sentence in a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from guardianflow.exceptions import DatasetError, ParameterError
from guardianflow.text.plain import Row, plain
from guardianflow.text.printable import escape, printable

__all__ = ["KINDS", "DatasetReport", "Problem", "SplitCounts", "require_usable"]

ERROR, WARNING, NOTE = "error", "warning", "note"
_ORDER = {ERROR: 0, WARNING: 1, NOTE: 2}
_LISTED = 200
_IN_HTML = 50

KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        # of a whole split: no percentage of bad images helps
        "empty-split": (ERROR, "a split without images"),
        "no-usable-image": (ERROR, "a split without a usable image"),
        "no-labels": (ERROR, "a split without a box"),
        "no-polygons": (ERROR, "rows that are boxes with more behind them"),
        # of one image or its labels: the image is bad
        "missing-image": (ERROR, "images named in a list and not there"),
        "corrupt-image": (ERROR, "images that can't be decoded"),
        "image-size": (ERROR, "images too small or too large"),
        "file-name": (ERROR, "file names with control characters"),
        "label-file": (ERROR, "label files that can't be read"),
        "columns": (ERROR, "labels with a wrong number of columns"),
        "no-polygon": (ERROR, "labels with a box and more behind it, which is no polygon"),
        "not-a-number": (ERROR, "labels with text for a number"),
        "not-finite": (ERROR, "labels with NaN or infinity"),
        "class-id": (ERROR, "labels with an unknown class id"),
        "out-of-range": (ERROR, "labels with coordinates outside 0 to 1"),
        "no-area": (ERROR, "labels with a box of no area"),
        "mixed-rows": (ERROR, "labels that mix boxes and polygons"),
        # worth a look: training goes on, but perhaps not as meant
        "leak": (WARNING, "images that are in two splits"),
        "shared-label": (WARNING, "images that share one label file"),
        "duplicate-row": (WARNING, "label files with duplicate rows"),
        "beyond-edge": (WARNING, "label files with boxes beyond the image's edge"),
        "jpeg-tail": (WARNING, "JPEGs that Ultralytics would rewrite in place"),
        "outside-root": (WARNING, "images that are links out of the dataset"),
        "linked-folder": (WARNING, "image folders and lists that are links, read along the path as written"),
        "unread-file": (WARNING, "files in the image folders that training doesn't read"),
        "unread-line": (WARNING, "lines of image lists that name no image"),
        "box-or-polygon": (WARNING, "rows that may be boxes with more behind them"),
        # good to know
        "background": (NOTE, "images without a label file"),
        "duplicate-image": (NOTE, "images twice in one split"),
        "polygons": (NOTE, "label files with polygons, trained on as boxes"),
        "keypoints": (NOTE, "label files with keypoints, which a detector doesn't train on"),
        "named-again": (NOTE, "images named more than once in a split, taken once"),
        "comment-line": (NOTE, "comment lines of image lists"),
        "line-spelling": (NOTE, "lines of image lists read otherwise than they are written"),
        "orphan-label": (NOTE, "label files without an image"),
        "passed-over": (NOTE, "entries of the data.yaml left out"),
    }
)
"""Kind of problem → its severity, and what it counts."""


@dataclass(frozen=True)
class Problem(Row):
    """One thing that the check found.

    Attributes:
        kind: A key of :data:`KINDS`.
        split: The split it was found in; empty for the data.yaml itself.
        file: Image or label file, from the dataset's root where it lies below it; empty for a whole split.
        detail: What is wrong, in a clause.
    """

    kind: str
    split: str
    file: str
    detail: str

    @property
    def severity(self) -> str:
        """``"error"``, ``"warning"`` or ``"note"``."""
        return KINDS[self.kind][0]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form."""
        return {**super().to_dict(), "severity": self.severity, "file": _encodable(self.file)}

    def __str__(self) -> str:
        return f"{printable(self.file)}: {self.detail}" if self.file else self.detail


@dataclass(frozen=True)
class SplitCounts(Row):
    """What one split holds. ``images == labelled + background + bad``.

    Attributes:
        images: Images found.
        labelled: Usable images with at least one box.
        background: Usable images without a box.
        bad: Images that can't be used.
        boxes: Boxes on usable images.
        boxes_per_class: Class name → boxes, in the order of the class ids, with zeros.
    """

    images: int
    labelled: int
    background: int
    bad: int
    boxes: int
    boxes_per_class: Mapping[str, int]


@dataclass(frozen=True)
class DatasetReport:
    """The result of :func:`guardianflow.data.dataset.check_dataset`.

    Attributes:
        yaml_path: The data.yaml that was checked.
        splits: Split → what it holds.
        problems: Everything found, errors first; at most one of each kind for a file.
        bad_images: Images with an error on themselves or their labels, to be left out or repaired.
        allow_bad: Percent of bad images that the caller accepts.
        seconds: Wall-clock time of the check.
    """

    yaml_path: Path
    splits: Mapping[str, SplitCounts]
    problems: tuple[Problem, ...]
    bad_images: tuple[Path, ...]
    allow_bad: float = 0.0
    seconds: float = field(default=0.0, compare=False)

    def __post_init__(self) -> None:
        check_allow_bad(self.allow_bad)

    @property
    def images(self) -> int:
        """Images in all checked splits."""
        return sum(counts.images for counts in self.splits.values())

    @property
    def bad_percent(self) -> float:
        """Bad images in percent of all checked ones; 0 where there are none at all."""
        return 100 * len(self.bad_images) / self.images if self.images else 0.0

    @property
    def counts(self) -> dict[str, int]:
        """Kind → how many problems of it, errors first."""
        return dict(Counter(problem.kind for problem in self.problems))

    def of_severity(self, severity: str) -> tuple[Problem, ...]:
        """The problems of one severity."""
        return tuple(problem for problem in self.problems if problem.severity == severity)

    @property
    def fatal(self) -> tuple[Problem, ...]:
        """Errors of a whole split, which no ``allow_bad`` makes good."""
        return tuple(problem for problem in self.problems if problem.severity == ERROR and not problem.file)

    def ok(self, allow_bad: float | None = None) -> bool:
        """Whether a run may start.

        Args:
            allow_bad: Percent of bad images to accept, 0 to 100; default: the report's own.

        Raises:
            ParameterError: ``allow_bad`` is no such percentage.
        """
        allowed = self.allow_bad if allow_bad is None else check_allow_bad(allow_bad)
        return not self.fatal and self.bad_percent <= allowed + 1e-9

    def summary(self) -> str:
        """The report in one sentence, with the first file of what is wrong."""
        parts = ", ".join(f"{name} {counts.images:,}" for name, counts in self.splits.items())
        boxes = sum(counts.boxes for counts in self.splits.values())
        text = f"{self.images:,} images ({parts}), {boxes:,} boxes"
        if self.fatal:
            text += f"; unusable: {self.fatal[0]}"
        elif self.bad_images:
            text += f"; {self.bad_clause()}"
        else:
            text += "; all of them usable"
        others = Counter(problem.severity for problem in self.problems)
        for severity in (WARNING, NOTE):
            if others[severity]:
                kinds = Counter(problem.kind for problem in self.of_severity(severity))
                first = self.of_severity(severity)[0]
                what = ", ".join(f"{count:,} {KINDS[kind][1]}" for kind, count in kinds.items())
                text += f"; {severity}: {what} (first: {printable(first.file) or first.detail})"
        return text

    def remarks(self) -> tuple[str, ...]:
        """What a reader of the figures should know of the data: a sentence a kind of problem, counted, errors first."""
        kinds: dict[str, list[Problem]] = {}
        for problem in self.problems:
            kinds.setdefault(problem.kind, []).append(problem)
        return tuple(_remark(kind, found) for kind, found in kinds.items())

    def to_dict(self, *, limit: int = _LISTED) -> dict[str, Any]:
        """A JSON-able form; at most ``limit`` problems and bad images are listed, all are counted."""
        return {
            "yaml_path": _encodable(str(self.yaml_path)),
            "ok": self.ok(),
            "allow_bad": self.allow_bad,
            "images": self.images,
            "bad_images": [_encodable(str(image)) for image in self.bad_images[:limit]],
            "bad_images_total": len(self.bad_images),
            "bad_percent": round(self.bad_percent, 4),
            "splits": plain(self.splits),
            "problems": plain(self.problems[:limit]),
            "problems_total": len(self.problems),
            "problems_by_kind": self.counts,
            "seconds": round(self.seconds, 3),
            "summary": self.summary(),
        }

    def _repr_html_(self) -> str:
        names = list(next(iter(self.splits.values())).boxes_per_class) if self.splits else []
        head = "".join(f"<th>{escape(name)}</th>" for name in ["split", *SplitCounts.__annotations__][:6] + names)
        rows = "".join(_counts_row(name, counts, names) for name, counts in self.splits.items())
        listed = "".join(
            f"<tr><td>{escape(problem.severity)}</td><td>{escape(problem.kind)}</td>"
            f"<td>{escape(problem.split)}</td><td>{escape(printable(problem.file))}</td>"
            f"<td>{escape(printable(problem.detail, longest=400))}</td></tr>"
            for problem in self.problems[:_IN_HTML]
        )
        rest = len(self.problems) - _IN_HTML
        more = f"<p>… and {rest:,} more</p>" if rest > 0 else ""
        table = (
            f"<table><tr><th>severity</th><th>kind</th><th>split</th><th>file</th><th>what</th></tr>{listed}</table>"
        )
        return (
            f"<p>{escape(printable(self.summary(), longest=2000))}</p>"
            f"<table><tr>{head}</tr>{rows}</table>{table if listed else ''}{more}"
        )

    def bad_clause(self) -> str:
        """How many images are bad, and the first of them; only where there is one."""
        first = next(problem for problem in self.problems if problem.severity == ERROR)
        verb = "image" if len(self.bad_images) == 1 else "images"
        return (
            f"{len(self.bad_images):,} {verb} of {self.images:,} ({_percent(self.bad_percent)} %) can't be used, "
            f"the first is {first}"
        )


def require_usable(report: DatasetReport, allow_bad: float | None = None) -> None:
    """Refuse a dataset that a run must not start with.

    Args:
        report: The result of the check.
        allow_bad: Percent of bad images to accept, 0 to 100; default: the report's own.

    Raises:
        DatasetError: A split can't be used, or more images are bad than allowed. One sentence: how many, the
            first file, and what to do.
        ParameterError: ``allow_bad`` is no percentage.
    """
    if report.ok(allow_bad):
        return
    where = printable(report.yaml_path)
    if report.fatal:
        raise DatasetError(f"{where}: {report.fatal[0]}")
    allowed = report.allow_bad if allow_bad is None else allow_bad
    limit = f", more than the {allowed:g} % allowed" if allowed else ""
    raise DatasetError(
        f"{where}: {report.bad_clause()}{limit}; repair the files, or leave them out with "
        f"--allow-bad {_percent(report.bad_percent)}"
    )


def check_allow_bad(percent: object) -> float:
    """A percentage from 0 to 100, as it was given.

    Raises:
        ParameterError: It is none.
    """
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= 100:
        raise ParameterError(
            f"allow_bad must be a percentage from 0 to 100, it is {printable(repr(percent))}; 5 means 5 % of the images"
        )
    return percent


def in_order(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Errors first, those of whole splits before those of files; else as found."""
    return tuple(sorted(problems, key=lambda problem: (_ORDER[problem.severity], bool(problem.file))))


def _percent(value: float) -> str:
    """Rounded up to a tenth, so that the figure shown is enough for ``--allow-bad``."""
    return f"{min(math.ceil(value * 10 - 1e-9) / 10, 100.0):g}"


def _remark(kind: str, found: Sequence[Problem]) -> str:
    if len(found) == 1 and not found[0].file:
        return f"data: {found[0]}"
    left_out = ", left out" if KINDS[kind][0] == ERROR else ""
    return f"data: {KINDS[kind][1]}{left_out}: {len(found):,}; the first, {found[0]}"


def _counts_row(name: str, counts: SplitCounts, names: Sequence[str]) -> str:
    cells = [counts.images, counts.labelled, counts.background, counts.bad, counts.boxes]
    cells += [counts.boxes_per_class.get(class_name, 0) for class_name in names]
    return f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{cell:,}</td>" for cell in cells) + "</tr>"


def _encodable(text: str) -> str:
    r"""Text that UTF-8 can hold: undecodable bytes of a file name become ``\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
