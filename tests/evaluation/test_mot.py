"""Our tracking figures are trackeval's: on real sequences, and on whatever Hypothesis thinks of."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from mot_reference import combine, data_of, differences, figures_of

from guardianflow.core.metrics import CATALOGUE
from guardianflow.evaluation.mot.counts import _best_total, _best_total_sparse
from guardianflow.evaluation.mot.evaluate import ALPHAS, MotResult, Sequence, Tracks, evaluate_mot
from guardianflow.evaluation.mot.folders import read_sequences
from guardianflow.exceptions import InputError, NotFoundError

BUNDLED = Path(find_spec("motmetrics").origin).parent / "data"
SMALL, HUGE, ONE = st.integers(0, 4), st.integers(2**53 - 3, 2**53), st.just(1)


@st.composite
def tracks(draw, frames: int, ids=SMALL, labels=ONE) -> Tracks:
    """Boxes on a coarse grid, so that ties, twins and empty frames are common."""
    rows: list[tuple[int, int, int, int, int, int, int]] = []
    for frame in range(frames):
        for identity in draw(st.lists(ids, unique=True, max_size=5)):
            x, y = draw(st.integers(0, 5)), draw(st.integers(0, 3))
            width, height = draw(st.integers(0, 5)), draw(st.integers(1, 4))
            rows.append((frame, identity, draw(labels), x, y, x + width, y + height))
    table = np.array(rows, np.int64).reshape(-1, 7)
    return Tracks(frame=table[:, 0], id=table[:, 1], label=table[:, 2], box=table[:, 3:])


@st.composite
def sequences(draw, name: str = "s", labels=ONE) -> Sequence:
    frames = draw(st.integers(1, 8))
    sides = [
        draw(tracks(frames, ids, labels)) if draw(st.integers(0, 7)) else Tracks.empty()
        for ids in (draw(st.sampled_from([SMALL, HUGE, st.just(7)])) for _ in range(2))
    ]
    return Sequence(name, frames, *sides)


def of_class(sequence: Sequence, label: int) -> Sequence:
    sides = (side.take(side.label == label) for side in (sequence.gt, sequence.tracker))
    return Sequence(sequence.name, sequence.frames, *sides)


def documented(sequence: Sequence) -> set[str]:
    """Figures in which we differ from trackeval on purpose, where this sequence brings the difference out."""
    gt, tracker = set(sequence.gt.frame.tolist()), set(sequence.tracker.frame.tolist())
    skip = set()
    if gt - tracker:
        skip |= {"frag"}
    if not gt or not tracker:
        skip |= {"frames", "fp_per_frame"}
    if not gt:
        skip |= {"mota", "moda", "smota", "motal", "mlr"}
    return skip


@pytest.mark.parametrize("name", ["TUD-Campus", "TUD-Stadtmitte"])
def test_bundled_sequences_equal_trackeval_on_every_figure(name):
    (sequence,) = read_sequences(BUNDLED / name, BUNDLED / name / "test.txt")
    result = evaluate_mot([sequence])
    assert sequence.name == name
    assert differences(result.combined, figures_of(data_of(sequence))) == []
    assert 0.3 < result.metrics()["hota"] < 0.5  # it was no empty comparison


def test_two_sequences_combine_as_trackeval_combines_them():
    found = list(read_sequences(BUNDLED, BUNDLED))
    result = evaluate_mot(found)
    theirs = combine([figures_of(data_of(sequence)) for sequence in found], "combine_sequences")
    assert list(result.per_sequence) == ["TUD-Campus", "TUD-Stadtmitte"]
    assert differences(result.combined, theirs) == []


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sequences())
def test_random_sequences_equal_trackeval(sequence):
    theirs = figures_of(data_of(sequence))
    assert differences(evaluate_mot([sequence]).combined, theirs, skip=documented(sequence)) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(sequences(labels=st.integers(1, 3)), min_size=1, max_size=3))
def test_sequences_and_classes_combine_as_in_trackeval(found):
    found = [Sequence(f"s{i}", each.frames, each.gt, each.tracker) for i, each in enumerate(found)]
    skip = {"frames", "fp_per_frame"}
    for each in found:
        for label in each.labels():
            skip |= documented(of_class(each, label)) & {"frag"}
    labels = sorted({label for each in found for label in each.labels()})
    result = evaluate_mot(found)
    if not labels:
        assert result.combined.gt_boxes == result.combined.tracker_boxes == 0
        return
    per_class = []
    for label in labels:
        parts = [figures_of(data_of(of_class(each, label))) for each in found]
        per_class.append(combine(parts, "combine_sequences"))
        assert differences(result.per_class[str(label)], per_class[-1], skip=skip) == []
    assert differences(result.combined, combine(per_class, "combine_classes_det_averaged"), skip=skip) == []
    assert differences(result.class_averaged, combine(per_class, "combine_classes_class_averaged"), skip=skip) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sequences(), st.sampled_from([0.1, 0.3, 0.75, 1.0]))
def test_another_iou_for_matches_equals_trackeval(sequence, match_iou):
    data = data_of(sequence)
    from trackeval.metrics import CLEAR, Identity

    config = {"THRESHOLD": match_iou, "PRINT_CONFIG": False}
    theirs = {
        "HOTA": figures_of(data)["HOTA"],
        "CLEAR": CLEAR(config).eval_sequence(data),
        "Identity": Identity(config).eval_sequence(data),
    }
    ours = evaluate_mot([sequence], match_iou=match_iou).combined
    assert differences(ours, theirs, skip=documented(sequence)) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_crowd_equals_trackeval(seed):
    """Sixty boxes a frame in a small picture: nearly every frame needs the Hungarian method."""
    rng = np.random.default_rng(seed)
    frame = np.repeat(np.arange(40), 60)
    identity = np.tile(np.arange(60), 40)
    corner = rng.uniform(0, 120, (60, 2))[identity] + rng.normal(0, 2, (2400, 2))
    size = rng.uniform(25, 60, (60, 2))[identity]
    gt = Tracks(frame=frame, id=identity, box=np.hstack([corner, corner + size]))
    seen = rng.random(2400) > 0.2
    moved = gt.box[seen] + rng.normal(0, 4, (int(seen.sum()), 4))
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2])
    swapped = np.where(frame[seen] > 20, (identity[seen] + 1) % 60, identity[seen])
    sequence = Sequence("crowd", 40, gt, Tracks(frame=frame[seen], id=swapped, box=moved))
    assert differences(evaluate_mot([sequence]).combined, figures_of(data_of(sequence))) == []


def line_of(frames, *, identity=1, left=0.0) -> Tracks:
    count = len(frames)
    box = np.tile([left, 0.0, left + 10, 10.0], (count, 1))
    return Tracks(frame=np.array(frames, np.int64), id=np.full(count, identity), box=box)


def test_a_frame_without_predictions_interrupts_a_track():
    sequence = Sequence("s", 5, line_of(range(5)), line_of([0, 1, 3, 4]))
    assert evaluate_mot([sequence]).combined.clear.frag == 1
    assert figures_of(data_of(sequence))["CLEAR"]["Frag"] == 0  # what we differ from


def test_a_frame_without_any_labelled_box_does_not():
    sequence = Sequence("s", 5, line_of([0, 1, 3, 4]), line_of([0, 1, 3, 4]))
    assert evaluate_mot([sequence]).combined.clear.frag == 0


def test_a_match_is_continued_across_frames_without_predictions():
    """In the last frame two predictions fit: the one of before is kept, though the other fits better."""
    other = line_of([3], identity=2)
    kept = line_of([0, 3], identity=1, left=2.0)
    tracker = Tracks(
        frame=np.concatenate([kept.frame, other.frame]),
        id=np.concatenate([kept.id, other.id]),
        box=np.vstack([kept.box, other.box]),
    )
    sequence = Sequence("s", 4, line_of(range(4)), tracker)
    result = evaluate_mot([sequence]).combined
    assert (result.clear.idsw, result.clear.tp) == (0, 2)
    assert differences(result, figures_of(data_of(sequence)), skip={"frag"}) == []


def test_boxes_without_area_overlap_nothing():
    speck = Tracks(frame=np.array([0]), id=np.array([1]), box=np.array([[0.0, 0.0, 1e-9, 1e-9]]))
    sequence = Sequence("s", 1, speck, speck)
    assert evaluate_mot([sequence]).combined.clear.tp == 0
    assert differences(evaluate_mot([sequence]).combined, figures_of(data_of(sequence))) == []


def test_mostly_tracked_is_more_than_80_percent():
    tracked = [
        evaluate_mot([Sequence("s", 10, line_of(range(10)), line_of(range(hits)))]).combined.clear for hits in (8, 9)
    ]
    assert [(clear.mt, clear.pt) for clear in tracked] == [(0, 1), (1, 0)]


def test_no_predictions_and_no_ground_truth():
    nothing = evaluate_mot([Sequence("s", 3, Tracks.empty(), Tracks.empty())]).metrics()
    assert set(nothing.values()) == {0.0}
    missed = evaluate_mot([Sequence("s", 3, line_of([0, 1]), Tracks.empty())]).combined
    assert (missed.clear.fn, missed.clear.ml, missed.clear.frames, missed.identity.idfn) == (2, 1, 3, 2)
    imagined = evaluate_mot([Sequence("s", 4, Tracks.empty(), line_of([0, 1]))]).combined
    assert (imagined.clear.fp, imagined.clear.fp_per_frame, imagined.identity.idfp) == (2, 0.5, 2)


def test_huge_ids_and_a_far_frame_cost_nothing():
    sequence = Sequence(
        "s", 9_000_000, line_of([0, 8_999_999], identity=2**53), line_of([0, 8_999_999], identity=-(2**53))
    )
    result = evaluate_mot([sequence])
    assert result.metrics()["hota"] == pytest.approx(1.0)
    assert result.combined.clear.frames == 9_000_000


def test_rows_may_come_in_any_order():
    (sequence,) = read_sequences(BUNDLED / "TUD-Campus", BUNDLED / "TUD-Campus" / "test.txt")
    rng = np.random.default_rng(0)
    mixed = [side.take(rng.permutation(len(side))) for side in (sequence.gt, sequence.tracker)]
    shuffled = evaluate_mot([Sequence("s", sequence.frames, *mixed)]).metrics()
    assert shuffled == pytest.approx(evaluate_mot([sequence]).metrics(), abs=1e-9)


def test_metrics_have_catalogue_names_and_units():
    metrics = evaluate_mot(read_sequences(BUNDLED, BUNDLED)).metrics()
    assert list(metrics) == [name for name, spec in CATALOGUE.items() if spec.group == "mot"]
    for name, value in metrics.items():
        assert CATALOGUE[name].unit == "count" or 0 <= value <= 1


def test_the_result_is_plain_json_and_a_table():
    result = evaluate_mot(read_sequences(BUNDLED, BUNDLED))
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["combined"]["hota"]["hota"] == pytest.approx(result.metrics()["hota"])
    assert len(document["combined"]["hota"]["by_alpha"]["hota"]) == len(ALPHAS) == 19
    assert "TUD-Stadtmitte" in result._repr_html_()
    assert "<script" not in evaluate_mot([Sequence("<script>", 1, Tracks.empty(), Tracks.empty())])._repr_html_()


def test_many_thousands_of_tracks_need_no_square_matrix():
    """Ten thousand short tracks of each side: a matrix of all couples would be 800 MB."""
    count = 10_000
    frame = np.arange(count) // 10
    left = (np.arange(count) % 10) * 100.0
    box = np.stack([left, np.zeros(count), left + 50, np.full(count, 50.0)], axis=1)
    gt = Tracks(frame=frame, id=np.arange(count), box=box)
    tracker = Tracks(frame=frame, id=np.arange(count)[::-1], box=box)
    result = evaluate_mot([Sequence("s", 1000, gt, tracker)]).combined
    assert (result.identity.idtp, result.clear.idsw) == (count, 0)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 9)), min_size=1, unique_by=lambda t: t[:2])
)
def test_sparse_identity_matching_equals_the_dense_one(couples):
    row, column, worth = (np.array(values) for values in zip(*couples, strict=True))
    assert _best_total_sparse(row, column, worth, 7, 7) == _best_total(row, column, worth)


def motmetrics_of(sequences_) -> MotResult:
    return evaluate_mot(sequences_, evaluator="motmetrics")


def test_motmetrics_as_evaluator_gives_its_figures_and_accumulators():
    import motmetrics

    result = motmetrics_of(read_sequences(BUNDLED, BUNDLED))
    accumulator = result.accumulators["TUD-Campus", "pedestrian"]
    assert isinstance(accumulator, motmetrics.MOTAccumulator)
    found = motmetrics.metrics.create().compute(accumulator, metrics=["mota", "idf1", "num_switches"], name="c")
    campus = result.per_sequence["TUD-Campus"]
    assert campus.clear.mota == pytest.approx(found.mota.iloc[0])
    assert campus.identity.idf1 == pytest.approx(found.idf1.iloc[0])
    assert campus.clear.idsw == found.num_switches.iloc[0] == 7


def test_figures_that_motmetrics_lacks_are_absent():
    result = motmetrics_of(read_sequences(BUNDLED, BUNDLED))
    assert "hota" not in result.metrics()
    assert "hota" not in result.to_dict()["combined"]
    assert result.combined.hota is None


def test_motmetrics_agrees_with_us_where_conventions_agree():
    ours, theirs = (
        evaluate_mot(read_sequences(BUNDLED, BUNDLED), evaluator=name).metrics()
        for name in ("guardianflow", "motmetrics")
    )
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("sides", [("gt",), ("tracker",), ()])
def test_motmetrics_with_an_empty_side(sides):
    gt, tracker = (line_of([0, 1]) if side in sides else Tracks.empty() for side in ("gt", "tracker"))
    ours, theirs = (
        evaluate_mot([Sequence("s", 2, gt, tracker)], evaluator=name).combined
        for name in ("guardianflow", "motmetrics")
    )
    assert (theirs.clear, theirs.identity) == (ours.clear, ours.identity)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preprocess": "mot99"}, "mot99.*known: none, mot17, mot20, kitti"),
        ({"evaluator": "trackeval"}, "no MOT evaluator named 'trackeval'"),
        ({"classes": ["cat"]}, "no sequence has a class cat"),
        ({"match_iou": 0.0}, "above 0"),
        ({"preprocess": "kitti"}, "calls class 1 'car'.*'pedestrian'"),
        ({"preprocess": "mot17", "classes": ["car"]}, "mot17 scores no class car; it scores: 1 pedestrian"),
    ],
)
def test_what_can_not_be_scored_is_said(options, message):
    with pytest.raises((InputError, NotFoundError), match=message):
        evaluate_mot(read_sequences(BUNDLED, BUNDLED), **options)


def test_a_sequence_may_come_once_and_there_must_be_one():
    sequence = Sequence("s", 1, Tracks.empty(), Tracks.empty())
    with pytest.raises(InputError, match="came twice"):
        evaluate_mot([sequence, sequence])
    with pytest.raises(InputError, match="no sequence"):
        evaluate_mot([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box": [[0, 0, np.nan, 1], [0, 0, 1, 1]]}, "finite"),
        ({"box": [[0, 0, 1, 1], [5, 0, 4, 1]]}, "x2 ≥ x1.*box 1"),
        ({"frame": [-1, 0]}, "counted from 0"),
        ({"frame": [0, 0], "id": [3, 3]}, "id 3 is twice in frame 0"),
        ({"id": [0.5, 1]}, "whole numbers"),
        ({"id": [2**54, 1]}, "2\\*\\*53"),
        ({"confidence": [1.0]}, "one value a box"),
    ],
)
def test_tracks_that_make_no_sense_are_refused(change, message):
    values = {"frame": [0, 1], "id": [1, 1], "box": [[0, 0, 1, 1], [0, 0, 1, 1]], **change}
    with pytest.raises(InputError, match=message):
        Tracks(**{name: np.array(value) for name, value in values.items()})


def test_a_box_beyond_the_end_of_the_sequence_is_refused():
    with pytest.raises(InputError, match="has 3 frames; the result has a box in frame 3"):
        Sequence("s", 3, Tracks.empty(), line_of([3]))
