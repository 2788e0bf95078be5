"""Tracking inside a cell: its source from the first frame to the last, its figures and a clip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from guardianflow.exceptions import GuardianFlowError
from guardianflow.vision.backends._base import Backend
from guardianflow.vision.benchmark.cell_results import CellSpec
from guardianflow.vision.pipeline.frames import FrameSource, open_source
from guardianflow.vision.pipeline.pipeline import Pipeline, PipelineConfig
from guardianflow.vision.tracking.run import TRACKING_CONFIDENCE, TrackingRecord, track_source

__all__ = ["CLIP_FILE", "track_cell"]

CLIP_FILE = "clip.webp"


def track_cell(spec: CellSpec, backend: Backend, *, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Track the source of a cell and keep the tracks in its folder, under ``tracking/``.

    A video that ends early is tracked up to there, and the note says so. Figures are there where the source has
    labelled tracks; labels or a clip that can't be had are told in the note and end nothing.

    Args:
        spec: With ``source`` and ``tracker``.
        backend: Opened for it.
        progress: Told (frames done, frames in all; 0: unknown).

    Returns:
        Plain JSON: ``TrackingRecord.to_dict()`` with ``metrics``, ``evaluation``, ``loss``, ``clip``, ``note`` and
        ``verdict``.

    Raises:
        GuardianFlowError: The source can't be opened, or there is no such tracker.
    """
    folder, source = Path(spec.folder), open_source(spec.source)
    config = PipelineConfig(
        imgsz=spec.side, confidence=min(spec.confidence, TRACKING_CONFIDENCE),
        iou=spec.iou, max_det=spec.max_det, batch=spec.batch, multi_label=False,
    )  # fmt: skip
    record = track_source(
        Pipeline(backend, config),
        source,
        tracker=spec.tracker,
        classes=spec.model.names,
        facts={"backend": backend.info.to_dict(), "model_sha256": spec.model.sha256},
        progress=lambda done, total: progress(done, total or 0),
    )
    record.save(folder / "tracking")
    found: dict[str, Any] = {**record.to_dict(), "metrics": {}, "verdict": _sentence(record)}
    notes = [record.note] if record.note else []
    for step in (_score, _draw):
        try:
            step(spec, record, source, found)
        except GuardianFlowError as error:
            notes.append(str(error))
    notes += found.get("evaluation", {}).get("remarks", ())
    return {**found, "note": " ".join(notes)}


def _sentence(record: TrackingRecord) -> str:
    objects = f"{record.identities} object{'' if record.identities == 1 else 's'}"
    return (
        f"{record.tracker} followed {objects} through {record.frames} frames of {record.source}, "
        f"{record.stages.per_second:.1f} frames a second from file to tracks."
    )


def _score(spec: CellSpec, record: TrackingRecord, source: FrameSource, found: dict[str, Any]) -> None:
    """Figures against the labelled tracks, and where HOTA is lost."""
    if source.ground_truth is None:
        return
    from guardianflow.vision.tracking.loss import split_hota_loss
    from guardianflow.vision.tracking.truth import evaluate_tracking, read_truth

    evaluation = evaluate_tracking(record, read_truth(source))
    found |= {"metrics": evaluation.metrics(), "evaluation": evaluation.to_dict()}
    loss = split_hota_loss(evaluation, tracker=spec.tracker, source=open_source(spec.source))
    found |= {"loss": loss.to_dict(), "verdict": f"{found['verdict']} {loss.sentence}"}


def _draw(spec: CellSpec, record: TrackingRecord, _source: FrameSource, found: dict[str, Any]) -> None:
    """A clip of where most is tracked, with nothing to load from elsewhere."""
    if not len(record.tracks):
        return
    from guardianflow.vision.tracking.clip import write_clip

    folder = Path(spec.folder)
    clip = write_clip(open_source(spec.source), record.tracks, folder / CLIP_FILE, names=record.classes)
    found["clip"] = clip.to_dict()
