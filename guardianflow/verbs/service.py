"""Verbs that start servers: api."""

from __future__ import annotations

from typing import Annotated

import typer

from guardianflow.verbs.frame import Json, verb

__all__ = ["api"]


@verb
def api(
    host: Annotated[str, typer.Option("--host", help="Address to listen on; beyond this machine it needs keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", help="Port; 0 takes a free one.", min=0, max=65_535)] = 8000,
    evaluate_every: Annotated[
        int,
        typer.Option(metavar="SECONDS", help="How often alert rules are evaluated; 0: never.", min=0, max=86_400),
    ] = 60,
    json: Json = False,
) -> None:
    """Answer over HTTP: figures, alerts, advice, models; until Ctrl-C."""
    from guardianflow._imports import require
    from guardianflow.console import print_json, say
    from guardianflow.core.config import Settings

    for package in ("fastapi", "uvicorn"):
        require(package, extra="dashboard", purpose="the API")
    from guardianflow.dashboard.api import serve

    def tell(url: str) -> None:
        if json:
            print_json({"url": url})
        else:
            say(f"answering on {url} (its routes: {url}/openapi.json); Ctrl-C ends it")

    serve(Settings(), host=host, port=port, evaluate_every_s=evaluate_every, on_start=tell)
