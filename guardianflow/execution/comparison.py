"""Two or more models held against each other by what was kept of their evaluations; nothing is inferred anew."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardianflow.core.config import mask_secrets
from guardianflow.data.dataset import Dataset, read_dataset
from guardianflow.evaluation.detection.evaluate import DetectionResult, evaluate_detection, require_truth
from guardianflow.evaluation.detection.records import DetectionRecord
from guardianflow.evaluation.significance import PairedComparison, paired_bootstrap
from guardianflow.exceptions import GuardianFlowError
from guardianflow.execution.comparison_result import CURVES_FILE, DISPUTED_FILE, ComparisonResult
from guardianflow.execution.comparison_subjects import Subject, SubjectSearch, served_alike
from guardianflow.registry.evaluations import EvaluationRow, Evaluations
from guardianflow.registry.evidence_search import first_difference
from guardianflow.runners._base import RESULT_FILE
from guardianflow.runners._prepared import PreparedRunner
from guardianflow.runs.run_records import RunRecord, RunStatus
from guardianflow.runs.tracking import TrackedRun, write_json
from guardianflow.scenario.experiment_design import ComparisonScenario
from guardianflow.text.names import validate_name
from guardianflow.text.plain import plain
from guardianflow.text.progress_bar import progress_bar
from guardianflow.vision.disagreements import Disagreement, find_disagreement, most_disputed

__all__ = ["ComparisonResult", "ComparisonRunner"]

log = logging.getLogger(__name__)

CONFIDENCE = 0.25
"""From which boxes count in what a model finds and imagines; the usual operating confidence."""

_LEVEL = 0.95
_FEW_IMAGES = 10
"""A class on fewer images than these has an interval that says little."""


@dataclass(frozen=True)
class PreparedComparison:
    """What the check of a comparison found: the subjects, their evaluations on the same images, the predictions."""

    subjects: Sequence[Subject]
    rows: Sequence[EvaluationRow]
    records: Sequence[DetectionRecord]


class ComparisonRunner(PreparedRunner[ComparisonScenario, ComparisonResult, PreparedComparison]):
    """Say which of two or more models is better on the same images, and whether chance explains it.

    Each is held against the first by a paired bootstrap over the images. What was not evaluated alike is refused.

    Example:
        >>> runner = ComparisonRunner(["models:/gate@champion", "models:/gate@candidate"])  # doctest: +SKIP
        >>> runner.run().verdict  # doctest: +SKIP

    Raises:
        ParameterError: A value is out of range, or there is no such option.
    """

    asks = ComparisonScenario

    def check(self) -> None:
        """Find the evaluations that all subjects have in common, and read their predictions; no run is made."""
        asked = self.scenario
        validate_name(asked.experiment, "experiment name")
        search, evaluations = SubjectSearch(self.settings), Evaluations(self.settings)
        subjects = search.find(asked.compare.subjects)
        rows = search.common(subjects)
        records = [evaluations.load(row) for row in rows]
        require_truth(records[0])
        self.require_classes(records[0].classes)
        self._prepared = PreparedComparison(subjects, rows, records)
        self.remarks = tuple(_remarks_on(self._prepared))

    def work(self, run: TrackedRun) -> ComparisonResult:
        """Compare, and log what comes of it."""
        prepared, asked = self._checked(), self.scenario
        run.log_params(asked.flat())
        run.set_tags({"guardianflow.dataset_fingerprint": prepared.rows[0].dataset_fingerprint})
        others = prepared.subjects[1:]
        compared: list[PairedComparison] = []
        with progress_bar(
            len(others), desc="models", unit="model", shown=self.shows_progress and len(others) > 1
        ) as bar:
            for done, subject in enumerate(others):
                run.set_progress(done, len(others), unit="model", note=f"now: {subject.name}")
                compared.append(self._compared(prepared, done + 1))
                bar.update()
        scored, disputes = _scored(prepared), _disputes(prepared)
        run.set_progress(len(others), len(others), unit="model")
        result, dataset = self._result(run.record, prepared, compared, scored, disputes)
        write_json(run.folder / CURVES_FILE, [each.curves() for each in scored])
        widest = max(range(len(compared)), key=lambda place: abs(compared[place].difference))
        write_json(
            run.folder / DISPUTED_FILE,
            {
                "names": [prepared.subjects[0].name, prepared.subjects[widest + 1].name],
                "images": most_disputed(disputes[widest], dataset, split=prepared.rows[0].split),
            },
        )
        run.log_metrics(result.metrics)
        for name in (CURVES_FILE, DISPUTED_FILE):
            run.log_artifact(run.folder / name, "comparison")
        run.log_artifact(write_json(run.folder / RESULT_FILE, result.to_dict()))
        return result

    def look(self) -> tuple[ComparisonResult, list[dict[str, Any]]]:
        """The comparison without a run, and the curves of each model: nothing is kept.

        Raises:
            InputError: The subjects have no evaluation on the same images in common.
            NotFoundError: There is no such run, version or file.
        """
        prepared = self._checked()
        compared = [self._compared(prepared, place) for place in range(1, len(prepared.subjects))]
        scored = _scored(prepared)
        result, _ = self._result(None, prepared, compared, scored, _disputes(prepared))
        return result, [each.curves() for each in scored]

    def _compared(self, prepared: PreparedComparison, place: int) -> PairedComparison:
        """A subject held against the first."""
        asked, others = self.scenario.compare, len(prepared.subjects) - 1
        return paired_bootstrap(
            prepared.records[place], prepared.records[0], metric=asked.metric, resamples=asked.resamples,
            max_det=_max_det(prepared),
            level=1 - (1 - _LEVEL) / others,  # all of them hold together as often as one would
        )  # fmt: skip

    def _result(
        self, run: RunRecord | None, prepared: PreparedComparison, compared: Sequence[PairedComparison],
        scored: Sequence[DetectionResult], disputes: Sequence[Disagreement],
    ) -> tuple[ComparisonResult, Dataset | None]:  # fmt: skip
        row = prepared.rows[0]
        dataset, data_yaml, said = self._photographs(prepared)
        speeds, why_not = _speeds(prepared)
        found = [disputes[0].found()[0], *(dispute.found()[1] for dispute in disputes)]
        subjects = [
            _subject_row(prepared, place, scored[place], found=dict(found[place]), latency_ms_p50=speeds.get(place))
            for place in range(len(prepared.subjects))
        ]
        pairs = zip(prepared.subjects[1:], compared, strict=True)
        comparisons = [_comparison_row(one, prepared.subjects[0], each) for one, each in pairs]
        unmet = [f"{each['name']}: {text}" for each in subjects for text in self.unmet(each["figures"])]
        remarks = (*self.remarks, *_remarks_on_result(compared), *why_not, *said, *unmet)
        result = ComparisonResult(
            run_id=run.run_id if run else "",
            experiment=run.experiment if run else self.scenario.experiment,
            status=RunStatus.FINISHED,
            metric=self.scenario.compare.metric,
            subjects=subjects,
            comparisons=comparisons,
            dataset={
                "fingerprint": row.dataset_fingerprint, "split": row.split, "images": row.images,
                "protocol": dict(row.protocol), "data_yaml": data_yaml,
            },
            folder=run.folder if run else Path(),
            confidence=CONFIDENCE,
            remarks=remarks,
            tracking_uri=mask_secrets(self.settings.mlflow_tracking_uri),
        )  # fmt: skip
        return result, dataset

    def _photographs(self, prepared: PreparedComparison) -> tuple[Dataset | None, str, list[str]]:
        """Where the images lie, as one of the evaluations was asked; else why they can't be shown."""
        search = SubjectSearch(self.settings)
        asked = [str(search.parameters(row.run_id).get("data_yaml") or "") for row in prepared.rows]
        for data_yaml in dict.fromkeys(filter(None, asked)):
            with contextlib.suppress(GuardianFlowError, OSError):
                return read_dataset(data_yaml), data_yaml, []
        return None, "", ["the photographs are not on this machine, so boxes are shown without them"]


