"""What is compared: runs, versions and files as subjects with their kept evaluations, and those they have in common.

Nothing is inferred here. What was never looked at alike is refused, with the command that makes it comparable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.files.content import measure
from guardianflow.files.run_folder import read_result
from guardianflow.registry.evaluations import EvaluationRow, Evaluations
from guardianflow.registry.evidence_search import EvidenceSearch
from guardianflow.runners.model_source import find_model_source
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.state.database import Database
from guardianflow.text.command_lines import command
from guardianflow.text.printable import printable

__all__ = ["Subject", "SubjectSearch", "comparable", "served_alike"]

_RUN_ID = re.compile(r"[0-9a-f]{6,32}")
_VERSION = re.compile(r"[^/@]+(@[^/@]+|/[0-9]+)")
_TRAINING_SPLIT = "train"
_USUAL = {"split": "val", "iou": 0.7, "max_det": 300}
_PROTOCOL = {"confidence_floor": "boxes from a confidence of", "iou": "NMS at an overlap of", "max_det": "max_det"}
_NOT_TOLD = {"experiment_name", "register_as", "resume", "site", "task", "threads"}
_SOME_DATA = "DATA.yaml"


@dataclass(frozen=True)
class Subject:
    """One of the models that are compared.

    Attributes:
        name: ``"A"``, ``"B"`` … in the order they were named.
        label: What a person calls it: ``"models:/gate/2"``, ``"run 3f2a91c07b44"``, or a file's name.
        words: What tells ``guardianflow infer`` to evaluate it as it is.
        rows: Its evaluations, the ones to take first in front.
        training: The training that made it, where that is known.
    """

    name: str
    label: str
    words: tuple[str, ...]
    rows: Sequence[EvaluationRow]
    training: RunRecord | None = None

    @property
    def said(self) -> str:
        """``"B (models:/gate/2)"``."""
        return f"{self.name} ({self.label})"

    def differs(self, other: Subject) -> list[str]:
        """What its training was asked otherwise than that of another subject, such as ``"seed 0 → 1"``."""
        if self.training is None or other.training is None:
            return []
        mine, theirs = _flat(self.training.parameters), _flat(other.training.parameters)
        names = [name for name in {**theirs, **mine} if name not in _NOT_TOLD and mine.get(name) != theirs.get(name)]
        return [f"{name} {_shown(theirs.get(name))} → {_shown(mine.get(name))}" for name in names]


def comparable(settings: Settings) -> list[tuple[str, str]]:
    """What there is to compare: pairs of a label and the spec of a version, then of a run, whose evaluations are kept.

    Args:
        settings: Where runs, models and evaluations are.
    """
    rows = [row for row in Evaluations(settings).find() if row.split != _TRAINING_SPLIT]
    files, runs = {row.sha256 for row in rows}, {row.run_id for row in rows}
    registry = ModelRegistry(settings)
    versions = [
        (" · ".join([f"{each.name} version {each.version}", *(f"@{alias}" for alias in each.aliases)]), each.uri)
        for state in registry.list_models()
        for each in registry.list_versions(state.name)
        if each.sha256 in files
    ]
    found = RunRecords(Database.open(settings.database_url)).list(status=RunStatus.FINISHED, but=("cell",), limit=200)
    return versions + [
        (f"run {each.run_id[:12]} · {each.kind} · {each.experiment} · {each.started:%Y-%m-%d %H:%M} UTC", each.run_id)
        for each in found
        if each.run_id in runs and each.pruned is None
    ]


def served_alike(one: EvaluationRow, other: EvaluationRow) -> bool:
    """Whether two evaluations are by the same backend, precision and image size."""
    return _how(one) == _how(other)


def _how(row: EvaluationRow) -> tuple[str, str, int]:
    return row.backend, row.precision, row.imgsz


class SubjectSearch:
    """Finds subjects and their evaluations.

    Args:
        settings: Where runs, models and evaluations are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._evaluations = Evaluations(settings)
        self._records = RunRecords(Database.open(settings.database_url))

    def find(self, specs: Sequence[str]) -> list[Subject]:
        """The subjects of a comparison, named A, B, C …

        Raises:
            NotFoundError: There is no such run, model or file.
            InputError: Nothing is known of one.
        """
        return [self._find(_letter(place), spec.strip()) for place, spec in enumerate(specs)]

    def common(self, subjects: Sequence[Subject]) -> list[EvaluationRow]:
        """The newest evaluations in which all saw the same images under the same rules, one a subject.

        Raises:
            InputError: There are none; it names what differs, and the commands that make them.
        """
        first, others = subjects[0], subjects[1:]
        best: list[EvaluationRow | None] = []
        for row in first.rows:
            found = [next((each for each in one.rows if each.subject == row.subject), None) for one in others]
            if not best or best.count(None) > found.count(None):
                best = [row, *found]
        chosen = [row for row in best if row is not None]
        if len(chosen) < len(subjects):
            lacking = [one for one, row in zip(subjects, best, strict=True) if row is None]
            raise InputError("; ".join(self._apart(first, one, chosen[0]) for one in lacking))
        for place, row in enumerate(chosen):
            twin = next((subjects[at] for at in range(place) if chosen[at].id == row.id), None)
            if twin is not None:
                raise InputError(
                    f"{subjects[place].said} and {twin.said} are one and the same evaluation (run {row.run_id}), so "
                    "there is nothing to compare; name two models"
                )
        return chosen

    def parameters(self, run_id: str) -> Mapping[str, Any]:
        """What a run was asked; empty where it isn't known here."""
        try:
            return self._records.get(run_id).parameters
        except NotFoundError:
            return {}

    # --- one subject ------------------------------------------------------------------------------

    def _find(self, name: str, spec: str) -> Subject:
        file = Path(spec).expanduser()
        if spec.startswith("models:/"):
            found = self._version(name, spec)
        elif file.exists():
            rows = self._evaluations.find(sha256=measure(file).sha256)
            found = Subject(name, file.name, ("--model", str(file.absolute())), rows)
        elif _RUN_ID.fullmatch(spec):
            record = self._records.get(spec)
            record.require_files()
            found = self._run(name, record)
        elif _VERSION.fullmatch(spec):
            found = self._version(name, f"models:/{spec}")
        else:
            raise NotFoundError(
                f"there is no model {printable(repr(spec))} to compare: name a run id (`guardianflow list runs`), a "
                "version (models:/NAME/2, models:/NAME@champion), or a model file"
            )
        usable = [row for row in found.rows if row.split != _TRAINING_SPLIT]
        if not usable:
            why = "only on the images that it was trained on" if found.rows else "with its predictions kept"
            never = "was evaluated" if found.rows else "was never evaluated"
            raise InputError(f"{found.said} {never} {why}; make it: {self._command(found)}")
        return replace(found, rows=usable)

    def _version(self, name: str, uri: str) -> Subject:
        version = ModelRegistry(self._settings).find(uri)
        how = version.serving
        rows = EvidenceSearch(self._settings, self._evaluations).served(version)
        words = _words(version.uri, how.backend, how.precision, how.imgsz)
        return Subject(name, version.uri, words, rows, self._training(version.run_id))

    def _run(self, name: str, record: RunRecord) -> Subject:
        own = self._own(record)
        rows, words = own, _words(record.run_id, *_how(own[0])) if own else ("--model", record.run_id)
        if record.kind in {"train", "quantize"}:
            sha256 = own[0].sha256 if own else measure(find_model_source(record.run_id, self._settings).path).sha256
            rows = [
                row for row in self._evaluations.find(sha256=sha256) if not own or served_alike(row, own[0])
            ]  # as it was trained or made, not what other backends make of it
        return Subject(name, f"run {record.run_id[:12]}", words, rows, self._training(record.run_id))

    def _own(self, record: RunRecord) -> list[EvaluationRow]:
        """The evaluations that a run made of its model, in the order of a benchmark's cells."""
        runs = [record.run_id]
        if record.kind == "infer":
            try:
                cells = read_result(record.folder).get("cells", ())
            except (NotFoundError, ValueError):
                cells = ()
            runs = list(dict.fromkeys(str(cell["run_id"]) for cell in cells))
        rows = [row for run_id in runs for row in self._evaluations.find(run_id=run_id)]
        return [row for row in rows if record.kind != "quantize" or row.artifact.endswith("/quantized")]

    def _training(self, run_id: str) -> RunRecord | None:
        try:
            record = self._records.get(run_id)
        except NotFoundError:
            return None
        return record if record.kind == "train" else None

    # --- what is missing --------------------------------------------------------------------------

    def _apart(self, first: Subject, other: Subject, row: EvaluationRow) -> str:
        nearest = min(other.rows, key=lambda each: len(_differences(row, each)))
        both = nearest.protocol.get("confidence_floor") != row.protocol.get("confidence_floor")
        commands = [self._command(one, like=row) for one in ((first, other) if both else (other,))]
        return (
            f"{other.said} can't be compared with {first.said}: {', '.join(_differences(row, nearest))}; evaluate "
            f"{'both alike' if both else 'it as the other was'}: {', '.join(commands)}"
        )

    def _command(self, subject: Subject, *, like: EvaluationRow | None = None) -> str:
        """The command that evaluates a subject, as another one was if that is given."""
        asked = self.parameters(like.run_id) if like else subject.training.parameters if subject.training else {}
        words = ["infer", *subject.words, "--data", str(asked.get("data_yaml") or _SOME_DATA)]
        seen: dict[str, Any] = {"split": like.split, **like.protocol} if like else {}
        for key, usual in _USUAL.items():
            if seen.get(key, usual) != usual:
                words += [f"--{key.replace('_', '-')}", str(seen[key])]
        if asked.get("images"):
            words += ["--images", str(asked["images"])]
        return f"`{command(*words)}`"


