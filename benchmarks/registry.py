"""What a promotion that can't tear costs: promote and rollback beside MLflow's own alias calls.

    python benchmarks/registry.py [--repeats 5] [--rounds 20]

The peer is what one writes with MLflow alone: two `MlflowClient.set_registered_model_alias` calls,
champion and rollback, which two promotions at once or a kill between them leave torn. Ours checks
the version, moves the row with its ledger line, and puts MLflow's aliases right; rollback also looks
for its target's file, hashes it, and runs one inference (left out here: it is the model's time).
Both sides take turns; PostgreSQL waits for the disk as a real server does.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from guardianflow.exceptions import MissingDependencyError
from tests.registry.registry_world import World, loads
from tests.services.postgres import PostgresServer

NAME = "benchmark"
VERSIONS = 4


def milliseconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


class Contest:
    """Ours and the peer over one MLflow and one state database."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.registry = world.registry(preflight=loads)
        for _ in range(VERSIONS):
            self.registry.register(NAME, world.run())
        for version in range(1, VERSIONS + 1):  # no candidate is left, and every path was walked once
            self.registry.promote(NAME, version)
        world.client.create_registered_model("peer")
        run_id = world.run()
        for _ in range(VERSIONS):
            world.client.create_model_version("peer", f"runs:/{run_id}/weights/best.pt", run_id=run_id)
        self._ours = itertools.cycle(range(1, VERSIONS + 1))
        self._theirs = itertools.cycle(range(1, VERSIONS + 1))

    def promote(self) -> None:
        self.registry.promote(NAME, next(self._ours))

    def rollback(self) -> None:
        self.registry.rollback(NAME)

    def move(self) -> None:
        """Compare-and-set and the ledger's line alone."""
        from guardianflow.registry.ledger import Change

        version = str(next(self._ours))
        self.registry._ledger.move(
            NAME, "promote", lambda state, _: Change(version, state.promoted(version)), actor="x"
        )

    def two_alias_calls(self) -> None:
        version = next(self._theirs)
        old = VERSIONS if version == 1 else version - 1
        self.world.client.set_registered_model_alias("peer", "champion", str(version))
        self.world.client.set_registered_model_alias("peer", "rollback", str(old))


def measure(world: World, *, repeats: int, rounds: int) -> dict[str, list[float]]:
    """The p50 of each repeat, in milliseconds."""
    contest = Contest(world)
    medians: dict[str, list[float]] = {}
    for _ in range(repeats):
        times: dict[str, list[float]] = {"peer": [], "promote": [], "rollback": []}
        for _ in range(rounds):
            times["peer"].append(milliseconds(contest.two_alias_calls))
            times["promote"].append(milliseconds(contest.promote))
            times["peer"].append(milliseconds(contest.two_alias_calls))
            times["rollback"].append(milliseconds(contest.rollback))
            contest.promote()
        times["move"] = [milliseconds(contest.move) for _ in range(rounds)]
        contest.registry.reconcile(NAME)
        for what, values in times.items():
            medians.setdefault(what, []).append(statistics.median(values))
    return medians


def report(kind: str, medians: dict[str, list[float]]) -> None:
    peer = statistics.median(medians["peer"])
    print(f"{kind}")
    for what, title in (
        ("peer", "MLflow: two set_registered_model_alias calls"),
        ("promote", "ModelRegistry.promote"),
        ("rollback", "ModelRegistry.rollback (without the inference)"),
        ("move", "  of which the move itself (compare-and-set, ledger)"),
    ):
        values = medians[what]
        p50 = statistics.median(values)
        print(f"  {title:54} p50 {p50:7.2f} ms  ({min(values):.2f}–{max(values):.2f})   ratio {p50 / peer:5.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    # The bare moves leave MLflow behind on purpose, which the registry would warn of.
    logging.getLogger("guardianflow").setLevel(logging.ERROR)
    print(f"median of {options.repeats} repeats of {options.rounds} rounds; load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uris = {"mlflow_uri": f"sqlite:///{folder}/mlflow.db", "database_url": f"sqlite:///{folder}/state.db"}
        report("SQLite", measure(World(folder, **uris), repeats=options.repeats, rounds=options.rounds))
    try:
        server = PostgresServer(durable=True)
    except MissingDependencyError as error:
        print(f"PostgreSQL: skipped. {error}")
        return
    server.start()
    try:
        with tempfile.TemporaryDirectory() as name:
            url = server.url(server.create())
            world = World(Path(name), mlflow_uri=url, database_url=url)
            report("PostgreSQL", measure(world, repeats=options.repeats, rounds=options.rounds))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