def _max_det(prepared: PreparedComparison) -> int:
    return int(prepared.rows[0].protocol.get("max_det") or 300)


def _scored(prepared: PreparedComparison) -> list[DetectionResult]:
    most = _max_det(prepared)
    return [evaluate_detection(record, confidence=CONFIDENCE, max_det=most) for record in prepared.records]


def _disputes(prepared: PreparedComparison) -> list[Disagreement]:
    first, *others = prepared.records
    return [find_disagreement(first, record, confidence=CONFIDENCE) for record in others]


def _subject_row(prepared: PreparedComparison, place: int, scored: DetectionResult, **more: Any) -> dict[str, Any]:
    subject, row = prepared.subjects[place], prepared.rows[place]
    return {
        "name": subject.name, "label": subject.label, "evaluation": row.id, "run_id": row.run_id,
        "sha256": row.sha256, "backend": row.backend, "precision": row.precision, "imgsz": row.imgsz,
        "device": row.device, "time": row.time.isoformat(), "figures": scored.metrics(),
        "model_size_mb": row.metrics.get("model_size_mb"),
        "differs": subject.differs(prepared.subjects[0]) if place else [], **more,
    }  # fmt: skip


def _comparison_row(subject: Subject, first: Subject, compared: PairedComparison) -> dict[str, Any]:
    caveat = _seeds_alone(subject, first)
    # The interval knows the chance of the images, and not that of a training.
    outcome = "none" if caveat else "better" if compared.low > 0 else "worse" if compared.high < 0 else "none"
    made_by = subject.training.run_id if subject.training else ""
    said = {"name": subject.name, "label": subject.label, "made_by": made_by, "outcome": outcome}
    return {**said, "caveat": caveat, **plain(compared.to_dict())}


