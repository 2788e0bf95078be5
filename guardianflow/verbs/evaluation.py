"""Verbs that score predictions which lie in files, whoever made them: eval detection, eval mot."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option, Typer

from guardianflow.console import print_json, print_table
from guardianflow.verbs.execution import Remarks
from guardianflow.verbs.frame import Json, verb

if TYPE_CHECKING:
    from guardianflow.evaluation.mot.evaluate import MotResult

__all__ = ["eval_app"]

eval_app = Typer(name="eval", help="Score predictions that lie in files: detection, tracking.", no_args_is_help=True)


class PreprocessName(StrEnum):
    """Whose rules choose the boxes that are scored."""

    NONE = "none"
    MOT17 = "mot17"
    MOT20 = "mot20"
    KITTI = "kitti"


@eval_app.command("detection")
@verb
def detection(
    gt: Annotated[Path, Argument(metavar="GT.json", help="Ground truth in COCO's format.")],
    predictions: Annotated[Path, Argument(metavar="PRED.json", help="Detections in COCO's results format.")],
    confidence: Annotated[
        float, Option(help="Precision, recall and F1 are taken at this confidence.", min=0, max=1)
    ] = 0.25,
    max_det: Annotated[int, Option(help="At most so many detections an image, the best.", min=1)] = 300,
    json: Json = False,
) -> None:
    """Average precision, precision, recall and F1 of detections against their ground truth."""
    from guardianflow.evaluation.detection.coco_files import evaluate_coco_files

    result = evaluate_coco_files(gt, predictions, confidence=confidence, max_det=max_det)
    Remarks().show(result.remarks)
    if json:
        print_json(result.to_dict())
        return
    columns = ("class", "images", "boxes", "mAP50", "mAP50-95", "precision", "recall", "F1")
    names = ("ap50", "ap50_95", "precision", "recall", "f1")
    rows: list[tuple[object, ...]] = [
        ("all", result.images, result.boxes, *(_percent(value) for value in result.metrics().values()))
    ]
    rows += [
        (row.name, row.images, row.boxes, *(_percent(getattr(row, name)) for name in names)) for row in result.per_class
    ]
    title = f"in %; precision, recall and F1 at confidence {confidence:g}; at most {max_det} detections an image"
    print_table(columns, rows, title=title)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


@eval_app.command("mot")
@verb
def mot(
    gt: Annotated[Path, Argument(metavar="GT", help="Ground truth: a file, a sequence, or a folder of them.")],
    result: Annotated[Path, Argument(metavar="RESULT", help="The tracker's file, or a folder with NAME.txt.")],
    preprocess: Annotated[
        PreprocessName, Option(help="Whose rules choose the boxes that are scored.")
    ] = PreprocessName.NONE,
    evaluator: Annotated[
        str, Option(help="Who counts: guardianflow, or the package motmetrics (without HOTA).")
    ] = "guardianflow",
    classes: Annotated[
        list[str] | None, Option("--class", help="Name or number of a class to score; may be repeated.")
    ] = None,
    match_iou: Annotated[float, Option(help="IoU of a match in CLEAR and Identity.")] = 0.5,
    json: Json = False,
) -> None:
    """HOTA, MOTA, IDF1 and their parts of a tracker's results, in MOTChallenge's or KITTI's text format."""
    from guardianflow.evaluation.mot.evaluate import evaluate_mot
    from guardianflow.evaluation.mot.folders import read_sequences

    found = evaluate_mot(
        read_sequences(gt, result, preprocess=preprocess.value, classes=classes),
        classes=classes or None,
        preprocess=preprocess.value,
        evaluator=evaluator,
        match_iou=match_iou,
    )
    remarks = list(found.remarks)
    if preprocess is PreprocessName.NONE and len(found.per_class) > 1 and not classes:
        remarks.append(
            f"there are {len(found.per_class)} classes, and each was scored apart. MOTChallenge and KITTI score by "
            "rules of their own: --preprocess mot17, mot20 or kitti; --class NAME scores one class."
        )
    if json:
        print_json({**found.to_dict(), "remarks": remarks})
    else:
        _show(found)
    Remarks().show(remarks)


def _show(found: MotResult) -> None:
    columns, rows = found.table()
    frames = found.combined.clear.frames
    title = (
        f"{len(found.per_sequence)} sequence(s), {frames:,} frames, {found.combined.gt_tracks:,} labelled tracks; "
        f"HOTA to IDF1 in %; preprocessing {found.preprocess}, counted by {found.evaluator}"
    )
    print_table(columns, rows, title=title)
