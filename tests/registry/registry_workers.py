"""What other processes do to a model in the tests under fire; imported once by multiprocessing's fork server."""

from __future__ import annotations

import random
import traceback
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import psycopg  # noqa: F401
import sqlalchemy.orm
from mlflow.store.model_registry import sqlalchemy_store as _registry_store  # noqa: F401
from mlflow.store.tracking import sqlalchemy_store as _tracking_store  # noqa: F401

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import ConflictError, GuardianFlowError, RefusedError

VERSIONS = 6

# The fork server pays once for these imports and for SQLAlchemy's mappers: two seconds for each victim otherwise.
sqlalchemy.orm.configure_mappers()


def accept(path: Path) -> None:
    """A preflight that has no objections."""


def open_registry(folder: str, mlflow_uri: str, database_url: str, actor: str) -> ModelRegistry:
    settings = Settings(work_dir=folder, mlflow_tracking_uri=mlflow_uri, database_url=database_url)
    return ModelRegistry(settings, actor=actor, preflight=accept, gate="off")


def promote_in_step(
    place: tuple[str, str, str], name: str, worker: int, rounds: int, barrier: Barrier, out: Connection
) -> None:
    """In every round promote a version at the same moment as the others; report what went wrong."""
    problems = []
    registry = open_registry(*place, f"worker {worker}")
    registry.get(name, 1)
    for turn in range(rounds):
        barrier.wait(60)
        version = 1 + (worker + turn) % VERSIONS
        try:
            registry.promote(name, version, reason=f"round {turn}")
        except Exception:
            problems.append(traceback.format_exc())
        barrier.wait(60)  # all are done: MLflow must show the last move now
        if worker == 0:
            shown, wanted = registry._mlflow.aliases(name), registry._ledger.state(name).aliases
            if shown != wanted:
                problems.append(f"round {turn}: MLflow shows {shown}, the ledger says {wanted}")
    out.send(problems)


def promote_in_a_storm(place: tuple[str, str, str], name: str, worker: int, stop: Event, out: Connection) -> None:
    """Promote one version after the other until told to stop; report what was said to be done, and what went wrong."""
    done, refused, problems = [], 0, []
    registry = open_registry(*place, f"worker {worker}")
    for turn in range(100_000):
        if stop.is_set():
            break
        reason = f"{worker}-{turn}"
        try:
            registry.promote(name, 1 + (worker + turn) % VERSIONS, reason=reason)
            done.append(reason)
        except GuardianFlowError as error:
            refused += 1
            if "nobody knows" in str(error):
                problems.append(str(error))
        except Exception:
            problems.append(traceback.format_exc())
    out.send((done, refused, problems))


def promote_against_the_gate(
    place: tuple[str, str, str], name: str, version: int, barrier: Barrier, out: Connection
) -> None:
    """Promote a version at the same moment as another process, the gate on."""
    folder, mlflow_uri, database_url = place
    settings = Settings(work_dir=folder, mlflow_tracking_uri=mlflow_uri, database_url=database_url)
    registry = ModelRegistry(settings, actor=f"worker {version}", preflight=accept)
    registry.judge(name, version)  # imports and connections first
    barrier.wait(60)
    try:
        registry.promote(name, version)
        out.send("promoted")
    except RefusedError:
        out.send("refused")
    except Exception:
        out.send(traceback.format_exc())


def move_until_killed(place: tuple[str, str, str], name: str, seed: int, out: Connection) -> None:
    """Promote and roll back without an end; the first move done is reported."""
    registry = open_registry(*place, f"victim {seed}")
    chance = random.Random(seed)
    while True:
        try:
            if chance.random() < 0.75:
                registry.promote(name, chance.randint(1, VERSIONS))
            else:
                registry.rollback(name)
        except (RefusedError, ConflictError):
            pass  # nothing to roll back to, or another one moved meanwhile
        except Exception:
            out.send(traceback.format_exc())
            return
        out.send(None)
