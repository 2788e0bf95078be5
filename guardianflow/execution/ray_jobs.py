"""A Ray cluster's Jobs API, with a time limit on every question: its own client would wait for ever."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as OutOfTimeError
from typing import Any, TypeVar
from urllib.parse import urlsplit

from guardianflow._imports import require
from guardianflow.core.config import mask_secrets
from guardianflow.exceptions import InputError

__all__ = ["RayJobs", "UnheardError", "last_line"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_ADDRESS = "RAY_API_SERVER_ADDRESS"
_USUAL = "http://127.0.0.1:8265"
_CONNECT_S = 8.0
_ANSWER_S = 20.0


class UnheardError(Exception):
    """The cluster gave no answer, or an error for one."""


class RayJobs:
    """The jobs of one cluster.

    Args:
        address: Of its dashboard; empty: ``RAY_API_SERVER_ADDRESS``, or port 8265 of this machine.

    Attributes:
        address: The same, written out.

    Raises:
        InputError: It doesn't answer within 8 s.
        MissingDependencyError: Ray is not installed.
    """

    def __init__(self, address: str = "") -> None:
        self.address = _checked(address or os.environ.get(_ADDRESS, "") or _USUAL)
        try:
            _in_time(
                lambda: _require_ray(self.address), _CONNECT_S
            )  # at once: the import alone may take longer than anybody waits
            make = require("ray.job_submission", extra="ray", purpose="plans on a Ray cluster").JobSubmissionClient
            with _without("RAY_ADDRESS", _ADDRESS):  # which would win over the address
                self._client: Any = _in_time(lambda: make(self.address), _CONNECT_S)
        except (UnheardError, OSError, ValueError) as error:
            raise InputError(
                f"no Ray cluster answers at {self.address} ({error}); give the address of its dashboard, such as "
                "http://HEAD:8265, and look there with `ray status`"
            ) from error

    def submit(self, job: str, **asked: Any) -> None:
        """Submit a job under an id of ours; where only the answer was lost, it is submitted all the same."""
        try:
            _in_time(lambda: self._client.submit_job(submission_id=job, **asked))
        except UnheardError:
            with contextlib.suppress(UnheardError):
                self.info(job)
                return
            raise

    def info(self, job: str) -> Any:
        """What Ray knows of a job: ``status``, ``message``, ``driver_exit_code``, ``driver_node_id``."""
        return _in_time(lambda: self._client.get_job_info(job))

    def logs(self, job: str) -> str:
        """All that a job has printed."""
        return str(_in_time(lambda: self._client.get_job_logs(job)))

    def stop(self, job: str) -> None:
        """Tell a job to end; it isn't waited for."""
        _in_time(lambda: self._client.stop_job(job))

    def nodes(self) -> list[Mapping[str, float]]:
        """The resources of each node that lives; none where that isn't known."""
        list_nodes = require("ray.util.state", extra="ray").list_nodes
        try:
            with _without("RAY_ADDRESS", _ADDRESS):
                found = _in_time(lambda: list_nodes(address=self.address, filters=[("state", "=", "ALIVE")]))
        except UnheardError as error:
            log.info("the nodes of %s can't be listed: %s", self.address, error)
            return []
        return [node.resources_total or {} for node in found]


def last_line(text: str) -> str:
    """The last line of what a program said."""
    lines = [line.strip() for line in text.splitlines() if any(map(str.isalnum, line))]
    return lines[-1][:500] if lines else ""


def _in_time(call: Callable[[], T], seconds: float = _ANSWER_S) -> T:
    """The answer of a call that knows no limit; where it takes too long, it goes on in a thread nobody waits for."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=work, name="guardianflow-ray", daemon=True).start()
    try:
        return answer.result(seconds)
    except OutOfTimeError:
        raise UnheardError(f"no answer within {seconds:.0f} s") from None
    except Exception as error:
        raise UnheardError(mask_secrets(last_line(str(error)) or type(error).__name__)) from error


def _require_ray(address: str) -> None:
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=_CONNECT_S) as reply:  # noqa: S310 - http(s), checked
            json.loads(reply.read(100_000))["ray_version"]
    except urllib.error.HTTPError as error:
        if error.code not in {401, 403}:  # those ask for a token, which the client has
            raise
    except (KeyError, TypeError) as error:
        raise ValueError("something else answers there") from error


@contextlib.contextmanager
def _without(*names: str) -> Iterator[None]:
    before = {name: value for name in names if (value := os.environ.pop(name, None)) is not None}
    try:
        yield
    finally:
        os.environ.update(before)


def _checked(address: str) -> str:
    given = address if "://" in address else f"http://{address}"
    with contextlib.suppress(ValueError):
        parts = urlsplit(given)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and "@" not in parts.netloc:
            return given.rstrip("/")
    raise InputError(
        f"{mask_secrets(address)!r} is no address of a Ray dashboard; write it as http://HEAD:8265 (ray:// isn't used)"
    )
