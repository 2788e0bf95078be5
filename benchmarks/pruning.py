"""Ending hopeless trials early: how many epochs that saves, and whether the best trial is still found.

    python benchmarks/pruning.py [--trials 16] [--epochs 6] [--imgsz 96] [--seeds 3] [--data DIR/bccd/data.yaml]

For each seed a random search over optimizer, learning rate and warm-up: a detector of a few layers on real photographs.
Every trial is trained to its end once, which is the sweep without a pruner. The sweeps with one are the same search in
the same order: their studies are asked, reported to and told as a sweep's trials do it, and a trial that the study ends
at an epoch has cost that many and is out. (A training is the same to the last bit, so its first epochs are those that
it would have had.) Noise is how far the map50 of one point moves with another seed: the winner of each search, trained
once more. Goal: at most half of the epochs, and a best map50 that is lower by no more than the noise.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.data.dataset import read_dataset, write_resolved_yaml
from guardianflow.execution.studies import Studies
from guardianflow.scenario.experiment_design import SweepScenario
from guardianflow.scenario.schema import TrainingScenario

METRIC = "map50"
PRUNERS = ("median", "halving")
BATCH = 4
SPACE = {
    "run.options.optimizer": ["SGD", "AdamW"],
    "run.options.lr0": {"low": 0.0002, "high": 0.05, "log": True},
    "run.options.warmup_epochs": {"low": 0, "high": 3},
}
# nbs: a step of the optimizer for each batch, so that few epochs are enough to learn something.
OPTIONS = {"plots": False, "nbs": BATCH, "fraction": 0.5, "mosaic": 0.0, "cache": "ram"}
MODEL = """\
nc: 3
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, C2f, [32, True]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, C2f, [64, True]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, C2f, [128, True]]
head:
  - [[4, 6], 1, Detect, [nc]]
"""
SHARED = Path(os.environ.get("GUARDIANFLOW_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@dataclass(frozen=True)
class Curve:
    """One training to its end: the metric after each epoch, and that of its best weights."""

    by_epoch: Sequence[float]
    best: float


@dataclass(frozen=True)
class Found:
    """What a sweep came to: its best figure, and the epochs that were trained for it."""

    best: float
    epochs: int
    ended_early: int = 0


class Diary:
    """Writes the metric down, epoch by epoch."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_epoch(self, report: Any) -> bool:
        self.values.append(float(report.metrics[METRIC]))
        return False

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None  # whatever else a training tells


def scenario_of(arguments: argparse.Namespace, seed: int, pruner: str, folder: Path) -> SweepScenario:
    """The sweep of a seed."""
    sweep = {"study": f"{pruner} {seed}", "space": SPACE, "metric": METRIC, "sampler": "random", "pruner": pruner}
    content: dict[str, Any] = {
        "experiment": "pruning",
        "model": {"architecture": str(folder / "tiny.yaml"), "imgsz": arguments.imgsz},
        "dataset": {"data_yaml": str(folder / "data.yaml")},
        "env": {"device": "cpu", "seed": seed, "threads": 1, "workers": 0},
        "run": {"epochs": arguments.epochs, "batch": BATCH, "options": OPTIONS},
        "sweep": {**sweep, "trials": arguments.trials},
    }
    return SweepScenario.model_validate(content)


def train(scenario: TrainingScenario) -> Curve:
    """A training to its end, in a process of the pool."""
    from guardianflow.vision.training.training import TrainingJob, train_detector

    with tempfile.TemporaryDirectory() as text:
        folder, diary = Path(text), Diary()
        job = TrainingJob(
            model=scenario.model.architecture, data_yaml=Path(scenario.dataset.data_yaml), folder=folder / "training",
            log_file=folder / "log", epochs=scenario.run.epochs, batch=scenario.run.batch, imgsz=scenario.model.imgsz,
            device="cpu", seed=scenario.env.seed, workers=0, threads=1, patience=0, options=scenario.run.options,
        )  # fmt: skip
        with contextlib.redirect_stdout(sys.stderr):  # Ultralytics draws how it fills its cache
            outcome = train_detector(job, diary)
    curve = Curve(diary.values, float(outcome.metrics[METRIC]))
    options = ", ".join(f"{name} {scenario.run.options[name]}" for name in ("optimizer", "lr0", "warmup_epochs"))
    print(f"  {curve.best:.3f}  {' '.join(f'{value:.3f}' for value in curve.by_epoch)}  {options}", file=sys.stderr)
    return curve


