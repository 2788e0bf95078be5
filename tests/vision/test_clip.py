"""Annotated clips: what is drawn, what they weigh, and that a browser shows them."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardianflow.evaluation.mot.sequences import Tracks
from guardianflow.exceptions import InputError
from guardianflow.vision.pipeline.frames import FrameSource, open_source
from guardianflow.vision.tracking.clip import ClipView, _tag, track_colour, write_clip
from tests.vision.tracked_scene import truth_of, walkers, write_images, write_video

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def source(tmp_path: Path) -> FrameSource:
    return open_source(write_images(tmp_path / "정문", range(60)), fps=10)


def pictures(file: Path) -> list[np.ndarray]:
    found = []
    with Image.open(file) as image:
        assert image.format == "WEBP"
        for number in range(image.n_frames):
            image.seek(number)
            found.append(np.asarray(image.convert("RGB")).astype(int))
    return found


def near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel - np.array(colour)).max() < 60)


def test_boxes_are_drawn_in_their_tracks_colour(source: FrameSource, tmp_path: Path) -> None:
    clip = write_clip(source, truth_of(walkers()), tmp_path / "클립.mp4", names={1: "사람"}, seconds=2)
    assert clip.path == tmp_path / "클립.webp"
    assert (clip.frames, clip.first, clip.last, clip.fps, clip.width, clip.height) == (20, 0, 19, 10.0, 320, 240)
    assert clip.size == clip.path.stat().st_size
    shown = pictures(clip.path)
    assert len(shown) == 20
    assert near(shown[10][110, 65], track_colour(1))  # lower edge of the box that stands at 50–80
    assert near(shown[10][210, 265], track_colour(2))
    assert near(shown[10][110, 40], track_colour(1))  # its way here
    assert not near(shown[0][110, 100], track_colour(1))
    assert len({track_colour(identity) for identity in range(1, 8)}) == 7
    assert track_colour(8) == track_colour(1)


def test_a_clip_shows_the_stretch_where_most_happens(source: FrameSource, tmp_path: Path) -> None:
    late = truth_of(walkers())
    late = late.take((late.frame >= 40) & (late.frame < 55))
    clip = write_clip(source, late, tmp_path / "a", seconds=1.5)
    assert (clip.first, clip.last) == (40, 54)
    assert write_clip(source, late, tmp_path / "b", seconds=1, first=3).first == 3
    nothing = write_clip(source, Tracks.empty(), tmp_path / "c")
    assert (nothing.first, nothing.frames) == (0, 60)


def test_fast_videos_leave_pictures_out_and_keep_their_pace(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "v.mp4", 40, fps=30))
    clip = write_clip(source, Tracks.empty(), tmp_path / "a", width=128)
    assert (clip.frames, clip.fps, clip.width, clip.height) == (20, 15.0, 128, 96)
    with Image.open(clip.path) as image:
        image.seek(1)
        image.load()
        assert image.info["duration"] == 67


def test_a_clip_stays_below_its_limit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "noise"
    folder.mkdir()
    for number in range(8):
        Image.fromarray(rng.integers(0, 255, (240, 320, 3), np.uint8)).save(folder / f"{number}.png")
    large = write_clip(open_source(folder), Tracks.empty(), tmp_path / "large")
    small = write_clip(open_source(folder), Tracks.empty(), tmp_path / "small", max_bytes=large.size // 2)
    assert small.size <= large.size // 2


def test_broken_frames_are_left_out_and_nothing_to_show_is_an_error(source: FrameSource, tmp_path: Path) -> None:
    (source.path / "000002.jpg").write_bytes(b"")
    assert write_clip(source, truth_of(walkers()), tmp_path / "a", seconds=1, first=0).frames == 9
    with pytest.raises(InputError, match="no frame to show from frame 60 on"):
        write_clip(source, Tracks.empty(), tmp_path / "a", first=60)
    with pytest.raises(InputError, match="a clip has up to 10 seconds"):
        write_clip(source, Tracks.empty(), tmp_path / "a", seconds=11)
    assert not list(tmp_path.glob(".*.part"))


def test_korean_names_are_drawn_as_letters() -> None:
    # Letters that a font lacks are all the same empty box.
    assert not np.array_equal(_tag("가", (0, 0, 0), 20), _tag("힣", (0, 0, 0), 20))
    assert _tag("차량 12", (0, 0, 0), 20).max() == 255  # white on dark
    assert _tag("차량 12", (240, 228, 66), 20).min() < 40  # black on light


def test_a_notebook_shows_a_clip_or_says_why_not(source: FrameSource, tmp_path: Path) -> None:
    clip = write_clip(source, truth_of(walkers()), tmp_path / "<b>", seconds=1)
    shown = ClipView(clip)._repr_mimebundle_()
    assert shown == clip._repr_mimebundle_()
    assert shown["text/plain"] == "Tracked clip <b>.webp"
    assert base64.b64decode(shown["image/webp"]) == clip.path.read_bytes()
    clip.path.write_bytes(bytes(4_000_001))
    assert "4.0 MB, too much for a page" in ClipView(clip)._repr_mimebundle_()["text/plain"]
    clip.path.unlink()
    assert list(ClipView(clip)._repr_mimebundle_()) == ["text/plain"]
    assert "isn't there any more" in repr(ClipView(clip))


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing: apt-get install chromium")
def test_a_browser_without_network_shows_the_clip(source: FrameSource, tmp_path: Path) -> None:
    clip = write_clip(source, truth_of(walkers()), tmp_path / "clip", names=["", "사람"], seconds=1)
    page = tmp_path / "page.html"
    page.write_text(f'<meta charset="utf-8"><body style="margin:0"><img src="{clip.path.as_uri()}">', encoding="utf-8")
    subprocess.run(
        [
            str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=1000", "--window-size=400,300",
            f"--screenshot={tmp_path / 'seen.png'}", page.as_uri(),
        ],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    with Image.open(tmp_path / "seen.png") as image:
        seen = np.asarray(image.convert("RGB")).astype(int)
    box = np.abs(seen[100:240, :320] - np.array(track_colour(2))).max(axis=2) < 40
    assert box.sum() > 200  # the frame of the one who walks below
