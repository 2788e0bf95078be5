"""What GuardianFlow adds to a training: TrainingRunner, alone and as a notebook, beside plain Ultralytics.

    python benchmarks/training_overhead.py [--epochs 4] [--imgsz 160] [--repeats 3] [--data DIR/bccd/data.yaml]

Same photographs, seed, batch and threads; every run is a fresh process, and the contenders take turns, so
that a busy machine hits all alike. Compared is the training itself: `YOLO(...).train(...)` against the same part of
ours, with tracking, heartbeat, progress and system sampling going on beside it. Ultralytics draws its plots (its
default), keeps its label cache from run to run (its default; ours has none) and logs nowhere. What a run costs
once, whatever its length, is printed apart. Goal: at most 1.03 times plain Ultralytics.

CPU seconds count what the process did on all cores: on a busy machine they say more than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guardianflow.data.dataset import read_dataset, write_resolved_yaml

GOAL = 1.03
ABSOLUTE = "absolute.yaml"
SHARED = Path(os.environ.get("GUARDIANFLOW_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What the work returns, and its seconds by the clock and of the CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {"train_s": time.perf_counter() - clock, "train_cpu_s": time.process_time() - cpu}


def plain(asked: dict[str, Any], folder: Path) -> dict[str, float]:
    """Ultralytics as it comes."""
    import ultralytics

    model = ultralytics.YOLO("yolo11n.yaml")
    arguments = {**asked, "project": str(folder), "name": "plain", "verbose": False}
    metrics, seconds = timed(lambda: model.train(device="cpu", seed=0, **arguments))
    return {"map50": float(metrics.box.map50), **seconds}


def direct(asked: dict[str, Any], folder: Path) -> dict[str, float]:
    """TrainingRunner in this process."""
    import guardianflow.vision.training._trainer  # noqa: F401 - as the imports of plain Ultralytics, not a part of the training
    import guardianflow.vision.training.training as training
    from guardianflow import TrainingRunner
    from guardianflow.core.config import Settings

    measured: dict[str, float] = {}
    really = training.train_detector

    def watched(*args: Any) -> Any:
        outcome, seconds = timed(lambda: really(*args))
        measured.update(seconds)
        return outcome

    training.train_detector = watched
    options = {"fraction": asked["fraction"]}
    began = time.perf_counter()
    result = TrainingRunner(
        "overhead", "yolo11n.yaml", asked["data"], asked["epochs"], asked["batch"], asked["imgsz"], "cpu", 0,
        options=options, settings=Settings(work_dir=folder / "work"),
    ).run()  # fmt: skip
    return {"map50": result.metrics["map50"], "run_s": time.perf_counter() - began, **measured}


def notebook(asked: dict[str, Any], folder: Path) -> dict[str, float]:
    """What a user calls: the command line, which executes the notebook."""
    program = Path(sys.executable).parent / "guardianflow"
    words = [
        "train", "--data", asked["data"], "--model", "yolo11n.yaml", "--experiment", "overhead", "--device", "cpu",
        "--epochs", asked["epochs"], "--batch", asked["batch"], "--imgsz", asked["imgsz"],
        "--set", f"fraction={asked['fraction']}", "--json",
    ]  # fmt: skip
    environment = {**os.environ, "GUARDIANFLOW_WORK_DIR": str(folder / "work")}
    began = time.perf_counter()
    done = subprocess.run(
        [str(program), *map(str, words)], env=environment, capture_output=True, text=True, check=False
    )
    run_s = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr)
    metrics = json.loads(done.stdout)["metrics"]
    return {"map50": metrics["map50"], "train_s": metrics["train_seconds"], "run_s": run_s}


CONTENDERS = {"plain Ultralytics": plain, "TrainingRunner": direct, "as a notebook": notebook}


def run_one(name: str, asked: dict[str, Any], folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """One contender once, in a process of its own."""
    words = [sys.executable, __file__, "--contender", name, "--asked", json.dumps(asked), "--folder", str(folder)]
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    arguments = parse()
    if arguments.contender:
        print("\n" + json.dumps(CONTENDERS[arguments.contender](json.loads(arguments.asked), arguments.folder)))
        return
    asked = {name: getattr(arguments, name) for name in ("epochs", "batch", "imgsz", "fraction")}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    loads = []
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        environment = prepare(root, arguments.data)
        for _ in range(arguments.repeats):
            for name in CONTENDERS:
                loads.append(os.getloadavg()[0])
                copy = root / name / "data" / ABSOLUTE
                runs[name].append(run_one(name, {**asked, "data": str(copy)}, root / name, environment))
                print(f"  {name:18} {runs[name][-1]['train_s']:7.1f} s   load {loads[-1]:.1f}", file=sys.stderr)
    report(runs, asked, loads)


def prepare(root: Path, data_yaml: Path) -> dict[str, str]:
    """A copy of the data for each contender, and Ultralytics' settings with its trackers off."""
    for name in CONTENDERS:
        shutil.copytree(data_yaml.parent, root / name / "data", copy_function=shutil.copyfile)
        for folder in (root / name / "data").rglob("*"):
            if folder.is_dir():
                folder.chmod(0o755)
        dataset = read_dataset(root / name / "data" / data_yaml.name)
        # Ultralytics reads `path: .` from the current folder.
        write_resolved_yaml(dataset, root / name / "data" / ABSOLUTE)
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(root / "config"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    (root / "config").mkdir()
    switch = "from ultralytics import settings; settings.update({'mlflow': False, 'sync': False})"
    subprocess.run([sys.executable, "-c", switch], env=environment, check=True, capture_output=True)
    return environment


def report(runs: dict[str, list[dict[str, float]]], asked: dict[str, Any], loads: list[float]) -> None:
    """The medians, the ratios, and what a run costs once."""

    def median(name: str, figure: str) -> float:
        return statistics.median(run[figure] for run in runs[name])

    repeats = len(next(iter(runs.values())))
    what = ", ".join(f"{name} {value}" for name, value in asked.items())
    print(f"yolo11n from scratch, {what}; median of {repeats} each, taking turns; "
          f"load average {min(loads):.1f}–{max(loads):.1f} on {os.cpu_count()} cores")  # fmt: skip
    for name, values in runs.items():
        clock = [run["train_s"] for run in values]
        cpu = f"   CPU {median(name, 'train_cpu_s'):7.1f} s" if "train_cpu_s" in values[0] else " " * 17
        spread = f"({min(clock):.1f}–{max(clock):.1f})"
        print(
            f"  {name:18} training {median(name, 'train_s'):7.1f} s {spread:15}{cpu}  mAP50 {median(name, 'map50'):.4f}"
        )
    base = "plain Ultralytics"
    for name in list(CONTENDERS)[1:]:
        ratio = median(name, "train_s") / median(base, "train_s")
        print(f"ratio {name:18} {ratio:.3f} by the clock   goal ≤ {GOAL}   {'met' if ratio <= GOAL else 'MISSED'}")
    ratio = median("TrainingRunner", "train_cpu_s") / median(base, "train_cpu_s")
    print(f"ratio {'TrainingRunner':18} {ratio:.3f} of CPU seconds")
    for name in list(CONTENDERS)[1:]:
        once = statistics.median(run["run_s"] - run["train_s"] for run in runs[name])
        print(
            f"once a run, {name:15} {once:5.1f} s (check, MLflow, samples{', kernel, page' if 'note' in name else ''})"
        )
    if len({round(run["map50"], 4) for values in runs.values() for run in values}) > 1:
        print("the contenders did NOT train the same weights; the comparison is void")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=SHARED / "bccd" / "data.yaml", help="data.yaml of the photographs")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--asked", default="{}", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path(), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.contender and not arguments.data.is_file():
        sys.exit(f"there are no photographs at {arguments.data}; pass --data DIR/data.yaml")
    return arguments


if __name__ == "__main__":
    main()
