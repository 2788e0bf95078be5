"""Ending hopeless trials early: how many epochs that saves, and whether the best trial is still found.

    python benchmarks/pruning.py [--trials 12] [--epochs 12] [--imgsz 96] [--seeds 3] [--data DIR/bccd/data.yaml]

For each seed a random search over optimizer, learning rate and warm-up, on real photographs. Every trial is trained to
its end once, which is the sweep without a pruner. The sweeps with one are the same search in the same order: their
studies are asked, reported to and told exactly as a sweep's trials do it, and a trial that the study ends at an epoch
counts that many epochs and is out. (A training is the same to the last bit, so its first epochs are those that it
would have had.) Noise is how far apart the map50 of one point lies when it is trained with other seeds: the winner of
each search, twice more. Goal: at most half of the epochs, and a best map50 that is lower by no more than the noise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.execution.studies import Studies
from guardianflow.runners.training.runner import TrainingRunner
from guardianflow.scenario.experiment_design import SweepScenario
from guardianflow.scenario.schema import TrainingScenario

METRIC = "map50"
PRUNERS = ("median", "halving")
SPACE = {
    "run.options.optimizer": ["SGD", "AdamW"],
    "run.options.lr0": {"low": 0.0001, "high": 0.05, "log": True},
    "run.options.warmup_epochs": {"low": 0, "high": 3},
}
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
    ended_early: int


def scenario_of(arguments: argparse.Namespace, seed: int, pruner: str) -> SweepScenario:
    """The sweep of a seed."""
    content: dict[str, Any] = {
        "schema_version": 1,
        "experiment": "pruning",
        "model": {"architecture": "yolo11n.yaml", "imgsz": arguments.imgsz},
        "dataset": {"data_yaml": str(arguments.data)},
        "env": {"device": "cpu", "seed": seed},
        "run": {"epochs": arguments.epochs, "batch": 16, "options": {"plots": False}},
        "sweep": {"study": f"{pruner} {seed}", "space": SPACE, "metric": METRIC, "sampler": "random", "pruner": pruner,
                  "trials": arguments.trials},
    }  # fmt: skip
    return SweepScenario.model_validate(content)


def train(scenario: TrainingScenario, settings: Settings) -> Curve:
    """A training to its end."""
    began = time.perf_counter()
    result = TrainingRunner.of(scenario, settings=settings).run()
    curve = Curve([float(row[METRIC]) for row in result.history], float(result.metrics[METRIC]))
    options = ", ".join(f"{name} {value}" for name, value in scenario.run.options.items() if name != "plots")
    print(f"  {curve.best:.3f}  {time.perf_counter() - began:5.1f} s  {options}", file=sys.stderr)
    return curve


def replay(scenario: SweepScenario, curves: Sequence[Curve], settings: Settings) -> Found:
    """The search as a study with a pruner has it."""
    study = Studies(settings).begin(scenario, data="", sweep="benchmark")
    epochs = ended_early = 0
    best = 0.0
    for point, curve in zip(scenario.known_points(), curves, strict=True):
        with study.lock():
            number = study.ask(point, sweep="benchmark").number
        stopped = False
        for epoch, value in enumerate(curve.by_epoch, start=1):
            epochs += 1
            stopped = study.report(number, epoch, value) and epoch < len(curve.by_epoch)
            if stopped:
                break
        outcome: Mapping[str, Any] = {"metrics": {METRIC: value if stopped else curve.best}, "pruned": stopped}
        with study.lock():
            study.keep_outcome(number, outcome)
            study.tell(study.row(number))
        ended_early += stopped
        best = best if stopped else max(best, curve.best)
    return Found(best, epochs, ended_early)


def main() -> None:
    arguments = parse()
    found: dict[str, list[Found]] = {name: [] for name in ("none", *PRUNERS)}
    noise: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(work_dir=Path(folder) / "work")
        for seed in range(arguments.seeds):
            whole = scenario_of(arguments, seed, "none")
            trained = [(point, train(whole.at(point), settings)) for point in whole.known_points()]
            curves = [curve for _, curve in trained]
            spent = sum(len(curve.by_epoch) for curve in curves)
            point, winner = max(trained, key=lambda item: item[1].best)
            found["none"].append(Found(winner.best, spent, 0))
            for pruner in PRUNERS:
                found[pruner].append(replay(scenario_of(arguments, seed, pruner), curves, settings))
            again = [train(whole.at({**point, "env.seed": 1000 + seed + more}), settings).best for more in (1, 2)]
            noise.append(max(winner.best, *again) - min(winner.best, *again))
            print(json.dumps({"seed": seed, "curves": [vars(curve) for curve in curves]}), file=sys.stderr)
    report(found, noise)


def report(found: Mapping[str, Sequence[Found]], noise: Sequence[float]) -> None:
    """Each seed's figures, and what they come to."""
    print(f"noise of one point trained with three seeds: {', '.join(f'{value:.3f}' for value in noise)}")
    allowed = statistics.median(noise)
    for name, sweeps in found.items():
        shares = [sweep.epochs / whole.epochs for sweep, whole in zip(sweeps, found["none"], strict=True)]
        lost = [whole.best - sweep.best for sweep, whole in zip(sweeps, found["none"], strict=True)]
        bests = ", ".join(f"{sweep.best:.3f}" for sweep in sweeps)
        epochs = ", ".join(str(sweep.epochs) for sweep in sweeps)
        early = ", ".join(str(sweep.ended_early) for sweep in sweeps)
        print(f"{name:8} best {METRIC} {bests}   epochs {epochs}   ended early {early}   {statistics.mean(shares):.0%}")
        if name != "none":
            met = statistics.mean(shares) <= 0.5 and statistics.mean(lost) <= allowed
            print(f"{'':8} of the epochs {statistics.mean(shares):.0%}, best lower by {statistics.mean(lost):.3f} "
                  f"(noise {allowed:.3f})   {'met' if met else 'MISSED'}")  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--imgsz", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=SHARED / "bccd" / "data.yaml", help="data.yaml of the photographs")
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        sys.exit(f"there are no photographs at {arguments.data}; pass --data DIR/data.yaml")
    return arguments


if __name__ == "__main__":
    main()
