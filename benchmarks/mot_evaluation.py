"""Scoring a tracker: time and memory beside trackeval and motmetrics, in one run.

    python benchmarks/mot_evaluation.py [--repeats 5] [--frames 10000] [--objects 30] [--short]

Each evaluator gets the same generated boxes, computes the overlaps and counts CLEAR and Identity; ours and trackeval's
count HOTA too. motmetrics takes its distances from trackeval's overlaps: its own function fails with numpy 2. The clock
stands still while packages are imported and boxes are brought into the form that each evaluator reads; ours includes
all its checks. Each repeat is a process of its own, the evaluators take turns, and the peak memory is that of the
whole process, imports and boxes included.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

GOALS = {"trackeval": 8.0, "motmetrics": 10.0}
SIZE = (1920.0, 1080.0)
MISSED, IMAGINED, SWITCHED, LIFE = 0.12, 0.06, 0.002, 600  # shares of boxes; frames an object stays


def generate(frames: int, objects: int, seed: int = 7) -> dict[str, np.ndarray]:
    """Objects that walk and are replaced; predictions that jitter, miss, imagine and change their identity."""
    rng = np.random.default_rng(seed)
    place = np.arange(objects)[None, :]
    life = (np.arange(frames)[:, None] + place * (LIFE // max(objects, 1))) // LIFE  # the how-manieth object it is
    identity = life * objects + place
    start = rng.uniform(0, 1, (int(identity.max()) + 1, 2)) * SIZE
    speed = rng.normal(0, 1.2, (len(start), 2))
    size = rng.uniform(0.6, 1.6, (len(start), 1)) * np.array([50.0, 120.0])
    moment = np.arange(frames)[:, None, None] % LIFE
    corner = (start[identity] + speed[identity] * moment) % SIZE
    gt_box = np.concatenate([corner, corner + size[identity]], axis=2).reshape(-1, 4)
    gt_frame = np.repeat(np.arange(frames), objects)
    gt_id = identity.reshape(-1) + 1

    seen = rng.random(len(gt_id)) > MISSED
    box = gt_box[seen] + rng.normal(0, 3, (int(seen.sum()), 4))
    changes = rng.random((frames, objects)) < SWITCHED
    tracker_id = (np.cumsum(changes, axis=0) * 100_000 + identity).reshape(-1)[seen] + 1
    ghosts = max(1, objects // 8)  # places where the tracker sees something that isn't there
    ghost_frame, ghost = np.nonzero(rng.random((frames, ghosts)) < objects * IMAGINED / ghosts)
    where = rng.uniform(0, 1, (len(ghost), 2)) * SIZE
    imagined = np.concatenate([where, where + rng.uniform(20, 140, (len(ghost), 2))], axis=1)
    frame = np.concatenate([gt_frame[seen], ghost_frame])
    order = np.argsort(frame, kind="stable")
    return {
        "frames": np.array(frames),
        "gt_frame": gt_frame,
        "gt_id": gt_id,
        "gt_box": gt_box,
        "tracker_frame": frame[order],
        "tracker_id": np.concatenate([tracker_id, 10**9 + ghost_frame // LIFE * ghosts + ghost])[order],
        "tracker_box": np.concatenate([box, imagined])[order],
    }


def ours(data) -> tuple[float, dict[str, float]]:
    import scipy.optimize  # noqa: F401 - imports stand outside the clock, as the others' do

    from guardianflow.evaluation.mot.evaluate import Sequence, Tracks, evaluate_mot

    began = time.perf_counter()
    gt = Tracks(frame=data["gt_frame"], id=data["gt_id"], box=data["gt_box"])
    tracker = Tracks(frame=data["tracker_frame"], id=data["tracker_id"], box=data["tracker_box"])
    result = evaluate_mot([Sequence("generated", int(data["frames"]), gt, tracker)])
    return time.perf_counter() - began, result.metrics()


def by_frame(data) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Identities and boxes of both sides, a frame at a time."""
    edges = np.arange(int(data["frames"]) + 1)
    gt, tracker = np.searchsorted(data["gt_frame"], edges), np.searchsorted(data["tracker_frame"], edges)
    return [
        (
            data["gt_id"][gt[i] : gt[i + 1]],
            data["tracker_id"][tracker[i] : tracker[i + 1]],
            data["gt_box"][gt[i] : gt[i + 1]],
            data["tracker_box"][tracker[i] : tracker[i + 1]],
        )
        for i in range(int(data["frames"]))
    ]


