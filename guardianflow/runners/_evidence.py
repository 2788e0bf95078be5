"""What runs leave behind alike: figures in the store, evaluations for the gate, a version in the registry."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Generic, TypeVar

from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricRecord, MetricSink
from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import GuardianFlowError
from guardianflow.registry.evaluations import EVALUATION_FOLDER, Evaluations, evaluation_row, machine_facts
from guardianflow.runs.tracking import TrackedRun
from guardianflow.scenario.blocks import BaseScenario
from guardianflow.text.command_lines import command
from guardianflow.vision.benchmark.cell_results import CellResult

__all__ = ["TIMING", "Evidence", "save_figures"]

log = logging.getLogger(__name__)

TIMING = "single_stream"
_REGISTER_TIMEOUT_S = 60.0

S = TypeVar("S", bound=BaseScenario)
P = TypeVar("P")


def save_figures(
    sink: MetricSink,
    run: TrackedRun,
    asked: BaseScenario,
    figures: Mapping[str, float],
    *,
    key: str,
    what: str,
    run_id: str = "",
    **facts: Any,
) -> None:
    """Write figures to the store; a store that is away ends nothing.

    Args:
        sink: Where to.
        run: The run, for its experiment.
        asked: What was asked, for the site.
        figures: By name.
        key: What sets them apart within the run: the same figure written twice is stored once.
        what: Whose figures they are, for the log.
        run_id: The run that they belong to, where it is another.
        facts: Further fields of :class:`~guardianflow.core.metrics.MetricRecord`.
    """
    now, run_id = datetime.now(UTC), run_id or run.run_id
    records = [
        MetricRecord(
            time=now,
            metric=name,
            value=value,
            experiment=run.experiment,
            site=asked.site.name or None,
            camera=asked.site.camera,
            run_id=run_id,
            event_id=sha256(f"{run_id}/{key}/{name}".encode()).hexdigest()[:32],
            **facts,
        )
        for name, value in figures.items()
    ]
    try:
        sink.save_metrics(records)
    except Exception as error:  # noqa: BLE001 - a store that is away must not end a run
        log.warning("the figures of %s could not be stored: %s", what, error)


@dataclass
class Evidence(Generic[S, P]):
    """Writes what a run leaves behind, into the run.

    Attributes:
        run: The run.
        asked: What was asked.
        prepared: What the check found.
        settings: Where the registry and the index of evaluations are.
        sink: Where measurements go.
    """

    run: TrackedRun
    asked: S
    prepared: P
    settings: Settings
    sink: MetricSink

    def index(
        self,
        cell: CellResult,
        metrics: Mapping[str, float],
        *,
        what: str,
        run_id: str = "",
        artifact: str = EVALUATION_FOLDER,
    ) -> None:
        """What the gate will look for: this model file, on this data, served this way.

        Args:
            cell: What was measured; nothing is left of one that was not scored.
            metrics: Figures by catalogue name.
            what: Whose evaluation it is, for the log.
            run_id: The run that it belongs to, where it is another.
            artifact: The folder within the run's artifacts.
        """
        from guardianflow.evaluation.detection.records import DetectionRecord

        folder, spec = cell.evaluation_folder, cell.spec
        if folder is None:
            return
        try:
            row = evaluation_row(
                DetectionRecord.load(folder),
                folder,
                run_id=run_id or self.run.run_id,
                metrics=metrics,
                per_class=[
                    {"name": row["name"], "ap50_95": row["ap50_95"]} for row in cell.detection_details["per_class"]
                ],
                artifact=artifact,
                device=cell.device,
                machine=machine_facts(threads=spec.threads, timing=TIMING),
                sha256=spec.model.sha256,
                dataset_fingerprint=spec.fingerprint,
                split=spec.split,
                backend=spec.backend,
                precision=spec.precision,
                imgsz=spec.imgsz,
            )
            Evaluations(self.settings).record(row)
        except (GuardianFlowError, OSError) as error:
            log.warning("the evaluation of %s is not in the index, so no gate will see it: %s", what, error)

    def register(self, name: str, what: str, **version: Any) -> tuple[str, str]:
        """Enter the run's model as a version.

        Args:
            name: Of the model.
            what: ``"the weights"`` or ``"the model"``, for the sentence.
            version: As :meth:`~guardianflow.core.registry.ModelRegistry.register` takes it.

        Returns:
            Its URI, and a sentence that says why there is none; one of the two is empty.
        """
        later = f"later: {command('register', name, '--run', self.run.run_id)}"
        if not self.run.flush(timeout_s=_REGISTER_TIMEOUT_S):
            return "", f"MLflow did not take {what}, so {name!r} was not registered; {later}"
        try:
            return ModelRegistry(self.settings).register(name, self.run.run_id, **version).uri, ""
        except GuardianFlowError as error:
            return "", f"{name!r} was not registered ({error}); {later}"
