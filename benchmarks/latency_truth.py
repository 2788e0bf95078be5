"""Is the reported latency true? single_stream as a benchmark reports it, against an outside stopwatch.

    python benchmarks/latency_truth.py [--model FILE.pt] [--backend torch] [--data DIR/bccd/data.yaml] [--short]

Two stopwatches, both with their clock in this process:

- *around the reporting process*: the time between the messages that a repetition has ended, over the images in
  it. The same stretch of time is compared, so a busy machine doesn't matter: it shows whether the profiler's
  own clock, its accounting and what it does between the queries are honest.
- *around another process*, which knows nothing of the profiler: it detects the same images one after another with the
  library's public `Pipeline`, n and then 3 n of them, and says only when it begins and ends. The difference over 2 n is
  what an image takes; start, loading and warm-up cancel out. It shows whether a user gets what is reported.
  It is measured before and after each report. Where both differ by more than the goal, the machine does
  something else meanwhile, and that round decides nothing.

Held against them is `latency_ms_mean`: a stopwatch around a loop knows no median. The median of the rounds counts.
Goal: within 3 %.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from guardianflow.data.dataset import read_dataset
from guardianflow.scenes.scenes import SceneConfig, generate_images
from guardianflow.vision.backends._base import BackendOptions
from guardianflow.vision.backends.catalog import open_backend
from guardianflow.vision.benchmark.cell_process import run_cell
from guardianflow.vision.benchmark.cell_results import CellProgress, CellSpec
from guardianflow.vision.export import prepare_model
from guardianflow.vision.model_artifacts import ModelFile, read_model_file
from guardianflow.vision.pipeline.pipeline import Pipeline, PipelineConfig

GOAL = 0.03
SHARED = Path(os.environ.get("GUARDIANFLOW_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
WARM_UP = 30


def child(asked: dict) -> None:
    """The process that is timed: says `begin` and `end` around each loop, nothing else."""
    images = [Path(name) for name in asked["images"]]
    options = BackendOptions(imgsz=asked["imgsz"])
    with open_backend(ModelFile.from_dict(asked["model"]), backend=asked["backend"], options=options) as backend:
        config = PipelineConfig(imgsz=asked["imgsz"], confidence=0.25, multi_label=False, read_ahead=0)
        pipeline = Pipeline(backend, config)
        for number in range(WARM_UP):
            pipeline.detect_one(images[number % len(images)])
        for count in asked["counts"]:
            print("begin", flush=True)
            for number in range(count):
                pipeline.detect_one(images[number % len(images)])
            print("end", flush=True)


def stopwatch(asked: dict) -> float:
    """Milliseconds an image takes, by the clock of this process."""
    words = [sys.executable, __file__, "--child", json.dumps(asked)]
    seconds, began = [], 0.0
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            now = time.perf_counter()
            if line.strip() == "begin":
                began = now
            elif line.strip() == "end":
                seconds.append(now - began)
    if process.returncode or len(seconds) != 2:
        sys.exit("the timed process failed")
    few, many = asked["counts"]
    return (seconds[1] - seconds[0]) / (many - few) * 1e3


def reported(spec: CellSpec) -> tuple[float, float]:
    """What a benchmark says an image takes, ms; and what this process's clock says of the same images."""
    ended: dict[int, float] = {}

    def look(progress: CellProgress) -> None:
        if progress.step == "single_stream":
            ended[progress.done] = time.perf_counter()

    result = run_cell(spec, on_progress=look)
    single = result.mode("single_stream")
    if single is None or single.latency is None:
        sys.exit(f"the cell failed: {result.reason}")
    later = single.latencies_ms[single.repetition > 0]  # the first repetition comes after a warm-up: no clear start
    return single.latency.mean, float(later.mean()) / ((ended[spec.repeats] - ended[1]) / len(later) * 1e3)


def main() -> None:
    arguments = parse()
    if arguments.child:
        child(json.loads(arguments.child))
        return
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        model = read_model_file(arguments.model or random_weights(folder / "random.pt"))
        arguments.data = arguments.data or photographs(folder / "scenes")
        served = prepare_model(
            model, backend=arguments.backend, precision="fp32", imgsz=model.imgsz, folder=folder / "exports"
        )
        images = read_dataset(arguments.data).images("val")
        count = len(images) * (1 if arguments.short else 4)  # whole passes: the same pictures on both sides
        asked = {
            "images": [str(image) for image in images], "imgsz": model.imgsz, "model": served.to_dict(),
            "backend": arguments.backend, "counts": [count, 3 * count],
        }  # fmt: skip
        compare(arguments, asked, model, folder)


def random_weights(path: Path) -> Path:
    """What a forward pass costs doesn't depend on what the weights know."""
    from guardianflow.vision._ultralytics import import_ultralytics

    import_ultralytics().YOLO("yolo11n.yaml").save(str(path))
    return path


def photographs(folder: Path) -> Path:
    """bccd's data.yaml, or one of generated scenes."""
    real = SHARED / "bccd" / "data.yaml"
    return real if real.is_file() else generate_images(folder, images=200, config=SceneConfig(seed=1)).data_yaml


def compare(arguments: argparse.Namespace, asked: dict, model: ModelFile, folder: Path) -> None:
    same, other, quiet, seconds = [], [], [], 0.0
    for number in range(arguments.rounds):
        before = stopwatch(asked)
        seconds = seconds or max(1.0, before * asked["counts"][0] / 1e3)
        spec = CellSpec(
            model=model, backend=arguments.backend, folder=str(folder / "cell"), modes=("single_stream",),
            exports=str(folder / "exports"), data_yaml=str(arguments.data), seconds=seconds, repeats=4, extras=False,
            evaluate=False,
        )  # fmt: skip
        inside, around = reported(spec)
        after = stopwatch(asked)
        beside, spread = (before + after) / 2, abs(after - before) / ((before + after) / 2)
        same.append(around)
        other.append(inside / beside)
        quiet += [inside / beside] if spread <= GOAL else []
        print(
            f"round {number + 1}: reported {inside:.3f} ms · {around:.4f} times the stopwatch around it · "
            f"{other[-1]:.4f} times the other process's {before:.3f} and {after:.3f} ms (they differ by {spread:.1%})",
            flush=True,
        )
    print(f"\n{arguments.backend}, {len(asked['images'])} photographs, imgsz {asked['imgsz']}; goal: within {GOAL:.0%}")
    say("around the reporting process", same, same)
    say("around another process", other, quiet)


def say(what: str, ratios: list[float], that_decide: list[float]) -> None:
    median = statistics.median(that_decide or ratios)
    verdict = "met" if abs(median - 1) <= GOAL else "NOT met"
    if not that_decide:
        verdict = "undecided, the machine was busy with something else in every round"
    print(
        f"  {what:30} reported / stopwatch = {median:.4f} (rounds {min(ratios):.4f} to {max(ratios):.4f}, "
        f"{len(that_decide)} of {len(ratios)} quiet): {verdict}"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a .pt file; left out, YOLO11n with random weights")
    parser.add_argument("--data", type=Path, help="a data.yaml; left out, bccd where it is, else generated scenes")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--rounds", type=int, default=0, help="default 7, with --short 2")
    parser.add_argument("--short", action="store_true", help="a quarter of the images and two rounds")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (2 if arguments.short else 7)
    return arguments


if __name__ == "__main__":
    main()
