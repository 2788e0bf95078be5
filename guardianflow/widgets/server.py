"""The pages over HTTP: Voila on the reports folder, each visitor with a kernel of their own."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, DictLoader
from traitlets.config import Config
from voila.app import Voila

from guardianflow.core.config import Settings
from guardianflow.dashboard.page_frame import STYLE
from guardianflow.dashboard.rounds import EVALUATE_EVERY_S, evaluating
from guardianflow.exceptions import InputError
from guardianflow.execution.engine.notebook import notebook_folder
from guardianflow.execution.executors import kernel_environment
from guardianflow.widgets.page import SERVED

__all__ = ["serve_pages"]

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
VISITORS = "GUARDIANFLOW_PAGES_TOKEN"
"""In the environment: what a visitor must know (``/?token=…``, or typed on ``/login``). No kernel gets it."""

_FORGOTTEN_S = 180
_CONTENT_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; form-action 'self'"
)
"""Voila's template fetches an icon font from elsewhere; many sites have no way out, and no page here needs it."""


_LOGIN = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>GuardianFlow</title>
<style>{{ style }}body{margin:0;background:#f4f6f8}.gf form{display:flex;flex-wrap:wrap;gap:10px;margin-top:14px}
.gf input,.gf button{font:inherit;padding:9px 12px;border:1px solid var(--line);border-radius:6px}
.gf input{flex:1 1 240px}.gf button{background:var(--blue);border-color:var(--blue);color:var(--on);padding:9px 20px}
.gf .gf-wrong{color:var(--unwell)}</style></head>
<body><div class="gf"><div class="gf-in" style="max-width:560px;padding-top:8vh"><h1>GuardianFlow</h1>
<div class="gf-card"><label for="token">The pages open with a token · 토큰을 입력하면 페이지가 열립니다</label>
<form action="{{ login_url }}?next={{ next }}" method="post">{{ xsrf_form_html() | safe }}
<input id="token" type="password" name="password" autocomplete="current-password" autofocus required>
<button type="submit">Open · 열기</button></form>
{% if message %}<p class="gf-wrong" role="alert">This token opens nothing · 맞지 않는 토큰입니다</p>{% endif %}
<p class="gf-soft">Who keeps this server has it · 서버 관리자가 가지고 있습니다</p></div></div></div></body></html>
"""


class _Pages(Voila):  # type: ignore[misc]
    """Voila with the start page as its first."""

    on_start: Callable[[], None] | None = None

    def init_handlers(self) -> list[Any]:
        """Voila's, and the start page where a list of notebooks would stand."""
        from tornado.web import RedirectHandler

        first = (
            self.server_url,
            RedirectHandler,
            {"url": f"{self.base_url}voila/render/start.ipynb", "permanent": False},
        )
        return [first, *super().init_handlers()]

    def init_settings(self) -> dict[str, Any]:
        """Voila's, with a login page for people who never heard of Jupyter."""
        settings: dict[str, Any] = super().init_settings()
        templates = settings["jinja2_env"]
        templates.globals["style"] = STYLE
        templates.loader = ChoiceLoader([DictLoader({"login.html": _LOGIN}), templates.loader])
        return settings

    def launch_browser(self) -> None:
        """Called once connections are taken; no browser is opened."""
        if self.on_start is not None:
            self.on_start()


def serve_pages(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8866,
    evaluate_every_s: float = EVALUATE_EVERY_S,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Show the pages until SIGINT or SIGTERM.

    Args:
        settings: Where the figures are.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        evaluate_every_s: Evaluate the alert rules so often, in a thread; 0: never.
        on_start: Told the address once connections are taken.

    Raises:
        InputError: Address and port can't be had.
    """
    port = _free(host, port)
    token = os.environ.pop(VISITORS, "")
    os.environ.update({**kernel_environment(settings), SERVED: "1"})  # of this process, and so of every kernel
    pages = _Pages(config=_config(host, port, token))
    pages.on_start = lambda: on_start(f"http://{f'[{host}]' if ':' in host else host}:{port}") if on_start else None
    pages.initialize([str(notebook_folder("reports"))])
    with evaluating(settings, evaluate_every_s):
        pages.start()


def _config(host: str, port: int, token: str) -> Config:
    config = Config()
    config.Voila.token = token
    config.Voila.ip, config.Voila.port, config.Voila.port_retries = host, port, 0
    config.Voila.open_browser = True  # see _Pages.launch_browser
    config.Voila.log_level = "WARN"
    # On loopback only requests to a name of this machine: else any website could read here by a name that it moves.
    config.Voila.tornado_settings = {
        "allow_remote_access": host not in _LOOPBACK,
        "headers": {"Content-Security-Policy": _CONTENT_POLICY},
    }
    config.VoilaConfiguration.http_header_envs = ["Accept-Language"]
    config.VoilaConfiguration.show_tracebacks = False
    config.VoilaConfiguration.file_allowlist = []
    kernels = config.MappingKernelManager
    kernels.cull_idle_timeout, kernels.cull_interval, kernels.cull_connected = _FORGOTTEN_S, 60, False
    return config


def _free(host: str, port: int) -> int:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family) as listener:
            return int(listener.getsockname()[1])
    except (OSError, OverflowError) as error:
        raise InputError(
            f"{host} port {port} can't be listened on: {error}. Choose another with --host and --port."
        ) from error
