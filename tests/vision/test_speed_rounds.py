"""Speeds in turns: a ratio is taken within a round, and one who fails doesn't stop the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guardianflow.vision.benchmark.cell_results import CellSpec
from guardianflow.vision.benchmark.speed_rounds import Contender, measure_in_turns, speed_ratio
from guardianflow.vision.model_artifacts import ModelFile

MODEL = ModelFile(Path("none.pt"), "torch", ("a", "b"), 64, 32, False, "fp32", "0" * 64, 5.0, True, 0)


def contender(role: str, folder: Path) -> Contender:
    return Contender(role, role, CellSpec(model=MODEL, backend=role, folder=str(folder / role), data_yaml="data.yaml"))


class Machine:
    """Measures as it is told, and remembers who came when."""

    def __init__(self, **speeds: list[float]) -> None:
        self.speeds = speeds
        self.turns: list[str] = []

    def __call__(self, spec: CellSpec) -> Any:
        assert (spec.modes, spec.repeats, spec.evaluate) == (("offline",), 1, False)
        self.turns.append(spec.backend)
        speed = self.speeds[spec.backend].pop(0)
        mode = SimpleNamespace(throughput_fps=speed) if speed > 0 else None
        return SimpleNamespace(
            ok=speed > 0, status="ok" if speed > 0 else "crashed", reason="" if speed > 0 else "it fell over",
            mode=lambda _: mode, precision_executed="int8", model_size_mb=3.0,
        )  # fmt: skip


def test_a_ratio_is_taken_within_a_round_so_that_a_slow_machine_cancels_out(tmp_path: Path) -> None:
    machine = Machine(peer=[30.0, 3.0, 30.0], quantized=[90.0, 9.0, 120.0])  # someone else worked in the second
    peer, small = measure_in_turns([contender("peer", tmp_path), contender("quantized", tmp_path)], run=machine)
    assert machine.turns == ["peer", "quantized", "quantized", "peer", "peer", "quantized"]
    assert speed_ratio(small, peer) == (3.0, 3.0, 4.0)
    assert small.images_per_s == 90.0
    assert small.noise == pytest.approx((120 - 9) / 90)
    assert small.to_dict()["rounds"] == [90.0, 9.0, 120.0]


def test_who_fails_is_out_with_the_reason_and_the_others_go_on(tmp_path: Path) -> None:
    machine = Machine(peer=[10.0, 0.0], quantized=[20.0, 20.0, 20.0])
    peer, small = measure_in_turns([contender("peer", tmp_path), contender("quantized", tmp_path)], run=machine)
    assert (peer.status, peer.reason) == ("crashed", "it fell over")
    assert small.rounds == (20.0, 20.0, 20.0)
    assert speed_ratio(small, peer) is None
