"""What the pages share: their language, and that they look again as long as somebody looks at them."""

from __future__ import annotations

import os
from typing import Any

import anywidget
import ipywidgets
import traitlets

from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError
from guardianflow.text.messages import language_of

__all__ = ["LINKS", "Page"]

LINKS = {"fleet": "fleet.ipynb", "optimizer": "optimizer.ipynb"}
"""Page → its address, from one to the other under Voila."""

_EVERY_MS = 30_000


class _Heartbeat(anywidget.AnyWidget):  # type: ignore[misc]
    """Counts in the browser, as long as the page is open there."""

    _esm = """
    export default {
      render({ model, el }) {
        el.style.display = "none";
        const timer = setInterval(() => {
          model.set("beat", model.get("beat") + 1);
          model.save_changes();
        }, model.get("every_ms"));
        return () => clearInterval(timer);
      },
    };
    """
    every_ms = traitlets.Int(_EVERY_MS).tag(sync=True)
    beat = traitlets.Int(0).tag(sync=True)


class Page(ipywidgets.VBox):  # type: ignore[misc]
    """A page that is drawn anew every half minute. The browser counts: a page that was closed asks for nothing.

    Args:
        settings: Where the figures are. Default: the environment's.
        language: ``"en"`` or ``"ko"``. Default: the setting, else what the browser asks for.
        every_ms: How often it is drawn anew.
    """

    def __init__(
        self, settings: Settings | None = None, *, language: str | None = None, every_ms: int = _EVERY_MS
    ) -> None:
        self.settings = settings
        self.language = language or _language(settings)
        self._tick = _Heartbeat(every_ms=every_ms)
        super().__init__()
        self.draw()
        self._tick.observe(lambda _: self.draw(), "beat")

    def draw(self) -> None:
        """Read and show."""
        raise NotImplementedError

    def show(self, *parts: Any) -> None:
        """Put these parts on the page."""
        self.children = (*parts, self._tick)


def _language(settings: Settings | None) -> str:
    try:
        setting = (settings or Settings()).language
    except GuardianFlowError:  # the page itself will say so
        setting = ""
    return language_of(setting, os.environ.get("HTTP_ACCEPT_LANGUAGE", ""))
