"""A figure that grows in a cell's output while the cell works; what it shows last stays in the saved notebook."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["LiveFigure"]

log = logging.getLogger(__name__)

_EVERY_S = 2.0
_SHARE = 20  # the work gets 19 of 20 seconds, however long a drawing takes


class LiveFigure:
    """Shown in plotly's own type, which needs no trust and no widget.

    Args:
        make: Makes the figure as it is now.
        shown: Whether to show anything.
    """

    def __init__(self, make: Callable[[], Figure], *, shown: bool) -> None:
        self._make = make
        self._shown = shown
        self._place: Any = None
        self._due = 0.0
        self._waits = False

    def draw(self) -> None:
        """Show the figure anew, unless that was done just now."""
        self._waits = self._shown
        if self._shown and time.monotonic() >= self._due:
            self._draw()

    def close(self) -> None:
        """Show what was not shown yet."""
        if self._waits:
            self._draw()

    def _draw(self) -> None:
        began = time.monotonic()
        self._waits = False
        try:
            bundle = {
                "application/vnd.plotly.v1+json": json.loads(str(self._make().to_json())),
                "text/plain": "a figure",
            }
            if self._place is None:
                self._place = import_module("IPython.display").display(bundle, raw=True, display_id=True)
            else:
                self._place.update(bundle, raw=True)
        except Exception as error:  # noqa: BLE001 - hours of training must not be lost over a picture
            log.warning("the figure is drawn no more (%s: %s)", type(error).__name__, error)
            self._shown = False
        now = time.monotonic()
        self._due = now + max(_EVERY_S, _SHARE * (now - began))
