"""How long a user waits for help: `guardianflow --help` beside `yolo help` and `mlflow --help`.

    python benchmarks/cli_help.py [--repeats 7]

Each command is a fresh process; the three take turns, so that a busy machine hits all alike. Goal:
at most a tenth of either peer.
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

COMMANDS = {
    "guardianflow --help": ["guardianflow", "--help"],
    "yolo help": ["yolo", "help"],
    "mlflow --help": ["mlflow", "--help"],
}
GOAL = 0.1


def seconds(words: list[str], folder: str) -> float:
    """Wall-clock time of one run."""
    environment = {**os.environ, "YOLO_AUTOINSTALL": "false"}
    program = str(Path(sys.executable).parent / words[0])
    began = time.perf_counter()
    subprocess.run([program, *words[1:]], cwd=folder, env=environment, capture_output=True, check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for words in COMMANDS.values():
            seconds(words, folder)  # once unmeasured: byte code and file cache
        for _ in range(repeats):
            for name, words in COMMANDS.items():
                times[name].append(seconds(words, folder))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ours = medians["guardianflow --help"]
    print(f"median of {repeats} runs each, taking turns; load average {os.getloadavg()[0]:.1f}")
    for name, value in medians.items():
        low, high = min(times[name]), max(times[name])
        print(f"  {name:22} {value:6.3f} s   ({low:.3f}–{high:.3f})")
    for name in list(COMMANDS)[1:]:
        ratio = ours / medians[name]
        print(f"ratio to {name:15} {ratio:.3f}   goal ≤ {GOAL}   {'met' if ratio <= GOAL else 'MISSED'}")


if __name__ == "__main__":
    main()
