"""Label rows: what is wrong with them, and that nothing passes here that Ultralytics would drop."""

from __future__ import annotations

import math
import random
import re
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardianflow.data.labels import parse_labels, read_labels
from guardianflow.data.report import KINDS
from tests.data.conftest import write_image
from tests.data.ultralytics_reader import rejects_labels


def kinds(text: str, classes: int = 3) -> list[str]:
    return [defect.kind for defect in parse_labels(text, classes=classes).defects]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("0 0.5 0.5 0.5", "columns"),
        ("0 0.5 0.5 0.5 0.5 0.9", "columns"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "columns"),
        ("person 0.5 0.5 0.1 0.1", "not-a-number"),
        ("0 0.5 0,5 0.1 0.1", "not-a-number"),
        ("0 0.5 1_0 0.1 0.1", "not-a-number"),
        ("0 0.5 nan 0.1 0.1", "not-finite"),
        ("0 0.5 -Infinity 0.1 0.1", "not-finite"),
        ("0 0.5 1e999 0.1 0.1", "not-finite"),
        ("3 0.5 0.5 0.1 0.1", "class-id"),
        ("-1 0.5 0.5 0.1 0.1", "class-id"),
        ("0.5 0.5 0.5 0.1 0.1", "class-id"),
        ("0 320 240 64 48", "out-of-range"),
        ("0 0.5 -0.02 0.1 0.1", "out-of-range"),
        ("0 1.02 0.5 0.1 0.1", "out-of-range"),
        ("0 100 100 200 100 200 200", "out-of-range"),
        ("0 0.5 0.5 0 0.1", "no-area"),
        ("0 0.5 0.5 0.1 -0.001", "no-area"),
        ("0 0.1 0.1 0.1 0.5 0.1 0.9", "no-area"),
        ("0 0.9 0.5 0.5 0.1", "beyond-edge"),
    ],
)
def test_each_defect_is_found_and_the_row_named(row, kind):
    defects = parse_labels(f"1 0.5 0.5 0.1 0.1\n{row}\n", classes=3).defects
    assert kind in [defect.kind for defect in defects]
    assert any("line 2: " in defect.detail for defect in defects)


@pytest.mark.parametrize(
    "row",
    ["0 0.5 0.5 1 1", "2 .5 +0.5 1e-3 5E-1", "1.0 1.005 0.5 0.001 0.001", "0 0.1 0.1 0.2 0.1 0.2 0.2", "", "  \t"],
)
def test_good_rows_have_no_error(row):
    assert not [kind for kind in kinds(row) if KINDS[kind][0] == "error"]


def test_boxes_are_counted_by_class_and_duplicates_once():
    parsed = parse_labels("0 .5 .5 .1 .1\r\n2 .5 .5 .1 .1\n0 .5 .5 .1 .1\n0 .5 .5 .2 .1\n", classes=3)
    assert parsed.boxes == {0: 2, 2: 1}
    assert [defect.kind for defect in parsed.defects] == ["duplicate-row"]


def test_a_kind_is_named_once_with_the_number_of_further_rows():
    (defect,) = parse_labels("7 .5 .5 .1 .1\n" * 4, classes=3).defects
    assert defect.detail == "line 1: class id 7 is beyond the 3 names (0 to 2) (and 3 more rows)"


