"""Tracking files: what is written is read back, and what is wrong is named by file and line."""

from __future__ import annotations

import json
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from guardianflow.evaluation.mot.evaluate import Tracks
from guardianflow.evaluation.mot.files import (
    KittiTracks,
    MotFileError,
    read_kitti_tracks,
    read_mot_tracks,
    write_mot_tracks,
)
from guardianflow.evaluation.mot.folders import find_sequences, read_sequences
from guardianflow.exceptions import NotFoundError
from guardianflow.verbs.evaluation import eval_app
from tests.evaluation.kitti_files import write_kitti_tracks

BUNDLED = Path(find_spec("motmetrics").origin).parent / "data"
NUMBER = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def any_tracks(draw, labels=(1,)) -> Tracks:
    keys = draw(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 2**53)), unique=True, max_size=12))
    corners = [[draw(NUMBER) for _ in range(4)] for _ in keys]
    table = np.array(corners).reshape(-1, 2, 2)
    return Tracks(
        frame=np.array([frame for frame, _ in keys], np.int64),
        id=np.array([identity for _, identity in keys], np.int64),
        box=np.hstack([table.min(axis=1), table.max(axis=1)]),
        label=np.array([draw(st.sampled_from(labels)) for _ in keys], np.int64),
        confidence=np.array([draw(st.floats(0, 1)) for _ in keys]),
        truncation=np.array([draw(st.integers(0, 2)) for _ in keys], np.int64),
        occlusion=np.array([draw(st.integers(0, 3)) for _ in keys], np.int64),
    )


def assert_same(mine: Tracks, other: Tracks, *, atol: float) -> None:
    for name in ("frame", "id", "label"):
        assert getattr(mine, name).tolist() == getattr(other, name).tolist()
    assert np.allclose(mine.box, other.box, rtol=0, atol=atol)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_tracks(labels=(1, 3, 12)))
def test_motchallenge_files_are_read_back(tmp_path, tracks):
    for ground_truth in (True, False):
        path = write_mot_tracks(tmp_path / "t.txt", tracks, ground_truth=ground_truth)
        back = read_mot_tracks(path, ground_truth=ground_truth)
        assert_same(back, tracks, atol=1e-9)
        assert back.confidence.tolist() == tracks.confidence.tolist()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_tracks(labels=(1, 4, 5)))
def test_kitti_files_are_read_back(tmp_path, tracks):
    truth = KittiTracks(tracks.by_frame(), np.array([0, 3]), np.array([[0.0, 0, 5, 5], [1, 2, 3, 4]]))
    back = read_kitti_tracks(write_kitti_tracks(tmp_path / "k.txt", truth, ground_truth=True))
    assert_same(back.tracks, truth.tracks, atol=0)
    assert (back.ignore_frame.tolist(), back.ignore_box.tolist()) == ([0, 3], truth.ignore_box.tolist())
    if len(tracks):
        assert back.tracks.occlusion.tolist() == truth.tracks.occlusion.tolist()
        assert back.tracks.truncation.tolist() == truth.tracks.truncation.tolist()
    result = read_kitti_tracks(write_kitti_tracks(tmp_path / "r.txt", tracks))
    assert result.tracks.confidence.tolist() == tracks.by_frame().confidence.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "1,1,2,3,4,5,0.5,-1,-1,-1\n2,1,2,3,4,5,0.5,-1,-1,-1\n",
        "1 1 2 3 4 5 .5 -1 -1 -1\n2 1 2 3 4 5 .5 -1 -1 -1",
        "\ufeff1, 1, 2, 3, 4, 5, 5e-1, -1, -1, -1\r\n\r\n2, 1, 2, 3, 4, 5, 0.5, -1, -1, -1\r\n",
        "1,1,2,3,4,5,0.5,-1,-1,-1,\n2,1,2,3,4,5,0.5,-1,-1,-1,\n",
        "1\t1\t2\t3\t4\t5\t0.5\t-1\t-1\t-1\n2  1  2  3  4  5  0.5  -1  -1  -1\n",
        "1.0,1.0,2,3,4,5,0.5\n2.0,1.0,2,3,4,5,0.5\n",
    ],
)
def test_forms_that_trackers_write(tmp_path, text):
    path = tmp_path / "r.txt"
    path.write_text(text, encoding="utf-8", newline="")
    tracks = read_mot_tracks(path)
    assert (tracks.frame.tolist(), tracks.id.tolist(), tracks.label.tolist()) == ([0, 1], [1, 1], [1, 1])
    assert tracks.box.tolist() == [[2, 3, 6, 8]] * 2
    assert tracks.confidence.tolist() == [0.5, 0.5]


