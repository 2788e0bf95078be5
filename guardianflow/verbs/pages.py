"""The verb that shows the pages: dashboard."""

from __future__ import annotations

from typing import Annotated

import typer

from guardianflow.verbs.frame import Json, verb

__all__ = ["dashboard"]


@verb
def dashboard(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; beyond this machine everybody may read.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 takes a free one.", min=0, max=65_535)] = 8866,
    json: Json = False,
) -> None:
    """Show the sites, alerts and advice as pages in a browser; until Ctrl-C."""
    from guardianflow._imports import require
    from guardianflow.console import print_json, say
    from guardianflow.core.config import Settings

    for package in ("voila", "ipywidgets", "anywidget"):
        require(package, extra="dashboard", purpose="the pages")
    from guardianflow.widgets.server import serve_pages

    def tell(url: str) -> None:
        if json:
            print_json({"url": url})
        else:
            say(f"the pages are on {url}; Ctrl-C ends it")

    serve_pages(Settings(), host=host, port=port, on_start=tell)