def _remarks_on(prepared: PreparedComparison) -> list[str]:
    """What was taken of several, and what else differs than the models."""
    subjects, rows = prepared.subjects, prepared.rows
    said = [
        f"of {len(one.rows)} evaluations of {one.said} that of run {row.run_id[:12]} was taken: the newest on images "
        "that all have seen"
        for one, row in zip(subjects, rows, strict=True)
        if len(one.rows) > 1
    ]
    for one, row in zip(subjects[1:], rows[1:], strict=True):
        if not served_alike(row, rows[0]):
            mine, theirs = (f"{each.backend} {each.precision} at {each.imgsz} px" for each in (row, rows[0]))
            said.append(f"{one.name} was evaluated by {mine}, {subjects[0].name} by {theirs}")
    said += [text for one in subjects[1:] if (text := _seeds_alone(one, subjects[0]))]
    return [*said, *_rare_classes(prepared.records[0])]


def _seeds_alone(one: Subject, first: Subject) -> str:
    """What is to be said of two that differ by the seed of their training alone; else nothing."""
    changes = one.differs(first)
    if not changes or not all(change.startswith("seed ") for change in changes):
        return ""
    return (
        f"{one.name} and {first.name} are the same training but for its seed: what differs between them is chance of "
        "the training, and says nothing of the way it was trained"
    )


def _rare_classes(record: DetectionRecord) -> list[str]:
    truth, said = record.truth, []
    for label, name in enumerate(record.classes):
        images = len(set(truth.image[(truth.label == label) & ~truth.crowd].tolist()))
        if 0 < images < _FEW_IMAGES:
            said.append(f"class {name} is on {images} image{'s' if images > 1 else ''} only: its interval says little")
    return said


def _remarks_on_result(compared: Sequence[PairedComparison]) -> list[str]:
    none = [each for each in compared if each.low <= 0 <= each.high]
    said = []
    if none:
        half = max((each.high - each.low) / 2 for each in none)
        said.append(f"{none[0].images:,} images show a difference from about {half:.3f} on; a smaller one needs more")
    if len(compared) > 1:
        level = 100 * compared[0].level
        said.append(
            f"{len(compared)} models are held against the first, so each interval is one of {level:.3g}%: all of them "
            f"hold together with {_LEVEL:.0%}"
        )
    return said


def _speeds(prepared: PreparedComparison) -> tuple[Mapping[int, float], list[str]]:
    """Median latency by place, where all were timed under the same conditions; else why they aren't compared."""
    timed = [
        [each for each in one.rows if served_alike(each, row) and each.metrics.get("latency_ms_p50", 0) > 0]
        for one, row in zip(prepared.subjects, prepared.rows, strict=True)
    ]
    if not any(timed):
        return {}, []
    lacking = [one.name for one, rows in zip(prepared.subjects, timed, strict=True) if not rows]
    if lacking:
        return {}, [f"speeds are not compared: {' and '.join(lacking)} was never timed by `guardianflow infer`"]
    for row in timed[0]:
        alike = [next((each for each in rows if each.conditions == row.conditions), None) for rows in timed]
        found = {place: each.metrics["latency_ms_p50"] for place, each in enumerate(alike) if each is not None}
        if len(found) == len(timed):
            return found, []
    apart = next(rows[0] for rows in timed[1:] if rows[0].conditions != timed[0][0].conditions)
    why = first_difference(apart.conditions, timed[0][0].conditions)
    return {}, [f"speeds are not compared: they were timed under other conditions ({why})"]
