"""The fleet page as a widget."""

from __future__ import annotations

import ipywidgets

from guardianflow.dashboard.fleet import fleet
from guardianflow.widgets.page import Page

__all__ = ["FleetPanel"]


class FleetPanel(Page):
    """Site by site: well, unwell or unknown, why, since when, and what is advised. It only reads.

    Example:
        ``FleetPanel()`` as the last line of a cell.
    """

    def draw(self) -> None:
        """Read and show."""
        if not self.children:
            self._content = ipywidgets.HTML()
            self._content.layout.width = "100%"
            self.show(self._content)
        self._content.value = fleet(self.settings).content_html(self.language, links=self.links)
