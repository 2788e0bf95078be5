"""Many processes at once, and kills at any moment: what the registry promises must hold all the same."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import (
    MissingDependencyError,
    NotFoundError,
    RefusedError,
    TrackingUnavailableError,
)
from guardianflow.registry.mlflow_registry import MlflowRegistry
from guardianflow.registry.model_records import ALIASES
from tests.registry.registry_ledger_check import ledger_problems
from tests.registry.registry_workers import VERSIONS, move_until_killed, promote_in_a_storm, promote_in_step
from tests.registry.registry_world import World
from tests.services import hostile_server
from tests.services.hostile_server import HostileServer
from tests.services.postgres import PostgresServer

FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(["tests.registry.registry_workers"])
FULL = bool(os.environ.get("GUARDIANFLOW_FIRE"))  # `make test-fire`: 50 rounds, 100 kills; else a short form

_numbers = itertools.count(1)


def place(world: World) -> tuple[str, str, str]:
    return str(world.settings.work_dir), world.settings.mlflow_tracking_uri, world.settings.database_url


@pytest.fixture
def model(world) -> str:
    """A model with six versions, the first of them champion."""
    name = f"under fire {next(_numbers)}"
    registry = world.registry()
    for _ in range(VERSIONS):
        registry.register(name, world.run())
    registry.promote(name, 1)
    return name


def problems_of(registry: ModelRegistry, name: str) -> list[str]:
    with registry._ledger.database.read():
        state = registry._ledger.state(name)
    return ledger_problems(state, registry.history(name))


@pytest.mark.slow
def test_promotions_of_four_processes_at_once_lose_nothing(world, model):
    rounds, count = (50 if FULL else 10), 4
    barrier = FORK_SERVER.Barrier(count)
    workers, ends = [], []
    for number in range(count):
        mine, theirs = FORK_SERVER.Pipe()
        arguments = (place(world), model, number, rounds, barrier, theirs)
        workers.append(FORK_SERVER.Process(target=promote_in_step, args=arguments))
        ends.append(mine)
        workers[-1].start()
    reports = [end.recv() if end.poll(200) else ["no report"] for end in ends]
    for worker in workers:
        worker.join(30)
    assert reports == [[]] * count
    registry = world.registry()
    history = registry.history(model)
    assert problems_of(registry, model) == []
    # Every promotion is there but those that found their version champion already.
    assert len([event for event in history if event.action == "promote"]) >= rounds * count * 0.7
    assert len({event.actor for event in history}) == count + 1
    assert world.mlflow_aliases(model) == registry._ledger.state(model).aliases


@pytest.mark.slow
@pytest.mark.services
def test_what_is_said_to_be_promoted_is_in_the_ledger_though_postgresql_is_restarted(
    tmp_path: Path, mlflow_sqlite_template: Path
) -> None:
    """And what is in the ledger was said to be done: each restart cuts somebody off at another moment."""
    try:
        server = PostgresServer()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    server.start()
    try:
        shutil.copy(mlflow_sqlite_template, tmp_path / "mlflow.db")
        url = server.url(server.create())
        world = World(tmp_path, mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db", database_url=url)
        registry = world.registry()
        for _ in range(VERSIONS):
            registry.register("storm", world.run())
        stop, ends, workers = FORK_SERVER.Event(), [], []
        for number in range(4):
            mine, theirs = FORK_SERVER.Pipe()
            arguments = (place(world), "storm", number, stop, theirs)
            workers.append(FORK_SERVER.Process(target=promote_in_a_storm, args=arguments))
            ends.append(mine)
            workers[-1].start()
        for _ in range(8 if FULL else 3):
            time.sleep(2)
            server.restart()
        time.sleep(2)
        stop.set()
        reports = [end.recv() if end.poll(200) else ([], 0, ["no report"]) for end in ends]
        for worker in workers:
            worker.join(30)
        assert [problems for _, _, problems in reports] == [[]] * 4
        said = [reason for done, _, _ in reports for reason in done]
        kept = [event.reason for event in registry.history("storm", limit=100_000) if event.action == "promote"]
        assert len(kept) >= 20
        assert len(set(kept)) == len(kept), "none twice"
        assert set(kept) <= set(said), "in the ledger, and not said to be done"
        lost = set(said) - set(kept)  # those that found their version in charge already change nothing
        assert len(lost) < len(said) / 2
        assert problems_of(registry, "storm") == []
        assert world.mlflow_aliases("storm") == registry.reconcile("storm").aliases
    finally:
        server.stop()


@pytest.mark.slow
def test_kills_at_random_moments_leave_a_state_that_the_next_call_reconciles(world, model):
    chance = random.Random(20260301)
    kills, torn = 0, 0
    while kills < (100 if FULL else 16):
        victims, ends = [], []
        for _ in range(4):
            mine, theirs = FORK_SERVER.Pipe()
            victims.append(FORK_SERVER.Process(target=move_until_killed, args=(place(world), model, kills, theirs)))
            victims[-1].start()
            theirs.close()
            ends.append(mine)
            kills += 1
        for end in ends:
            assert end.poll(60), "a victim never made its first move"
            assert end.recv() is None
        time.sleep(chance.uniform(0, 0.15))
        for victim in victims:
            victim.kill()
        for victim, end in zip(victims, ends, strict=True):
            victim.join()
            assert victim.exitcode == -9, [end.recv() for _ in range(100) if end.poll()]
        torn += world.mlflow_aliases(model) != world.registry()._ledger.state(model).aliases
        assert problems_of(world.registry(), model) == []
        uri = world.registry().get_champion_uri(model)  # the next call
        state = world.registry()._ledger.state(model)
        assert uri == f"models:/{model}@champion"
        assert state.champion is not None
        assert state.champion != state.rollback
        assert world.mlflow_aliases(model) == state.aliases
    print(f"{torn} of {kills // 4} rounds of kills fell between our move and MLflow's")
    assert torn > 0, "no kill ever fell between our move and MLflow's: this test proves nothing"


class KilledError(BaseException):
    """The process dies here."""


class MortalMlflow(MlflowRegistry):
    """Real MLflow, asked by a process that dies at its n-th request, before or after it is carried out."""

    def __init__(self, settings, *, requests: int, after: bool) -> None:
        super().__init__(settings)
        self._left, self._after = requests, after

    def _ask(self, call, *, gone=None):
        self._left -= 1
        if self._left == 0 and not self._after:
            raise KilledError
        answer = super()._ask(call, gone=gone)
        if self._left == 0:
            raise KilledError
        return answer


class RegistryMachine(RuleBasedStateMachine):
    """A registry beside three variables and a dictionary."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.name = f"state machine {next(_numbers)}"
        self.registry = self.world.registry()
        self.status: dict[str, str] = {}
        self.held: dict[str, str | None] = dict.fromkeys(ALIASES)
        self.doomed = False

    def act(self, call, held, **status: str) -> None:
        """Do it, or die in it: afterwards it has happened, or it hasn't."""
        wanted = {**self.held, **held}, {**self.status, **status}
        try:
            call()
        except KilledError:
            self.registry = self.world.registry()
            if self.observed() == (self.held, self.status):
                return
        finally:
            self.revive()
        self.held, self.status = wanted
        assert self.observed() == wanted

    def refused(self, call, error: type[Exception]) -> None:
        try:
            with pytest.raises(error):
                call()
        except KilledError:
            pass
        finally:
            self.revive()

    def revive(self) -> None:
        if self.doomed:
            self.doomed = False
            self.registry = self.world.registry()

    def observed(self):
        state = self.registry._ledger.state(self.name)
        versions = self.registry._ledger.versions(self.name, include_deleted=True)
        return {alias: getattr(state, alias) for alias in ALIASES}, {item.version: item.status for item in versions}

    def pick(self, data) -> str:
        return data.draw(st.sampled_from(sorted(self.status)))

    @property
    def known(self) -> bool:
        return bool(self.status)

    @rule(requests=st.integers(1, 8), after=st.booleans())
    def doom(self, requests, after):
        """The next call runs in a process that dies in the middle of it."""
        mortal = MortalMlflow(self.world.settings, requests=requests, after=after)
        self.registry = self.world.registry()
        self.registry._mlflow = mortal
        self.registry._projection._mlflow = mortal
        self.doomed = True

    @rule()
    def register(self):
        run_id = self.world.run()
        for _ in range(2):  # killed or not, once more is the same
            number = str(len(self.status) + 1)
            before = len(self.status)
            self.act(lambda: self.registry.register(self.name, run_id), {"candidate": number}, **{number: "ready"})
            if len(self.status) > before:
                assert self.registry.register(self.name, run_id).version == number
                return

    @precondition(lambda self: self.known)
    @rule(data=st.data(), force=st.booleans())
    def promote(self, data, force):
        version = self.pick(data)
        call = lambda: self.registry.promote(self.name, version, force=force, reason="because")  # noqa: E731
        if version == self.held["champion"]:
            self.act(call, {})
        elif self.status[version] == "deleted":
            self.refused(call, NotFoundError)
        elif self.status[version] == "rejected" and not force:
            self.refused(call, RefusedError)
        else:
            candidate = None if self.held["candidate"] == version else self.held["candidate"]
            held = {"champion": version, "candidate": candidate, "rollback": self.held["champion"]}
            self.act(call, held, **{version: "ready"})

    @precondition(lambda self: self.known)
    @rule()
    def rollback(self):
        call = lambda: self.registry.rollback(self.name)  # noqa: E731
        if self.held["rollback"] is None:
            self.refused(call, RefusedError)
        else:
            self.act(call, {"champion": self.held["rollback"], "rollback": None})

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def reject(self, data):
        version = self.pick(data)
        call = lambda: self.registry.reject(self.name, version, reason="unfit")  # noqa: E731
        if version == self.held["champion"]:
            self.refused(call, RefusedError)
        elif self.status[version] == "deleted":
            self.refused(call, NotFoundError)
        else:
            freed = {alias: None for alias, holder in self.held.items() if holder == version}
            self.act(call, freed, **{version: "rejected"})

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def delete(self, data):
        version = self.pick(data)
        call = lambda: self.registry.delete(self.name, version)  # noqa: E731
        if version in self.held.values():
            self.refused(call, RefusedError)
        else:
            self.act(call, {}, **{version: "deleted"})

    @precondition(lambda self: self.known)
    @rule(alias=st.sampled_from(ALIASES))
    def meddle(self, alias):
        """Somebody removes an alias in MLflow's own pages."""
        self.world.client.delete_registered_model_alias(self.name, alias)

    @precondition(lambda self: self.known and not self.doomed)
    @invariant()
    def the_next_call_makes_mlflow_show_the_ledger(self):
        state = self.registry.reconcile(self.name)
        assert {alias: getattr(state, alias) for alias in ALIASES} == self.held
        assert self.world.mlflow_aliases(self.name) == state.aliases
        assert ledger_problems(state, self.registry.history(self.name)) == []
        found = self.world.client.search_model_versions(f"name = '{self.name}'")
        there = {version for version, status in self.status.items() if status != "deleted"}
        assert there <= {str(item.version) for item in found}
        assert not {str(item.version) for item in found} & (set(self.status) - there)


