"""Generated scenes as files: datasets and clips that are complete, repeatable and never overwrite."""

from __future__ import annotations

import configparser
import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from guardianflow.data.dataset import check_dataset, read_dataset
from guardianflow.exceptions import InputError, InvalidNameError
from guardianflow.scenes.scene_light import CONDITIONS
from guardianflow.scenes.scene_sites import SITES
from guardianflow.scenes.scenes import (
    CONDITION_NAMES,
    LABELS,
    MOT_CLASSES,
    SITE_NAMES,
    SceneConfig,
    generate_clip,
    generate_images,
)

SMALL = SceneConfig(imgsz=96, seed=5)
EVERY_PLACE = [(site, condition) for site in SITE_NAMES for condition in CONDITION_NAMES]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def labels(folder: Path) -> NDArray[np.float64]:
    rows = [line.split() for path in sorted(folder.glob("labels/*/*.txt")) for line in path.read_text().splitlines()]
    return np.array(rows, dtype=float)


def ground_truth(path: Path) -> NDArray[np.float64]:
    return np.loadtxt(path, delimiter=",", ndmin=2)


@pytest.fixture(scope="module")
def clip_rows(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float64]:
    clip = generate_clip(tmp_path_factory.mktemp("clip"), config=SceneConfig(site="gate", seed=1))
    return ground_truth(clip.ground_truth)


# -- datasets ---------------------------------------------------------------------------------------


def test_dataset_passes_the_check_that_a_training_makes(tmp_path: Path) -> None:
    made = generate_images(tmp_path / "scenes", images=10, config=SMALL)
    report = check_dataset(read_dataset(made.data_yaml))
    assert report.problems == ()
    assert made.images == {"train": 8, "val": 2}
    assert report.images == 10
    assert made.boxes == len(labels(made.folder)) > 0


@pytest.mark.parametrize(("site", "condition"), EVERY_PLACE)
def test_images_hold_both_classes_in_learnable_sizes(tmp_path: Path, site: str, condition: str) -> None:
    config = SceneConfig(site=site, condition=condition, seed=2)
    rows = labels(generate_images(tmp_path / "s", images=24, config=config).folder)
    assert set(rows[:, 0]) == {0, 1}
    assert 3 <= len(rows) / 24 <= 8
    longest = rows[:, 3:].max(axis=1) * config.imgsz
    assert np.percentile(longest, 10) >= 20
    assert np.percentile(longest, 95) <= 150
    assert (rows[:, 1:3] - rows[:, 3:] / 2 >= -1e-6).all()
    assert (rows[:, 1:3] + rows[:, 3:] / 2 <= 1 + 1e-6).all()


def test_same_configuration_gives_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    made = [
        contents(generate_images(tmp_path / str(workers), images=12, config=SMALL, workers=workers).folder)
        for workers in (1, 4)
    ]
    assert made[0] == made[1]


def test_clip_of_the_same_configuration_has_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    made = [
        contents(generate_clip(tmp_path / str(workers), frames=8, config=SMALL, workers=workers).folder)
        for workers in (1, 4)
    ]
    assert made[0] == made[1]


def test_another_process_draws_the_same_bytes(tmp_path: Path) -> None:
    script = (
        "import sys; from guardianflow.scenes.scenes import *;"
        "generate_images(sys.argv[1], images=4, config=SceneConfig(imgsz=96, seed=5))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "there")], check=True, cwd=Path(__file__).parents[2])
    here = generate_images(tmp_path / "here", images=4, config=SMALL)
    assert contents(tmp_path / "there") == contents(here.folder)


def test_no_two_images_are_the_same(tmp_path: Path) -> None:
    made = generate_images(tmp_path / "s", images=30, config=SMALL)
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in made.folder.glob("images/*/*.jpg")]
    assert len(set(digests)) == 30


def test_another_seed_gives_other_images(tmp_path: Path) -> None:
    one = generate_images(tmp_path / "one", images=2, config=SceneConfig(imgsz=96, seed=1))
    other = generate_images(tmp_path / "other", images=2, config=SceneConfig(imgsz=96, seed=2))
    for name in ("images/train/000000.jpg", "labels/train/000000.txt"):
        assert (one.folder / name).read_bytes() != (other.folder / name).read_bytes()


def test_less_visible_movers_than_asked_for_are_not_labelled(tmp_path: Path) -> None:
    crowded = SceneConfig(imgsz=160, people=(6, 8), vehicles=(4, 6))
    counts = [
        generate_images(tmp_path / str(least), images=16, config=replace(crowded, min_visibility=least)).boxes
        for least in (0.0, 0.25, 0.9)
    ]
    assert counts[0] > counts[1] > counts[2] > 0


