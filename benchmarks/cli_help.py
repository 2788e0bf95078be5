"""How long a user waits for help: `guardianflow --help` and that of a verb beside `yolo help` and `mlflow --help`.

    python benchmarks/cli_help.py [--repeats 7]

Each command is a fresh process; they take turns, so that a busy machine hits all alike. Goal: at most a tenth of
either peer. Processor time is beside it, because a busy machine changes that less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OURS = "guardianflow --help"
PEERS = ("yolo help", "mlflow --help")
COMMANDS = (OURS, "guardianflow list --help", "guardianflow train --help", *PEERS)
GOAL = 0.1


def seconds(command: str, folder: str) -> tuple[float, float]:
    """Wall-clock and processor time of one run."""
    environment = {**os.environ, "YOLO_AUTOINSTALL": "false"}
    name, *words = command.split()
    began, used = time.perf_counter(), os.times()
    subprocess.run(
        [Path(sys.executable).parent / name, *words], cwd=folder, env=environment, capture_output=True, check=True
    )
    ended = os.times()
    cpu = ended.children_user + ended.children_system - used.children_user - used.children_system
    return time.perf_counter() - began, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for name in COMMANDS:
            seconds(name, folder)  # once unmeasured: byte code and file cache
        for _ in range(repeats):
            for name in COMMANDS:
                times[name].append(seconds(name, folder))
    medians = {name: statistics.median(wall for wall, _ in pairs) for name, pairs in times.items()}
    print(f"median of {repeats} runs each, taking turns; load average {os.getloadavg()[0]:.1f}")
    for name, value in medians.items():
        low, high, cpu = min(times[name])[0], max(times[name])[0], statistics.median(used for _, used in times[name])
        print(f"  {name:26} {value:6.3f} s   ({low:.3f}–{high:.3f})   processor {cpu:.2f} s")
    for name in PEERS:
        ratio = medians[OURS] / medians[name]
        print(f"ratio to {name:15} {ratio:.3f}   goal ≤ {GOAL}   {'met' if ratio <= GOAL else 'MISSED'}")


if __name__ == "__main__":
    main()