def test_polygons_count_as_boxes_but_do_not_mix_with_them():
    assert parse_labels("1 .1 .1 .2 .1 .2 .2\n", classes=3).boxes == {1: 1}
    assert kinds("1 .1 .1 .2 .1 .2 .2\n0 .5 .5 .1 .1\n") == ["mixed-rows"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 0.5 0.5 0.3 0.2 0.87 1", "line 1: '0 0.5 0.5 0.3 0.2 0.87 1' may be a polygon, or a box with 2 numbers"),
        ("0 0.5 0.5 0.3 0.2 0.87 12", "behind it (confidence, id, flag, point); write boxes as 5 columns"),
        ("0 0.5 0.5 0.3 0.2 7 0.87", "a box with 2 numbers behind it"),
        ("0 0.5 0.5 0.3 0.2 0.5 0.5", "a box with 2 numbers behind it"),
        ("0 0.5 0.5 0.3 0.2 0 1 0 0", "a box with 4 numbers behind it"),
        ("0 0.5 0.5 0.3 0.2 0.87 3 7 0.2", "a box with 4 numbers behind it"),
        ("0 .5 .5 .3 .2 .36 .41 .64 .41 .64 .59 .36 .59", "begins with the centre and size of what follows, so it is"),
        (
            "0 .5 .5 .3 .2 .36 .41 .64 .41 .64 .59 .36 .59",
            "add `kpt_shape: [4, 2]` to the data.yaml, or keep its first",
        ),
        ("0 .5 .5 .3 .2 .36 .41 2 .64 .59 1 0 0 0 0 0 0", "add `kpt_shape: [4, 3]` to the data.yaml"),
        ("0 .5 .5 .4 .4 .3 .3 .7 .3 .7 .7 .3 .7 0 0 0 0", "add `kpt_shape: [6, 2]` to the data.yaml"),
        ("0 .5 .5 .4 .4 .3 .3 .5 .3 .7 .3 .7 .7 .3 .7", "so it is a box with points and no polygon"),
    ],
)
def test_a_box_with_more_behind_it_is_no_polygon(row, message):
    parsed = parse_labels(row, classes=3)
    assert (parsed.boxes, parsed.polygons) == ({}, 0)
    assert [defect.kind for defect in parsed.errors] == ["no-polygon"]
    assert message in parsed.errors[0].detail


@pytest.mark.parametrize(
    "row",
    [
        "0 0.1 0.1 0.2 0.1 0.2 0.2",
        "0 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6",  # an oriented box by its corners
        "0 0.31 0.45 0.36 0.41 0.44 0.43 0.47 0.52 0.40 0.58 0.33 0.55",
        "0 0 0 1 0 1 1 0 1",
        "0 0.5 0.6 0.4 0.5 0.45 1 0 1 0 0.7",
    ],
)
def test_polygons_stay_polygons(row):
    parsed = parse_labels(row, classes=3)
    assert (parsed.polygons, parsed.defects) == (1, ())


@given(
    st.tuples(st.floats(0.2, 0.8), st.floats(0.2, 0.8), st.floats(0.05, 0.2), st.floats(0.05, 0.2)),
    st.integers(3, 40),
    st.floats(0, 6.28),
)
@settings(max_examples=200, deadline=None)
def test_round_outlines_stay_polygons_wherever_they_begin(outline, points, start):
    x, y, width, height = outline
    angles = [start + 6.283 * point / points for point in range(points)]
    corners = [f"{x + width * math.cos(angle):.5f} {y + height * math.sin(angle):.5f}" for angle in angles]
    parsed = parse_labels(f"0 {' '.join(corners)}", classes=1)
    assert "no-polygon" not in [defect.kind for defect in parsed.defects]


def test_kpt_shape_takes_the_box_and_leaves_the_keypoints(tmp_path):
    text = "0 .5 .5 .3 .2 .5 .5 2 .4 .4 0\n1 .5 .5 .1 .1\n0 .5 .5 .3 .2 .9 .9 1 .1 .1 1\n"
    parsed = parse_labels(text, classes=3, keypoints=(2, 3))
    assert [row[:5] for row in parsed.rows] == [(0, 0.5, 0.5, 0.3, 0.2), (1, 0.5, 0.5, 0.1, 0.1)]
    assert (parsed.keypoints, parsed.polygons) == (2, 0)
    assert [defect.kind for defect in parsed.defects] == ["duplicate-row"]
    (defect,) = parse_labels("0 .1 .1 .2 .1 .2 .2 .1 .2", classes=3, keypoints=(2, 3)).defects
    assert defect.kind == "columns"
    assert "9 columns, a box has 5 and by `kpt_shape: [2, 3]` of the data.yaml a box with keypoints 11" in str(defect)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "0 .5 .5 .3 .2 .87",
            "line 1: 6 columns, a box has 5 and .* from 7: '0 .5 .5 .3 .2 .87'; take out what is no class",
        ),
        ("0 .5 .5 .3 .2" + " .5 .5 2" * 17, "56 columns, .*; for keypoints, add `kpt_shape: .17, 3.` to the data"),
        ("0 .5 .5 .3 .2 .5 .5 2", "8 columns, .*; for keypoints, add `kpt_shape: .1, 3.` to the data.yaml"),
        ("8 0 .1 .2 .3 .4 .2 .3 .1 .1", "10 columns, a box has 5 and .*: '8 0 .1 .2 .3 .4 .2 .3 .1 .1'$"),
    ],
)
def test_other_numbers_of_columns_show_the_row_and_what_it_may_be(row, message):
    (defect,) = parse_labels(row, classes=9).defects
    assert defect.kind == "columns"
    assert re.search(message, defect.detail)


