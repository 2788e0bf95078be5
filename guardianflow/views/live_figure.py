"""A figure that grows in a cell's output while the cell works; what it shows last stays in the saved notebook."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["LiveFigure"]

log = logging.getLogger(__name__)

_EVERY_S = 1.0


class LiveFigure:
    """A picture while it grows, and in the end a figure of plotly's own type, which needs no trust and no widget.

    JupyterLab draws a figure of plotly's once: it shows no later state of it.

    Args:
        sketch: Draws the picture as it is now, as SVG.
        make: Makes the figure.
        shown: Whether to show anything.
    """

    def __init__(self, sketch: Callable[[], str], make: Callable[[], Figure], *, shown: bool) -> None:
        self._sketch = sketch
        self._make = make
        self._shown = shown
        self._place: Any = None
        self._due = 0.0

    def draw(self) -> None:
        """Show the picture anew, unless that was done just now."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY_S
            self._show(lambda: {"image/svg+xml": self._sketch()})

    def close(self) -> None:
        """Leave the figure in the picture's place."""
        if self._place is not None:
            self._show(lambda: {"application/vnd.plotly.v1+json": json.loads(str(self._make().to_json()))})

    def _show(self, draw: Callable[[], Mapping[str, Any]]) -> None:
        if not self._shown:
            return
        try:
            bundle = {**draw(), "text/plain": "a figure"}
            if self._place is None:
                self._place = import_module("IPython.display").display(bundle, raw=True, display_id=True)
            else:
                self._place.update(bundle, raw=True)
        except Exception as error:  # noqa: BLE001 - hours of training must not be lost over a picture
            log.warning("the figure is drawn no more (%s: %s)", type(error).__name__, error)
            self._shown = False
