"""The verb that opens JupyterLab."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from guardianflow.verbs.frame import Json, verb

__all__ = ["lab"]


@verb
def lab(
    folder: Annotated[
        Path, Argument(metavar="[DIR]", help="A folder of the workspace; made a workspace if it is in none.")
    ] = Path(),
    port: Annotated[int, Option("--port", help="Port, or the next free one; 0 takes any.", min=0, max=65_535)] = 8888,
    no_browser: Annotated[bool, Option("--no-browser", help="Only say the address.")] = False,
    json: Json = False,
) -> None:
    """Open the workspace in JupyterLab, with notebooks to edit as one likes; until Ctrl-C."""
    from guardianflow._imports import require
    from guardianflow.console import print_json, say
    from guardianflow.workspace import open_workspace

    for package in ("jupyterlab", "ipywidgets", "anywidget"):
        require(package, extra="lab", purpose="JupyterLab")
    from guardianflow.lab import open_lab

    workspace = open_workspace(folder)

    def tell(url: str) -> None:
        if json:
            print_json({"url": url, **workspace.to_dict()})
            return
        for path in workspace.created:
            say(f"made  {path}")
        say(f"JupyterLab on {workspace.folder}: {url}")
        say("Ctrl-C ends it and its kernels")

    open_lab(workspace, port=port, browser=not (no_browser or json), on_start=tell)
