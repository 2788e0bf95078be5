"""JupyterLab on a workspace: on this machine alone, for who has the token, until a signal ends it and its kernels."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Callable

from jupyterlab.labapp import LabApp

from guardianflow.core.config import SettingOrigin, Settings, env_names
from guardianflow.exceptions import InputError
from guardianflow.processes.interrupts import handled_by
from guardianflow.processes.supervision.environment import outer_environment
from guardianflow.text.command_lines import search_path
from guardianflow.workspace import START, Workspace

__all__ = ["open_lab"]


def open_lab(
    workspace: Workspace, *, port: int = 8888, browser: bool = True, on_start: Callable[[str], None] | None = None
) -> None:
    """Open JupyterLab on a workspace, with the start notebook, until SIGINT, SIGTERM or SIGHUP.

    Args:
        workspace: Its folder is all that JupyterLab shows.
        port: Port on this machine, or the next free one; 0 takes any.
        browser: Open it in the browser.
        on_start: Told the address, with its token, once connections are taken.

    Raises:
        InputError: No port can be had.
    """
    os.environ.update(_environment(Settings()))  # of this process, and so of every kernel and terminal
    token = secrets.token_hex(24)
    options = {
        "ServerApp.root_dir": workspace.folder,
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.open_browser": browser,
        "ServerApp.allow_root": True,  # nobody but the holder of the token gets in
        "ServerApp.log_level": "ERROR",
        "LabApp.log_level": "ERROR",
        "IdentityProvider.token": token,
        "LabApp.default_url": f"/lab/tree/{START}",
        # Nothing is fetched from elsewhere unasked.
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }
    try:
        with warnings.catch_warnings(record=True):  # of an extension that reads every attribute: they are nobody's
            # As words of a command line they win over the files of the user's own settings.
            server = LabApp.initialize_server(argv=[f"--{name}={value}" for name, value in options.items()])
    except SystemExit as error:
        raise InputError(f"no port from {port} on can be listened on. Choose another with --port.") from error
    if on_start:
        on_start(f"http://127.0.0.1:{server.port}{server.base_url}lab/tree/{START}?token={token}")
    with handled_by(lambda *_: server.stop(from_signal=True)):
        server.start()


def _environment(settings: Settings) -> dict[str, str]:
    """What a kernel needs in its environment; a setting that stands in a file is read from there each time."""
    values, names = settings.as_environment(), env_names()
    set_there = {names[name] for name, origin in settings.origins.items() if origin == SettingOrigin.ENV}
    # Relative paths among them count from here, and a kernel is elsewhere.
    return {**outer_environment(), "PATH": search_path()} | {name: values[name] for name in set_there}