def _differences(one: EvaluationRow, other: EvaluationRow) -> list[str]:
    """In what two evaluations differ, each as "this against that"."""
    found = []
    if one.dataset_fingerprint != other.dataset_fingerprint:
        mine, theirs = one.dataset_fingerprint[:12], other.dataset_fingerprint[:12]
        found.append(f"the data differ (dataset {theirs} against {mine})")
    if one.split != other.split:
        found.append(f"split {other.split} against {one.split}")
    if one.images != other.images:
        found.append(f"{other.images:,} images against {one.images:,}")
    elif one.images_sha256 != other.images_sha256 and not found:
        found.append(f"the images or their labels differ, though both are {one.images:,}")
    for key, words in _PROTOCOL.items():
        if one.protocol.get(key) != other.protocol.get(key):
            found.append(f"{words} {other.protocol.get(key)} against {one.protocol.get(key)}")
    return found


def _words(model: str, backend: str, precision: str, imgsz: int) -> tuple[str, ...]:
    size = ("--imgsz", str(imgsz)) if imgsz else ()
    return ("--model", model, "--backends", backend, "--precision", precision, *size)


def _letter(place: int) -> str:
    """A, B … Z, A2, B2 …"""
    again, letter = divmod(place, len(ascii_uppercase))
    return ascii_uppercase[letter] + (str(again + 1) if again else "")


def _flat(parameters: Mapping[str, Any]) -> dict[str, Any]:
    options = parameters.get("options") or {}
    return {**{name: value for name, value in parameters.items() if name != "options"}, **options}


def _shown(value: Any) -> str:
    return "–" if value in (None, "") else printable(value, longest=60)