def test_files_that_are_no_text_are_a_defect_and_a_missing_one_is_none(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"0 .5 .5 .1 .1\n\xff\xfe")
    (tmp_path / "b.txt").write_text("0 .5 .5 .1 .1\n", encoding="utf-8-sig")
    broken = read_labels(tmp_path / "a.txt", classes=1)
    assert broken is not None
    assert [defect.kind for defect in broken.defects] == ["label-file"]
    good = read_labels(tmp_path / "b.txt", classes=1)
    assert good is not None
    assert good.boxes == {0: 1}
    assert read_labels(tmp_path / "none.txt", classes=1) is None
    assert read_labels(tmp_path, classes=1) is None


_COLUMN = st.one_of(
    st.floats(width=32).map(str), st.integers(-2, 4).map(str), st.text(string.printable, max_size=4), st.just("٣")
)
_ROWS = st.lists(st.lists(_COLUMN, max_size=10).map(" ".join), max_size=6).map("\n".join)


@given(st.one_of(_ROWS, st.text(max_size=80)), st.integers(1, 4))
@example("0 1e308 1e308 1e308 1e308", 1)
@example("1e400 .5 .5 .1 .1", 1)
@settings(max_examples=300, deadline=None)
def test_any_text_is_either_counted_or_named_and_never_raises(text, classes):
    parsed = parse_labels(text, classes=classes)
    rows = [line for line in text.splitlines() if line.split()]
    assert sum(parsed.boxes.values()) <= len(rows)
    assert all(0 <= class_id < classes for class_id in parsed.boxes)
    assert parsed.defects or sum(parsed.boxes.values()) == len(rows)
    assert len({defect.kind for defect in parsed.defects}) == len(parsed.defects)
    assert all(defect.kind in KINDS and defect.detail.isprintable() for defect in parsed.defects)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), *[st.floats(0.0625, 0.5, width=32) for _ in range(4)]), max_size=8, unique=True
    )
)
@settings(max_examples=100, deadline=None)
def test_boxes_inside_the_image_pass_without_a_word_but_for_the_edge(rows):
    text = "\n".join(" ".join(map(str, row)) for row in rows)
    parsed = parse_labels(text, classes=3)
    assert sum(parsed.boxes.values()) == len(rows)
    assert {defect.kind for defect in parsed.defects} <= {"beyond-edge"}


def _random_label_text(rng: random.Random) -> str:
    tokens = ["0", "3", "-1", "1.005", "1.02", "-0.005", "-0.02", "nan", "inf", "x", "1_0", "0x1", "5.", "1e400"]
    rows = []
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        columns = ["0" if rng.random() < 0.7 else rng.choice(["1", "2", "3", "0.0", "1.5", "-1", "a"])]
        count = rng.choice([4, 4, 4, 4, 6, 8, 5, 3, 7])
        columns += [rng.choice(tokens) if rng.random() < 0.1 else f"{rng.random() / 2:.3f}" for _ in range(count)]
        rows.append(" ".join(columns))
    return "\n".join(rows)


def test_whatever_ultralytics_drops_is_an_error_here_and_little_else(tmp_path):
    rng = random.Random(7)
    texts = [_random_label_text(rng) for _ in range(3000)]
    image = write_image(tmp_path / "a.png", seed=0)
    dropped = rejects_labels(image, texts, classes=3, config=tmp_path / "config")
    errors = [[kind for kind in kinds(text) if KINDS[kind][0] == "error"] for text in texts]
    passed = [(text, why) for text, why, found in zip(texts, dropped, errors, strict=True) if why and not found]
    assert passed == []
    stricter = {kind for why, found in zip(dropped, errors, strict=True) if not why for kind in found}
    # boxes of no area, polygons of fewer than three points, and boxes with more behind them
    assert stricter <= {"no-area", "columns", "no-polygon"}
    assert 300 < sum(map(bool, dropped)) < 2700
