"""Which boxes are scored is what trackeval's own dataset classes decide, from the same files."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mot_reference import combine, differences, figures_of

from guardianflow.evaluation.mot.evaluate import Sequence, Tracks, evaluate_mot
from guardianflow.evaluation.mot.files import KittiTracks, write_mot_tracks
from guardianflow.evaluation.mot.folders import read_sequences
from guardianflow.evaluation.mot.preprocess import MOT_CLASSES
from guardianflow.exceptions import InputError
from tests.evaluation.kitti_files import write_kitti_tracks

FRAMES, OBJECTS = 30, 14


def scene(seed: int, *, step: float) -> tuple[Tracks, Tracks]:
    """Crowded boxes, and predictions that jitter, miss and imagine; ``step`` rounds them, which makes ties."""
    rng = np.random.default_rng(seed)
    frame = np.repeat(np.arange(FRAMES), OBJECTS)
    identity = np.tile(np.arange(1, OBJECTS + 1), FRAMES)
    corner = rng.uniform(0, 200, (OBJECTS, 2))[identity - 1] + rng.normal(0, 3, (len(frame), 2))
    size = rng.uniform(18, 60, (OBJECTS, 2))[identity - 1]
    box = np.round(np.hstack([corner, corner + size]) / step) * step
    kept, seen = rng.random(len(frame)) > 0.1, rng.random(len(frame)) > 0.15
    found = box[seen] + np.round(rng.normal(0, 4, (int(seen.sum()), 4)) / step) * step
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    imagined = rng.uniform(0, 200, (FRAMES, 2))
    tracker_box = np.vstack([found, np.round(np.hstack([imagined, imagined + 24]) / step) * step])
    tracker = Tracks(
        frame=np.concatenate([frame[seen], np.arange(FRAMES)]),
        id=np.concatenate([identity[seen] + 100, np.full(FRAMES, 999)]),
        box=tracker_box,
        confidence=rng.uniform(0, 1, len(tracker_box)).round(3),
    )
    return Tracks(frame=frame[kept], id=identity[kept], box=box[kept]), tracker


def evaluated(dataset, label: str, sequences: list[str]) -> list[dict]:
    with redirect_stdout(io.StringIO()):
        return [
            figures_of(dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("ours", name), label))
            for name in sequences
        ]


def motchallenge(folder: Path, benchmark: str, names: list[str]):
    from trackeval.datasets import MotChallenge2DBox

    return MotChallenge2DBox(
        {
            "GT_FOLDER": str(folder / "gt"), "TRACKERS_FOLDER": str(folder / "trackers"), "TRACKERS_TO_EVAL": ["ours"],
            "BENCHMARK": benchmark, "SKIP_SPLIT_FOL": True, "SEQ_INFO": dict.fromkeys(names, FRAMES),
            "PRINT_CONFIG": False,
        }
    )  # fmt: skip


@pytest.mark.parametrize("kit", ["mot17", "mot20"])
@pytest.mark.parametrize("step", [0.1, 8.0])
def test_motchallenge_keeps_what_the_devkit_keeps(tmp_path, kit, step):
    names = ["MOT-01", "MOT-02"]
    for seed, name in enumerate(names):
        gt, tracker = scene(seed, step=step)
        label = np.array([1, 1, 1, 1, 1, 2, 3, 6, 7, 8, 9, 11, 12, 13])[gt.id - 1]
        marked = (np.random.default_rng(seed).random(len(gt)) > 0.1).astype(float)
        gt = Tracks(frame=gt.frame, id=gt.id, box=gt.box, label=label, confidence=marked)
        write_mot_tracks(tmp_path / "gt" / name / "gt" / "gt.txt", gt, ground_truth=True)
        info = f"[Sequence]\nname={name}\nseqLength={FRAMES}\n"
        (tmp_path / "gt" / name / "seqinfo.ini").write_text(info, encoding="utf-8")
        write_mot_tracks(tmp_path / "trackers" / "ours" / "data" / f"{name}.txt", tracker)
    theirs = evaluated(motchallenge(tmp_path, kit.upper(), names), "pedestrian", names)
    result = evaluate_mot(read_sequences(tmp_path / "gt", tmp_path / "trackers" / "ours"), preprocess=kit)
    for name, figures in zip(names, theirs, strict=True):
        assert differences(result.per_sequence[name], figures) == []
    assert differences(result.combined, combine(theirs, "combine_sequences")) == []
    plain = evaluate_mot(read_sequences(tmp_path / "gt", tmp_path / "trackers" / "ours"), classes=["pedestrian"])
    assert plain.combined.clear.fp > result.combined.clear.fp  # the rules had something to drop


@pytest.mark.parametrize("step", [0.1, 8.0])
@pytest.mark.parametrize("seed", range(3))
def test_kitti_keeps_what_the_devkit_keeps(tmp_path, seed, step):
    from trackeval.datasets import Kitti2DBox

    rng = np.random.default_rng(seed)
    gt, tracker = scene(seed, step=step)
    kinds = np.array([1, 1, 1, 1, 2, 2, 3, 4, 4, 4, 5, 5, 6, 8])
    gt = Tracks(
        frame=gt.frame, id=gt.id, box=gt.box, label=kinds[gt.id - 1],
        truncation=(rng.random(len(gt)) > 0.8).astype(int), occlusion=rng.integers(0, 4, len(gt)),
    )  # fmt: skip
    label = np.where(tracker.id == 999, 1, np.where(tracker.id > 107, 4, 1))
    tracker = Tracks(frame=tracker.frame, id=tracker.id, box=tracker.box, label=label, confidence=tracker.confidence)
    regions = rng.uniform(0, 150, (FRAMES, 2))
    truth = KittiTracks(gt, np.arange(FRAMES), np.hstack([regions, regions + 70]).round(1))
    write_kitti_tracks(tmp_path / "gt" / "label_02" / "0000.txt", truth, ground_truth=True)
    (tmp_path / "gt" / "evaluate_tracking.seqmap.training").write_text(f"0000 empty 000000 {FRAMES:06d}\n")
    write_kitti_tracks(tmp_path / "trackers" / "ours" / "data" / "0000.txt", tracker)
    dataset = Kitti2DBox(
        {
            "GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "trackers"),
            "TRACKERS_TO_EVAL": ["ours"], "PRINT_CONFIG": False,
        }
    )  # fmt: skip
    result = evaluate_mot(read_sequences(tmp_path / "gt", tmp_path / "trackers" / "ours"), preprocess="kitti")
    assert list(result.per_class) == ["car", "pedestrian"]
    theirs = {name: evaluated(dataset, name, ["0000"])[0] for name in ("car", "pedestrian")}
    for name, figures in theirs.items():
        assert differences(result.per_class[name], figures, skip={"frag"}) == []
    together = combine(list(theirs.values()), "combine_classes_class_averaged")
    assert differences(result.class_averaged, together, skip={"frag", "frames"}) == []
    assert 0 < result.combined.clear.fp < len(tracker)


def sequence_of(gt: Tracks, tracker: Tracks) -> Sequence:
    return Sequence("s", FRAMES, gt, tracker, class_names=MOT_CLASSES)


def box(label: int, *, identity: int = 1, left: float = 0.0, confidence: float = 1.0) -> Tracks:
    values = {"frame": [0], "id": [identity], "box": [[left, 0.0, left + 10, 10.0]], "label": [label]}
    return Tracks(**{name: np.array(value) for name, value in values.items()}, confidence=np.array([confidence]))


@pytest.mark.parametrize(
    ("label", "dropped"), [(2, {"mot17", "mot20"}), (6, {"mot20"}), (7, {"mot17", "mot20"}), (3, set()), (9, set())]
)
@pytest.mark.parametrize("kit", ["mot17", "mot20"])
def test_a_prediction_on_a_distractor_is_no_mistake(kit, label, dropped):
    result = evaluate_mot([sequence_of(box(label), box(1))], preprocess=kit)
    assert result.combined.clear.fp == (0 if kit in dropped else 1)


@pytest.mark.parametrize("kit", ["none", "mot17", "mot20"])
def test_labelled_boxes_marked_0_are_never_scored(kit):
    hidden = sequence_of(box(1, confidence=0.0), box(1))
    figures = evaluate_mot([hidden], preprocess=kit).combined
    assert (figures.gt_boxes, figures.clear.fp) == (0, 1)


def test_other_classes_are_refused_by_motchallenge():
    with pytest.raises(InputError, match=r"pedestrians .class 1. only; the result of 's' has class 3"):
        evaluate_mot([sequence_of(box(1), box(3))], preprocess="mot17")
    with pytest.raises(InputError, match="classes 1 to 13; sequence 's' has 14"):
        evaluate_mot([sequence_of(box(14), box(1))], preprocess="mot20")
