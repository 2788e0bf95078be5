"""Trackers keep identities, share nothing, and say what they don't take."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.vision.pipeline.frames import open_source
from guardianflow.vision.tracking.run import TrackingRecord, track_source
from guardianflow.vision.tracking.tracker import TRACKERS, Tracker, TrackerSpec, Tracks, tracker_options
from tests.vision.tracked_scene import (
    Found,
    Replay,
    cut_video,
    found,
    nothing,
    picture,
    walkers,
    write_images,
    write_video,
)

NAMES = ["botsort", "bytetrack", "deepocsort", "fasttrack", "ocsort", "tracktrack"]


def follow(name: str, scene: list[Found], **options: object) -> list[Tracks]:
    tracker = Tracker(name, **options)  # type: ignore[arg-type]
    return [tracker.update(part, picture(number)) for number, part in enumerate(scene)]


def ids(frames: list[Tracks], *, upper: bool) -> set[int]:
    return {int(i) for part in frames for i, box in zip(part.ids, part.boxes, strict=True) if (box[1] < 120) == upper}


def test_all_trackers_that_ultralytics_ships_can_be_chosen() -> None:
    from ultralytics.trackers.track import TRACKER_MAP

    assert set(TRACKER_MAP) == set(NAMES) <= set(TRACKERS.names())


@pytest.mark.parametrize("name", NAMES)
def test_identities_outlast_an_occlusion(name: str) -> None:
    frames = follow(name, walkers(noise=0.5))
    assert len(ids(frames, upper=True)) == 1
    assert len(ids(frames, upper=False)) == 1
    assert ids(frames, upper=True).isdisjoint(ids(frames, upper=False))
    assert len(frames[28]) == 1  # the hidden one isn't made up
    assert len(frames[-1]) == 2
    last = walkers()[-1].boxes
    assert np.abs(frames[-1].boxes[np.argsort(frames[-1].boxes[:, 1])] - last).max() < 12


@pytest.mark.parametrize("name", NAMES)
def test_the_same_frames_give_the_same_tracks(name: str) -> None:
    one, other = (follow(name, walkers(noise=1.5, seed=3)) for _ in range(2))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.ids, second.ids)
        np.testing.assert_array_equal(first.boxes, second.boxes)


def test_two_sequences_at_once_share_no_identities_and_a_reset_begins_anew() -> None:
    scene = walkers(20)
    alone = follow("bytetrack", scene)
    one, other = Tracker("bytetrack"), Tracker("bytetrack")
    for number, part in enumerate(scene):
        mine, theirs = one.update(part), other.update(part)
        np.testing.assert_array_equal(mine.ids, alone[number].ids)
        np.testing.assert_array_equal(theirs.ids, alone[number].ids)
    one.reset()
    assert one.update(scene[0]).ids.tolist() == [1, 2]
    assert one.frame == len(one.times) == 1


class CountsForAll:
    """A tracker that numbers its tracks with the class attribute that all trackers share."""

    def __init__(self, args: SimpleNamespace) -> None:
        from ultralytics.trackers.basetrack import BaseTrack

        self._next = BaseTrack.next_id
        BaseTrack.reset_id()

    def update(self, boxes: object, image: object) -> np.ndarray:
        return np.array([[0, 0, 9, 9, self._next(), 0.9, 0, place] for place in range(len(boxes))])  # type: ignore[arg-type]


def test_a_tracker_that_counts_for_all_is_kept_apart(tmp_path: Path) -> None:
    from ultralytics.trackers.basetrack import BaseTrack

    config = tmp_path / "own.yaml"
    config.write_text("tracker_type: own\nreach: 0.5\n")
    TRACKERS.register("own", TrackerSpec("own", "Own", f"{__name__}:CountsForAll", str(config)), replace=True)
    try:
        BaseTrack._count = 40  # the user's own tracking, in the same process
        one, other = Tracker("own"), Tracker("own", options={"reach": 0.7})
        part = found((0, 0, 9, 9))
        assert [int(tracker.update(part).ids[0]) for tracker in (one, one, other, one, other)] == [1, 2, 1, 3, 2]
        assert BaseTrack._count == 40
    finally:
        TRACKERS._entries.pop("own")
        BaseTrack.reset_id()


@pytest.mark.parametrize("name", NAMES)
def test_frames_without_detections_and_boxes_without_area_are_no_trouble(name: str) -> None:
    tracker = Tracker(name)
    assert len(tracker.update(nothing(), picture(0))) == 0
    assert len(tracker.update(None)) == 0
    flat = found((10, 10, 10, 50), (5, 5, 4, 4), (0, 0, float("nan"), 9), (20, 20, 60, 90))
    for _ in range(4):
        tracks = tracker.update(flat, picture(0))
    assert tracks.detections.tolist() == [3]
    assert tracks.frame == 6
    assert len(tracker.times) == 6


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_images_of_changing_size_do_not_stop_the_estimate_of_camera_motion() -> None:
    tracker = Tracker("botsort")
    for number, part in enumerate(walkers(12)):
        tracker.update(part, picture(number, width=320 + 64 * (number // 4)))
    assert not any("GMC failed" in text for text in tracker.warnings)


def test_what_a_tracker_complains_of_is_counted_and_not_printed() -> None:
    from ultralytics.utils import LOGGER

    tracker, heard = Tracker("botsort"), Heard()
    blank = np.zeros((64, 64, 3), np.uint8)
    blank[20:22, 20:22] = 255
    LOGGER.addHandler(heard)
    try:
        for _ in range(3):
            tracker.update(nothing(), blank)
        LOGGER.warning("somebody else's")
    finally:
        LOGGER.removeHandler(heard)
    assert tracker.warnings == {"not enough matching points": 2}
    assert len(heard.messages) == 1
    assert heard.messages[0].endswith("somebody else's")
    tracker.reset()
    assert tracker.warnings == {}


def test_what_a_tracker_does_not_take_is_named() -> None:
    with pytest.raises(NotFoundError, match=r"no tracker named 'bytetrak'.*Did you mean 'bytetrack'"):
        Tracker("bytetrak")
    with pytest.raises(InputError, match=r"bytetrack has no option 'gmc_method'. It has: .*track_buffer"):
        Tracker("bytetrack", options={"gmc_method": "orb"})
    for option in ({"match_thresh": 1.5}, {"track_buffer": 2.5}, {"fuse_score": 1}, {"track_buffer": True}):
        with pytest.raises(InputError, match=f"{next(iter(option))} of bytetrack must be"):
            Tracker("bytetrack", options=option)
    with pytest.raises(InputError, match="gmc_method of botsort must be one of none, sparseOptFlow"):
        Tracker("botsort", options={"gmc_method": "magic"})
    with pytest.raises(InputError, match="with_reid can't be used"):
        Tracker("botsort", options={"with_reid": True})
    with pytest.raises(InputError, match="frame_rate"):
        Tracker("bytetrack", frame_rate=0)
    assert "with_reid" not in tracker_options("botsort")


def test_lost_tracks_are_kept_for_the_same_time_at_each_frame_rate() -> None:
    assert Tracker("bytetrack").options["track_buffer"] == tracker_options("bytetrack")["track_buffer"] == 30
    assert Tracker("bytetrack", frame_rate=10).options["track_buffer"] == 10
    assert Tracker("bytetrack", frame_rate=10, options={"track_buffer": 25}).options["track_buffer"] == 25
    gone = [*walkers(24), *(found(part.boxes[-1]) for part in walkers(45)[24:44]), *walkers(60)[44:]]
    assert len(ids(follow("bytetrack", gone, options={"track_buffer": 5}), upper=True)) == 2
    assert len(ids(follow("bytetrack", gone, options={"track_buffer": 60}), upper=True)) == 1


def test_a_source_is_tracked_and_the_record_comes_back_from_its_files(tmp_path: Path) -> None:
    source = open_source(write_images(tmp_path / "정문 카메라", range(60)))
    record = track_source(Replay(walkers()), source, classes=["사람"], facts={"backend": "replay"})
    assert (record.frames, record.identities, record.note) == (60, 2, "")
    assert len(record.stages.tracking) == 60
    folder = record.save(tmp_path / "결과")
    assert (folder / "정문 카메라.txt").read_text().startswith("1,1,")
    again = TrackingRecord.load(folder)
    np.testing.assert_array_equal(again.tracks.box, record.tracks.box)
    assert {**again.to_dict(), "times": 0} == {**record.to_dict(), "times": 0}
    (folder / "tracking.json").write_text("{}")
    with pytest.raises(InputError, match="no tracking that can be read"):
        TrackingRecord.load(folder)


def test_a_broken_frame_keeps_its_place_and_nothing_found_is_a_result(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "seq", range(10))
    (folder / "000004.jpg").write_bytes(b"\xff\xd8 no image")
    replay = Replay([part for number, part in enumerate(walkers(10)) if number != 4])
    record = track_source(replay, open_source(folder))
    assert record.frames == 10
    assert len(record.stages.tracking) == 9
    assert sorted(set(record.tracks.frame.tolist())) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert record.identities == 2
    assert "1 of 10 frames couldn't be read" in record.note
    assert "000004.jpg" in record.note
    empty = track_source(Replay([nothing()] * 10), open_source(write_images(tmp_path / "b", range(10))), limit=6)
    assert (empty.frames, len(empty.tracks), empty.identities) == (6, 0, 0)
    assert TrackingRecord.load(empty.save(tmp_path / "empty")).tracks.box.shape == (0, 4)


def test_a_video_that_ends_early_is_tracked_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", 40)
    source = open_source(cut_video(whole, tmp_path / "끊긴 영상.mp4", keep=0.5))
    record = track_source(Replay(walkers(40)), source)
    assert 2 <= record.frames < 40
    assert record.identities == 2
    assert f"it says that it has 40 frames, {record.frames} could be read" in record.note