def replay(scenario: SweepScenario, curves: Sequence[Curve], settings: Settings) -> Found:
    """The search as a study with a pruner has it."""
    study = Studies(settings).begin(scenario, data="", sweep="benchmark")
    best, epochs, ended_early = 0.0, 0, 0
    for point, curve in zip(scenario.known_points(), curves, strict=True):
        with study.lock():
            number = study.ask(point, sweep="benchmark").number
        told = next(
            (at for at, value in enumerate(curve.by_epoch, start=1) if study.report(number, at, value)), None
        )  # fmt: skip
        pruned = told is not None and told < len(curve.by_epoch)
        epochs += told or len(curve.by_epoch)
        ended_early += pruned
        best = best if pruned else max(best, curve.best)
        with study.lock():
            study.keep_outcome(number, {"metrics": {METRIC: curve.best}, "pruned": pruned})
            study.tell(study.row(number))
    return Found(best, epochs, ended_early)


def main() -> None:
    arguments = parse()
    found: dict[str, list[Found]] = {name: [] for name in ("none", *PRUNERS)}
    noise: list[float] = []
    with tempfile.TemporaryDirectory() as text, multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        folder = Path(text)
        (folder / "tiny.yaml").write_text(MODEL, encoding="utf-8")
        write_resolved_yaml(read_dataset(arguments.data), folder / "data.yaml")
        settings = Settings(work_dir=folder / "work")
        for seed in range(arguments.seeds):
            whole = scenario_of(arguments, seed, "none", folder)
            points = list(whole.known_points())
            curves = pool.map(train, [whole.at(point) for point in points], chunksize=1)
            winner = max(range(len(curves)), key=lambda number: curves[number].best)
            again = train(whole.at({**points[winner], "env.seed": seed + 1000}))
            noise.append(abs(again.best - curves[winner].best))
            found["none"].append(Found(curves[winner].best, sum(len(curve.by_epoch) for curve in curves)))
            for pruner in PRUNERS:
                found[pruner].append(replay(scenario_of(arguments, seed, pruner, folder), curves, settings))
    report(found, noise)


def report(found: Mapping[str, Sequence[Found]], noise: Sequence[float]) -> None:
    """Each seed's figures, and what they come to."""
    print(f"the winner of each search, trained with another seed: map50 moves by {listed(noise)}")
    for name, sweeps in found.items():
        pairs = list(zip(sweeps, found["none"], strict=True))
        share = statistics.mean(sweep.epochs / whole.epochs for sweep, whole in pairs)
        lost = statistics.mean(whole.best - sweep.best for sweep, whole in pairs)
        print(f"{name:8} best {METRIC} {listed([sweep.best for sweep in sweeps])}   epochs "
              f"{', '.join(str(sweep.epochs) for sweep in sweeps)}   ended early "
              f"{', '.join(str(sweep.ended_early) for sweep in sweeps)}")  # fmt: skip
        if name != "none":
            met = share <= 0.5 and lost <= statistics.median(noise)
            print(f"{'':8} {share:.0%} of the epochs, best lower by {lost:.3f}   {'met' if met else 'MISSED'}")


def listed(values: Sequence[float]) -> str:
    """Figures with three digits."""
    return ", ".join(f"{value:.3f}" for value in values)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--imgsz", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=SHARED / "bccd" / "data.yaml", help="data.yaml of the photographs")
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        sys.exit(f"there are no photographs at {arguments.data}; pass --data DIR/data.yaml")
    return arguments


if __name__ == "__main__":
    main()
