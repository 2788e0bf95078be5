"""Images per second of several contenders, measured in turns: what slows the machine down slows them all.

Each turn is a cell in a process of its own (``offline``: from file to boxes, all at once). One round measures each
contender once; a ratio is taken within a round, and the rounds' spread is what it can be off by.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from guardianflow.vision.benchmark.cell_process import run_cell
from guardianflow.vision.benchmark.cell_results import CellResult, CellSpec

__all__ = ["Contender", "Speed", "measure_in_turns", "speed_ratio"]


@dataclass(frozen=True)
class Contender:
    """One way to run a model.

    Attributes:
        role: What it stands for in the comparison, such as ``peer`` or ``quantized``.
        label: What people call it.
        spec: The cell; its folder is the parent of those of the rounds.
    """

    role: str
    label: str
    spec: CellSpec


@dataclass(frozen=True)
class Speed:
    """How many images a second a contender did.

    Attributes:
        role: Of the contender.
        label: Of the contender.
        backend: Its backend.
        precision: What it was asked for.
        precision_executed: What its runtime says it computed at.
        batch: Images per forward pass.
        status: ``ok``, or how its last turn ended.
        reason: Why it isn't ``ok``.
        images_per_s: Median of the rounds.
        rounds: Images per second of each round.
        size_mb: Of what the backend loads, MB (10^6 bytes).
    """

    role: str
    label: str
    backend: str
    precision: str
    precision_executed: str = ""
    batch: int = 1
    status: str = "ok"
    reason: str = ""
    images_per_s: float = 0.0
    rounds: tuple[float, ...] = field(default_factory=tuple)
    size_mb: float = 0.0

    @property
    def noise(self) -> float:
        """(Fastest round − slowest round) / median: differences below it say nothing."""
        if len(self.rounds) < 2 or not self.images_per_s:
            return 0.0
        return (max(self.rounds) - min(self.rounds)) / self.images_per_s

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "rounds": list(self.rounds), "noise": self.noise}


def measure_in_turns(
    contenders: Sequence[Contender],
    *,
    rounds: int = 3,
    on_turn: Callable[[int, int, str], None] | None = None,
    run: Callable[[CellSpec], CellResult] = run_cell,
) -> list[Speed]:
    """Measure each contender once a round; one that fails is out, the others go on.

    Args:
        contenders: Who. Their cells measure for ``spec.seconds`` a round.
        rounds: How often; every second one goes backwards, so that nobody always comes first.
        on_turn: Told the number of turns done, of all turns, and whose turn it is.
        run: Measures one cell.
    """
    speeds = {
        item.role: Speed(item.role, item.label, item.spec.backend, item.spec.precision, batch=item.spec.batch)
        for item in contenders
    }
    done, total = 0, rounds * len(contenders)
    for number in range(rounds):
        for item in contenders if number % 2 == 0 else reversed(contenders):
            if on_turn is not None:
                on_turn(done, total, item.label)
            done += 1
            if speeds[item.role].status == "ok":
                speeds[item.role] = _turn(speeds[item.role], item, number, run)
    return list(speeds.values())


def speed_ratio(one: Speed, other: Speed) -> tuple[float, float, float] | None:
    """How many times the images per second of another: median, least and most of the rounds.

    ``None`` where one of the two was not measured.
    """
    pairs = list(zip(one.rounds, other.rounds, strict=False))
    if one.status != "ok" or other.status != "ok" or not pairs or not all(theirs > 0 for _, theirs in pairs):
        return None
    ratios = [ours / theirs for ours, theirs in pairs]
    return statistics.median(ratios), min(ratios), max(ratios)


def _turn(speed: Speed, item: Contender, number: int, run: Callable[[CellSpec], CellResult]) -> Speed:
    folder = Path(item.spec.folder) / f"round-{number + 1}"
    spec = replace(item.spec, folder=str(folder), modes=("offline",), repeats=1, extras=False, evaluate=False)
    result = run(spec)
    offline = result.mode("offline")
    if not result.ok or offline is None:
        return replace(speed, status=result.status if not result.ok else "failed", reason=result.reason)
    rounds = (*speed.rounds, offline.throughput_fps)
    return replace(
        speed,
        rounds=rounds,
        images_per_s=statistics.median(rounds),
        precision_executed=result.precision_executed,
        size_mb=result.model_size_mb,
    )