def test_night_is_darker_than_day_and_fog_takes_contrast_with_distance(tmp_path: Path) -> None:
    stacks = {}
    for condition in CONDITION_NAMES:
        config = SceneConfig(imgsz=160, condition=condition, noise=0)
        made = generate_images(tmp_path / condition, images=6, config=config)
        stacks[condition] = np.stack([cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in made.folder.rglob("*.jpg")])
    assert stacks["night"].mean() < 0.5 * stacks["day"].mean()
    loss = {}
    for band, rows in {"far": slice(25, 60), "near": slice(100, 150)}.items():
        # Along rows, where everything on the ground is equally far.
        loss[band] = stacks["fog"][:, rows].std(axis=2).mean() / stacks["day"][:, rows].std(axis=2).mean()
    assert loss["far"] < 0.9 * loss["near"]
    assert loss["near"] < 0.8


def test_noise_is_what_the_configuration_says(tmp_path: Path) -> None:
    def spread(noise: float) -> float:
        config = SceneConfig(imgsz=160, noise=noise, jpeg_quality=100)
        folder = generate_images(tmp_path / str(noise), images=2, config=config).folder
        image = cv2.imread(str(folder / "images/train/000000.jpg"))
        return float(cv2.Laplacian(image[:, :, 1].astype(float), cv2.CV_64F).std())

    assert spread(0) < spread(4) < spread(12)


def test_paths_with_spaces_and_korean_letters_work(tmp_path: Path) -> None:
    folder = tmp_path / "현장 영상" / "정문 1"
    made = generate_images(folder, images=2, config=SMALL)
    assert check_dataset(read_dataset(made.data_yaml)).problems == ()
    clip = generate_clip(folder.parent, frames=2, config=SMALL, name="정문 밤")
    assert len(list(clip.images.iterdir())) == 2


def test_progress_counts_every_image(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate_images(tmp_path / "s", images=5, config=SMALL, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 5) for n in range(1, 6)]


def test_splits_take_their_shares_and_none_is_empty(tmp_path: Path) -> None:
    shares = {"train": 0.9, "val": 0.05, "test": 0.05}
    made = generate_images(tmp_path / "s", images=6, config=SMALL, splits=shares)
    assert made.images == {"train": 4, "val": 1, "test": 1}
    assert {p.parent.name for p in made.folder.glob("images/*/*.jpg")} == set(shares)


# -- reuse, foreign folders, killed runs ------------------------------------------------------------


def test_existing_dataset_is_reused_and_says_so(tmp_path: Path) -> None:
    first = generate_images(tmp_path / "s", images=4, config=SMALL)
    times = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    (first.folder / "labels" / "train.cache").write_bytes(b"Ultralytics leaves this here")
    second = generate_images(tmp_path / "s", images=4, config=SMALL)
    assert (first.reused, second.reused) == (False, True)
    assert (second.boxes, second.images) == (first.boxes, first.images)
    assert {path: path.stat().st_mtime_ns for path in times if path.is_file()}.items() <= times.items()


def test_deleted_files_are_generated_again(tmp_path: Path) -> None:
    made = generate_images(tmp_path / "s", images=4, config=SMALL)
    before = contents(made.folder)
    (made.folder / "images/train/000001.jpg").unlink()
    again = generate_images(tmp_path / "s", images=4, config=SMALL)
    assert not again.reused
    assert contents(again.folder) == before


@pytest.mark.parametrize("change", [{"seed": 6}, {"condition": "night"}])
def test_dataset_of_another_configuration_is_refused_and_left_alone(tmp_path: Path, change: dict[str, Any]) -> None:
    made = generate_images(tmp_path / "s", images=4, config=SMALL)
    before = contents(made.folder)
    other = SceneConfig(**{"imgsz": 96, "seed": 5, **change})
    with pytest.raises(InputError, match=f"config.{next(iter(change))}"):
        generate_images(tmp_path / "s", images=4, config=other)
    assert contents(made.folder) == before


def test_changed_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    made = generate_images(tmp_path / "s", images=4, config=SMALL)
    label = made.folder / "labels/train/000000.txt"
    label.write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match=r"000000\.txt was changed"):
        generate_images(tmp_path / "s", images=4, config=SMALL)
    assert label.read_text() == "0 0.5 0.5 0.1 0.1\n"


def test_foreign_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="never overwritten"):
        generate_images(folder, images=2, config=SMALL)
    assert contents(folder) == {"holiday.jpg": b"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_manifest_of_somebody_else_does_not_make_a_folder_ours(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "scenes.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match="never overwritten"):
        generate_images(tmp_path / "s", images=2, config=SMALL)


