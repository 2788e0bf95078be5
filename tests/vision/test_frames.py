"""Sources of frames: what is read, what is said about it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.vision.pipeline.frames import MotSequence, VideoFile, open_source
from tests.vision.tracked_scene import cut_video, write_images, write_video


def sequence(
    folder: Path, *, info: str = "imDir=img1\nframeRate=25\nseqLength=6\n", numbers: range = range(1, 7)
) -> Path:
    write_images(folder / "img1", numbers)
    (folder / "seqinfo.ini").write_text(f"[Sequence]\nname=정문 01\n{info}", encoding="utf-8")
    (folder / "gt").mkdir()
    (folder / "gt" / "gt.txt").write_text("1,1,20,40,30,70,1,1,1\n")
    return folder


def test_a_video_tells_its_size_and_rate_and_can_be_read_twice(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "주차장 영상.mp4", 12))
    assert isinstance(source, VideoFile)
    assert (source.name, source.frames, source.fps, source.width, source.height) == ("주차장 영상", 12, 20.0, 320, 240)
    for _ in range(2):
        frames = list(source)
        assert [frame.number for frame in frames] == list(range(12))
        assert all(frame.image is not None and frame.image.shape == (240, 320, 3) for frame in frames)
        assert source.note == ""
    assert open_source(source.path, fps=5).fps == 5


def test_a_video_that_ends_early_says_both_counts(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", 40)
    source = open_source(cut_video(whole, tmp_path / "cut.mp4", keep=0.5))
    assert source.frames == 40
    next(iter(source))
    assert source.note == ""  # not gone through yet
    count = sum(1 for _ in source)
    assert 2 <= count < 40
    assert source.note == f"cut ends early: it says that it has 40 frames, {count} could be read."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"no video at all" * 100, "can't be opened as a video"),
        (b"#EXTM3U\n#EXTINF:5,\n/etc/passwd\n", "is a list of other files"),
        (b"\xef\xbb\xbfffconcat version 1.0\nfile 'x.mp4'\n", "is a list of other files"),
    ],
)
def test_files_that_are_no_video_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "깨진.mp4"
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"깨진.mp4 {message}"):
        open_source(file)


def test_a_video_without_its_index_is_refused(tmp_path: Path) -> None:
    file = write_video(tmp_path / "whole.mp4", 20)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"whole.mp4 can't be opened|not one frame"):
        open_source(file)


def test_folders_are_read_in_natural_order(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "그림", (1, 2, 10), name="프레임 {}.jpg")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.jpg").write_bytes(b"")
    source = open_source(folder)
    assert (source.name, source.frames, source.fps, source.ground_truth) == ("그림", 3, 30.0, None)
    lefts = [int((frame.image[75, :, 2] > 200).argmax()) for frame in source if frame.image is not None]
    assert lefts == sorted(lefts)
    assert len(lefts) == 3


def test_a_broken_image_is_reported_and_keeps_its_place(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "seq", range(5))
    (folder / "000000.jpg").write_bytes(b"")
    source = open_source(folder)
    assert (source.width, source.height) == (320, 240)
    assert [frame.image is None for frame in source] == [True, False, False, False, False]
    assert list(source.problems) == [0]
    assert "1 of 5 frames couldn't be read; the first:" in source.note
    for file in folder.iterdir():
        file.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"no image in .* can be decoded"):
        open_source(folder)


def test_mot_sequences_are_read_with_their_rate_and_truth(tmp_path: Path) -> None:
    source = open_source(sequence(tmp_path / "gate"))
    assert isinstance(source, MotSequence)
    assert (source.name, source.frames, source.fps) == ("정문 01", 6, 25.0)
    assert source.ground_truth == tmp_path / "gate" / "gt" / "gt.txt"
    assert sum(1 for _ in source) == 6
    assert source.note == ""


def test_frames_of_a_mot_sequence_stand_at_their_number(tmp_path: Path) -> None:
    folder = sequence(tmp_path / "gate")
    (folder / "img1" / "000003.jpg").unlink()
    (folder / "img1" / "000006.jpg").unlink()
    source = open_source(folder)
    assert [frame.image is None for frame in source] == [False, False, True, False, False]
    assert "gate" not in source.problems[2]
    assert source.problems[2] == "frame 3 has no file."
    assert "it says that it has 6 frames, 5 could be read" in source.note


def test_a_sequence_with_more_images_than_it_says_ends_where_it_says(tmp_path: Path) -> None:
    source = open_source(sequence(tmp_path / "gate", numbers=range(1, 10)))
    assert sum(1 for _ in source) == 6
    assert "says that it has 6 frames; 9 images are there" in source.note


@pytest.mark.parametrize("inside", ["../outside", "/etc", "img1/../../outside", "link"])
def test_a_sequence_does_not_lead_out_of_its_folder(tmp_path: Path, inside: str) -> None:
    write_images(tmp_path / "outside", range(1, 4))
    folder = sequence(tmp_path / "gate", info=f"imDir={inside}\n")
    (folder / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="imDir must stay inside"):
        open_source(folder)


def test_truth_does_not_lead_out_either(tmp_path: Path) -> None:
    folder = sequence(tmp_path / "gate")
    (folder / "gt" / "gt.txt").unlink()
    (tmp_path / "secret.txt").write_text("1,1,1,1,1,1,1,1,1\n")
    (folder / "gt" / "gt.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(InputError, match=r"gt/gt.txt must stay inside"):
        open_source(folder)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ("no ini", "can't be read"),
        ("[Other]\na=1\n", r"has no section \[Sequence\]"),
        ("x" * 70_000, "larger than 64 KiB"),
    ],
)
def test_a_seqinfo_that_is_none_is_refused(tmp_path: Path, info: str, message: str) -> None:
    folder = sequence(tmp_path / "gate")
    (folder / "seqinfo.ini").write_text(info)
    with pytest.raises(InputError, match=message):
        open_source(folder)


def test_odd_figures_in_seqinfo_are_replaced_and_named(tmp_path: Path) -> None:
    source = open_source(sequence(tmp_path / "gate", info="imDir=img1\nframeRate=nan\nseqLength=many\n"))
    assert (source.fps, source.frames) == (30.0, 6)
    assert "doesn't say its frame rate" in source.note


def test_what_is_no_source_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no video file or folder"):
        open_source(tmp_path / "absent.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        open_source(tmp_path / "empty")
    sequence(tmp_path / "train" / "MOT17-02")
    with pytest.raises(InputError, match="holds 1 sequences; name one of them: MOT17-02"):
        open_source(tmp_path / "train")
    image = write_images(tmp_path / "one", [1]) / "000001.jpg"
    with pytest.raises(InputError, match="is one image"):
        open_source(image)
    with pytest.raises(InputError, match="fps must lie above 0"):
        open_source(tmp_path / "one", fps=0)