def trackeval(data) -> tuple[float, dict[str, float]]:
    from trackeval.datasets._base_dataset import _BaseDataset
    from trackeval.metrics import CLEAR, HOTA, Identity

    numbered = dict(data)
    counts = {}
    for side in ("gt", "tracker"):
        known, numbered[f"{side}_id"] = np.unique(data[f"{side}_id"], return_inverse=True)
        counts[side] = len(known)
    frames = by_frame(numbered)
    began = time.perf_counter()
    document = {
        "num_timesteps": len(frames), "num_gt_ids": counts["gt"], "num_tracker_ids": counts["tracker"],
        "num_gt_dets": len(data["gt_id"]), "num_tracker_dets": len(data["tracker_id"]),
        "gt_ids": [frame[0] for frame in frames], "tracker_ids": [frame[1] for frame in frames],
        "similarity_scores": [
            _BaseDataset._calculate_box_ious(frame[2], frame[3], box_format="x0y0x1y1") for frame in frames
        ],
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        hota = HOTA().eval_sequence(document)
        clear = CLEAR({"PRINT_CONFIG": False}).eval_sequence(document)
        identity = Identity({"PRINT_CONFIG": False}).eval_sequence(document)
    seconds = time.perf_counter() - began
    return seconds, {
        "hota": float(hota["HOTA"].mean()), "mota": float(clear["MOTA"]), "idf1": float(identity["IDF1"]),
        "idsw": float(clear["IDSW"]),
    }  # fmt: skip


def motmetrics(data) -> tuple[float, dict[str, float]]:
    import warnings

    import motmetrics as package
    from trackeval.datasets._base_dataset import _BaseDataset

    warnings.simplefilter("ignore")
    frames = by_frame(data)
    began = time.perf_counter()
    accumulator = package.MOTAccumulator(auto_id=True)
    for gt_id, tracker_id, gt_box, tracker_box in frames:
        iou = _BaseDataset._calculate_box_ious(gt_box, tracker_box, box_format="x0y0x1y1")
        accumulator.update(gt_id, tracker_id, np.where(iou >= 0.5, 1 - iou, np.nan))
    names = ["mota", "motp", "idf1", "num_switches", "mostly_tracked", "mostly_lost", "num_fragmentations"]
    found = package.metrics.create().compute(accumulator, metrics=names, return_dataframe=False)
    seconds = time.perf_counter() - began
    return seconds, {"mota": float(found["mota"]), "idf1": float(found["idf1"]), "idsw": float(found["num_switches"])}


EVALUATORS = {"guardianflow": ours, "trackeval": trackeval, "motmetrics": motmetrics}


def measure(name: str, boxes: Path) -> dict:
    """One evaluation in a process of its own: seconds, peak memory in MB, figures."""
    answer = subprocess.run(
        [sys.executable, __file__, "--evaluator", name, "--boxes", str(boxes)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def work(name: str, boxes: Path) -> None:
    with np.load(boxes) as stored:
        data = dict(stored)
    seconds, figures = EVALUATORS[name](data)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "figures": figures}))


def report(found: dict[str, list[dict]]) -> None:
    medians = {
        name: (statistics.median(run["seconds"] for run in runs), statistics.median(run["peak_mb"] for run in runs))
        for name, runs in found.items()
    }
    print(f"  {'':14} {'median s':>9} {'(range)':>15} {'peak MB':>8} {'ratio':>7}  figures")
    for name, runs in found.items():
        seconds, peak = medians[name]
        times = [run["seconds"] for run in runs]
        spread = f"({min(times):.2f}–{max(times):.2f})"
        figures = "  ".join(f"{key} {value:.6g}" for key, value in runs[0]["figures"].items() if key in SHOWN)
        ratio = seconds / medians["guardianflow"][0]
        print(f"  {name:14} {seconds:9.2f} {spread:>15} {peak:8.0f} {ratio:6.1f}×  {figures}")
    for name, goal in GOALS.items():
        ratio = medians[name][0] / medians["guardianflow"][0]
        lighter = medians["guardianflow"][1] <= medians[name][1]
        print(
            f"  beside {name}: {ratio:.1f}× as fast, goal {goal:g}× {'reached' if ratio >= goal else 'MISSED'}; "
            f"memory {'not more' if lighter else 'MORE'}"
        )


SHOWN = ("hota", "mota", "idf1", "idsw")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--objects", type=int, default=30)
    parser.add_argument("--short", action="store_true", help="1,000 frames, 2 repeats; the goals are for the long form")
    parser.add_argument("--evaluator", choices=EVALUATORS, help=argparse.SUPPRESS)
    parser.add_argument("--boxes", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.evaluator:
        work(options.evaluator, options.boxes)
        return
    if options.short:
        options.frames, options.repeats = 1000, 2
    with tempfile.TemporaryDirectory() as folder:
        boxes = Path(folder) / "boxes.npz"
        np.savez(boxes, **generate(options.frames, options.objects))
        found: dict[str, list[dict]] = {name: [] for name in EVALUATORS}
        for _ in range(options.repeats):
            for name, runs in found.items():
                runs.append(measure(name, boxes))
    print(
        f"{options.frames:,} frames × {options.objects} objects, median of {options.repeats} repeats; "
        f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    report(found)


if __name__ == "__main__":
    main()
