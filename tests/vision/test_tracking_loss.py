"""Figures of tracks against labelled ones, who loses what, and each change of identity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guardianflow.evaluation.mot.evaluate import evaluate_mot
from guardianflow.evaluation.mot.folders import read_sequences
from guardianflow.evaluation.mot.sequences import Sequence, Tracks
from guardianflow.exceptions import InputError
from guardianflow.scenes.scenes import SceneConfig, generate_clip
from guardianflow.vision.pipeline.frames import open_source
from guardianflow.vision.tracking.identities import followed_spans
from guardianflow.vision.tracking.loss import HotaLoss, split_hota_loss
from guardianflow.vision.tracking.run import TrackingRecord, track_source
from guardianflow.vision.tracking.truth import evaluate_tracking, read_truth
from tests.vision.tracked_scene import Found, Replay, nothing, truth_of, walkers, write_images


def record_of(tracks: Tracks, *, frames: int = 60, classes: tuple[str, ...] = ("person",)) -> TrackingRecord:
    return TrackingRecord("scene", "bytetrack", {}, classes, frames, 30.0, 320, 240, tracks)


def tracked(folder: Path, scene: list[Found], **options: object) -> TrackingRecord:
    source = open_source(write_images(folder / "seq", range(len(scene))))
    return track_source(Replay(scene), source, classes=["person"], **options)  # type: ignore[arg-type]


def test_perfect_tracks_lose_nothing() -> None:
    truth = truth_of(walkers())
    same = Tracks(frame=truth.frame, id=truth.id + 70, box=truth.box, label=np.zeros(len(truth), int))
    evaluation = evaluate_tracking(record_of(same), truth)
    assert evaluation.class_aware
    assert evaluation.metrics()["hota"] == pytest.approx(1)
    assert evaluation.metrics()["idsw"] == 0


def test_what_the_detector_misses_is_the_detectors_loss(tmp_path: Path) -> None:
    scene, rng = walkers(), np.random.default_rng(1)
    poor = [part if rng.random() < 0.5 else nothing() for part in scene]
    loss = split_hota_loss(evaluate_tracking(tracked(tmp_path, poor), truth_of(scene)), tracker="bytetrack")
    assert loss.detector_loss > 0.2
    assert loss.tracker_loss < 0.1
    assert loss.tracker_loss + loss.detector_loss == pytest.approx(1 - loss.hota)
    assert "more to gain from the detector" in loss.sentence
    assert loss.to_dict()["sentence"] == loss.sentence


def test_what_the_tracker_forgets_is_the_trackers_loss(tmp_path: Path) -> None:
    scene = walkers()
    forgetful = {"track_buffer": 1}
    record = tracked(tmp_path, scene, options=forgetful)
    assert record.identities == 3
    loss = split_hota_loss(evaluate_tracking(record, truth_of(scene)), tracker="bytetrack", options=forgetful)
    assert loss.detector_loss == pytest.approx(0, abs=0.02)
    assert loss.tracker_loss > 0.1
    assert loss.assa_oracle < loss.deta_oracle
    assert "more to gain from bytetrack" in loss.sentence


def test_the_split_in_words_is_honest_at_its_ends() -> None:
    assert "all of the loss is the tracker's" in HotaLoss("x", 0.8, 0.8, 0.8, 0.7, 0.7, 0.7).sentence
    assert "nothing to speak of" in HotaLoss("x", 0.999, 1, 1, 1, 1, 1).sentence
    empty = evaluate_tracking(record_of(Tracks.empty()), Tracks.empty())
    with pytest.raises(InputError, match="nothing is labelled"):
        split_hota_loss(empty, tracker="bytetrack")


def test_nothing_found_loses_everything_to_the_detector(tmp_path: Path) -> None:
    scene = walkers()
    evaluation = evaluate_tracking(tracked(tmp_path, [nothing()] * 60), truth_of(scene))
    assert evaluation.metrics()["hota"] == 0
    assert split_hota_loss(evaluation, tracker="ocsort").detector_loss > 0.8


def test_classes_count_where_the_model_knows_them_all() -> None:
    truth = truth_of(walkers())
    truth = Tracks(frame=truth.frame, id=truth.id, box=truth.box, label=np.where(truth.id == 1, 1, 3))
    mixed_up = Tracks(frame=truth.frame, id=truth.id, box=truth.box, label=np.where(truth.id == 1, 1, 0))
    aware = evaluate_tracking(record_of(mixed_up, classes=("사람", "Vehicle")), truth)
    assert aware.class_aware
    assert aware.metrics()["hota"] == 0  # a person was called a vehicle, and the other way about
    assert set(aware.result.per_class) == {"사람", "Vehicle"}
    agnostic = evaluate_tracking(record_of(mixed_up, classes=("사람", "Vehicle")), truth, class_aware=False)
    assert agnostic.metrics()["hota"] == pytest.approx(1)
    unknown = evaluate_tracking(record_of(mixed_up, classes=("RBC", "WBC")), truth)
    assert not unknown.class_aware
    assert "any object is an object" in unknown.note
    with pytest.raises(InputError, match="none of the model's classes"):
        evaluate_tracking(record_of(mixed_up, classes=("RBC", "WBC")), truth, class_aware=True)
    named = evaluate_tracking(record_of(mixed_up, classes=("RBC", "WBC")), truth, class_numbers={"RBC": 3, "WBC": 1})
    assert named.metrics()["hota"] == pytest.approx(1)


def test_boxes_not_to_be_scored_and_foreign_classes_are_left_out_and_said() -> None:
    truth = truth_of(walkers())
    hidden = Tracks(frame=truth.frame, id=truth.id, box=truth.box, confidence=(truth.id == 1).astype(float))
    both = Tracks(frame=truth.frame, id=truth.id, box=truth.box, label=truth.id - 1)
    evaluation = evaluate_tracking(record_of(both, classes=("person", "dog")), hidden)
    assert evaluation.metrics()["hota"] == pytest.approx(1)
    assert "60 labelled boxes are marked as not to be scored." in evaluation.note
    assert "60 boxes of classes that the ground truth doesn't know are left out." in evaluation.note
    kit = evaluate_tracking(record_of(both, classes=("person", "dog")), hidden, preprocess="mot17")
    assert kit.metrics()["hota"] == pytest.approx(1)
    assert split_hota_loss(kit, tracker="bytetrack").hota_oracle > 0.9
    with pytest.raises(InputError, match="KITTI numbers its classes otherwise"):
        evaluate_tracking(record_of(both), hidden, preprocess="kitti")
    with pytest.raises(InputError, match="mot20 scores pedestrians only"):
        evaluate_tracking(record_of(both), hidden, preprocess="mot20", class_aware=False)
    short = evaluate_tracking(record_of(both.take(both.frame < 10), frames=10), truth)
    assert short.sequence.frames == 10
    assert short.metrics()["fn"] == 10  # the dog


@pytest.mark.parametrize("kit", ["none", "mot17"])
def test_eval_mot_and_an_inference_agree_on_the_same_tracks(tmp_path: Path, kit: str) -> None:
    clip = generate_clip(tmp_path, frames=30, fps=15, config=SceneConfig(seed=3, imgsz=160))
    source = open_source(clip.folder)
    rows = np.loadtxt(source.ground_truth, delimiter=",")
    rows[::7, 6] = 0
    np.savetxt(source.ground_truth, rows, delimiter=",", fmt="%g")
    truth = read_truth(source)
    assert (truth.confidence == 0).sum() > 5
    seen = truth.take(
        (np.random.default_rng(1).random(len(truth)) < 0.9) & (truth.label == 1 if kit != "none" else True)
    )
    found = replace(seen, label=np.where(seen.label == 1, 1, 0), box=seen.box + 1.5)
    record = TrackingRecord(source.name, "x", {}, ("vehicle", "person"), 30, 15.0, 160, 160, found)
    inferred = evaluate_tracking(record, truth, preprocess=kit)
    saved = record.save(tmp_path / "tracking")
    filed = evaluate_mot(read_sequences(clip.folder, saved / f"{source.name}.txt", preprocess=kit), preprocess=kit)
    assert inferred.metrics() == pytest.approx(filed.metrics())
    assert 0.1 < filed.metrics()["hota"] < 0.99
    assert inferred.result.remarks == filed.remarks
    assert inferred.to_dict()["remarks"] == list(filed.remarks)


def test_each_change_of_identity_is_one_of_clears_switches() -> None:
    rng = np.random.default_rng(5)
    scene = truth_of(walkers())
    swapped = np.where(rng.random(len(scene)) < 0.15, scene.id + 10, scene.id)
    found = Tracks(frame=scene.frame, id=swapped, box=scene.box + rng.normal(0, 2, scene.box.shape))
    found = found.take(rng.random(len(found)) < 0.9)
    sequence = Sequence("s", 60, scene, found)
    evaluation = evaluate_tracking(record_of(Tracks(found.frame, found.id, found.box, found.label - 1)), scene)
    spans = followed_spans(sequence)
    switches = len(spans) - len({(span.label, span.object) for span in spans})
    assert switches == evaluation.metrics()["idsw"] > 5
    assert followed_spans(Sequence("s", 60, scene, Tracks.empty())) == []


def test_whoever_was_together_stays_together_where_another_track_overlaps_more() -> None:
    box = [0.0, 0.0, 10.0, 10.0]
    truth = Tracks(frame=np.array([0, 1]), id=np.array([1, 1]), box=np.array([box, box]))
    worse, exact = [0.0, 0.0, 10.0, 8.0], box
    found = Tracks(frame=np.array([0, 1, 1]), id=np.array([5, 5, 6]), box=np.array([worse, worse, exact]))
    assert [(span.track, span.first, span.last) for span in followed_spans(Sequence("s", 2, truth, found))] == [
        (5, 0, 1)
    ]


def test_generated_clips_are_tracked_and_scored_by_class(tmp_path: Path) -> None:
    clip = generate_clip(tmp_path, frames=30, fps=15, config=SceneConfig(seed=3, imgsz=160))
    source = open_source(clip.folder)
    truth = read_truth(source)
    seen = truth.take(truth.confidence > 0)
    scene = []
    for frame in range(30):
        rows = seen.take(seen.frame == frame)
        scene.append(Found(rows.box.astype(np.float32), np.full(len(rows), 0.9), np.where(rows.label == 1, 0, 1)))
    record = track_source(Replay(scene), source, tracker="botsort", classes=["person", "vehicle"])
    evaluation = evaluate_tracking(record, truth)
    assert evaluation.class_aware
    assert set(evaluation.result.per_class) == {"person", "vehicle"}
    assert evaluation.metrics()["hota"] > 0.8
    loss = split_hota_loss(evaluation, tracker="botsort", source=source)
    assert abs(loss.detector_loss) < 0.02  # the detections were the labels
    with pytest.raises(InputError, match="has no labelled tracks"):
        read_truth(open_source(clip.images))


@pytest.mark.parametrize("tracker", ["bytetrack", "botsort"])
def test_a_real_model_runs_from_images_to_figures(tmp_path: Path, tracker: str) -> None:
    from ultralytics import YOLO

    from guardianflow.vision.backends._base import BackendOptions
    from guardianflow.vision.backends.catalog import open_backend
    from guardianflow.vision.model_artifacts import read_model_file
    from guardianflow.vision.pipeline.pipeline import Pipeline, PipelineConfig

    YOLO("yolo11n.yaml").save(tmp_path / "random.pt")
    model = read_model_file(tmp_path / "random.pt")
    source = open_source(write_images(tmp_path / "seq", range(6)))
    (source.path / "000003.jpg").write_bytes(b"")
    with open_backend(model, backend="torch", options=BackendOptions(imgsz=64, batch=2)) as backend:
        pipeline = Pipeline(backend, PipelineConfig(imgsz=64, batch=2, confidence=1e-6, multi_label=False))
        record = track_source(pipeline, source, tracker=tracker, classes=model.names)
    assert record.frames == 6
    assert record.stages.images == 5
    assert (record.stages.tracking > 0).all()
    assert evaluate_tracking(record, truth_of(walkers(6)), class_aware=False).metrics()["fn"] > 0