GOOD = "1,1,2,3,4,5,1,-1,-1,-1"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("1,1,2,3,4,5,1,-1,-1", "as many columns as the first, 10; this one has 9"),
        ("1,2,2,3,x,5,1,-1,-1,-1", "column 5 must be a number"),
        ("1,2,2,3,,5,1,-1,-1,-1", "column 5 must be a number"),
        ("1,2,2,3,nan,5,1,-1,-1,-1", "finite"),
        ("1,2,2,3,4,inf,1,-1,-1,-1", "finite"),
        ("0,2,2,3,4,5,1,-1,-1,-1", "frames are counted from 1"),
        ("1.5,2,2,3,4,5,1,-1,-1,-1", "the frame must be a whole number"),
        ("99,2,2,3,4,5,1,-1,-1,-1", "the sequence has 50 frames"),
        ("1,2.5,2,3,4,5,1,-1,-1,-1", "the id must be a whole number"),
        ("1,18014398509481984,2,3,4,5,1,-1,-1,-1", r"ids go up to 2\*\*53"),
        ("1,1,9,9,4,5,1,-1,-1,-1", "id 1 stood in line 1 already"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, rule):
    path = tmp_path / "result.txt"
    path.write_text(f"{GOOD}\n\n2,1,2,3,4,5,1,-1,-1,-1\n{line}\n3,1,2,3,4,5,1,-1,-1,-1\n", encoding="utf-8")
    with pytest.raises(MotFileError, match=f"result.txt, line 4: .*{rule}.*: '{line[:3]}"):
        read_mot_tracks(path, frames=50)


def test_detections_without_identity_are_told_from_tracks(tmp_path):
    path = tmp_path / "det.txt"
    path.write_text("1,-1,2,3,4,5,0.9\n1,-1,9,3,4,5,0.8\n", encoding="utf-8")
    with pytest.raises(MotFileError, match=r"line 2: .*-1 marks detections that no tracker has seen"):
        read_mot_tracks(path)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("0 2 Zebra 0 0 0 1 2 3 4", "the type must be one of KITTI's"),
        ("0 2 Car 0 0 0 1 2 x 4", "column 9 must be a number"),
        ("0 2 Car 0 nan 0 1 2 3 4", "finite"),
        ("-1 2 Car 0 0 0 1 2 3 4", "frames are counted from 0"),
        ("0 1 Car 0 0 0 1 2 3 4", "id 1 stood in line 1 already"),
        ("0 2 Car 0 0 0 1 2 3", "as many columns as the first, 10; this one has 9"),
    ],
)
def test_a_bad_kitti_line_is_named(tmp_path, line, rule):
    path = tmp_path / "0000.txt"
    path.write_text(f"0 1 Car 0 0 0 1 2 3 4\n{line}\n", encoding="utf-8")
    with pytest.raises(MotFileError, match=f"0000.txt, line 2: .*{rule}"):
        read_kitti_tracks(path)


def test_kitti_lines_without_identity_are_no_tracks(tmp_path):
    path = tmp_path / "0000.txt"
    path.write_text("0 -1 Car 0 0 0 1 2 3 4\n0 -1 Car 0 0 0 1 2 3 4\n0 -1 DontCare 0 0 0 1 2 3 4\n", encoding="utf-8")
    found = read_kitti_tracks(path)
    assert (len(found.tracks), len(found.ignore_box), found.last_frame) == (0, 1, 0)


def test_too_few_columns_binary_and_absent_files(tmp_path):
    path = tmp_path / "r.txt"
    path.write_text("\n1,2,3\n", encoding="utf-8")
    with pytest.raises(MotFileError, match="line 2: each line has at least 6 columns, this one has 3"):
        read_mot_tracks(path)
    path.write_bytes(b"1,2,3,4,5,6,\xff\xfe\n")
    with pytest.raises(MotFileError, match="no text file"):
        read_mot_tracks(path)
    with pytest.raises(NotFoundError, match="no file"):
        read_mot_tracks(tmp_path / "absent.txt")


def test_a_long_file_is_read_in_a_second(tmp_path):
    frame = np.repeat(np.arange(10_000), 30)
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1000, (len(frame), 2)).round(2)
    tracks = Tracks(frame=frame, id=np.tile(np.arange(30), 10_000), box=np.hstack([corner, corner + 40]))
    path = write_mot_tracks(tmp_path / "long.txt", tracks)
    read_mot_tracks(path)  # pyarrow is imported now
    began = time.process_time()
    assert len(read_mot_tracks(path)) == 300_000
    assert time.process_time() - began < 2.0  # 0.3 s alone; the processor's time, as other tests run beside


def mot_sequence(folder: Path, name: str, lines: str = GOOD, *, length: int | None = 5) -> None:
    (folder / name / "gt").mkdir(parents=True)
    (folder / name / "gt" / "gt.txt").write_text(lines + "\n", encoding="utf-8")
    if length is not None:
        (folder / name / "seqinfo.ini").write_text(f"[Sequence]\nseqLength={length}\n", encoding="utf-8")


def test_folders_of_sequences_find_their_results(tmp_path):
    for name in ("A", "B"):
        mot_sequence(tmp_path / "gt", name)
    (tmp_path / "res" / "data").mkdir(parents=True)
    (tmp_path / "res" / "data" / "A.txt").write_text(GOOD, encoding="utf-8")
    (tmp_path / "res" / "B.txt").write_text("", encoding="utf-8")
    found = list(read_sequences(tmp_path / "gt", tmp_path / "res"))
    assert [(each.name, each.frames, len(each.gt), len(each.tracker)) for each in found] == [
        ("A", 5, 1, 1),
        ("B", 5, 1, 0),
    ]
    (alone,) = find_sequences(tmp_path / "gt" / "A", tmp_path / "res")
    assert alone.name == "A"


