"""The answers that MLflow gets, from its server, S3 and a database, held to the limits of :mod:`guardianflow._answers`.

MLflow keeps its HTTP sessions, S3 clients and engines to itself. Each is taken at the one function that hands it out;
what MLflow has set on it (retries, keep-alive, certificates) stays.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any

from guardianflow._answers import ANSWER, FILE, AnswerError, LimitedAnswer, asked_for, counted, expect, too_slow
from guardianflow.state.postgres import watch_server

if TYPE_CHECKING:
    from requests import Response

__all__ = ["limit_answers"]

log = logging.getLogger(__name__)

_S3_PATIENCE = 3  # times what MLflow's own server gets: it puts the parts of a large file together


@cache
def limit_answers() -> None:
    """Have every answer that MLflow gets in this process come in time, and fit."""
    from mlflow.store.artifact import s3_artifact_repo
    from mlflow.store.db import utils as databases
    from mlflow.utils import request_utils

    for module, name, limit in (
        (request_utils, "_get_request_session", _limit_session),
        (s3_artifact_repo, "_cached_get_s3_client", _limit_s3),
        (databases, "create_sqlalchemy_engine", watch_server),
    ):
        if (make := getattr(module, name, None)) is None:
            log.warning("this MLflow has no %s.%s: what it is answered has no limits", module.__name__, name)
        else:
            setattr(module, name, _then(make, limit))


def _then(make: Callable[..., Any], limit: Callable[[Any], None]) -> Callable[..., Any]:
    @wraps(make)
    def limited(*args: Any, **options: Any) -> Any:
        made = make(*args, **options)
        limit(made)
        return made

    return limited


def _limit_session(session: Any) -> None:
    session.max_redirects = 5  # each has an answer of its own, with a limit of its own
    for adapter in {id(adapter): adapter for adapter in session.adapters.values()}.values():
        if "send" not in vars(adapter):  # MLflow keeps its sessions
            _limit_pools(adapter.poolmanager)
            adapter.proxy_manager_for = _then(adapter.proxy_manager_for, _limit_pools)
            adapter.send = partial(_send, adapter.send)


def _send(send: Callable[..., Response], request: Any, stream: bool = False, *args: Any, **options: Any) -> Response:
    with asked_for(FILE if stream else ANSWER):
        answer = send(request, stream, *args, **options)
    # What is no success, a redirect say, is read into memory in any case.
    limit, unpacked = FILE if stream and answer.status_code < 300 else ANSWER, answer.iter_content
    vars(answer)["iter_content"] = lambda *args, **options: counted(unpacked(*args, **options), limit)
    return answer


def _limit_s3(client: Any) -> None:
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT

    http = client._endpoint.http_session  # noqa: SLF001 - botocore hands it out nowhere
    pools, manager = http._pool_classes_by_scheme, http._manager  # noqa: SLF001
    pools.update({scheme: _limited_pool(pool) for scheme, pool in pools.items()})  # its managers share them
    manager.connection_pool_kw["timeout"] = MLFLOW_HTTP_REQUEST_TIMEOUT.get() * _S3_PATIENCE
    client.meta.events.register("before-send.s3", _expect_of_s3, unique_id="guardianflow-limits")


def _expect_of_s3(request: Any, **_: Any) -> None:
    request.headers.pop("Expect", None)  # botocore reads the answer to it without any limit
    expect(FILE if request.stream_output else ANSWER)


def _limit_pools(manager: Any) -> None:
    manager.pool_classes_by_scheme = {
        scheme: _limited_pool(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
    }


@cache
def _limited_pool(pool: Any) -> Any:
    """The same kind of connection pool, with connections whose answers are limited."""
    if issubclass(pool.ConnectionCls, _Limited):
        return pool
    connection = type(pool.ConnectionCls.__name__, (_Limited, pool.ConnectionCls), {})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


class _Limited:
    """Of a connection: its answers are limited, and so is the time that a server takes to take a request."""

    response_class = LimitedAnswer
    _waited_s, _sent = 0.0, 0

    def putrequest(self, *args: Any, **options: Any) -> None:
        self._waited_s, self._sent = 0.0, 0
        super().putrequest(*args, **options)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        began = time.monotonic()
        super().send(data)  # type: ignore[misc]
        self._waited_s += time.monotonic() - began
        self._sent += len(data) if isinstance(data, (bytes, bytearray, memoryview)) else 0
        timeout_s = getattr(self, "timeout", None)
        if too_slow(self._waited_s, self._sent, timeout_s if isinstance(timeout_s, (int, float)) else 60.0):
            raise AnswerError(f"the server took {self._sent:,} bytes of the request in {self._waited_s:.0f} s")
