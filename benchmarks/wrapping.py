"""What wrapping costs a script that prints 1,000,000 lines, beside the same script run bare with its output in a file.

    python benchmarks/wrapping.py [--lines 1000000] [--repeats 5]

All ways take turns, so that a busy machine hits all alike. Two questions are kept apart:

- What does the script itself take, from its start to its end? Bare, Python buffers its output in blocks; wrapped, it
  writes line by line, so that figures are seen while it runs and a crash loses nothing (`--buffered` leaves it as it
  is). So both are compared with both: bare as it is, and bare with `python -u`.
- What does `GenericWrapper.run()` take in all, with the run in MLflow, evidence and artifacts? Its fixed share is
  measured with a script that prints one line.

Goal: at most 1.3 times bare.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from guardianflow import GenericWrapper, Settings

GOAL = 1.3
SCRIPT = """import sys
for i in range(int(sys.argv[1])):
    print(f"step {i}: loss={1.0 / (i + 1):.6f} acc={i / 1e6:.4f}")
"""


def bare(script: Path, lines: int, *, unbuffered: bool) -> float:
    """Seconds of the script with its output in a file."""
    words = [sys.executable, *(["-u"] if unbuffered else []), str(script), str(lines)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with (script.parent / "bare.log").open("wb") as output:
        began = time.perf_counter()
        subprocess.run(words, stdout=output, check=True, env=environment)
        return time.perf_counter() - began


def wrapped(script: Path, lines: int, *, buffered: bool, settings: Settings) -> tuple[float, float, int]:
    """Seconds of the script as its supervisor saw it, seconds of all of it, points of `loss` in MLflow."""
    began = time.perf_counter()
    wrapper = GenericWrapper("bench", script, script.parent, [str(lines)], buffered=buffered, settings=settings)
    result = wrapper.run().require_success()
    return result.metrics["wall_seconds"], time.perf_counter() - began, len(result.histories["loss"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    os.environ.pop("PYTHONUNBUFFERED", None)
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "prints.py"
        script.write_text(SCRIPT, encoding="utf-8")
        settings = Settings(work_dir=Path(folder) / "work")
        wrapped(script, 1, buffered=False, settings=settings)  # once unmeasured: imports, MLflow's schema
        points = 0
        for _ in range(asked.repeats):
            for name, unbuffered in (("bare", False), ("bare -u", True)):
                times.setdefault(name, []).append(bare(script, asked.lines, unbuffered=unbuffered))
            for name, buffered in (("wrapped", False), ("wrapped --buffered", True)):
                inside, whole, points = wrapped(script, asked.lines, buffered=buffered, settings=settings)
                times.setdefault(name, []).append(inside)
                times.setdefault(f"{name}, all of it", []).append(whole)
            times.setdefault("one line, all of it", []).append(wrapped(script, 1, buffered=False, settings=settings)[1])
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{asked.lines:,} lines, median of {asked.repeats} in turns; load average {os.getloadavg()[0]:.1f}")
    for name, values in times.items():
        print(f"  {name:30} {medians[name]:6.3f} s   ({min(values):.3f}–{max(values):.3f})")
    print(f"  points of `loss` that were logged: {points:,}")
    for ours, peer in (("wrapped --buffered", "bare"), ("wrapped", "bare -u"), ("wrapped", "bare")):
        for part in ("", ", all of it"):
            ratio = medians[ours + part] / medians[peer]
            verdict = "met" if ratio <= GOAL else "MISSED"
            print(f"  {f'{ours}{part}':30} {ratio:.2f} × {peer:8} goal ≤ {GOAL}   {verdict}")


if __name__ == "__main__":
    main()
