"""The start page as a widget."""

from __future__ import annotations

import ipywidgets

from guardianflow.dashboard.start_page import start_content
from guardianflow.widgets.page import LINKS, Page

__all__ = ["StartPanel"]


class StartPanel(Page):
    """How the sites are in one line, and what is on which page. It only reads.

    Example:
        ``StartPanel()`` as the last line of a cell.
    """

    def draw(self) -> None:
        """Read and show."""
        if not self.children:
            self._content = ipywidgets.HTML()
            self._content.layout.width = "100%"
            self.show(self._content)
        self._content.value = start_content(self.settings, pages=list(LINKS), language=self.language, links=self.links)
