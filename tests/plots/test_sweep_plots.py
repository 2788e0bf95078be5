"""What a sweep's figures are made of."""

from __future__ import annotations

import pytest

from guardianflow.plots.sweep import (
    SweepTrial,
    parallel_lines,
    plot_history,
    plot_importance,
    plot_parallel,
    sweep_history,
)

TRIALS = [
    SweepTrial(0, "finished", 0.2, {"run.options.lr0": 0.001, "run.batch": 8, "run.options.optimizer": "SGD"}),
    SweepTrial(1, "failed", None, {"run.options.lr0": 0.1, "run.batch": 16, "run.options.optimizer": "SGD"}),
    SweepTrial(2, "pruned", 0.9, {"run.options.lr0": 0.01, "run.batch": 16, "run.options.optimizer": "<b>Adam"}),
    SweepTrial(
        3, "finished", 0.6, {"run.options.lr0": 0.1, "run.batch": 16, "run.options.optimizer": "SGD"}, best=True
    ),
    SweepTrial(4, "finished", 0.4, {"run.options.lr0": 0.05, "run.batch": 8, "run.options.optimizer": "SGD"}),
]


def test_the_best_so_far_is_of_finished_trials() -> None:
    history = sweep_history(TRIALS)
    assert history.steps == ((0, 3, 4), (0.2, 0.6, 0.6))
    assert {state: numbers for state, (numbers, _, _) in history.groups.items()} == {
        "finished": (0, 3, 4), "pruned": (2,), "failed": (1,),
    }  # fmt: skip
    assert history.groups["failed"][1] == (0.2,)  # at the lower edge
    assert "&lt;b&gt;Adam" in history.groups["pruned"][2][0]


def test_lines_go_from_the_lowest_to_the_highest_of_each_field() -> None:
    found = parallel_lines(TRIALS, metric="mAP50")
    assert [axis.name for axis in found.axes] == ["run.options.lr0", "run.batch", "run.options.optimizer", "mAP50"]
    assert found.left_out == 1
    assert found.lines[0] == (0.0, 0.0, 0.0, 0.0)
    assert found.lines[-1] == pytest.approx((0.5, 1.0, 1.0, 1.0))  # 0.01 lies in the middle of 0.001 and 0.1
    assert found.axes[1].ticks == ((0.0, "8"), (1.0, "16"))
    assert found.axes[2].ticks == ((0.0, "SGD"), (1.0, "<b>Adam"))


def test_of_many_trials_the_best_are_drawn() -> None:
    many = [SweepTrial(number, "finished", number / 1000, {"a": number}) for number in range(1000)]
    found = parallel_lines(many, metric="mAP50")
    assert (len(found.lines), found.left_out) == (150, 850)
    assert found.axes[-1].ticks[0][1] == "0.85"


@pytest.mark.parametrize("trials", [[], TRIALS[:1], TRIALS[1:2], TRIALS], ids=["none", "one", "failed", "some"])
def test_every_number_of_trials_can_be_drawn(trials: list[SweepTrial]) -> None:
    assert plot_history(trials, metric="mAP50").layout.height
    assert plot_parallel(trials, metric="mAP50").layout.height
    assert plot_importance({"run.options.lr0": 0.7, "run.batch": 0.3} if trials else {}).layout.height
