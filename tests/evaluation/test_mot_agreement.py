"""What columns of tracking files mean where files leave it open: taken and said, or refused; as trackeval scores it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from mot_reference import differences
from test_mot_preprocess import evaluated

from guardianflow.evaluation.mot.evaluate import evaluate_mot
from guardianflow.evaluation.mot.folders import read_sequences
from guardianflow.verbs.evaluation import eval_app

FRAMES = 4
Cell = Callable[[int, int], object]


def lines(
    *, ids: tuple[int, ...] = (1, 2), kind: Cell = lambda _frame, _id: 1, flag: Cell = lambda _frame, _id: 1,
    first: int = 1, scale: float = 1.0, tail: str = ",1", mark: str = ",",
) -> str:  # fmt: skip
    """Two boxes side by side through four frames, as MOTChallenge writes them."""
    rows = [
        f"{frame},{one},{(10 + 60 * one) * scale},{20 * scale},{30 * scale},{40 * scale},{flag(frame, one)},"
        f"{kind(frame, one)}{tail}"
        for frame in range(first, first + FRAMES)
        for one in ids
    ]
    return "\n".join(rows).replace(",", mark) + "\n"


@pytest.fixture
def score(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """``eval mot --json`` of two texts; the answer also has what stderr said."""

    def run(gt: str, result: str, *options: str, info: str | None = None) -> dict[str, Any]:
        folder = tmp_path / "SEQ"
        (folder / "gt").mkdir(parents=True, exist_ok=True)
        (folder / "gt" / "gt.txt").write_text(gt, encoding="utf-8")
        (tmp_path / "r.txt").write_text(result, encoding="utf-8")
        if info is not None:
            (folder / "seqinfo.ini").write_text(f"[Sequence]\n{info}\n", encoding="utf-8")
        answer = CliRunner().invoke(eval_app, ["mot", str(folder), str(tmp_path / "r.txt"), "--json", *options])
        document = json.loads(answer.stdout)
        for remark in document.get("remarks", ()):
            assert f"note      {remark}" in answer.stderr
        return {"exit": answer.exit_code, **document}

    return run


def refusal(document: dict[str, Any]) -> str:
    assert document["exit"] == 2, document.get("metrics")
    return str(document["error"]["message"])


def test_classes_that_count_from_0_are_classes(score) -> None:
    swapped = score(lines(kind=lambda _, one: one - 1), lines(kind=lambda _, one: 2 - one))
    assert swapped["metrics"]["hota"] == 0
    assert set(swapped["per_class"]) == {"0", "1"}
    assert "never one of the same class" in swapped["remarks"][0]
    same = score(lines(kind=lambda _, one: one - 1), lines(kind=lambda _, one: one - 1))
    assert same["metrics"]["hota"] == pytest.approx(1)


def test_one_0_in_column_8_leaves_the_other_boxes_their_class(score) -> None:
    one = score(lines(kind=lambda frame, one: 0 if (frame, one) == (2, 1) else one), lines(kind=lambda _, one: one))
    assert (one["per_class"]["2"]["clear"]["fn"], one["metrics"]["fn"]) == (0, 1)
    assert "gt.txt has 1 boxes of class 0 (the first in line 3), the result has none." in one["remarks"]


@pytest.mark.parametrize("side", ["gt", "result"])
@pytest.mark.parametrize(("odd", "rule"), [("-1", "line 1 has 1, this one -1"), ("1.5", "a whole number from 0 up")])
def test_a_column_8_that_is_a_class_on_some_lines_only_is_refused(score, side, odd, rule) -> None:
    mixed, plain = lines(kind=lambda frame, one: odd if (frame, one) == (2, 1) else one), lines()
    message = refusal(score(*((mixed, plain) if side == "gt" else (plain, mixed))))
    assert ("gt.txt" if side == "gt" else "r.txt") + ", line 3: column 8 is the class" in message
    assert rule in message


@pytest.mark.parametrize("tail", [",-1", ",-1,-1"])
def test_minus_1_throughout_means_that_no_class_is_known(score, tail) -> None:
    unknown = lines(kind=lambda *_: -1, tail=tail)
    assert score(lines(), unknown)["remarks"] == []
    only = score(lines(kind=lambda *_: 3), unknown)
    assert (only["metrics"]["hota"], len(only["remarks"])) == (pytest.approx(1), 1)
    assert "r.txt names no classes; its boxes count as class 3" in only["remarks"][0]
    several = score(lines(kind=lambda _, one: 2 * one - 1), unknown)
    assert "r.txt names no classes and the ground truth has the classes 1, 3" in several["remarks"][0]
    from_0 = refusal(score(lines(kind=lambda _, one: one - 1), unknown))
    assert "r.txt, line 1: this file names no classes (column 8) and the ground truth has the classes 0, 1" in from_0


@pytest.mark.parametrize("tail", [",0,0", ",-3.25,0.5", ",2.5,0"])
def test_zeros_and_world_coordinates_are_no_classes(score, tail) -> None:
    beside = 0 if tail == ",0,0" else 7.25
    assert score(lines(), lines(kind=lambda *_: beside, tail=tail))["metrics"]["hota"] == pytest.approx(1)
    world = score(lines(kind=lambda *_: 7.25, tail=",-3.25,0"), lines(kind=lambda _, one: one))
    assert "gt.txt names no classes and the result has the classes 1, 2" in world["remarks"][0]


def test_classes_shifted_by_one_between_the_files_are_refused(score) -> None:
    from_1, from_0 = lines(kind=lambda _, one: one), lines(kind=lambda _, one: one - 1)
    assert "r.txt, line 1: this file counts classes from 0 (0, 1), and" in refusal(score(from_1, from_0))
    assert "gt.txt, line 1: this file counts classes from 0 (0, 1), and" in refusal(score(from_0, from_1))
    assert "name the classes to score with --class" in refusal(score(lines(), lines(kind=lambda *_: 0)))
    assert score(from_1, from_0, "--class", "1")["metrics"]["hota"] == 0  # as told
    assert score(lines(), lines(kind=lambda *_: 0), "--preprocess", "mot17")["metrics"]["hota"] == pytest.approx(1)


def motchallenge(folder: Path, *, kit: bool) -> Any:
    from trackeval.datasets import MotChallenge2DBox

    return MotChallenge2DBox(
        {
            "GT_FOLDER": str(folder / "gt"), "TRACKERS_FOLDER": str(folder / "trackers"), "TRACKERS_TO_EVAL": ["ours"],
            "BENCHMARK": "MOT17", "SKIP_SPLIT_FOL": True, "SEQ_INFO": {"SEQ": FRAMES}, "PRINT_CONFIG": False,
            "DO_PREPROC": kit,
        }
    )  # fmt: skip


@pytest.mark.parametrize("kit", ["none", "mot17"])
def test_hidden_boxes_and_boxes_without_area_score_as_in_the_devkit(tmp_path, kit) -> None:
    gt, found = lines(flag=lambda _, one: int(one == 1)), lines() + "2,9,300,20,-3,40,1,1,1\n3,9,70,20,30,-40,1,1,1\n"
    for path, text in (("gt/SEQ/gt/gt.txt", gt), ("trackers/ours/data/SEQ.txt", found)):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    (theirs,) = evaluated(motchallenge(tmp_path, kit=kit != "none"), "pedestrian", ["SEQ"])
    result = evaluate_mot(read_sequences(tmp_path / "gt", tmp_path / "trackers" / "ours"), preprocess=kit)
    assert differences(result.combined, theirs) == []
    assert result.combined.clear.fp == 6  # on the hidden boxes, and those without area
    assert "SEQ.txt: 2 of 10 boxes end before they begin (the first in line 9)" in result.remarks[-1]
    assert ("4 labelled boxes are marked as not to be scored." in result.remarks) == (kit == "none")


CAR = "{frame} {one} Car 0 0 -10 {box} -1 -1 -1 -1000 -1000 -1000 -10"
KITTI_TRUTH = [
    *(CAR.format(frame=frame, one=1, box=f"{100 + frame} 100 200 180") for frame in range(FRAMES)),
    *(CAR.format(frame=frame, one=2, box="1100 100 1241 180") for frame in range(2)),
    "1 -1 DontCare -1 -1 -10 1200 0 1190 300 -1000 -1000 -1000 -10 -1 -1 -1",
]
OFF_IMAGE = ["1242.5 100 1240.9 180", "1300 100 1200 110", "-4 180 -9 100", "300 200 340 190", "50 60 40 50"]


@pytest.mark.parametrize("kit", ["kitti", "none"])
def test_kitti_results_with_boxes_off_the_image_score_as_in_the_devkit(tmp_path, kit) -> None:
    found = [CAR.format(frame=frame, one=7, box=f"{104 + frame} 100 200 182") for frame in range(FRAMES)]
    found += [CAR.format(frame=place % FRAMES, one=20 + place, box=box) for place, box in enumerate(OFF_IMAGE)]
    found += [CAR.format(frame=2, one=2, box="1239 100 1236 180"), CAR.format(frame=0, one=9, box="600 90 700 200")]
    text = {
        "gt/label_02/0000.txt": KITTI_TRUTH,
        "gt/evaluate_tracking.seqmap.training": [f"0000 empty 000000 {FRAMES:06d}"],
        "trackers/ours/data/0000.txt": [f"{line} 0.9" for line in found],
    }  # fmt: skip
    for path, rows in text.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("\n".join(rows) + "\n", encoding="utf-8")
    answer = CliRunner().invoke(
        eval_app, ["mot", str(tmp_path / "gt"), str(tmp_path / "trackers" / "ours"), "--json", "--preprocess", kit]
    )
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    remark = "0000.txt: 6 of 11 boxes end before they begin (the first in line 5)"
    assert any(text.startswith(remark) for text in document["remarks"])
    assert remark in answer.stderr
    if kit == "kitti":
        from trackeval.datasets import Kitti2DBox

        config = {
            "GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "trackers"),
            "TRACKERS_TO_EVAL": ["ours"], "PRINT_CONFIG": False,
        }  # fmt: skip
        (theirs,) = evaluated(Kitti2DBox(config), "car", ["0000"])
        result = evaluate_mot(read_sequences(tmp_path / "gt", tmp_path / "trackers" / "ours"), preprocess="kitti")
        assert differences(result.per_class["car"], theirs, skip={"frag"}) == []
        assert 0 < document["per_class"]["car"]["clear"]["fp"] < 7  # high ones count, low ones don't


def test_shares_of_the_image_are_scaled_where_its_size_is_known_and_refused_elsewhere(score) -> None:
    shares = lines(scale=1 / 256)
    refused = refusal(score(lines(), shares))
    assert "r.txt, line 1: boxes are in pixels, as in the other file; the 8 of this file are shares" in refused
    assert "imWidth and imHeight" in refused
    assert "gt.txt, line 1: boxes are in pixels" in refusal(score(shares, lines()))
    both = score(shares, shares)
    assert both["metrics"]["hota"] == pytest.approx(1)
    assert "both files hold boxes as shares of the image" in both["remarks"][0]
    info = "seqLength=4\nimWidth=256\nimHeight=256"
    for gt, found in ((lines(), shares), (shares, lines()), (shares, shares)):
        scaled = score(gt, found, info=info)
        assert scaled["metrics"]["hota"] == pytest.approx(1)
        assert "were scaled to 256×256 pixels" in scaled["remarks"][0]


def test_a_sequence_without_a_length_begins_at_its_first_box(score) -> None:
    late = score(lines(first=372), lines(ids=(1, 2, 3), first=372))
    assert (late["combined"]["clear"]["frames"], late["combined"]["clear"]["fp_per_frame"]) == (4, 1)
    assert "begin at frame 372: that is taken for the first frame of the sequence, and the 371 before" in "".join(
        late["remarks"]
    )
    told = score(lines(first=372), lines(first=372), info="seqLength=400")
    assert (told["combined"]["clear"]["frames"], told["remarks"]) == (400, [])


def test_a_kitti_sequence_without_a_length_begins_at_its_first_box(tmp_path) -> None:
    late = "\n".join(CAR.format(frame=frame, one=1, box="10 10 60 60") for frame in range(371, 375))
    for name in ("gt.txt", "r.txt"):
        (tmp_path / name).write_text(late, encoding="utf-8")
    (sequence,) = read_sequences(tmp_path / "gt.txt", tmp_path / "r.txt")
    assert (sequence.frames, "begin at frame 371" in sequence.remarks[0]) == (4, True)
    assert evaluate_mot([sequence]).metrics()["hota"] == pytest.approx(1)


def test_frames_from_0_are_taken_where_both_files_have_them(score) -> None:
    both = score(lines(first=0), lines(first=0))
    assert (both["metrics"]["hota"], both["combined"]["clear"]["frames"]) == (pytest.approx(1), 4)
    assert "r.txt counts frames from 0, and is read so." in both["remarks"]
    assert "r.txt, line 1: frames are counted from 1, or from 0 in both files" in refusal(
        score(lines(), lines(first=0))
    )
    assert "gt.txt, line 1: frames are counted from 1" in refusal(score(lines(first=0), lines()))


@pytest.mark.parametrize("size", ["imWidth=wide", "imWidth=256.0\nimHeight=-1", "imHeight=256"])
def test_a_size_that_is_none_is_no_size(score, size) -> None:
    assert score(lines(), lines(), info=f"seqLength=4\n{size}")["metrics"]["hota"] == pytest.approx(1)
    assert "the image's size isn't known" in refusal(score(lines(), lines(scale=1 / 256), info=f"seqLength=4\n{size}"))


def test_marks_between_0_and_1_that_a_kit_takes_for_0_are_said(score) -> None:
    guessed = lines(flag=lambda *_: 0.9)
    assert score(guessed, lines())["metrics"]["hota"] == pytest.approx(1)
    kit = score(guessed, lines(), "--preprocess", "mot17")
    assert kit["combined"]["gt_boxes"] == 0
    assert "8 labelled boxes have a mark between 0 and 1 (column 7), which mot17 takes for 0" in kit["remarks"][0]


def test_an_id_of_minus_1_is_no_track(score) -> None:
    assert "r.txt, line 1: an id of -1 marks detections" in refusal(score(lines(), lines(ids=(-1,))))
    some = lines() + "4,-1,300,20,30,40,1,1,1\n"
    assert "r.txt, line 9: an id of -1 marks detections" in refusal(score(lines(), some))


def test_semicolons_separate_and_titles_are_named(score) -> None:
    assert score(lines(), lines(mark=";"))["metrics"]["hota"] == pytest.approx(1)
    assert score(lines(), "\ufeff" + lines(mark="; ").replace("\n", ";\r\n"))["metrics"]["hota"] == pytest.approx(1)
    assert "line 1: column 3 must be a number" in refusal(score(lines(), "1;1;7,5;20;30;40;1;1;1\n"))
    titles = refusal(score(lines(), "frame,id,x1,y1,x2,y2,conf,class,vis\n" + lines()))
    assert (
        "r.txt, line 1: column 1 must be a number; columns are read by their place, so take a line of titles" in titles
    )


def test_boxes_that_meet_nothing_are_said(score) -> None:
    elsewhere = score(lines(), lines(scale=20))
    assert elsewhere["remarks"][0].startswith("no box of the result touches a labelled one (labelled: frames 1–4, x 70")
    corners = "".join(f"{f},{one},{10 + 60 * one},20,{40 + 60 * one},60,1,1,1\n" for f in range(1, 5) for one in (1, 2))
    assert "if columns 5 and 6 are the right and lower edge, and 0 as width" in score(lines(), corners)["remarks"][0]


def test_remarks_of_several_sequences_name_theirs(tmp_path) -> None:
    for name, flag in (("A", 0), ("B", 0), ("C", 1)):
        (tmp_path / "gt" / name / "gt").mkdir(parents=True)
        text = lines(flag=lambda _, one, flag=flag: 1 if one == 1 else flag)
        (tmp_path / "gt" / name / "gt" / "gt.txt").write_text(text, encoding="utf-8")
        (tmp_path / f"{name}.txt").write_text(lines(ids=(1,)), encoding="utf-8")
    result = evaluate_mot(read_sequences(tmp_path / "gt", tmp_path))
    assert result.remarks == ("A, B: 4 labelled boxes are marked as not to be scored.",)
    assert "A, B: 4 labelled" in result._repr_html_()