def test_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    with pytest.raises(InputError, match="is a file"):
        generate_images(tmp_path / "s", images=2, config=SMALL)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    assert not generate_images(tmp_path / "s", images=2, config=SMALL).reused


def test_killed_run_leaves_no_target_and_the_next_one_makes_it_whole(tmp_path: Path) -> None:
    script = (
        "import sys, time; from guardianflow.scenes.scenes import *;"
        "generate_images(sys.argv[1], images=40, config=SceneConfig(imgsz=96, seed=5),"
        " progress=lambda done, total: (print(done, flush=True), time.sleep(0.5)))"
    )
    target = tmp_path / "s"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.wait()
    process.stdout.close()
    leftovers = [path.name for path in tmp_path.iterdir()]
    assert len(leftovers) == 1
    assert leftovers[0].startswith(".s.partial-")

    made = generate_images(target, images=40, config=SMALL)
    assert not made.reused
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert contents(made.folder) == contents(generate_images(tmp_path / "t", images=40, config=SMALL).folder)


def test_failing_run_cleans_up(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_images(tmp_path / "s", images=8, config=SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_processes_that_make_the_same_dataset_at_once_all_get_it(tmp_path: Path) -> None:
    script = (
        "import sys; from guardianflow.scenes.scenes import *;"
        "generate_images(sys.argv[1], images=6, config=SceneConfig(imgsz=96, seed=5))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "s")]
    running = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert generate_images(tmp_path / "s", images=6, config=SMALL).reused


# -- clips ------------------------------------------------------------------------------------------


def test_clip_has_the_layout_of_motchallenge(tmp_path: Path) -> None:
    clip = generate_clip(tmp_path, frames=12, fps=10, config=SMALL, name="gate-1")
    assert clip.folder == tmp_path / "gate-1"
    assert sorted(p.name for p in clip.images.iterdir()) == [f"{n:06d}.jpg" for n in range(1, 13)]
    info = configparser.ConfigParser()
    info.optionxform = str  # type: ignore[assignment,method-assign]
    info.read(clip.seqinfo, encoding="utf-8")
    assert dict(info["Sequence"]) == {
        "name": "gate-1", "imDir": "img1", "frameRate": "10", "seqLength": "12",
        "imWidth": "96", "imHeight": "96", "imExt": ".jpg",
    }  # fmt: skip
    assert cv2.imread(str(clip.images / "000001.jpg")).shape == (96, 96, 3)
    rows = ground_truth(clip.ground_truth)
    assert rows.shape == (clip.boxes, 9)
    assert len(set(rows[:, 1])) == clip.tracks


def test_ground_truth_rows_are_in_range_and_no_id_is_twice_in_a_frame(clip_rows: NDArray[np.float64]) -> None:
    frame, identity, left, top, width, height, conf, kind, visibility = clip_rows.T
    assert set(frame) <= set(range(1, 151))
    assert len({*zip(frame, identity, strict=True)}) == len(clip_rows)
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (width > 0).all()
    assert (height > 0).all()
    assert (left + width <= 320).all()
    assert (top + height <= 320).all()
    assert set(conf) <= {0, 1}
    assert ((conf == 0) == (visibility < SceneConfig().min_visibility)).all()
    assert set(kind) == set(MOT_CLASSES.values())
    for one in set(identity):
        assert len(set(kind[identity == one])) == 1


def test_movers_enter_and_leave_the_image(clip_rows: NDArray[np.float64]) -> None:
    spans = [(rows[:, 0].min(), rows[:, 0].max()) for rows in per_track(clip_rows)]
    assert sum(first > 1 for first, _ in spans) >= 2
    assert sum(last < 150 for _, last in spans) >= 2
    assert any(first <= 1 or last >= 150 for first, last in spans)


def test_ids_last_through_occlusion(clip_rows: NDArray[np.float64]) -> None:
    """Somebody is well seen, then mostly hidden inside the image, then well seen under the same id."""
    found = 0
    for rows in per_track(clip_rows):
        inside = (rows[:, 2] > 0) & (rows[:, 2] + rows[:, 4] < 320)
        seen = rows[:, 8]
        hidden = np.flatnonzero(inside & (seen < 0.4))
        if len(hidden):
            found += bool((seen[: hidden[0]] > 0.8).any() and (seen[hidden[-1] :] > 0.8).any())
    assert found >= 1


def test_motion_is_smooth(clip_rows: NDArray[np.float64]) -> None:
    """The ground point jumps by no more than a fast car's way in a frame, and hardly accelerates."""
    for rows in per_track(clip_rows):
        assert (np.diff(rows[:, 0]) == 1).all()
        inside = (rows[:, 2] > 0) & (rows[:, 2] + rows[:, 4] < 320) & (rows[:, 3] + rows[:, 5] < 320)
        foot = np.stack([rows[:, 2] + rows[:, 4] / 2, rows[:, 3] + rows[:, 5]], axis=1)
        steps = np.diff(foot, axis=0)
        assert np.abs(steps[inside[1:] & inside[:-1]]).max(initial=0) <= 12
        bends = np.diff(steps, axis=0)[inside[2:] & inside[1:-1] & inside[:-2]]
        assert np.abs(bends).max(initial=0) <= 5


def test_people_grow_as_they_come_nearer(clip_rows: NDArray[np.float64]) -> None:
    people = clip_rows[(clip_rows[:, 7] == MOT_CLASSES["person"]) & (clip_rows[:, 3] + clip_rows[:, 5] < 319)]
    bottom, height = people[:, 3] + people[:, 5], people[:, 5]
    assert np.ptp(bottom) > 20
    assert np.corrcoef(bottom, height)[0, 1] > 0.7


def per_track(rows: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return [rows[rows[:, 1] == identity] for identity in sorted(set(rows[:, 1]))]


def test_existing_clip_is_reused_and_another_one_refused(tmp_path: Path) -> None:
    first = generate_clip(tmp_path, frames=3, config=SMALL, name="a")
    second = generate_clip(tmp_path, frames=3, config=SMALL, name="a")
    assert (first.reused, second.reused) == (False, True)
    assert (second.tracks, second.boxes) == (first.tracks, first.boxes)
    with pytest.raises(InputError, match="frames is 3, not 4"):
        generate_clip(tmp_path, frames=4, config=SMALL, name="a")


# -- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"site": "harbour"}, r"site .*car_park, gate.*'harbour'"),
        ({"condition": "snow"}, r"condition .*day, fog, night.*'snow'"),
        ({"imgsz": 63}, "imgsz .*64 to 4096, not 63"),
        ({"imgsz": 4097}, "imgsz .*not 4097"),
        ({"imgsz": 320.0}, "imgsz must be a whole number"),
        ({"people": (3, 1)}, r"people must be \(least, most\)"),
        ({"vehicles": (-1, 2)}, "vehicles .*not -1"),
        ({"people": (0, 500)}, "people .*not 500"),
        ({"noise": float("nan")}, "noise .*nan"),
        ({"jpeg_quality": 0}, "jpeg_quality .*1 to 100"),
        ({"min_visibility": 1.5}, "min_visibility .*1.5"),
        ({"seed": -1}, "seed .*-1"),
        ({"seed": True}, "seed .*True"),
    ],
)
def test_configuration_out_of_range_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SceneConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": 1}, "images .*2 to"),
        ({"images": 2, "splits": {"train": 0.4, "val": 0.3, "test": 0.3}}, "at least one a split"),
        ({"images": 9, "splits": {"train": 1.0}}, "name train and val"),
        ({"images": 9, "splits": {"train": 0.5, "val": 0.4}}, "add up to 1"),
        ({"images": 9, "splits": {"train": 0.5, "../val": 0.5}}, "split must be one of"),
        ({"images": 9, "workers": 0}, "workers .*not 0"),
    ],
)
def test_bad_request_for_images_is_refused_before_anything_is_made(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        generate_images(tmp_path / "s", config=SMALL, **values)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../out", "a/b", "a\\b", "a\nb", "a\u202eb", " a", "a.", "x" * 200])
def test_clip_name_that_is_no_plain_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidNameError, match="plain folder name"):
        generate_clip(tmp_path / "inner", frames=2, config=SMALL, name=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser can write everywhere")
def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="can't be made"):
            generate_images(tmp_path / "s", images=2, config=SMALL)
    finally:
        tmp_path.chmod(0o700)


def test_target_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be made"):
        generate_images(tmp_path / "file" / "s", images=2, config=SMALL)


# -- names ------------------------------------------------------------------------------------------


def test_names_offered_are_the_names_that_can_be_drawn() -> None:
    assert set(SITE_NAMES) == set(SITES)
    assert set(CONDITION_NAMES) == set(CONDITIONS)
    assert set(MOT_CLASSES) == set(LABELS)


def test_importing_the_module_loads_no_heavy_package() -> None:
    script = (
        "import sys, guardianflow.scenes.scenes;"
        "print([m for m in ('cv2', 'numpy', 'torch', 'ultralytics', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"


def test_a_link_is_no_folder_to_make(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "scenes").symlink_to("mine")
    with pytest.raises(InputError, match=r"scenes is a link.*Name what it leads to"):
        generate_images(tmp_path / "scenes", images=2, config=SMALL)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "scenes"]
