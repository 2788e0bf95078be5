"""The dashboard API: the library over HTTP, for Grafana, for pages, and for those who serve a model.

``guardianflow api`` starts it. Which role a route needs stands at the route; what happens without keys in
:mod:`guardianflow.dashboard.routes.access`.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from fastapi import FastAPI

from guardianflow import __version__
from guardianflow.core.config import Settings
from guardianflow.dashboard.keys import Keys
from guardianflow.dashboard.rounds import EVALUATE_EVERY_S, evaluating
from guardianflow.dashboard.routes import advice, health, metrics, models
from guardianflow.dashboard.routes.access import BodyCap, is_loopback
from guardianflow.dashboard.routes.problems import PROBLEMS, Problem, answer_problems
from guardianflow.exceptions import InputError, RefusedError
from guardianflow.state.database import Database

__all__ = ["create_app", "serve"]

_END_S = 5


class _Api(FastAPI):
    """An app whose document names the shape of our errors; FastAPI's own one is not what we answer."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made when it is asked for."""
        made = super().openapi()
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        return made


def create_app(settings: Settings | None = None, *, evaluate_every_s: float = 0.0) -> FastAPI:
    """The API as an ASGI app. It opens the database with the first request, so it starts without one.

    Args:
        settings: Where models and state are. Default: the environment's.
        evaluate_every_s: Evaluate the alert rules so often, in a thread; 0: never.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with evaluating(app.state.settings, evaluate_every_s):
            yield

    app = _Api(
        title="GuardianFlow",
        version=__version__,
        summary="Figures, alerts, advice and models of the sites that are watched.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages fetch their scripts from elsewhere; many sites have no way out
        redoc_url=None,
    )
    app.state.settings = settings or Settings()
    app.add_middleware(BodyCap)
    answer_problems(app)
    app.include_router(health.router)
    for routes in (advice, metrics, models):  # /api/metrics/alerts is no question about metrics
        app.include_router(routes.router, responses=PROBLEMS)
    return app


def serve(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    evaluate_every_s: float = EVALUATE_EVERY_S,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Answer until SIGINT or SIGTERM.

    Args:
        settings: Where models and state are.
        host: Address to listen on; other than this machine's own it needs keys.
        port: Port; 0 takes a free one.
        evaluate_every_s: Evaluate the alert rules so often; 0: never.
        on_start: Told the address once connections are taken.

    Raises:
        InputError: Address and port can't be had.
        RefusedError: Others could connect, and there is no key yet.
    """
    import uvicorn

    if not is_loopback(host) and not Keys(Database.open(settings.database_url)).any():
        raise RefusedError(
            f"on {host} others can connect, and there is no key yet. Make one first, "
            "`guardianflow keys create NAME --role viewer`, or leave --host out: then only this machine can."
        )
    app = create_app(settings, evaluate_every_s=evaluate_every_s)
    config = uvicorn.Config(
        app, ws="none", lifespan="on", log_config=None, access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=_END_S,
    )  # fmt: skip
    with _listening(host, port) as listener:
        if on_start is not None:
            shown = f"[{host}]" if ":" in host else host
            on_start(f"http://{shown}:{listener.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=256)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each answer waits 40 ms for an ACK
    except (OSError, OverflowError) as error:
        raise InputError(
            f"{host} port {port} can't be listened on: {error}. Choose another with --host and --port."
        ) from error
    with listener:
        yield listener