def test_frames_beyond_seqlength_are_refused_by_line(tmp_path):
    mot_sequence(tmp_path / "gt", "A")
    (tmp_path / "A.txt").write_text(f"{GOOD}\n6,1,2,3,4,5,1,-1,-1,-1\n", encoding="utf-8")
    with pytest.raises(MotFileError, match=r"A.txt, line 2: the sequence has 5 frames"):
        list(read_sequences(tmp_path / "gt", tmp_path / "A.txt"))


@pytest.mark.parametrize(
    "text", ["[Sequence]\nname=A\n", "seqLength=5\n", "[Sequence]\nseqLength=many\n", "[Sequence]\nseqLength=-1\n"]
)
def test_a_seqinfo_without_a_length_is_refused(tmp_path, text):
    mot_sequence(tmp_path / "gt", "A")
    (tmp_path / "gt" / "A" / "seqinfo.ini").write_text(text, encoding="utf-8")
    (tmp_path / "A.txt").write_text(GOOD, encoding="utf-8")
    with pytest.raises(MotFileError, match="seqLength"):
        list(read_sequences(tmp_path / "gt", tmp_path / "A.txt"))


def test_no_name_matches_and_a_missing_result(tmp_path):
    for name in ("A", "B"):
        mot_sequence(tmp_path / "gt", name)
    (tmp_path / "res").mkdir()
    (tmp_path / "res" / "C.txt").write_text(GOOD, encoding="utf-8")
    with pytest.raises(NotFoundError, match=r"no sequence name matches.*'A', 'B'.*'C'"):
        find_sequences(tmp_path / "gt", tmp_path / "res")
    (tmp_path / "res" / "A.txt").write_text(GOOD, encoding="utf-8")
    with pytest.raises(NotFoundError, match=r"no result for 'B' .1 of 2"):
        find_sequences(tmp_path / "gt", tmp_path / "res")


def run(*arguments: object):
    return CliRunner().invoke(eval_app, [str(argument) for argument in arguments])


def test_eval_mot_prints_a_table_and_json():
    shown = run("mot", BUNDLED, BUNDLED)
    assert shown.exit_code == 0
    assert "TUD-Campus" in shown.stdout
    assert "39.1" in shown.stdout
    document = json.loads(run("mot", BUNDLED, BUNDLED, "--json", "--preprocess", "mot17").stdout)
    assert document["per_sequence"]["TUD-Campus"]["clear"]["idsw"] == 7
    assert document["metrics"]["hota"] == pytest.approx(0.4, abs=0.01)


def test_eval_mot_with_motmetrics_has_no_hota():
    document = json.loads(run("mot", BUNDLED, BUNDLED, "--json", "--evaluator", "motmetrics").stdout)
    assert "hota" not in document["metrics"]
    assert document["metrics"]["idsw"] == 14


def test_eval_mot_ends_with_2_on_bad_input(tmp_path):
    (tmp_path / "A.txt").write_text("1,2,x\n", encoding="utf-8")
    for arguments in (
        ("mot", BUNDLED, tmp_path),
        ("mot", tmp_path / "absent", BUNDLED),
        ("mot", BUNDLED / "TUD-Campus", tmp_path / "A.txt"),
        ("mot", BUNDLED, BUNDLED, "--class", "cat"),
        ("mot", BUNDLED, BUNDLED, "--evaluator", "nobody"),
        ("mot", BUNDLED, BUNDLED, "--preprocess", "mot15"),
    ):
        answer = run(*arguments)
        assert answer.exit_code == 2, arguments
        assert "Traceback" not in answer.output


def test_eval_mot_hints_at_preprocessing_where_classes_are_many(tmp_path):
    mot_sequence(tmp_path / "gt", "A", "1,1,2,3,4,5,1,1,1\n1,2,2,3,4,5,1,7,1")
    (tmp_path / "A.txt").write_text(GOOD, encoding="utf-8")
    assert "--preprocess mot17" in run("mot", tmp_path / "gt", tmp_path / "A.txt").stderr
    assert "note" not in run("mot", tmp_path / "gt", tmp_path / "A.txt", "--preprocess", "mot17").stderr


def test_eval_detection_scores_coco_files(tmp_path):
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "area": 900, "iscrowd": 0}
        ],
    }
    found = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "score": 0.9}]
    for name, document in (("gt.json", truth), ("pred.json", found)):
        (tmp_path / name).write_text(json.dumps(document), encoding="utf-8")
    shown = run("detection", tmp_path / "gt.json", tmp_path / "pred.json")
    assert (shown.exit_code, "cell" in shown.stdout, "100.0" in shown.stdout) == (0, True, True)
    document = json.loads(run("detection", tmp_path / "gt.json", tmp_path / "pred.json", "--json").stdout)
    assert document["map50"] == pytest.approx(1.0)
    assert run("detection", tmp_path / "gt.json", tmp_path / "absent.json").exit_code == 2