@pytest.mark.slow
def test_any_sequence_of_calls_and_crashes_agrees_with_a_simple_model(world):
    class Machine(RegistryMachine):
        pass

    Machine.world = world
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40 if FULL else 8,
            stateful_step_count=14,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_the_checks_above_find_what_they_look_for(world, model):
    registry = world.registry()
    state, history = registry._ledger.state(model), registry.history(model)
    assert ledger_problems(state, history) == []
    assert "gaps" in ledger_problems(state, [history[0], *history[2:]])[0]
    assert "not the state" in ledger_problems(replace(state, champion="9"), history)[0]
    lost = [replace(history[0], champion=None), *history[1:]]
    assert any("made" in problem for problem in ledger_problems(replace(state, champion=None), lost))
    twice = [replace(history[0], rollback="1"), *history[1:]]
    assert any("champion == rollback" in problem for problem in ledger_problems(replace(state, rollback="1"), twice))


def test_a_server_that_drips_holds_up_no_promotion_and_nothing_moves(sqlite_world, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    name = f"dripped {next(_numbers)}"
    registry = sqlite_world.registry()
    first, second = (registry.register(name, sqlite_world.run()).version for _ in range(2))
    registry.promote(name, first)
    before = registry.history(name)
    with HostileServer(hostile_server.drips) as server:
        held = sqlite_world.registry(mlflow_tracking_uri=server.url)
        began = time.monotonic()
        with pytest.raises(TrackingUnavailableError, match="its answer was not whole after 1 s"):
            held.promote(name, second)
        assert time.monotonic() - began < 15
    assert sqlite_world.registry().history(name) == before
    assert registry.get(name).version == first
