"""What a scan found: scripts, datasets, weights and finished runs; scripts with a score and its reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.text.printable import escape, plain_values
from guardianflow.text.units import file_size
from guardianflow.views.result_page import table_html

if TYPE_CHECKING:
    from guardianflow.adapters.wrap.parameters.script_parameters import Declared

__all__ = [
    "EVALUATION", "EXPORT", "INFERENCE", "ROLES", "RUN_KINDS", "SPLITS", "TRAINING",
    "FoundDataset", "FoundRun", "FoundScript", "FoundWeights", "Reason", "ScanReport", "SkippedFile",
]  # fmt: skip

TRAINING = "training"
INFERENCE = "inference"
EVALUATION = "evaluation"
EXPORT = "export"
ROLES = (TRAINING, INFERENCE, EVALUATION, EXPORT)
RUN_KINDS = ("ultralytics", "yolov5", "lightning", "tensorboard", "mlflow")
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "eval", "test"})
"""Folders in which one training's event files lie for each part of its data, as Keras' callback writes them."""

_ROWS = 100  # that a notebook shows of each kind; the counts say how many there are


@dataclass(frozen=True)
class Reason:
    """One sign for (or against) a guess.

    Attributes:
        text: What was seen, as a person would say it: ``model.train(data='coco8.yaml')``.
        weight: How much it counts; below 0 where it speaks against the guess.
        line: Where, counted from 1; in a notebook from the first line of its code cells; 0 where it has no line.
    """

    text: str
    weight: float
    line: int = 0

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@dataclass(frozen=True)
class FoundScript:
    """A script or notebook that trains, predicts, evaluates or exports.

    Attributes:
        path: Relative to the scanned folder.
        role: One of :data:`ROLES`.
        framework: ``ultralytics``, ``torch``, ``lightning`` …
        score: 0 (surely not) to 1 (surely).
        reasons: What the score was made from; what speaks for it most first, what speaks against it last.
        is_notebook: Whether it is an ``.ipynb``.
        declared: The parameters that its text declares; None where it wasn't read for them.
        data: Dataset files that the text names literally.
        module_of: The dotted name to start it by (``python -m NAME``) where it can't be started as a file.
    """

    path: Path
    role: str
    framework: str
    score: float
    reasons: tuple[Reason, ...] = ()
    is_notebook: bool = False
    declared: Declared | None = None
    data: tuple[str, ...] = ()
    module_of: str = ""


@dataclass(frozen=True)
class FoundDataset:
    """A dataset YAML: where the images lie and what the classes are called.

    Attributes:
        path: Relative to the scanned folder.
        classes: How many classes it names; 0 where it doesn't say.
    """

    path: Path
    classes: int


@dataclass(frozen=True)
class FoundWeights:
    """A file of weights, recognised by its ending and first bytes; it was not loaded.

    Attributes:
        path: Relative to the scanned folder.
        format: ``pytorch``, ``onnx``, ``safetensors``, ``tensorrt``, ``keras``, ``tflite``, ``openvino``, ``paddle``.
        size: In bytes, with the parts beside it (OpenVINO's ``.bin``).
    """

    path: Path
    format: str
    size: int


@dataclass(frozen=True)
class FoundRun:
    """The folder (or database) of a finished run.

    Attributes:
        path: Relative to the scanned folder.
        kind: One of :data:`RUN_KINDS`.
        name: What a person would call it.
        reason: What it was recognised by.
    """

    path: Path
    kind: str
    name: str
    reason: str = ""


@dataclass(frozen=True)
class SkippedFile:
    """Something that was not looked at, and why.

    Attributes:
        path: Relative to the scanned folder, with ``/``.
        reason: In a few words.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class ScanReport:
    """What :func:`guardianflow.adapters.scan.scan.scan_folder` found.

    Attributes:
        root: The scanned folder, absolute.
        scripts: The surest first.
        datasets: By path.
        weights: By path.
        runs: By path.
        skipped: The first of what was not looked at.
        skipped_counts: Reason → how many, of all that was not looked at.
        files: How many files were seen.
        folders: How many folders were entered.
        seconds: Wall-clock time.
    """

    root: Path
    scripts: tuple[FoundScript, ...] = ()
    datasets: tuple[FoundDataset, ...] = ()
    weights: tuple[FoundWeights, ...] = ()
    runs: tuple[FoundRun, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    skipped_counts: Mapping[str, int] = field(default_factory=dict)
    files: int = 0
    folders: int = 0
    seconds: float = field(default=0.0, compare=False)

    def summary(self) -> str:
        """The report in one sentence."""
        found = ", ".join(
            f"{count:,} {noun}{'s' * (count != 1)}"
            for noun, count in (
                ("script", len(self.scripts)), ("dataset", len(self.datasets)), ("weights file", len(self.weights)),
                ("finished run", len(self.runs)),
            )
        )  # fmt: skip
        files, folders = f"file{'s' * (self.files != 1)}", f"folder{'s' * (self.folders != 1)}"
        return f"{found} among {self.files:,} {files} in {self.folders:,} {folders}, {self.seconds:.1f} s"

    def skipped_sentence(self) -> str:
        """What was not looked at, in one sentence; empty where everything was."""
        if not self.skipped_counts:
            return ""
        most = sorted(self.skipped_counts.items(), key=lambda item: (-item[1], item[0]))
        return "Not looked at: " + "; ".join(f"{count:,} × {reason}" for reason, count in most) + "."

    def tables(self) -> Iterator[tuple[str, Sequence[str], Sequence[tuple[str, ...]]]]:
        """Title, columns and rows of each kind, as the command line and a notebook show them."""
        scripts = [
            (f"{one.score:.2f}", one.role, one.framework, str(one.path), "".join(map(str, one.reasons[:1])))
            for one in self.scripts
        ]
        yield "Scripts", ("score", "role", "framework", "script", "why"), scripts
        yield "Datasets", ("file", "classes"), [(str(one.path), str(one.classes)) for one in self.datasets]
        weights = [(str(one.path), one.format, file_size(one.size)) for one in self.weights]
        yield "Weights", ("file", "format", "size"), weights
        runs = [(one.kind, str(one.path), one.reason) for one in self.runs]
        yield "Finished runs", ("kind", "folder", "why"), runs

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, sorted as in the report; names that are no Unicode get backslashes."""
        plain: dict[str, Any] = plain_values(asdict(self))
        plain["seconds"] = round(self.seconds, 3)
        return {**plain, "summary": self.summary()}

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{escape(self.root)}</b><br>{self.summary()}</p>"]
        for title, columns, rows in self.tables():
            if rows:
                parts += [f"<h4>{title} ({len(rows):,})</h4>", table_html(rows[:_ROWS], columns)]
            if len(rows) > _ROWS:
                parts.append(f"<p>… and {len(rows) - _ROWS:,} more</p>")
        return "".join([*parts, f"<p>{escape(self.skipped_sentence())}</p>"])
